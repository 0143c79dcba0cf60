"""The record of a self-calibration: its schema, its bundle, and how it goes onto other data."""
