"""What the command does with broken settings, broken data and sudden death: counts of faults."""
