"""Source catalogues: queries, files, and the entry of one source."""
