"""Solutions in h5parm files: reading, writing, combination, comparison and provenance."""
