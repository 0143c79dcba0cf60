"""The w term of small fields as a power series: a few plain transforms in place of many.

exp(2 pi i w (n - 1)) turns by little over a small image. With d = n - 1 less its middle value over
the image, it is the constant exp(2 pi i w middle) times the sum of (2 pi i w d)^k / k!, so each
term is a transform without w of an image multiplied by d^k. ducc0's w-gridder needs at least as
many planes as its kernel is wide, however small the field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from libs.core.geometry import SPEED_OF_LIGHT_M_S

__all__ = ["WSeries", "w_series"]

# With more terms than this the w-gridder is as fast.
_MOST_TERMS = 4

# Less accurate transforms are hardly faster.
_LOOSEST = 1e-3


@dataclass(frozen=True)
class WSeries:
    """The series of one image grid.

    Attributes
    ----------
    terms : int
        Number of terms, 1 to 4.
    middle : float
        The value of n - 1 that is taken exactly.
    offset : (ny, nx) float64
        d: n - 1 less the middle.
    phase : float
        Largest |2 pi w d|, rad.
    """

    terms: int
    middle: float
    offset: NDArray[np.float64]
    phase: float

    def accuracy(self, term: int, whole: float) -> float:
        """Return the accuracy a term needs for one of the whole: the higher, the smaller it is."""
        return min(_LOOSEST, whole * math.factorial(term) / self.phase**term) if term else whole

    def image_factor(self, term: int) -> NDArray[np.float64]:
        """Return d^k / k!, (ny, nx), by which term k of the image is multiplied."""
        factor = self.offset
        for power in range(2, term + 1):
            factor = factor * (self.offset / power)
        return factor if term else np.ones_like(factor)

    def weighed(
        self,
        visibility: NDArray[np.complexfloating],
        uvw_m: NDArray[np.float64],
        frequency_hz: NDArray[np.float64],
        term: int,
    ) -> NDArray[np.complexfloating]:
        """Return visibilities times the conjugate of term k's factor, for an image of them.

        Parameters
        ----------
        visibility : (nrow, nchan) complex
        uvw_m : (nrow, 3) float64
        frequency_hz : (nchan,) float64
        term : int
        """
        if not term and not self.middle:
            return visibility
        out = np.empty_like(visibility)
        _weigh(visibility, *_radians(uvw_m, frequency_hz), self.middle, term, out)
        return out

    def total(
        self,
        parts: list[NDArray[np.complexfloating]],
        uvw_m: NDArray[np.float64],
        frequency_hz: NDArray[np.float64],
    ) -> NDArray[np.complexfloating]:
        """Return the sum over terms of the visibilities of the images of each.

        Parameters
        ----------
        parts : list of (nrow, nchan) complex
            One for each term.
        uvw_m : (nrow, 3) float64
        frequency_hz : (nchan,) float64
        """
        rows, channels = _radians(uvw_m, frequency_hz)
        found = parts[-1]
        for k in reversed(range(len(parts) - 1)):
            _add_next(parts[k], found, rows, channels)
            found = parts[k]
        if self.middle:
            _weigh(found, rows, channels, -self.middle, 0, found)
        return found


def w_series(
    imsize: tuple[int, int],
    cell_rad: float,
    offset_rad: tuple[float, float],
    largest_w: float,
    accuracy: float,
) -> WSeries | None:
    """Return the shortest series that is accurate enough, or None where none is short.

    Parameters
    ----------
    imsize : (int, int)
        Width and height, pixels.
    cell_rad : float
        Pixel size.
    offset_rad : (float, float)
        Direction cosines (l, m) of pixel (nx/2, ny/2) from the phase centre.
    largest_w : float
        Largest |w|, wavelengths.
    accuracy : float
        Relative to the image's flux.
    """
    nx, ny = imsize
    east = offset_rad[0] - (np.arange(nx) - nx // 2) * cell_rad
    north = offset_rad[1] + (np.arange(ny) - ny // 2) * cell_rad
    farthest = float((east**2).max() + (north**2).max())
    if not farthest < 1.0:
        return None
    near, far = _n_minus_1(float((east**2).min() + (north**2).min())), _n_minus_1(farthest)
    # nothing is gained by a middle where the phase centre is in the image: it costs a sine
    middle = 0.0 if abs(near) < 0.1 * abs(far) else 0.5 * (near + far)
    phase = 2.0 * math.pi * largest_w * max(abs(near - middle), abs(far - middle))
    for terms in range(1, _MOST_TERMS + 1):
        if phase**terms / math.factorial(terms) <= accuracy:
            square = east[None, :] ** 2 + north[:, None] ** 2
            return WSeries(terms, middle, _n_minus_1(square) - middle, phase)
    return None


def _n_minus_1(square):  # type: ignore[no-untyped-def]
    """Return n - 1 of l^2 + m^2, without the loss of digits of the plain formula."""
    return -square / (1.0 + np.sqrt(1.0 - square))


def _radians(
    uvw_m: NDArray[np.float64], frequency_hz: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two factors of 2 pi w in wavelengths, by row and by channel."""
    return (
        np.ascontiguousarray(uvw_m[:, 2]) * (2.0 * math.pi / SPEED_OF_LIGHT_M_S),
        np.asarray(frequency_hz, dtype=np.float64),
    )


@njit(cache=True, nogil=True)
def _weigh(
    visibility: NDArray[np.complexfloating],
    rows: NDArray[np.float64],
    channels: NDArray[np.float64],
    middle: float,
    term: int,
    out: NDArray[np.complexfloating],
) -> None:
    """Multiply visibilities by (-i a)^k exp(-i a middle), a being 2 pi w."""
    for row in range(visibility.shape[0]):
        for chan in range(visibility.shape[1]):
            value = visibility[row, chan]
            if value == 0.0:
                out[row, chan] = value
                continue
            a = rows[row] * channels[chan]
            factor = 1.0 + 0.0j
            if middle != 0.0:
                factor = complex(math.cos(a * middle), -math.sin(a * middle))
            for _ in range(term):
                factor *= complex(0.0, -a)
            out[row, chan] = value * factor


@njit(cache=True, nogil=True)
def _add_next(
    part: NDArray[np.complexfloating],
    higher: NDArray[np.complexfloating],
    rows: NDArray[np.float64],
    channels: NDArray[np.float64],
) -> None:
    """Add i 2 pi w times the sum of the higher terms to a term."""
    for row in range(part.shape[0]):
        for chan in range(part.shape[1]):
            part[row, chan] += higher[row, chan] * complex(0.0, rows[row] * channels[chan])
