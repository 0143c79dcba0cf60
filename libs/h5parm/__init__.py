"""Solutions in h5parm files: read, written, combined, compared, kept with their origin."""
