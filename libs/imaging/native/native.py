"""The project's own imager: options in, FITS images and MODEL_DATA out."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.core.geometry import ARCSEC_PER_RAD
from libs.imaging.interface import ImageProducts, ImagingOptions, open_image
from libs.imaging.mosaic import check_mosaic, mosaic_centre
from libs.imaging.native.convolution import Convolver
from libs.imaging.native.deconvolution import CleanResult, CleanSettings, Cycle, clean
from libs.imaging.native.gridding import Gridder
from libs.imaging.native.measurement import Measurement
from libs.imaging.native.memory import MOST_SCALES, memory_for_visibilities
from libs.imaging.native.model_column import model_of, write_model_column
from libs.imaging.native.mosaic_model import predict_mosaic
from libs.imaging.native.pointings import MosaicMeasurement, open_views
from libs.imaging.native.products import Planes, image_header, write_products
from libs.imaging.native.restore import Beam, fit_beam, restored
from libs.imaging.native.samples import Block, Selection
from libs.imaging.native.visibility_store import StoreFacts, open_store
from libs.imaging.native.weighting import Weighting, make_weighting
from libs.imaging.phase_centre import PhaseCentre

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
    goes_deeper: bool = True

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
        if options.mosaic:
            return predict_mosaic(models, options, _threads(options))
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


@dataclass(frozen=True)
class _Sight:
    """One Stokes parameter of what is imaged.

    Attributes
    ----------
    measurement : Measurement or MosaicMeasurement
    facts : StoreFacts
    centre : PhaseCentre
        Where the plane of the image touches the sky.
    offset_rad : (float, float)
        Direction cosines of the image's centre from there.
    mosaic : MosaicMeasurement or None
        The measurement, where it is one of several pointings.
    """

    measurement: Measurement | MosaicMeasurement
    facts: StoreFacts
    centre: PhaseCentre
    offset_rad: tuple[float, float]
    mosaic: MosaicMeasurement | None = None

    @property
    def thermal_jy_beam(self) -> float:
        """Noise of the visibilities about the last model, Jy/beam; NaN: unknown."""
        measured = self.measurement
        return measured.thermal.jy_beam if isinstance(measured, Measurement) else math.nan


class _Run:
    """One imaging run."""

    def __init__(self, options: ImagingOptions, log: _RunLog, version: str) -> None:
        self.options, self.log, self.version = options, log, version
        self.threads = _threads(options)
        self.nterms = options.nterms if options.channels_out > 1 else 1

    def image(self, start: float) -> ImageProducts:
        """Image each Stokes parameter; return the products of the first with the others."""
        made = [self._plane(stokes, start) for stokes in self.options.stokes]
        return replace(made[0], others=tuple(made[1:]))

    def _plane(self, stokes: str, start: float) -> ImageProducts:
        """Read, grid, CLEAN, restore and write one Stokes parameter."""
        options = self.options
        self.log.line(f"Stokes {stokes}")
        sight = self._mosaic(stokes) if options.mosaic else self._single(stokes)
        room = 2 if _needs_room(options) else 1
        psf, dirty = sight.measurement.first_images(
            (room * options.imsize[0], room * options.imsize[1])
        )
        near = _of_size(psf[0], options.imsize)
        beam = fit_beam(near)
        self.log.line(
            f"beam {beam.major_pixel * options.cell_arcsec:.6g} x"
            f" {beam.minor_pixel * options.cell_arcsec:.6g} arcsec, {beam.pa_deg:.1f} deg"
        )
        result = self._clean(sight, psf, dirty, beam, stokes)
        image = restored(result.model[0], result.residual[0], beam, self.threads)
        planes = Planes(
            image, result.residual[0], near, dirty[0], tuple(result.model), beam, stokes,
            *((sight.mosaic.response, sight.mosaic.seen) if sight.mosaic else ()),
        )  # fmt: skip
        header = image_header(
            options, sight.centre, sight.offset_rad, sight.facts, self.version, stokes
        )
        products = write_products(planes, options, header, start)
        products = replace(products, thermal_jy_beam=sight.thermal_jy_beam)
        self.log.line(f"images written, {products.seconds:.1f} s")
        return products

    def _selection(self, stokes: str) -> Selection:
        options = self.options
        return Selection(
            options.column, options.field_id, options.uvmin_m, options.uvmax_m, options.spws,
            stokes, options.stokes,
        )  # fmt: skip

    def _memory_bytes(self) -> float:
        """Return what the images leave for the visibilities, bytes."""
        options = self.options
        return memory_for_visibilities(
            options.imsize, self.nterms, _scale_count(options), options.memory_limit_bytes,
            # of mosaics PSFs are no larger than the minor cycle needs them
            convolved=_needs_room(options) and not options.mosaic,
        )  # fmt: skip

    def _single(self, stokes: str) -> _Sight:
        """Read one field."""
        options = self.options
        store = open_store(options.vis, self._selection(stokes), memory_bytes=self._memory_bytes())
        self._tell(store.facts, held=store.in_memory)
        cell = options.cell_arcsec / ARCSEC_PER_RAD
        offset = (0.0, 0.0)
        if options.phase_centre_deg is not None:
            offset = store.centre.offset_rad(store.centre.at(*options.phase_centre_deg))
        gridder = Gridder(options.imsize, cell, offset, threads=self.threads)
        store.weigh(self._weighting(store.blocks()))
        measurement = Measurement(
            store, gridder.for_w(store.facts.longest_w), store.facts.centre_hz, self.nterms,
            average=options.niter > 0,
        )  # fmt: skip
        return _Sight(measurement, store.facts, store.centre, offset)

    def _mosaic(self, stokes: str) -> _Sight:
        """Read the pointings of a mosaic."""
        options = self.options
        assert options.mosaic is not None
        check_mosaic(options)
        views = open_views(
            options, self._selection(stokes), memory_bytes=self._memory_bytes(),
            threads=self.threads,
        )  # fmt: skip
        mosaic = MosaicMeasurement(
            views, options.imsize, options.mosaic.least_power, mosaic_centre(options)
        )
        held = all(store.in_memory for store in mosaic.stores())
        self._tell(mosaic.facts, held=held)
        mosaic.weigh(
            self._weighting(block for store in mosaic.stores() for block in store.blocks())
        )
        return _Sight(mosaic, mosaic.facts, mosaic.centre, (0.0, 0.0), mosaic)

    def _tell(self, facts: StoreFacts, *, held: bool) -> None:
        self.log.line(
            f"{facts.visibilities} visibilities, {facts.lowest_hz / 1e6:.6g} to"
            f" {facts.highest_hz / 1e6:.6g} MHz, longest {facts.longest_uv:.4g} wavelengths,"
            f" {'in memory' if held else 'read anew for each pass'}"
        )

    def _weighting(self, blocks: Iterable[Block]) -> Weighting:
        options = self.options
        return make_weighting(
            blocks, options.imsize, options.cell_arcsec / ARCSEC_PER_RAD,
            briggs=options.weighting == "briggs", robust=options.robust,
            taper_arcsec=options.uvtaper_arcsec,
        )  # fmt: skip

    def _in_image_domain(self, sight: _Sight) -> bool:
        """Whether residuals between cycles are convolutions with the PSF."""
        if not isinstance(sight.measurement, Measurement):
            return False  # the PSF of a mosaic differs from place to place
        turns = sight.measurement.gridder.w_turns(sight.facts.longest_w)
        return max(self.options.imsize) <= _IMAGE_DOMAIN_PIXELS and turns <= _IMAGE_DOMAIN_TURNS

    def _clean(
        self, sight: _Sight, psf: NDArray[np.float32], dirty: NDArray[np.float64], beam: Beam,
        stokes: str,
    ) -> CleanResult:  # fmt: skip
        """CLEAN in one stage or several."""
        options = self.options
        empty = CleanResult(np.zeros(dirty.shape, np.float32), dirty, 0, 0, 0, math.nan)
        if not options.niter:
            return empty
        convolver = Convolver(psf, _scales(options, beam), self.threads, shape=dirty.shape[1:])
        result = None
        for settings in self._stages(sight, stokes):
            done = result.components if result else 0
            settings = replace(settings, niter=min(options.niter, done + settings.niter))
            result = clean(
                dirty, convolver, settings, sight.measurement.residual, self.log.cycle, result,
                thermal_jy_beam=lambda: sight.thermal_jy_beam,
            )  # fmt: skip
            self.log.line(
                f"{result.components} components in {result.cycles} cycles, {result.exact_cycles}"
                f" residuals from visibilities, the last differed by"
                f" {result.agreement_nsigma:.2g} sigma from the image domain"
            )
        return result or empty

    def _stages(self, sight: _Sight, stokes: str) -> Iterator[CleanSettings]:
        """Yield the settings of each stage; their ``niter`` is the stage's own."""
        options, mosaic = self.options, sight.mosaic
        seen = mosaic.seen if mosaic else None
        common = CleanSettings(
            niter=options.niter,
            gain=options.gain,
            mgain=options.mgain,
            nmajor=options.nmajor,
            automask_nsigma=options.automask_nsigma,
            autothreshold_nsigma=options.autothreshold_nsigma,
            threshold_jy_beam=options.threshold_jy_beam,
            mask=_within(_read_mask(options.mask, options.imsize), seen),
            image_domain=self._in_image_domain(sight),
            seen=seen,
            deeper=options.deeper and stokes == "I",
        )
        if not options.stages:
            yield common
        for stage in options.stages:
            mask = _within(_read_mask(stage.mask, options.imsize), seen)
            if stage.response and mosaic:
                mask = _within(mask, mosaic.response >= stage.response)
            yield replace(common, niter=stage.niter, autothreshold_nsigma=stage.nsigma, mask=mask)


def _within(
    mask: NDArray[np.bool_] | None, other: NDArray[np.bool_] | None
) -> NDArray[np.bool_] | None:
    """Return what both masks allow; None allows everything."""
    if mask is None or other is None:
        return other if mask is None else mask
    return mask & other


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


def _of_size(psf: NDArray[np.float32], imsize: tuple[int, int]) -> NDArray[np.float32]:
    """Return a PSF as large as the image: its middle, or with zeros around it."""
    width, height = min(imsize[0], psf.shape[1]), min(imsize[1], psf.shape[0])
    middle = psf[_middle(psf.shape, (width, height))]
    if middle.shape == imsize[::-1]:
        return middle
    whole = np.zeros(imsize[::-1], np.float32)
    whole[_middle(whole.shape, (width, height))] = middle
    return whole


def _middle(shape: Sequence[int], imsize: tuple[int, int]) -> tuple[slice, slice]:
    """Where an image lies in a larger one of the same centre."""
    return tuple(  # type: ignore[return-value]
        slice(size // 2 - pixels // 2, size // 2 + pixels // 2)
        for size, pixels in zip(shape, (imsize[1], imsize[0]), strict=True)
    )


def _read_mask(mask: Path | None, imsize: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Read a mask; None where there is none."""
    if mask is None:
        return None
    plane, _ = open_image(mask)
    if plane.shape != (imsize[1], imsize[0]):
        raise InputError(
            f"mask {mask.name} has shape {plane.shape}, the image {(imsize[1], imsize[0])}",
            "make the mask from an image of the same size",
        )
    return np.nan_to_num(plane) != 0
