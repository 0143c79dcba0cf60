"""Simulated measurement sets with known gains and sky."""

from __future__ import annotations

from libs.gain_errors import corrupt_ms, divide_ms

__all__ = ["corrupt_ms", "divide_ms"]
