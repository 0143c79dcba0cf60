"""Imagers: what to image, and what comes out."""
