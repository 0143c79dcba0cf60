"""The calibration of a field: many sources, layer by layer."""
