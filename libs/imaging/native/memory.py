"""Memory that an image takes, and what that leaves for visibilities."""

from __future__ import annotations

from libs.core.errors import ConfigError
from libs.ms.rows import CHUNK_BYTES

__all__ = ["MOST_SCALES", "image_bytes", "memory_for_visibilities"]

# Scales where none are given: the point, twice the beam, then each twice the last, as far as a
# quarter of the image.
MOST_SCALES = 5

# Bytes of memory by pixel of the image, each plane of 4 bytes and those twice as large 16.
_PLANE_BYTES = 4
_PSF_BYTES = 16

# Streamed visibilities are read in blocks; what is made of one takes about twice as much again.
_LEAST_FOR_VISIBILITIES = 3 * CHUNK_BYTES


def image_bytes(imsize: tuple[int, int], nterms: int, scales: int) -> float:
    """Return the memory that images take, without the visibilities, bytes.

    Parameters
    ----------
    imsize : (int, int)
        Width and height, pixels.
    nterms, scales : int
        Numbers of Taylor terms and of scales.
    """
    pixels = imsize[0] * imsize[1]
    psfs = 2 * nterms - 1
    # PSFs, their transforms and a copy at work; the gridder's padded grid of complex numbers
    twice = _PSF_BYTES * (2 * psfs + 2 * scales + 10)
    own = _PLANE_BYTES * (8 * nterms + 3 * scales * nterms + 4)
    pairs = scales * (scales + 1) / 2 * psfs * min(4 * pixels, 1024**2) * 4
    return float(pixels * (twice + own) + pairs)


def memory_for_visibilities(
    imsize: tuple[int, int], nterms: int, scales: int, limit_bytes: float
) -> float:
    """Return what a limit leaves for visibilities, bytes.

    Raises
    ------
    ConfigError
        The image and one block of visibilities do not fit.
    """
    images = image_bytes(imsize, nterms, scales)
    left = limit_bytes - images
    if left < _LEAST_FOR_VISIBILITIES:
        raise ConfigError(
            f"an image of {imsize[0]} x {imsize[1]} pixels takes {images / 1e9:.2g} GB and data"
            f" read in pieces {_LEAST_FOR_VISIBILITIES / 1e9:.1g} GB, more than the"
            f" {limit_bytes / 1e9:.3g} GB that the imager may use",
            "make the image smaller (imsize), or allow more (memory)",
        )
    return left
