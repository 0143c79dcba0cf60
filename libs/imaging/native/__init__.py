"""The project's own imager: visibilities in memory, ducc0's gridder, CLEAN in numba."""
