"""Random observations self-calibrated with the defaults and scored against their truth."""
