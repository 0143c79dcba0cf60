"""Tool adapters and science; nothing here imports selfcal, steps or reports."""
