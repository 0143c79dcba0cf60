"""Adapters of tools, and the science; nothing here imports selfcal, steps or reports."""
