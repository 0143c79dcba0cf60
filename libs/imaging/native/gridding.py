"""Between visibilities and images: ducc0's w-gridder with the conventions of measurement sets.

V(u, v, w) = sum of I(l, m) exp(2 pi i (u l + v m + w (n - 1))), l to the east, m to the north;
images are (ny, nx), columns run to the west, as in FITS files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.imaging.native.w_series import WSeries, w_series

__all__ = [
    "CLEANING_ACCURACY",
    "FINAL_ACCURACY",
    "IMAGE_TURNS",
    "MODEL_TURNS",
    "RESIDUAL_TURNS",
    "Gridder",
    "cropped",
    "largest_n_minus_1",
]

CLEANING_ACCURACY = 1e-4
FINAL_ACCURACY = 1e-6

# Turns of the w term at the image's farthest corner below which it is left out: of images; of
# models that are subtracted while cleaning; of models for solvers, exact to 1e-5 of the flux.
IMAGE_TURNS = 0.002
RESIDUAL_TURNS = 2e-4
MODEL_TURNS = 1e-6

# Above this accuracy ducc0 needs double precision.
_SINGLE_PRECISION = 1e-5

# ducc0 makes images of at least this many pixels
_LEAST_PIXELS = 32

# ducc0 computes exp(-2 pi i (u x + v y - w (n - 1))). With x = -l, because columns run west, the
# sign of the measurement sets comes out when v alone is turned.
_NORTH_FLIPPED = np.array([1.0, -1.0, 1.0])


def largest_n_minus_1(
    imsize: tuple[int, int], cell_rad: float, offset_rad: tuple[float, float] = (0.0, 0.0)
) -> float:
    """Return the largest 1 - n over an image."""
    east = abs(offset_rad[0]) + imsize[0] / 2 * cell_rad
    north = abs(offset_rad[1]) + imsize[1] / 2 * cell_rad
    square = min(1.0, east**2 + north**2)
    return square / (1.0 + math.sqrt(1.0 - square))


@dataclass(frozen=True)
class Gridder:
    """An image grid, and what goes between it and visibilities.

    Attributes
    ----------
    imsize : (int, int)
        Width and height, pixels.
    cell_rad : float
        Pixel size.
    offset_rad : (float, float)
        Direction cosines (l, m) of pixel (nx/2, ny/2) from the phase centre.
    with_w : bool
        Whether the w term is taken into account.
    threads : int
    """

    imsize: tuple[int, int]
    cell_rad: float
    offset_rad: tuple[float, float] = (0.0, 0.0)
    with_w: bool = True
    threads: int = 1

    def w_turns(self, largest_w: float) -> float:
        """Return the turns of the w term at the farthest corner; ``largest_w`` in wavelengths."""
        return largest_w * largest_n_minus_1(self.imsize, self.cell_rad, self.offset_rad)

    def for_w(self, largest_w: float, least_turns: float = IMAGE_TURNS) -> Gridder:
        """Return a copy that takes w into account only where it matters."""
        return replace(self, with_w=self.w_turns(largest_w) > least_turns)

    def _common(self, uvw_m: NDArray[np.float64], frequency_hz: NDArray[np.float64]) -> Any:
        return {
            "uvw": uvw_m * _NORTH_FLIPPED,
            "freq": np.sort(np.asarray(frequency_hz, dtype=np.float64)),
            "pixsize_x": self.cell_rad,
            "pixsize_y": self.cell_rad,
            "center_x": -self.offset_rad[0],
            "center_y": self.offset_rad[1],
            "divide_by_n": False,
            "nthreads": self.threads,
        }

    def image(
        self,
        uvw_m: NDArray[np.float64],
        frequency_hz: NDArray[np.float64],
        visibility: NDArray[np.complexfloating],
        accuracy: float = CLEANING_ACCURACY,
    ) -> NDArray[np.float64]:
        """Return the sum of visibilities seen as an image: the adjoint of `visibilities`.

        Parameters
        ----------
        uvw_m : (nrow, 3) float64
        frequency_hz : (nchan,) float64
        visibility : (nrow, nchan) complex64 or complex128
            Times their weights; those that are 0 cost nothing.
        accuracy : float
            Of the result; below 1e-5 complex128 is needed.

        Returns
        -------
        (ny, nx) float64
            sum of Re(V exp(-2 pi i (u l + v m + w (n - 1)))).
        """
        series = self._series(uvw_m, frequency_hz, accuracy)
        if series is None:
            return self._image(uvw_m, frequency_hz, visibility, accuracy, with_w=self.with_w)
        total = np.zeros(self.imsize[::-1])
        for term in range(series.terms):
            weighed = series.weighed(visibility, uvw_m, frequency_hz, term)
            enough = series.accuracy(term, accuracy)
            if enough > _SINGLE_PRECISION:
                weighed = weighed.astype(np.complex64, copy=False)
            part = self._image(uvw_m, frequency_hz, weighed, enough, with_w=False)
            total += part * series.image_factor(term) if term else part
        return total

    def _image(
        self,
        uvw_m: NDArray[np.float64],
        frequency_hz: NDArray[np.float64],
        visibility: NDArray[np.complexfloating],
        accuracy: float,
        *,
        with_w: bool,
    ) -> NDArray[np.float64]:
        """One call of ducc0."""
        from ducc0.wgridder import vis2dirty

        nx, ny = (max(pixels, _LEAST_PIXELS) for pixels in self.imsize)
        image = vis2dirty(
            **self._common(uvw_m, frequency_hz),
            do_wgridding=with_w,
            vis=np.ascontiguousarray(visibility[:, _rising(frequency_hz)]),
            npix_x=nx,
            npix_y=ny,
            epsilon=accuracy,
            double_precision_accumulation=True,
        )
        return np.ascontiguousarray(image.T[self._inside(nx, ny)], dtype=np.float64)

    def visibilities(
        self,
        uvw_m: NDArray[np.float64],
        frequency_hz: NDArray[np.float64],
        image: NDArray[np.floating],
        accuracy: float = CLEANING_ACCURACY,
    ) -> NDArray[np.complexfloating]:
        """Return the visibilities of an image.

        Parameters
        ----------
        uvw_m : (nrow, 3) float64
        frequency_hz : (nchan,) float64
        image : (ny, nx) array
            Jy/pixel.
        accuracy : float
            Relative to the image's flux; below 1e-5 double precision is used.

        Returns
        -------
        (nrow, nchan) complex64 or complex128
            Jy.
        """
        series = self._series(uvw_m, frequency_hz, accuracy)
        if series is None:
            return self._visibilities(uvw_m, frequency_hz, image, accuracy, with_w=self.with_w)
        parts = [
            self._visibilities(
                uvw_m, frequency_hz, image * series.image_factor(term) if term else image,
                series.accuracy(term, accuracy), with_w=False,
            )
            for term in range(series.terms)
        ]  # fmt: skip
        return series.total(parts, uvw_m, frequency_hz)

    def _visibilities(
        self,
        uvw_m: NDArray[np.float64],
        frequency_hz: NDArray[np.float64],
        image: NDArray[np.floating],
        accuracy: float,
        *,
        with_w: bool,
    ) -> NDArray[np.complexfloating]:
        """One call of ducc0."""
        from ducc0.wgridder import dirty2vis

        nx, ny = (max(pixels, _LEAST_PIXELS) for pixels in self.imsize)
        padded = np.zeros((ny, nx), np.float32 if accuracy > _SINGLE_PRECISION else np.float64)
        padded[self._inside(nx, ny)] = image
        found: NDArray[np.complexfloating] = dirty2vis(
            **self._common(uvw_m, frequency_hz),
            do_wgridding=with_w,
            dirty=np.ascontiguousarray(padded.T),
            epsilon=accuracy,
        )
        return found[:, _in_their_order(frequency_hz)]

    def _series(
        self, uvw_m: NDArray[np.float64], frequency_hz: NDArray[np.float64], accuracy: float
    ) -> WSeries | None:
        """Return the w term as a short series; None: it has none, or is not wanted."""
        if not self.with_w or not len(uvw_m):
            return None
        largest = float(np.abs(uvw_m[:, 2]).max() * np.max(frequency_hz)) / SPEED_OF_LIGHT_M_S
        return w_series(self.imsize, self.cell_rad, self.offset_rad, largest, accuracy)

    def _inside(self, nx: int, ny: int) -> tuple[slice, slice]:
        """Where the image lies in one that may have to be larger."""
        left, below = (nx - self.imsize[0]) // 2, (ny - self.imsize[1]) // 2
        return slice(below, below + self.imsize[1]), slice(left, left + self.imsize[0])


def _rising(frequency_hz: NDArray[np.float64]) -> slice | NDArray[np.int64]:
    """What puts channels in rising order, as ducc0 needs them."""
    if np.all(np.diff(frequency_hz) > 0):
        return slice(None)
    return np.argsort(frequency_hz, kind="stable")


def _in_their_order(frequency_hz: NDArray[np.float64]) -> slice | NDArray[np.int64]:
    """What puts channels from rising order back into their own."""
    rising = _rising(frequency_hz)
    return rising if isinstance(rising, slice) else np.argsort(rising)


def cropped(grid: Gridder, terms: NDArray[np.floating]) -> tuple[Gridder, NDArray[np.floating]]:
    """Return the part of a model that is not empty: smaller images transform faster.

    Parameters
    ----------
    grid : Gridder
        Of the whole model.
    terms : (nterms, ny, nx) array
        Jy/pixel.
    """
    nx, ny = grid.imsize
    y, x = np.nonzero(terms.any(axis=0))
    if not len(y):
        return grid, terms
    low = np.array([x.min() - x.min() % 2, y.min() - y.min() % 2])
    high = np.array([x.max() + 1, y.max() + 1])
    high += (high - low) % 2  # sizes are even, and with them stay within the image
    middle = low + (high - low) // 2
    # columns run to the west
    east = grid.offset_rad[0] - (int(middle[0]) - nx // 2) * grid.cell_rad
    north = grid.offset_rad[1] + (int(middle[1]) - ny // 2) * grid.cell_rad
    part = terms[:, low[1] : high[1], low[0] : high[0]]
    imsize = int(high[0] - low[0]), int(high[1] - low[1])
    return replace(grid, imsize=imsize, offset_rad=(east, north)), part
