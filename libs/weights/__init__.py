"""Weights of visibilities, from their scatter."""
