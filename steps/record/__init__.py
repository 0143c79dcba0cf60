"""The record of a run: written at its end, bundled, and applied to the original data."""
