"""Runs of several targets and bands."""
