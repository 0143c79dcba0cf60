"""Memory that an image takes, and what that leaves for visibilities."""

from __future__ import annotations

from libs.core.errors import ConfigError
from libs.ms.rows import CHUNK_BYTES

__all__ = ["MOST_SCALES", "image_bytes", "memory_for_visibilities"]

# Scales where none are given: the point, twice the beam, then each twice the last, as far as a
# quarter of the image.
MOST_SCALES = 5

# Bytes of memory by pixel of the image: planes of single and of double precision, and those of
# single precision that are twice as high and wide.
_SINGLE, _DOUBLE, _TWICE = 4, 8, 16

# The gridder's padded grid of complex numbers, and its image before that is turned round.
_GRIDDER_BYTES = 44

# Streamed visibilities are read in blocks; what is made of one takes about twice as much again.
_LEAST_FOR_VISIBILITIES = 3 * CHUNK_BYTES


def image_bytes(
    imsize: tuple[int, int], nterms: int, scales: int, *, convolved: bool = True
) -> float:
    """Return the memory that images take, without the visibilities, bytes.

    Parameters
    ----------
    imsize : (int, int)
        Width and height, pixels.
    nterms, scales : int
        Numbers of Taylor terms and of scales.
    convolved : bool
        Whether anything is convolved with PSFs or scales, which takes planes of twice the size.
    """
    pixels = imsize[0] * imsize[1]
    psfs = 2 * nterms - 1
    planes = nterms * (3 * _DOUBLE + 5 * _SINGLE) + scales * nterms * 3 * _SINGLE
    if convolved:
        # PSFs, their transforms and a copy at work, in twice the precision while they are summed
        planes += _TWICE * (3 * psfs + 2 * scales + 4) + 4 * _GRIDDER_BYTES
    else:
        planes += psfs * (_SINGLE + _DOUBLE) + _GRIDDER_BYTES
    pairs = scales * (scales + 1) / 2 * psfs * min(4 * pixels, 1024**2) * _SINGLE
    return float(pixels * planes + pairs)


def memory_for_visibilities(
    imsize: tuple[int, int],
    nterms: int,
    scales: int,
    limit_bytes: float,
    *,
    convolved: bool = True,
) -> float:
    """Return what a limit leaves for visibilities, bytes; see `image_bytes`.

    Raises
    ------
    ConfigError
        The image and one block of visibilities do not fit.
    """
    images = image_bytes(imsize, nterms, scales, convolved=convolved)
    left = limit_bytes - images
    if left < _LEAST_FOR_VISIBILITIES:
        raise ConfigError(
            f"an image of {imsize[0]} x {imsize[1]} pixels takes {images / 1e9:.2g} GB and data"
            f" read in pieces {_LEAST_FOR_VISIBILITIES / 1e9:.1g} GB, more than the"
            f" {limit_bytes / 1e9:.3g} GB that the imager may use",
            "make the image smaller (imsize), or allow more (memory)",
        )
    return left
