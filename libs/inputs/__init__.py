"""From what the user names to the working copy of a run."""
