"""Inputs: the user's data are resolved and turned into the working copy of a run."""
