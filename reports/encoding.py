"""Arrays in a page: numbers as base64 text that a script decodes, and pictures as PNG."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["half_floats", "packed_bits", "png_uri", "short_integers"]

MISSING_SHORT = -32768


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def half_floats(values: NDArray[np.floating]) -> str:
    """Return values as 16-bit floats, little-endian: 3 digits from 6e-5 to 65504; NaN stays."""
    limited = np.clip(values, -65504, 65504)
    return _text(np.ascontiguousarray(limited, dtype="<f2").tobytes())


def short_integers(values: NDArray[np.floating], step: float) -> str:
    """Return values as multiples of a step, 16-bit integers; the lowest one stands for NaN."""
    scaled = np.rint(np.asarray(values, float) / step)
    whole = np.where(np.isfinite(scaled), np.clip(scaled, -32767, 32767), MISSING_SHORT)
    return _text(np.ascontiguousarray(whole, dtype="<i2").tobytes())


def packed_bits(values: NDArray[np.bool_]) -> str:
    """Return truth values as bits, the first in the highest bit of the first byte."""
    return _text(np.packbits(np.asarray(values, bool).ravel()).tobytes())


def png_uri(pixels: NDArray[np.uint8]) -> str:
    """Return a picture as a data URI.

    Parameters
    ----------
    pixels : (height, width, 3 or 4) uint8
        Red, green and blue, then opacity where there are four; rows from the top.
    """
    height, width, planes = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 6 if planes == 4 else 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    png += chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + _text(png)
