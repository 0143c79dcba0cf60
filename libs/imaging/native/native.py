"""The project's own imager: options in, FITS images and MODEL_DATA out."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.core.geometry import ARCSEC_PER_RAD
from libs.imaging.interface import ImageProducts, ImagingOptions, open_image
from libs.imaging.native.convolution import Convolver
from libs.imaging.native.deconvolution import CleanResult, CleanSettings, Cycle, clean
from libs.imaging.native.gridding import Gridder
from libs.imaging.native.measurement import Measurement
from libs.imaging.native.memory import MOST_SCALES, memory_for_visibilities
from libs.imaging.native.model_column import model_of, write_model_column
from libs.imaging.native.products import Planes, image_header, write_products
from libs.imaging.native.restore import Beam, fit_beam, restored
from libs.imaging.native.samples import Selection
from libs.imaging.native.visibility_store import VisibilityStore, open_store
from libs.imaging.native.weighting import make_weighting

__all__ = ["NativeImager"]

logger = logging.getLogger(__name__)

# Beyond either, residuals between cycles are computed from the visibilities: larger images
# transform slower than visibilities are gridded, and with w the PSF differs over the image.
_IMAGE_DOMAIN_PIXELS = 2048
_IMAGE_DOMAIN_TURNS = 0.25

# Below this many pixels one thread is nearly as fast as several, and its images are the same to
# the last bit from run to run; with more the sums are rounded in another order.
_SINGLE_THREAD_PIXELS = 1024**2


@dataclass(frozen=True)
class NativeImager:
    """The project's own imager, in the process that calls it.

    Attributes
    ----------
    on_cycle : callable or None
        Called with a `Cycle` after each cycle of CLEAN, for a progress display.
    name : str
    """

    on_cycle: Callable[[Cycle], None] | None = None
    name: str = "native"

    def version(self) -> str:
        """Return the versions of what it is made of."""
        return f"selfcal native imager, ducc0 {metadata.version('ducc0')}"

    def image(self, options: ImagingOptions) -> ImageProducts:
        """Image, deconvolve and, with ``update_model``, fill MODEL_DATA (see Imager.image).

        Raises
        ------
        ConfigError
            The image does not fit into the memory allowed; there is no such field.
        InputError
            A column is missing; the mask is not on this grid.
        ImageError
            No visibility can be used; an image is not finite or all zero.
        """
        start = time.monotonic()
        options.folder.mkdir(parents=True, exist_ok=True)
        with _RunLog(options.log, self.on_cycle) as log:
            products = _Run(options, log, self.version()).image(start)
            if options.update_model:
                self.predict(products.models, options)
                log.line(f"MODEL_DATA filled, {time.monotonic() - start:.1f} s")
        return ImageProducts(**{**products.__dict__, "seconds": time.monotonic() - start})

    def predict(self, models: Sequence[Path], options: ImagingOptions) -> float:
        """Fill MODEL_DATA from model images; return the seconds it took (see Imager.predict).

        Every row of the field gets its model, flagged ones and those outside the limits of uv
        as well; cross hands get 0.
        """
        start = time.monotonic()
        model = model_of(models, options)
        for ms in options.vis:
            write_model_column(ms, model, options, threads=_threads(options))
        return time.monotonic() - start


class _RunLog:
    """The log file of a run, a few lines for each cycle."""

    def __init__(self, path: Path, on_cycle: Callable[[Cycle], None] | None) -> None:
        self._path, self._on_cycle = path, on_cycle

    def __enter__(self) -> _RunLog:
        self._stream = self._path.open("w")
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def line(self, text: str) -> None:
        """Write a line."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def cycle(self, cycle: Cycle) -> None:
        """Write what a cycle did, and pass it on."""
        left = "" if math.isnan(cycle.seconds_left) else f", about {cycle.seconds_left:.0f} s left"
        kind = "visibilities" if cycle.exact else "image domain"
        self.line(
            f"cycle {cycle.number}: {cycle.components} components, peak"
            f" {cycle.peak_jy_beam:.4g} Jy/beam, noise {cycle.noise_jy_beam:.4g} Jy/beam,"
            f" residual from {kind}{left}"
        )
        if self._on_cycle is not None:
            self._on_cycle(cycle)


class _Run:
    """One imaging run."""

    def __init__(self, options: ImagingOptions, log: _RunLog, version: str) -> None:
        self.options, self.log, self.version = options, log, version
        self.threads = _threads(options)
        self.nterms = options.nterms if options.channels_out > 1 else 1

    def image(self, start: float) -> ImageProducts:
        """Read, grid, CLEAN, restore and write."""
        options = self.options
        mask = _read_mask(options)
        store = self._read()
        measurement = self._measurement(store)
        image_domain = self._in_image_domain(measurement)
        room = 2 if _needs_room(options) else 1
        psf, dirty = measurement.first_images((room * options.imsize[0], room * options.imsize[1]))
        near = psf[0][_middle(psf.shape[1:], options.imsize)]
        beam = fit_beam(near)
        self.log.line(
            f"beam {beam.major_pixel * options.cell_arcsec:.6g} x"
            f" {beam.minor_pixel * options.cell_arcsec:.6g} arcsec, {beam.pa_deg:.1f} deg"
        )
        result = self._clean(measurement, psf, dirty, beam, mask, image_domain=image_domain)
        image = restored(result.model[0], result.residual[0], beam, self.threads)
        planes = Planes(image, result.residual[0], near, dirty[0], tuple(result.model), beam)
        band = store.facts.lowest_hz, store.facts.highest_hz
        header = image_header(
            options, store.centre, measurement.gridder.offset_rad, band,
            store.facts.first_time_s, self.version,
        )  # fmt: skip
        products = write_products(planes, options, header, start)
        self.log.line(f"images written, {products.seconds:.1f} s")
        return products

    def _read(self) -> VisibilityStore:
        options = self.options
        selection = Selection(options.column, options.field_id, options.uvmin_m, options.uvmax_m)
        memory = memory_for_visibilities(
            options.imsize, self.nterms, _scale_count(options), options.memory_limit_bytes,
            convolved=_needs_room(options),
        )  # fmt: skip
        store = open_store(options.vis, selection, memory_bytes=memory)
        facts = store.facts
        self.log.line(
            f"{facts.visibilities} visibilities, {facts.lowest_hz / 1e6:.6g} to"
            f" {facts.highest_hz / 1e6:.6g} MHz, longest {facts.longest_uv:.4g} wavelengths,"
            f" {'in memory' if store.in_memory else 'read anew for each pass'}"
        )
        return store

    def _measurement(self, store: VisibilityStore) -> Measurement:
        options = self.options
        cell = options.cell_arcsec / ARCSEC_PER_RAD
        offset = (0.0, 0.0)
        if options.phase_centre_deg is not None:
            offset = store.centre.offset_rad(store.centre.at(*options.phase_centre_deg))
        gridder = Gridder(options.imsize, cell, offset, threads=self.threads)
        store.weigh(
            make_weighting(
                store.blocks(), options.imsize, cell, briggs=options.weighting == "briggs",
                robust=options.robust, taper_arcsec=options.uvtaper_arcsec,
            )
        )  # fmt: skip
        return Measurement(
            store, gridder.for_w(store.facts.longest_w), store.facts.centre_hz, self.nterms,
            average=options.niter > 0,
        )  # fmt: skip

    def _in_image_domain(self, measurement: Measurement) -> bool:
        """Whether residuals between cycles are convolutions with the PSF."""
        turns = measurement.gridder.w_turns(measurement.store.facts.longest_w)
        return max(self.options.imsize) <= _IMAGE_DOMAIN_PIXELS and turns <= _IMAGE_DOMAIN_TURNS

    def _clean(
        self,
        measurement: Measurement,
        psf: NDArray[np.float32],
        dirty: NDArray[np.float64],
        beam: Beam,
        mask: NDArray[np.bool_] | None,
        *,
        image_domain: bool,
    ) -> CleanResult:
        options = self.options
        if not options.niter:
            return CleanResult(np.zeros(dirty.shape, np.float32), dirty, 0, 0, 0, math.nan)
        settings = CleanSettings(
            niter=options.niter,
            gain=options.gain,
            mgain=options.mgain,
            nmajor=options.nmajor,
            automask_nsigma=options.automask_nsigma,
            autothreshold_nsigma=options.autothreshold_nsigma,
            threshold_jy_beam=options.threshold_jy_beam,
            mask=mask,
            image_domain=image_domain,
        )
        convolver = Convolver(psf, _scales(options, beam), self.threads, shape=dirty.shape[1:])
        result = clean(dirty, convolver, settings, measurement.residual, self.log.cycle)
        self.log.line(
            f"{result.components} components in {result.cycles} cycles, {result.exact_cycles}"
            f" residuals from visibilities, the last differed by {result.agreement_nsigma:.2g}"
            f" sigma from the image domain"
        )
        return result


def _threads(options: ImagingOptions) -> int:
    """Return the number of threads: one for small images, where it also is reproducible."""
    small = options.imsize[0] * options.imsize[1] <= _SINGLE_THREAD_PIXELS
    return 1 if small and not options.threads else options.cores


def _scales(options: ImagingOptions, beam: Beam) -> tuple[float, ...]:
    """Return the sizes of components, pixels, the point first."""
    if not options.multiscale:
        return (0.0,)
    if options.scales_pixel:
        return tuple(sorted({0.0, *options.scales_pixel}))
    scales = [0.0]
    size = 2.0 * math.sqrt(beam.major_pixel * beam.minor_pixel)
    while size <= min(options.imsize) / 4 and len(scales) < MOST_SCALES:
        scales.append(size)
        size *= 2.0
    return tuple(scales)


def _needs_room(options: ImagingOptions) -> bool:
    """Return whether PSFs have to be twice as large as the image.

    Convolutions need that, and images so small that pixels far apart matter to each other in one
    cycle. The rest are cleaned of points by residuals from the visibilities.
    """
    return bool(options.niter) and (
        options.multiscale or min(options.imsize) <= _IMAGE_DOMAIN_PIXELS
    )


def _scale_count(options: ImagingOptions) -> int:
    """Return the number of scales, at most: how many the beam allows is not known yet."""
    if not options.multiscale:
        return 1
    return len({0.0, *options.scales_pixel}) if options.scales_pixel else MOST_SCALES


def _middle(shape: Sequence[int], imsize: tuple[int, int]) -> tuple[slice, slice]:
    """Where an image lies in a larger one of the same centre."""
    return tuple(  # type: ignore[return-value]
        slice(size // 2 - pixels // 2, size // 2 + pixels // 2)
        for size, pixels in zip(shape, (imsize[1], imsize[0]), strict=True)
    )


def _read_mask(options: ImagingOptions) -> NDArray[np.bool_] | None:
    """Read the mask of the options."""
    if options.mask is None:
        return None
    plane, _ = open_image(options.mask)
    if plane.shape != (options.imsize[1], options.imsize[0]):
        raise InputError(
            f"mask {options.mask.name} has shape {plane.shape}, the image"
            f" {(options.imsize[1], options.imsize[0])}",
            "make the mask from an image of the same size",
        )
    return np.nan_to_num(plane) != 0
