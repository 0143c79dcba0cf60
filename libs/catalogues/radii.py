"""Distances from a field's centre within which its sources are calibrated."""

from __future__ import annotations

__all__ = ["CALIBRATOR_RADIUS_DEG", "TARGET_RADIUS_DEG"]

# values used in long-baseline practice, where station beams and the isoplanatic patch end
CALIBRATOR_RADIUS_DEG = 1.5
TARGET_RADIUS_DEG = 1.24
