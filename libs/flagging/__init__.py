"""Flags for interference and dead feeds."""
