"""Rounds of self-calibration."""
