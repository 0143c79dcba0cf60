"""The brightest source of the final image, with errors that hold after self-calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from libs.core.errors import ImageError
from libs.gains.scatter import GainFreedom, gain_freedom
from libs.imaging.gaussian_fit import FittedGaussian, fit_gaussian
from libs.imaging.interface import ImagingOptions, open_image
from libs.imaging.native.restore import Beam
from libs.imaging.native.source_scores import SourceShape, source_scores
from libs.imaging.source_errors import (
    SourceScatter,
    restoring_error,
    source_scatter,
    widths_error,
)
from libs.imaging.statistics import ImageStatistics, fluxes_within
from selfcal.step import TableRef
from steps.context import Context
from steps.data_state import measurement_sets
from steps.facts import startup_facts
from steps.images import ImageRecord, best_image, imaging_options, make_image, model_files
from steps.mosaics import is_mosaic
from steps.rounds.scales import holds_more_than_a_point
from steps.solution_file import solutions_of

__all__ = ["MainSource", "fit_main_source", "main_source", "source_with_errors"]

_BOX_BEAMS = 5.0
_SEEN_NSIGMA = 6.0  # noise over many beams reaches 5
_LINEAR_RAD = 1.0
# Standard deviation of what may be anything up to a bound, over the bound.
_UP_TO = 1.0 / math.sqrt(3.0)
_PEAK_MISSED = 0.2  # of the peak: what no Gaussian of this place can miss


@dataclass(frozen=True)
class MainSource:
    """The main source of the final image; errors are those of 68 % confidence (1 sigma).

    Attributes
    ----------
    peak_jy_beam, peak_error_jy_beam : float
        Of the Gaussian fitted to the brightest source; of the brightest pixel where none fits.
    total_flux_jy, total_flux_error_jy : float
        Of everything within the source mask.
    ra_deg, dec_deg : float
        J2000, of the Gaussian fitted to the brightest source.
    ra_error_arcsec, dec_error_arcsec : float
        On the sky; not a number where phases larger than a radian were solved for, which leave
        the position open.
    major_arcsec, major_error_arcsec, minor_arcsec, minor_error_arcsec : float
        FWHM of that Gaussian, the beam included; not a number where none fits.
    """

    peak_jy_beam: float
    peak_error_jy_beam: float
    total_flux_jy: float
    total_flux_error_jy: float
    ra_deg: float
    dec_deg: float
    ra_error_arcsec: float
    dec_error_arcsec: float
    major_arcsec: float
    major_error_arcsec: float
    minor_arcsec: float
    minor_error_arcsec: float

    def as_metrics(self) -> dict[str, float]:
        """Return the numbers for a step's record."""
        return {f"main_source_{name}": value for name, value in asdict(self).items()}

    def said(self) -> str:
        """Return peak and flux with their errors, in words."""
        return (
            f"main source {self.peak_jy_beam:.4g} ± {self.peak_error_jy_beam:.2g} Jy/beam, total"
            f" flux {self.total_flux_jy:.4g} ± {self.total_flux_error_jy:.2g} Jy (68 %, without"
            " the error of the data's own flux scale)"
        )


def main_source(context: Context) -> tuple[MainSource | None, str]:
    """Measure the brightest source of the final image.

    Errors have four parts, added in quadrature: the noise of the image; what times and antennas
    differ in beyond it, in what they say of the source; what solving for gains leaves open,
    where the sky is and how bright; and what CLEAN leaves open of a resolved source: by how much
    images with and without extended components differ, and how the PSF differs from the restoring
    beam. The calibration of the data's own flux
    scale is not among them.

    Returns
    -------
    MainSource or None
        None where no source stands out of the final image, or it has no model.
    str
        Why it is None.
    """
    if is_mosaic(context):
        return None, "the errors of a source are worked out for one field, and this is a mosaic"
    record = best_image(context)
    if record.statistics.snr < _SEEN_NSIGMA:
        return None, (
            f"no source stands out: the brightest pixel is {record.statistics.snr:.1f} sigma, and a"
            f" source has {_SEEN_NSIGMA:.0f}"
        )
    options = imaging_options(
        context, record.judged_with, context.workdir / "images" / "main_source", "main_source",
        context.tables,
    )  # fmt: skip
    models = model_files(context, record.products)
    if context.tools.imager.name == "wsclean":
        # its images of frequency slices are no Taylor terms; that of the whole band is one
        models = [context.workdir / record.products["model"]]
    image = context.workdir / record.products["image"]
    try:
        fitted, scatter = fit_main_source(image, record.statistics, options, models)
    except ImageError as error:
        return None, f"the errors of the main source are not known: {error.cause}"
    left_open = _left_by_clean(context, record, fitted, options)
    restoring = _restoring_error(context, record, fitted)
    source = source_with_errors(
        fitted, record.statistics, scatter, _freedom(context), left_open, restoring
    )
    return source, ""


def _restoring_error(context: Context, record: ImageRecord, fitted: FittedGaussian | None) -> float:
    """Error of the peak from CLEAN's model below the resolution; the flux of a source stays."""
    if fitted is None:
        return 0.0
    image = record.statistics
    areas = (
        fitted.major_arcsec * fitted.minor_arcsec
        - image.beam_major_arcsec * image.beam_minor_arcsec
    )
    cell = image.cell_arcsec
    beam = Beam(image.beam_major_arcsec / cell, image.beam_minor_arcsec / cell, image.beam_pa_deg)
    psf, _ = open_image(context.workdir / record.products["psf"])
    return restoring_error(psf, beam, math.sqrt(max(areas, 0.0)) / cell)


@dataclass(frozen=True)
class CleanDifference:
    """By how much two deconvolutions of the same data differ in the main source.

    The truth may lie anywhere between them, so that `_UP_TO` of each is the error of either one.

    Attributes
    ----------
    peak_jy_beam, total_flux_jy : float
    east_arcsec, north_arcsec : float
    major_arcsec, minor_arcsec : float
    """

    peak_jy_beam: float = 0.0
    total_flux_jy: float = 0.0
    east_arcsec: float = 0.0
    north_arcsec: float = 0.0
    major_arcsec: float = 0.0
    minor_arcsec: float = 0.0


def _left_by_clean(
    context: Context, record: ImageRecord, fitted: FittedGaussian | None, options: ImagingOptions
) -> CleanDifference:
    """Image once more, with extended components where there were none and the reverse.

    Nothing for a point, which CLEAN finds either way.
    """
    if not holds_more_than_a_point(record.statistics):
        return CleanDifference()
    other = options.but(basename="otherwise", multiscale=not options.multiscale)
    other.folder.mkdir(parents=True, exist_ok=True)
    image = make_image(context, other)
    if image.fault:
        return CleanDifference()
    name = record.products
    ours, theirs = fluxes_within(
        context.workdir / name["image"], context.workdir / name["residual"], image.products.image
    )
    flux = ours - theirs
    if fitted is None:
        peak = record.statistics.peak_jy_beam - image.statistics.peak_jy_beam
        return CleanDifference(peak, flux)
    try:
        second = fit_gaussian(
            image.products.image,
            (fitted.x_pixel, fitted.y_pixel),
            box_beams=_BOX_BEAMS,
            noise_jy_beam=_noise(image.statistics),
        )
    except ImageError:
        return CleanDifference(total_flux_jy=flux)
    cell = record.statistics.cell_arcsec
    return CleanDifference(
        fitted.peak_jy_beam - second.peak_jy_beam,
        flux,
        (fitted.x_pixel - second.x_pixel) * cell,
        (fitted.y_pixel - second.y_pixel) * cell,
        fitted.major_arcsec - second.major_arcsec,
        fitted.minor_arcsec - second.minor_arcsec,
    )


def fit_main_source(
    image: Path, statistics: ImageStatistics, options: ImagingOptions, models: Sequence[Path]
) -> tuple[FittedGaussian | None, SourceScatter]:
    """Return the Gaussian of the brightest source, and how times and antennas differ in it.

    Parameters
    ----------
    image : Path
        Restored image.
    statistics : ImageStatistics
        Of the image.
    options : ImagingOptions
        The image's.
    models : sequence of Path
        Model of the image, or one for each Taylor term.

    Returns
    -------
    FittedGaussian or None
        None where no Gaussian fits: the source is a ring, or one part of a larger whole.
    SourceScatter

    Raises
    ------
    ImageError
        The model holds nothing at the brightest pixel.
    """
    at = float(statistics.peak_x_pixel), float(statistics.peak_y_pixel)
    fitted, pa_deg = None, statistics.beam_pa_deg
    try:
        fitted = fit_gaussian(image, at, box_beams=_BOX_BEAMS,
                              noise_jy_beam=_noise(statistics))  # fmt: skip
        missed = abs(fitted.peak_jy_beam - statistics.peak_jy_beam)
        if missed > max(_PEAK_MISSED * statistics.peak_jy_beam, 5.0 * statistics.rms_jy_beam):
            fitted = None  # a ring, or one part of a larger whole
        else:
            at, pa_deg = (fitted.x_pixel, fitted.y_pixel), fitted.pa_deg
    except ImageError:
        pass  # its place and widths are then not given
    half = math.ceil(0.5 * _BOX_BEAMS * statistics.beam_major_arcsec / statistics.cell_arcsec)
    shape = SourceShape(*at, half, pa_deg, _beam_arcsec(statistics))
    return fitted, source_scatter(source_scores(options, models, shape))


def _noise(statistics: ImageStatistics) -> float:
    """Noise of an image, Jy/beam: with what few stations' sidelobes leave near bright sources.

    The robust noise, by which sources are found, leaves that out.
    """
    return max(statistics.rms_jy_beam, statistics.residual_rms_jy_beam)


def _beam_arcsec(statistics: ImageStatistics) -> float:
    return math.sqrt(statistics.beam_major_arcsec * statistics.beam_minor_arcsec)


def _freedom(context: Context) -> GainFreedom:
    """What the gains of all executions leave open; their errors are independent."""
    data = startup_facts(context)
    direction = data.right_ascension_rad, data.declination_rad
    by_set: dict[str, list[TableRef]] = {ms.name: [] for ms in measurement_sets(context)}
    for ref in context.tables:
        by_set.setdefault(ref.ms, []).append(ref)
    each = [
        gain_freedom([solutions_of(context, ref) for ref in refs], direction)
        for refs in by_set.values()
    ]
    values = np.array([[one.east_arcsec, one.north_arcsec, one.flux_scale] for one in each])
    mean = np.sqrt((values**2).sum(axis=0)) / len(each)
    east, north, scale = (float(value) for value in mean)
    scale = math.hypot(scale, _noise_followed(context))
    return GainFreedom(east, north, scale, max(one.phase_rad for one in each))


def _noise_followed(context: Context) -> float:
    """Fraction by which the phases of all rounds follow the noise and raise the source.

    An interval that is chosen for its predictions loses about as much by what phases change within
    it, so that this is an error of either sign and not a correction: anything up to the whole.
    """
    rounds = {ref.round for ref in context.tables} & set(context.results)
    whole = sum(context.results[name].metrics.get("noise_followed", 0.0) for name in rounds)
    return _UP_TO * float(whole)


def source_with_errors(
    fitted: FittedGaussian | None,
    statistics: ImageStatistics,
    scatter: SourceScatter,
    freedom: GainFreedom,
    by_clean: CleanDifference = CleanDifference(),
    restoring: float = 0.0,
) -> MainSource:
    """Return the source with its errors, from all that adds to them."""
    flux = statistics.total_flux_jy
    # the brightest pixel of an extended source is where noise and CLEAN have added most to it
    peak = fitted.peak_jy_beam if fitted else statistics.peak_jy_beam
    return MainSource(
        peak_jy_beam=peak,
        peak_error_jy_beam=math.hypot(
            _noise(statistics),
            scatter.peak_jy_beam,
            peak * freedom.flux_scale,
            _UP_TO * by_clean.peak_jy_beam,
            peak * restoring,
        ),
        total_flux_jy=flux,
        total_flux_error_jy=math.hypot(
            statistics.flux_error_jy,
            flux * scatter.total,
            flux * freedom.flux_scale,
            _UP_TO * by_clean.total_flux_jy,
        ),
        **_place_and_widths(
            fitted, _beam_arcsec(statistics), scatter, freedom, by_clean, restoring
        ),
    )


def _place_and_widths(
    fitted: FittedGaussian | None,
    beam: float,
    scatter: SourceScatter,
    freedom: GainFreedom,
    by_clean: CleanDifference,
    restoring: float,
) -> dict[str, float]:
    """Return place and widths with their errors; not a number where there is no Gaussian."""
    if fitted is None:
        names = [f.name for f in fields(MainSource)]
        return dict.fromkeys(names[names.index("ra_deg") :], math.nan)
    own = fitted.position_error_arcsec
    of_width = own * math.sqrt(8 * math.log(2))
    # beyond this, phases turn by more than they can be followed: the gradient that they have by
    # chance is not known from them
    place = own if freedom.phase_rad < _LINEAR_RAD else math.nan
    return {
        "ra_deg": fitted.ra_deg,
        "dec_deg": fitted.dec_deg,
        "ra_error_arcsec": math.hypot(
            place, beam * scatter.east_beams, freedom.east_arcsec, _UP_TO * by_clean.east_arcsec
        ),
        "dec_error_arcsec": math.hypot(
            place, beam * scatter.north_beams, freedom.north_arcsec, _UP_TO * by_clean.north_arcsec
        ),
        "major_arcsec": fitted.major_arcsec,
        "major_error_arcsec": math.hypot(
            of_width,
            beam * widths_error(fitted.major_arcsec / beam, scatter.along_beams2),
            _UP_TO * by_clean.major_arcsec,
            0.5 * restoring * fitted.major_arcsec,
        ),
        "minor_arcsec": fitted.minor_arcsec,
        "minor_error_arcsec": math.hypot(
            of_width,
            beam * widths_error(fitted.minor_arcsec / beam, scatter.across_beams2),
            _UP_TO * by_clean.minor_arcsec,
            0.5 * restoring * fitted.minor_arcsec,
        ),
    }
