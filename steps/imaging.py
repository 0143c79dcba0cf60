"""The images before self-calibration: the whole field, then the test image."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from libs.core import geometry
from libs.core.errors import InputError
from libs.core.numbers import format_number, format_quantity
from libs.imaging.interface import ImagingOptions
from libs.imaging.source_finding import FieldSize, find_sources, smallest_square_holding
from libs.imaging.statistics import ImageStatistics
from libs.ms.summary import summarise
from selfcal.options import Option
from selfcal.step import Skip, Step, StepResult
from selfcal.template_choice import choose_template
from steps.closure_data import read_closure_data
from steps.context import Context
from steps.data_state import ensure_tables, measurement_sets
from steps.facts import as_metrics, closure_facts, grid_facts, startup_facts
from steps.images import (
    IMAGING_OPTIONS,
    Imaged,
    clean_folder,
    image_products,
    image_row,
    imaging_options,
    make_image,
    memory_bytes,
    run_grid,
)
from steps.instruments import SETUP, dish_diameter_m
from steps.mosaics import is_mosaic, mosaic_imsize, run_mosaic
from steps.source_place import (
    CERTAIN_SNR,
    SURE_SNR,
    SourcePlace,
    brightest_pixel,
    place_within,
)
from steps.user_mask import MASK_SETTING, describe_mask

__all__ = [
    "MEASURES",
    "FovImage",
    "TestImage",
    "chosen_grid",
    "coarse_grid",
    "coarse_options",
    "measured_for_rules",
]

MEASURES = (
    Option("total_flux_jy", "flux", "0Jy", "total flux of the image"),
    Option("snr", "float", 0.0, "peak of the image over the noise of the residual"),
    Option("max_coherent_km", "float", 0.0, "longest baseline with coherent closure phases"),
    Option("station_coherent_fraction", "float", 0.0, "part of the stations that are coherent"),
    *SETUP,
)
"""What the rules of selection.yaml may ask for: the names of `measured_for_rules`."""

VERY_FAINT_JY = 0.005
COHERENT_LEAST_M = 80e3

# Images of whole beams are large and each major cycle costs as much as the first image; theirs
# are to show where sources are, so few and deep ones serve.
_COARSE_MGAIN = 0.9

_FRINGE_MARGIN_BEAMS = 20.0  # about a place that fringes give within a few beams


def default_cell_arcsec(context: Context) -> float:
    """Return the pixel size the longest unflagged baseline asks for, arcsec."""
    data = startup_facts(context)
    return geometry.auto_cell_arcsec(data.longest_baseline_m, data.max_frequency_hz)


def _grid_of_config(context: Context) -> tuple[float | None, tuple[int, int] | None]:
    """Cell and size where the config gives numbers."""
    cell, size = context.settings["cell"], context.settings["imsize"]
    return (None if cell == "auto" else cell), (None if size == "auto" else size)


def chosen_grid(context: Context) -> tuple[float, tuple[int, int]]:
    """Return pixel size, arcsec, and pixels: the config's, those of the image of the field."""
    cell, size = _grid_of_config(context)
    grid = grid_facts(context)
    cell = cell or grid.cell_arcsec or default_cell_arcsec(context)
    return cell, size or grid.imsize or _whole_beam(context, cell)


def _whole_beam(context: Context, cell: float) -> tuple[int, int]:
    """The primary beam, or all of a mosaic, when no image of the field chose the size."""
    data = startup_facts(context)
    mosaic = run_mosaic(data)
    if mosaic:
        return mosaic_imsize(
            ImagingOptions(
                tuple(measurement_sets(context)), context.workdir, "mosaic", (16, 16), cell,
                mosaic=mosaic[0], phase_centre_deg=mosaic[1],
            )
        )  # fmt: skip
    diameter = dish_diameter_m(data.instrument, data.dish_diameter_m)
    width = geometry.primary_beam_fwhm_arcsec(data.max_frequency_hz, diameter)
    size = min(geometry.good_size(width / cell, least=256), geometry.good_size(4096))
    return size, size


class FovImage(Step):
    """A coarse image of the whole primary beam: which sources there are, what size holds them."""

    uses = ("imager", "imsize", "cell", "threads", "memory")
    options = (
        Option("robust", "float", 0.5, "Briggs' robust parameter", minimum=-2),
        Option("niter", "int", 100, "CLEAN iterations", minimum=0),
        Option("nsigma_automask", "float", 8.0, "CLEAN finds components down to this many sigma"),
        Option("nsigma_autothreshold", "float", 3.0, "CLEAN stops at this many sigma"),
        Option("imsize", "size", "auto", "pixels; auto: the primary beam", words=("auto",)),
        Option("cell", "angle", "auto", "pixel size; auto: two pixels over the final one",
               words=("auto",)),
        Option("fwhms", "float", 1.5, "width of the coarse image in FWHM of the primary beam",
               minimum=0.1),
        Option("sigma_source", "float", 8.0, "sources are islands above this many sigma"),
        Option("max_pixels", "int", 3000, "largest image of the field", minimum=128),
        Option("min_imsize", "int", 256, "smallest image chosen, pixels", minimum=32),
        Option("max_imsize", "int", 4096, "largest image chosen, pixels", minimum=64),
    )  # fmt: skip

    def run(self, context: Context) -> StepResult:
        """Image the field, find its sources, choose cell and size."""
        if is_mosaic(context):
            raise Skip("the image of a mosaic holds the primary beams of all its pointings")
        ensure_tables(context, ())
        field = coarse_grid(context)
        folder = clean_folder(context, self.name)
        image = make_image(context, coarse_options(context, folder, field))
        found = find_sources(image.products.image, nsigma=context.options["sigma_source"])
        cell, size = _grid_of_config(context)
        cell = cell or default_cell_arcsec(context)
        choice = smallest_square_holding(
            found,
            image.products.image,
            cell,
            least=context.options["min_imsize"],
            largest=context.options["max_imsize"],
        )
        place = _place_by_fringes(context, image.statistics, field)
        imsize = size or _holding(place, choice, image, context.options["max_imsize"])
        centre = (field.imsize[0] / 2, field.imsize[1] / 2)
        half = imsize[0] * cell / 2
        offsets = {
            source: math.hypot(source.x_pixel - centre[0], source.y_pixel - centre[1])
            * field.cell_arcsec
            for source in found
        }
        outside = [source for source in found if offsets[source] > half]
        reason = _grid_said(len(found), imsize, cell) + (f"; {place.said}" if place.said else "")
        metrics: dict[str, Any] = {
            "cell_arcsec": cell,
            "imsize": list(imsize),
            "sources": len(found),
            "fov_arcsec": field.width_arcsec,
            "fov_peak_jy_beam": image.statistics.peak_jy_beam,
            "fov_rms_jy_beam": image.statistics.rms_jy_beam,
        }
        if outside:
            far = max(outside, key=lambda source: source.peak_jy_beam)
            metrics["warning"] = (
                f"a source of {format_quantity(far.peak_jy_beam, 'Jy/beam')} lies outside the"
                f" image, {offsets[far]:.0f} arcsec from its centre: enlarge imsize or peel it"
            )
            reason += f"; WARNING: {metrics['warning']}"
        return StepResult(
            reason=reason,
            tables=context.tables,
            template=context.template,
            products=image_products(context, image),
            metrics=metrics,
            images=(image_row(context, self.name, image),),
        )


def _place_by_fringes(
    context: Context, image: ImageStatistics, field: geometry.CoarseField
) -> SourcePlace:
    """Return where fringes place the source, if not where the image shows it."""
    start = brightest_pixel(image, field.imsize) if image.snr >= SURE_SNR else (0.0, 0.0)
    if image.snr >= CERTAIN_SNR:
        return SourcePlace(start, "")
    try:
        data = read_closure_data(context)
    except InputError:  # what keeps closure quantities from being formed is said by closure_stats
        return SourcePlace(start, "")
    return place_within(context, data, image, 0.5 * field.width_arcsec, start)


def _holding(place: SourcePlace, choice: FieldSize, image: Imaged, largest: int) -> tuple[int, int]:
    """Return the size that holds the sources found, and the place that fringes give."""
    if not place.said:
        return choice.imsize
    beam = image.statistics.beam_major_arcsec
    reach = max(map(abs, place.offset_rad)) * geometry.ARCSEC_PER_RAD + _FRINGE_MARGIN_BEAMS * beam
    least = min(geometry.good_size(2.0 * reach / choice.cell_arcsec), geometry.good_size(largest))
    size = max(choice.imsize[0], least)
    return size, size


def coarse_grid(context: Context) -> geometry.CoarseField:
    """Return the grid of the whole primary beam, as the step's options ask for it."""
    data = startup_facts(context)
    diameter = dish_diameter_m(data.instrument, data.dish_diameter_m)
    field = geometry.coarse_field(
        data.longest_baseline_m,
        (data.min_frequency_hz, data.max_frequency_hz),
        diameter,
        fwhms=context.options["fwhms"],
        max_pixels=context.options["max_pixels"],
        **_reach(context),
    )
    cell, size = context.options["cell"], context.options["imsize"]
    if cell == "auto" and size == "auto":
        return field
    return geometry.CoarseField(
        field.imsize if size == "auto" else size,
        field.cell_arcsec if cell == "auto" else cell,
        field.uvmax_m if cell == "auto" else 0.0,
    )


def _reach(context: Context) -> dict[str, Any]:
    """Lengths of all baselines, m, and the width that smearing leaves of the field."""
    summaries = [summarise(ms) for ms in measurement_sets(context)]
    lengths = []
    for summary in summaries:
        place = summary.position_m[list(summary.antennas_used)]
        first, second = np.triu_indices(len(place), k=1)
        lengths.append(np.linalg.norm(place[first] - place[second], axis=1))
    channels = [
        np.median(np.abs(np.diff(summary.frequency_hz[spw])))
        for summary in summaries
        for spw in summary.spws_used
        if len(summary.frequency_hz[spw]) > 1
    ]
    data = startup_facts(context)
    smeared = geometry.smeared_field_arcsec(
        data.longest_baseline_m,
        data.max_frequency_hz,
        float(min(channels, default=0.0)),
        min(summary.integration_s for summary in summaries),
    )
    return {"lengths_m": np.concatenate(lengths), "smeared_arcsec": smeared}


def coarse_options(
    context: Context, folder: Path, field: geometry.CoarseField, name: str = "fov"
) -> ImagingOptions:
    """Return how the whole beam is imaged."""
    return ImagingOptions(
        vis=tuple(measurement_sets(context)),
        folder=folder,
        basename=name,
        imsize=field.imsize,
        cell_arcsec=field.cell_arcsec,
        robust=context.options["robust"],
        niter=context.options["niter"],
        automask_nsigma=context.options["nsigma_automask"],
        autothreshold_nsigma=context.options["nsigma_autothreshold"],
        uvmax_m=field.uvmax_m,
        threads=context.settings["threads"],
        memory_bytes=memory_bytes(context.settings),
        mgain=_COARSE_MGAIN,
    )


def measured_for_rules(context: Context, image: ImageStatistics) -> dict[str, float | str]:
    """Return what the selection rules may ask of an image and of the data."""
    data = startup_facts(context)
    return {
        "total_flux_jy": image.total_flux_jy,
        "snr": image.snr,
        "instrument": data.instrument,
        "band": data.band,
        **as_metrics(closure_facts(context)),
    }


def _grid_said(sources: int, imsize: tuple[int, int], cell_arcsec: float) -> str:
    found = "1 source" if sources == 1 else f"{sources} sources"
    return f"{found}; {imsize[0]} x {imsize[1]} px of {cell_arcsec:.4g} arcsec"


def _said(image: ImageStatistics) -> str:
    return (
        f"peak {format_quantity(image.peak_jy_beam, 'Jy/beam', 4)},"
        f" noise {format_quantity(image.rms_jy_beam, 'Jy/beam')},"
        f" SNR {format_number(image.snr, 4)},"
        f" flux {format_quantity(image.total_flux_jy, 'Jy', 4)}"
    )


class TestImage(Step):
    """The image before self-calibration, by which the template is chosen and rounds are judged."""

    __test__ = False  # for pytest: not a test

    uses = ("imager", "imsize", "cell", "template", "threads", "memory")
    uses_files = (MASK_SETTING,)
    options = (
        *IMAGING_OPTIONS[:-1],
        Option("uvmax", "length", "0m", "longest baseline used; 0: all; coherent: the maximum"
               " coherent baseline of closure_stats, at least 80 km", minimum=0,
               words=("coherent",)),
        Option("robust_very_faint", "float", 0.5,
               "robust instead when less than 5 mJy are found", minimum=-2),
    )  # fmt: skip

    def run(self, context: Context) -> StepResult:
        """Image DATA; choose the template by total flux and SNR."""
        ensure_tables(context, ())
        folder = clean_folder(context, self.name)
        cell, size = chosen_grid(context)
        options = dict(context.options)
        if options["uvmax"] == "coherent":
            options["uvmax"] = max(COHERENT_LEAST_M, closure_facts(context).coherent_m)
        made = imaging_options(
            context, options, folder, "test_image", (), imsize=tuple(size), cell_arcsec=cell
        )
        image = make_image(context, made)
        images = [image]
        faint = image.statistics.total_flux_jy < VERY_FAINT_JY and not image.fault
        if faint and options["robust"] < options["robust_very_faint"]:
            options["robust"] = options["robust_very_faint"]
            image = make_image(
                context, made.but(basename="test_image_faint", robust=options["robust"])
            )
            images.append(image)
        metrics = {
            **image.statistics.as_row(),
            "judged": self.name,
            "judged_with": options,
            "cell_arcsec": cell,
            "imsize": list(size),
        }
        choice = choose_template(
            measured_for_rules(context, image.statistics), wanted=context.settings["template"]
        )
        within, masked = describe_mask(context, run_grid(context, made.imsize, cell))
        metrics |= masked
        reason = f"{_said(image.statistics)}; {choice.reason}{within}"
        if image.fault:
            metrics["warning"] = image.fault
            reason += f"; WARNING: {image.fault}"
        return StepResult(
            reason=reason,
            tables=context.tables,
            template=choice.template,
            products=image_products(context, image),
            metrics=metrics,
            images=tuple(image_row(context, self.name, item) for item in images),
        )
