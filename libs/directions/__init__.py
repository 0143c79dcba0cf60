"""Data of one direction of a field: shifted, averaged, with other sources subtracted."""
