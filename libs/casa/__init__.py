"""CASA's tasks, run in a child process."""
