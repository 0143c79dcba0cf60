"""Several pointings seen as one image: each gridded where its beam is, then joined.

With B the primary beam of a pointing in a window, W the sum of its weights and D its dirty image
times W, the joined image is sum(B D) / (P max S), S = sum(B^2 W), P = sqrt(S / max S): a source of
flux f appears with f P, and the noise is the same everywhere. CLEAN works on this image; the model
of a pointing is the image's model times B / P.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ImageError
from libs.core.geometry import ARCSEC_PER_RAD, SPEED_OF_LIGHT_M_S
from libs.imaging.interface import ImagingOptions
from libs.imaging.mosaic import (
    Pointing,
    alike_sets,
    beam_plane,
    mosaic_beam,
    mosaic_centre,
    pointings,
)
from libs.imaging.native.gridding import IMAGE_TURNS, Gridder
from libs.imaging.native.measurement import Measurement
from libs.imaging.native.samples import Selection
from libs.imaging.native.visibility_store import StoreFacts, VisibilityStore, open_store
from libs.imaging.native.weighting import Weighting
from libs.imaging.phase_centre import PhaseCentre
from libs.imaging.primary_beam import PrimaryBeam
from libs.ms.subtables import Subtables

__all__ = ["MosaicMeasurement", "PointingView", "open_views", "view_grid"]

# PSFs of mosaics are made this large: what lies beyond is found by the residuals.
_PSF_PIXELS = 2048

# Frequencies of a window over which its beam is averaged, at most.
_BEAM_FREQUENCIES = 8


@dataclass(frozen=True)
class PointingView:
    """A pointing in one spectral window, and the part of the image that its beam covers.

    Attributes
    ----------
    pointing : Pointing
    beam : PrimaryBeam
    frequencies_hz : tuple of float
        Over which the beam is averaged.
    rows, columns : slice
        Part of the image.
    gridder : Gridder
        Grid of that part.
    facet : (float, float) or None
        As in `SetLayout`; None: phases are referred to the image's centre.
    l_rad, m_rad : float64 arrays
        Direction cosines of its columns and rows about the image's centre.
    store : VisibilityStore or None
        Its visibilities.
    """

    pointing: Pointing
    beam: PrimaryBeam
    frequencies_hz: tuple[float, ...]
    rows: slice
    columns: slice
    gridder: Gridder
    facet: tuple[float, float] | None
    l_rad: NDArray[np.float64] = field(repr=False)
    m_rad: NDArray[np.float64] = field(repr=False)
    store: VisibilityStore | None = None

    def power(self) -> NDArray[np.float32]:
        """Return the power of the primary beam on this part of the image."""
        return beam_plane(
            self.beam, self.frequencies_hz, self.l_rad, self.m_rad, self.pointing.offset_rad
        )


def view_grid(
    options: ImagingOptions,
    pointing: Pointing,
    frequency_hz: NDArray[np.float64],
    longest_w: float,
    threads: int,
    ms: Path | None = None,
) -> PointingView:
    """Return the part of a mosaic's image that one pointing sees, without visibilities.

    Parameters
    ----------
    options : ImagingOptions
    pointing : Pointing
    frequency_hz : (nchan,) float64
        Channels of the window.
    longest_w : float
        Largest |w|, wavelengths, for the choice between a facet and the common phase centre.
    threads : int
    ms : Path, optional
        Whose dishes give the beam, where sets differ in them.
    """
    chosen = np.linspace(0, len(frequency_hz) - 1, min(len(frequency_hz), _BEAM_FREQUENCIES))
    frequencies = tuple(float(frequency_hz[int(k)]) for k in np.rint(chosen))
    beam = mosaic_beam(options, min(frequencies), ms)
    cell = options.cell_arcsec / ARCSEC_PER_RAD
    half = math.ceil(max(map(beam.reach_rad, frequencies)) / cell) + 1
    east, north = pointing.offset_rad
    nx, ny = options.imsize
    columns = _part(nx, nx // 2 - east / cell, half)
    rows = _part(ny, ny // 2 + north / cell, half)
    l_rad = (nx // 2 - np.arange(columns.start, columns.stop)) * cell
    m_rad = (np.arange(rows.start, rows.stop) - ny // 2) * cell
    size = columns.stop - columns.start, rows.stop - rows.start
    middle = float(l_rad[size[0] // 2]), float(m_rad[size[1] // 2])
    plain = longest_w * _nonlinear(middle, l_rad, m_rad) <= IMAGE_TURNS
    grid = Gridder(size, cell, (0.0, 0.0) if plain else middle, threads=threads).for_w(longest_w)
    return PointingView(
        pointing, beam, frequencies, rows, columns, grid, middle if plain else None, l_rad, m_rad
    )


def _part(pixels: int, middle: float, half: int) -> slice:
    """Return an even stretch of an axis around a place, within the image."""
    low = max(0, math.floor(middle) - half)
    high = min(pixels, math.ceil(middle) + half)
    low -= low % 2
    high += (high - low) % 2
    if high - low < 2:
        raise ImageError(
            "a pointing of the mosaic lies outside the image", "make the image larger (imsize)"
        )
    return slice(low, high)


def _nonlinear(
    middle: tuple[float, float], l_rad: NDArray[np.float64], m_rad: NDArray[np.float64]
) -> float:
    """Return by how much n differs from what a facet takes it for, at the corners of a part.

    The facet takes n for that of its middle, plus a linear term, plus that of a plane which
    touches the sky there.
    """
    worst = 0.0
    n0 = math.sqrt(1.0 - middle[0] ** 2 - middle[1] ** 2)
    for east in (l_rad[0], l_rad[-1]):
        for north in (m_rad[0], m_rad[-1]):
            across = east - middle[0], north - middle[1]
            rest = 1.0 - east**2 - north**2
            near = 1.0 - across[0] ** 2 - across[1] ** 2
            if rest <= 0.0 or near <= 0.0:
                return math.inf
            linear = -(across[0] * middle[0] + across[1] * middle[1]) / n0
            taken = n0 + linear + (math.sqrt(near) - 1.0)
            worst = max(worst, abs(math.sqrt(rest) - taken))
    return worst


def open_views(
    options: ImagingOptions, selection: Selection, *, memory_bytes: float, threads: int
) -> tuple[PointingView, ...]:
    """Read the visibilities of every pointing and window of a mosaic.

    Parameters
    ----------
    options : ImagingOptions
    selection : Selection
        Its field and windows are replaced by those of each view.
    memory_bytes : float
        What all visibilities may take; more than that are read anew for each pass.
    threads : int

    Raises
    ------
    ImageError
        No visibility can be used.
    """
    windows = Subtables(options.vis[0]).windows
    chosen = options.spws or tuple(range(len(windows)))
    centre = mosaic_centre(options)
    longest_m = max(_longest_baseline_m(Subtables(ms).position_m) for ms in options.vis)
    left = memory_bytes
    views = []
    for pointing, spw, sets in product(pointings(options), chosen, alike_sets(options)):
        own = replace(selection, field_id=pointing.field_id, spws=(spw,))
        # w is not known before the data are read, but no longer than the longest baseline
        hz = windows[spw].frequency_hz
        longest_w = longest_m * float(hz.max()) / SPEED_OF_LIGHT_M_S
        grid = view_grid(options, pointing, hz, longest_w, threads, sets[0])
        store = open_store(
            sets, own, memory_bytes=left, centre=centre, facet=grid.facet,
            may_be_empty=True,
        )  # fmt: skip
        left -= store.bytes_held
        if store.facts.visibilities:
            views.append(replace(grid, store=store))
    if not views:
        names = ", ".join(ms.name for ms in options.vis)
        raise ImageError(
            f"no visibility of the mosaic in {names} can be imaged",
            "all are flagged, without weight or outside the limits of uv: look at the data",
        )
    return tuple(views)


def _longest_baseline_m(position_m: NDArray[np.float64]) -> float:
    """Return the largest distance between two antennas, m."""
    apart = position_m[:, None] - position_m[None, :]
    return float(np.sqrt((apart**2).sum(axis=-1)).max())


@dataclass
class MosaicMeasurement:
    """The visibilities of a mosaic as seen on its image; it stands for a `Measurement`.

    Attributes
    ----------
    views : tuple of PointingView
        With visibilities.
    imsize : (int, int)
        Width and height of the image, pixels.
    least_response : float
        The image is blank where its response is lower.
    centre : PhaseCentre
        Where the plane of the image touches the sky.
    nterms : int
    weight_sum : float
        Of all weights; set by `first_images`, as are the others.
    response : (ny, nx) float32
        P.
    seen : (ny, nx) bool
        Where the response is high enough.
    """

    views: tuple[PointingView, ...]
    imsize: tuple[int, int]
    least_response: float
    centre: PhaseCentre
    nterms: int = 1
    weight_sum: float = 0.0
    response: NDArray[np.float32] = field(init=False, repr=False)
    seen: NDArray[np.bool_] = field(init=False, repr=False)
    _measurements: list[Measurement] = field(init=False, repr=False)
    _largest: float = 0.0

    def __post_init__(self) -> None:
        self._measurements = []
        for view in self.views:
            assert view.store is not None
            self._measurements.append(
                Measurement(view.store, view.gridder, view.frequencies_hz[0], average=False)
            )

    @property
    def facts(self) -> StoreFacts:
        """What reading found, of all views together."""
        found = [measurement.store.facts for measurement in self._measurements]
        return StoreFacts(
            sum(one.visibilities for one in found),
            min(one.lowest_hz for one in found),
            max(one.highest_hz for one in found),
            max(one.longest_uv for one in found),
            max(one.longest_w for one in found),
            min(one.first_time_s for one in found),
        )

    def weigh(self, weighting: Weighting) -> None:
        """Use one weighting for all pointings."""
        for measurement in self._measurements:
            measurement.store.weigh(weighting)

    def stores(self) -> Iterator[VisibilityStore]:
        """Yield the visibilities of each view."""
        for measurement in self._measurements:
            yield measurement.store

    def first_images(
        self, psf_imsize: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return the mean PSF and the dirty image; see `Measurement.first_images`.

        The PSF is no larger than the minor cycle needs it.
        """
        size = min(psf_imsize[0], _PSF_PIXELS), min(psf_imsize[1], _PSF_PIXELS)
        psf = np.zeros((1, size[1], size[0]))
        joined = np.zeros(self.imsize[::-1])
        square = np.zeros(self.imsize[::-1])
        self.weight_sum = 0.0
        for view, measurement in zip(self.views, self._measurements, strict=True):
            own, dirty = measurement.first_images(size)
            weight, power = measurement.weight_sum, view.power()
            psf += weight * own
            joined[view.rows, view.columns] += weight * power * dirty[0]
            square[view.rows, view.columns] += weight * power.astype(np.float64) ** 2
            self.weight_sum += weight
        self._largest = float(square.max())
        self.response = np.sqrt(square / self._largest).astype(np.float32)
        self.seen = self.response >= self.least_response
        return (psf / self.weight_sum).astype(np.float32), self._flat(joined)

    def residual(self, model: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the image of what a model leaves of the visibilities.

        Parameters
        ----------
        model : (1, ny, nx) array
            Jy/pixel times the response.
        """
        sky = self.sky(model[0])
        joined = np.zeros(self.imsize[::-1])
        for view, measurement in zip(self.views, self._measurements, strict=True):
            power = view.power()
            part = sky[view.rows, view.columns] * power
            left = measurement.residual(part[None])
            joined[view.rows, view.columns] += measurement.weight_sum * power * left[0]
        return self._flat(joined)

    def sky(self, model: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return a model of the image as one of the sky, Jy/pixel, (ny, nx)."""
        return np.divide(model, self.response, out=np.zeros_like(model), where=self.seen)

    def _flat(self, joined: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return an image of even noise, (1, ny, nx); 0 where it is blank."""
        scale = self.response * self._largest
        flat = np.divide(joined, scale, out=np.zeros_like(joined), where=self.seen)
        return flat[None]
