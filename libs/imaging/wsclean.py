"""WSClean as an imager: options to command line, run, products."""

from __future__ import annotations

import functools
import math
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.angles import direction_text
from libs.core.errors import ConfigError, ToolError
from libs.core.process import run_tool, which
from libs.imaging.data_shape import DataShape, read_shape
from libs.imaging.interface import ImageProducts, ImagingOptions, open_image, write_image
from libs.imaging.phase_centre import field_centre
from libs.imaging.predict import fill_model_column, model_visibilities, read_model
from libs.imaging.products import check_made, fresh_scratch, plane_name, restoring_beam

__all__ = ["OLDEST", "WSClean", "image_arguments", "parse_version", "predict_arguments"]

Version = tuple[int, int]

OLDEST: Version = (3, 0)
"""The w-gridder, on which the choices below rest, was experimental before 3.0."""

_GRIDDER_RENAMED: Version = (3, 4)

# The default, 1e-4, takes as long and limits predicted visibilities to about that accuracy; 3.1
# refuses 1e-7.
#
# -no-small-inversion: the default of 3.1 grids at the resolution of the beam and interpolates the
# image, which predicts a 2.5 Jy point 10 pixels off centre with errors of 34 mJy instead of
# 0.1 mJy.
_WGRIDDER_ACCURACY = "1e-5"

# Below this many pixels one thread is as fast as several, and its images are identical from run
# to run; with more threads, sums are rounded in another order (1e-7 of the peak).
_SINGLE_THREAD_PIXELS = 1024**2

# Multiscale: a bias above the default 0.6 keeps points in the point scale. The gain is 0.1, because
# WSClean's manual calls 0.2 prone to instability.
_MULTISCALE = ("-multiscale", "-multiscale-scale-bias", "0.7", "-multiscale-gain", "0.1")

# Every linear algebra library that WSClean is linked to would start its own threads.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}


def parse_version(text: str) -> Version:
    """Return (major, minor) from the output of ``wsclean -version``.

    Raises
    ------
    ToolError
        The text names no version.
    """
    found = re.search(r"WSClean version (\d+)\.(\d+)", text)
    if not found:
        raise ToolError(
            f"wsclean printed no version, but {text.strip()[:80]!r}",
            "check that the program called wsclean is WSClean",
        )
    return int(found[1]), int(found[2])


@functools.lru_cache(maxsize=8)
def _ask_version(program: Path, _modified_ns: int) -> tuple[Version, str]:
    """Return the version and the line that states it, asked once for each program file."""
    try:
        answer = subprocess.run(
            [str(program), "-version"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"{program} does not run ({error})", "reinstall WSClean") from error
    text = answer.stdout + answer.stderr
    version = parse_version(text)
    if version < OLDEST:
        raise ToolError(
            f"WSClean {version[0]}.{version[1]} is too old",
            f"install {OLDEST[0]}.{OLDEST[1]} or newer, or set imager to native",
        )
    line = next(line for line in text.splitlines() if "WSClean version" in line)
    return version, line.strip()


_TINY_FIELD_ARCSEC = 0.01


def _gridder(version: Version, options: ImagingOptions) -> list[str]:
    # Pixels of microarcseconds are too small for the w-gridder, which returns zeros. Across so
    # small a field the w term is negligible.
    if max(options.imsize) * options.cell_arcsec < _TINY_FIELD_ARCSEC:
        return ["-no-small-inversion"]
    chosen = ["-gridder", "wgridder"] if version >= _GRIDDER_RENAMED else ["-use-wgridder"]
    return [*chosen, "-wgridder-accuracy", _WGRIDDER_ACCURACY, "-no-small-inversion"]


def _number(value: float) -> str:
    """Write a number without needless digits and without an exponent.

    WSClean reads the unit from the first letter on: it would take 2e-06asec for 2.
    """
    return np.format_float_positional(float(f"{value:.10g}"), trim="-")


def _position(ra_deg: float, dec_deg: float) -> tuple[str, str]:
    """Return a position in WSClean's notation, e.g. ``12h29m06.6997s``, ``+02d03m08.598s``."""
    return direction_text(math.radians(ra_deg), math.radians(dec_deg), ("hms", "dms"), (7, 6))


def _threads(options: ImagingOptions) -> int:
    """Return the number of threads: one for small images, whose result is then reproducible."""
    small = options.imsize[0] * options.imsize[1] <= _SINGLE_THREAD_PIXELS
    return 1 if small and not options.threads else options.cores


def _common(
    options: ImagingOptions, version: Version, scratch: Path, shape: DataShape | None
) -> list[str]:
    """Return what imaging and prediction share."""
    words = ["-j", str(_threads(options))]
    words += ["-abs-mem", _number(options.memory_limit_bytes / 2**30)]  # GiB
    words += ["-name", str(scratch / options.basename), "-temp-dir", str(scratch)]
    # of one hand it forms no Stokes I, though the hand is one
    hand = shape.hand if shape else ""
    words += ["-pol", hand or ",".join(options.stokes), "-field", str(options.field_id)]
    windows = options.spws
    if shape and shape.empty:
        # slices are shares of the channels: one of a flagged window would have no model
        windows = tuple(spw for spw in shape.windows if not windows or spw in windows)
    if windows:
        words += ["-spws", ",".join(map(str, windows))]
    words += _gridder(version, options)
    if options.phase_centre_deg is not None:
        # Prediction needs it too, because it ignores the shift in the header of the model image.
        words += ["-shift", *_position(*options.phase_centre_deg)]
    if options.channels_out > 1:
        words += ["-channels-out", str(options.channels_out)]
    return words


def _weighting(options: ImagingOptions) -> list[str]:
    words = ["-weight", "natural"]
    if options.weighting == "briggs":
        words = ["-weight", "briggs", _number(options.robust)]
    if options.uvtaper_arcsec:
        words += ["-taper-gaussian", f"{_number(options.uvtaper_arcsec)}asec"]
    if options.uvmin_m:
        words += ["-minuvw-m", _number(options.uvmin_m)]
    if options.uvmax_m:
        words += ["-maxuvw-m", _number(options.uvmax_m)]
    return words


def _deconvolution(options: ImagingOptions) -> list[str]:
    words = ["-niter", str(options.niter)]
    if not options.niter:
        # without CLEAN it reads the data in place, but refuses this for sets of several windows
        return [*words, "-reorder"]
    words += ["-gain", _number(options.gain), "-mgain", _number(options.mgain)]
    words += ["-nmiter", str(options.nmajor)]
    if options.autothreshold_nsigma:
        words += ["-auto-threshold", _number(options.autothreshold_nsigma)]
    if options.threshold_jy_beam:
        words += ["-threshold", _number(options.threshold_jy_beam)]
    if options.automask_nsigma:
        words += ["-auto-mask", _number(options.automask_nsigma)]
    if options.mask is not None:
        words += ["-fits-mask", str(options.mask.resolve())]
    if options.multiscale:
        words += _MULTISCALE
        if options.scales_pixel:
            words += ["-multiscale-scales", ",".join(map(_number, options.scales_pixel))]
    if options.channels_out > 1:
        terms = min(options.nterms, options.channels_out)
        words += ["-join-channels", "-fit-spectral-pol", str(terms)]
    return words


def _fills_model(options: ImagingOptions, shape: DataShape | None = None) -> bool:
    """Whether the imaging run itself fills MODEL_DATA as wanted.

    With baseline limits, and without CLEAN, WSClean leaves visibilities that it does not image
    unchanged; a prediction then follows.
    """
    limited = bool(options.uvmin_m or options.uvmax_m or options.stokes != "I")
    return options.update_model and not limited and options.niter > 0 and _can_predict(shape)


def _can_predict(shape: DataShape | None) -> bool:
    """Whether WSClean can write MODEL_DATA: not for windows of unlike shape, nor of one hand."""
    return shape is None or (shape.alike and not shape.hand and not shape.empty)


def image_arguments(
    options: ImagingOptions, version: Version, scratch: Path, shape: DataShape | None = None
) -> list[str]:
    """Return WSClean's arguments for an imaging run, the program's name not among them.

    Parameters
    ----------
    options : ImagingOptions
        Imaging options.
    version : (int, int)
        Version of WSClean; spellings of options differ.
    scratch : Path
        Folder for temporary files and the images.
    shape : DataShape, optional
        Of the data; default: both hands in all of its windows, and these alike.

    Returns
    -------
    list of str
        Arguments, one word each; they must not pass through a shell.

    Notes
    -----
    The restoring beam stays elliptical as fitted: with a circular one, restored components and
    residuals would have different units, and the total flux would be wrong.
    """
    words = _common(options, version, scratch, shape)
    words += ["-size", str(options.imsize[0]), str(options.imsize[1])]
    words += ["-scale", f"{_number(options.cell_arcsec)}asec"]
    words += ["-data-column", options.column, "-make-psf"]
    words += _weighting(options) + _deconvolution(options)
    fills = _fills_model(options, shape)
    words.append("-update-model-required" if fills else "-no-update-model-required")
    return words + [str(ms.resolve()) for ms in options.vis]


def predict_arguments(options: ImagingOptions, version: Version, scratch: Path) -> list[str]:
    """Return WSClean's arguments to fill MODEL_DATA from the model images in ``scratch``.

    Baseline limits are left out, because a gain solve must find a model for every visibility.
    """
    words = ["-predict", "-reorder", *_common(options, version, scratch, None)]
    return words + [str(ms.resolve()) for ms in options.vis]


@dataclass(frozen=True)
class WSClean:
    """WSClean as an imager.

    Attributes
    ----------
    program : Path or None
        The program; None: the one on the PATH.
    stall_s : float
        Longest time without output and CPU time, s, after which WSClean is taken to hang.
    on_wait : callable or None
        Function called while waiting, for a progress display.
    """

    program: Path | None = None
    stall_s: float = 600.0
    on_wait: Callable[[], None] | None = None
    name: str = "wsclean"
    goes_deeper: bool = False

    def _found(self) -> tuple[Path, Version, str]:
        program = self.program or which("wsclean")
        if program is None or not program.exists():
            raise ToolError(
                f"{program or 'wsclean'} is not installed",
                "install WSClean (e.g. apt-get install wsclean), or set imager to native",
            )
        version, line = _ask_version(program, program.stat().st_mtime_ns)
        return program, version, line

    def version(self) -> str:
        """Return WSClean's version text; raise ToolError if it is missing or too old."""
        return self._found()[2]

    def image(self, options: ImagingOptions) -> ImageProducts:
        """Image, deconvolve and, with ``update_model``, fill MODEL_DATA (see Imager.image)."""
        start = time.monotonic()
        _check_able(options)
        options.refuse_deeper(self.name)
        program, version, _ = self._found()
        shape = read_shape(options.vis, options.field_id)
        scratch = fresh_scratch(options, "wsclean")
        try:
            self._run([str(program), *image_arguments(options, version, scratch, shape)], options)
            products = _collect(options, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if options.update_model and not _fills_model(options, shape):
            self.predict(products.models, options)
        return replace(products, seconds=time.monotonic() - start)

    def predict(self, models: Sequence[Path], options: ImagingOptions) -> float:
        """Fill MODEL_DATA from model images; return the seconds it took (see Imager.predict)."""
        _check_able(options)
        program, version, _ = self._found()
        if len(models) != options.channels_out:
            raise ToolError(
                f"there are {len(models)} model images for {options.channels_out} channels",
                "give the models of a run with the same channels_out",
            )
        if options.stokes != "I" or not _can_predict(read_shape(options.vis, options.field_id)):
            return _predict_slices(models, options)
        scratch = fresh_scratch(options, "wsclean")
        try:
            for number, model in enumerate(models):
                part = f"-{number:04d}" if options.channels_out > 1 else ""
                shutil.copyfile(model, scratch / f"{options.basename}{part}-model.fits")
            return self._run([str(program), *predict_arguments(options, version, scratch)], options)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _run(self, argv: list[str], options: ImagingOptions) -> float:
        return run_tool(
            argv,
            options.log,
            env=_ENVIRONMENT,
            stall_s=self.stall_s,
            on_wait=self.on_wait,
        )


def _check_able(options: ImagingOptions) -> None:
    """Raise ConfigError for what WSClean does not do here."""
    remedy = "set imager to native or tclean"
    if options.mosaic:
        raise ConfigError("WSClean images no mosaics of primary beams", remedy)
    if options.stages:
        raise ConfigError("WSClean cleans in one stage, not in several", remedy)


def _predict_slices(models: Sequence[Path], options: ImagingOptions) -> float:
    """Fill MODEL_DATA without WSClean: each channel by the slice nearest in frequency."""
    here = field_centre(options.vis[0], options.field_id)
    there = here.at(*options.phase_centre_deg) if options.phase_centre_deg else here
    slices = [read_model([model], here.offset_rad(there)) for model in models]
    centre = np.array([part.frequency_hz for part in slices])

    def visibilities(
        uvw_m: NDArray[np.float64], frequency_hz: NDArray[np.float64]
    ) -> NDArray[np.complex128]:
        nearest = np.argmin(np.abs(frequency_hz[:, None] - centre), axis=1)
        values = np.zeros((len(uvw_m), len(frequency_hz)), np.complex128)
        for number in np.unique(nearest):
            mine = nearest == number
            values[:, mine] = model_visibilities(
                slices[number], uvw_m, frequency_hz[mine], threads=options.cores
            )
        return values

    return fill_model_column(options.vis, visibilities, field_id=options.field_id)


def _collect(options: ImagingOptions, scratch: Path) -> ImageProducts:
    """Check the images a run left in ``scratch`` and move them into place."""
    made = [_collect_plane(options, scratch, stokes) for stokes in options.stokes]
    return replace(made[0], others=tuple(made[1:]))


def _collect_plane(options: ImagingOptions, scratch: Path, stokes: str) -> ImageProducts:
    """Check the images of one Stokes parameter and move them into place."""
    many = options.channels_out > 1
    letter = "" if len(options.stokes) == 1 else f"-{stokes}"
    joined = f"{options.basename}{'-MFS' if many else ''}"
    made = {
        kind: scratch / f"{joined}{letter}-{kind}.fits"
        for kind in ("dirty", "psf", "model", "residual", "image")
    }
    if letter:
        # one PSF for all of them
        shutil.copyfile(scratch / f"{joined}-psf.fits", made["psf"])
    slices = [
        scratch / f"{options.basename}-{number:04d}{letter}-model.fits"
        for number in range(options.channels_out if many else 0)
    ]
    if not options.niter:
        _stand_in(made, slices)
    for kind, path in made.items():
        check_made("WSClean", kind, path, options.log)
    beam = restoring_beam(made["image"], options.log)
    models: list[Path] = []
    for path in slices:
        # A slice without data has no model image; predicting it would need one.
        check_made("WSClean", "model", path, options.log)
        models.append(path.replace(options.folder / path.name))
    stem = plane_name(options, stokes)
    placed = {
        kind: path.replace(options.folder / f"{stem}-{kind}.fits") for kind, path in made.items()
    }
    return ImageProducts(
        image=placed["image"],
        residual=placed["residual"],
        model=placed["model"],
        psf=placed["psf"],
        dirty=placed["dirty"],
        models=tuple(models) or (placed["model"],),
        beam_major_arcsec=beam[0],
        beam_minor_arcsec=beam[1],
        beam_pa_deg=beam[2],
        seconds=0.0,
        stokes=stokes,
    )


def _stand_in(made: dict[str, Path], slices: Sequence[Path]) -> None:
    """Fill in products of a run without CLEAN: residual = dirty image, empty models."""
    if not made["image"].exists():
        return
    plane, header = open_image(made["image"])
    for kind, content in (("residual", plane), ("model", np.zeros_like(plane))):
        if not made[kind].exists():
            write_image(content, header, made[kind])
    for path in slices:
        # the model's own header holds the frequency of its slice
        own = path.with_name(path.name.replace("-model", "-dirty"))
        if own.exists() and not path.exists():
            write_image(np.zeros_like(plane), open_image(own)[1], path)
    if not made["dirty"].exists():
        shutil.copyfile(made["image"], made["dirty"])
