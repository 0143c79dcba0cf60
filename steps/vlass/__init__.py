"""Images of a self-calibrated VLA Sky Survey set by groups of spectral windows."""
