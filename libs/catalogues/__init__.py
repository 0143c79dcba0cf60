"""Source catalogues: queried, read, and searched for one source."""
