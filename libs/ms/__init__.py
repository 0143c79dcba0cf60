"""Measurement sets: subtables, rows, columns, flags and copies."""
