"""Closure phases and amplitudes, and models of the sky fitted to them."""
