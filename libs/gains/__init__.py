"""Station gains: solved for, interpolated, applied, and stored in CASA's tables."""
