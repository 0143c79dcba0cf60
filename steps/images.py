"""What every step that images shares: options from the context, one judged image, its record."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from libs.core.errors import ImageError
from libs.imaging.interface import ImageProducts, ImagingOptions, write_image
from libs.imaging.masks import disc, grid_header, mask_header
from libs.imaging.statistics import ImageStatistics, check_clean, measure_products
from selfcal.options import Option
from selfcal.settings import Settings
from selfcal.step import StepResult, TableRef
from steps.context import Context
from steps.data_state import column_in_use, measurement_sets
from steps.facts import grid_facts, startup_facts
from steps.mosaics import run_mosaic
from steps.user_mask import MASK_SETTING, user_mask

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = [
    "IMAGING_OPTIONS",
    "ImageRecord",
    "Imaged",
    "best_image",
    "best_result",
    "clean_folder",
    "image_products",
    "image_row",
    "imaging_options",
    "is_judged",
    "judged_image",
    "make_image",
    "memory_bytes",
    "model_files",
    "options_of_model",
    "run_grid",
]

IMAGING_OPTIONS = (
    Option("robust", "float", 0.0, "Briggs' robust parameter", minimum=-2),
    Option("niter", "int", 100000, "most CLEAN iterations", minimum=0),
    Option("nsigma_automask", "float", 3.0, "CLEAN finds components down to this many sigma"),
    Option("nsigma_autothreshold", "float", 1.5, "CLEAN stops at this many sigma"),
    Option("uvtaper", "angle", "none", "FWHM of a Gaussian taper; auto: the resolution",
           words=("none", "auto")),
    Option("with_multiscale", "bool", False, "extended CLEAN components as well as points"),
    Option("clean_radius", "angle", "0arcsec", "CLEAN only within this of the image's centre; 0:"
           " everywhere", minimum=0),
    Option("uvmin", "length", "0m", "shortest baseline used", minimum=0),
    Option("uvmax", "length", "0m", "longest baseline used; 0: all", minimum=0),
)  # fmt: skip

# Within a user's mask CLEAN goes down to this many sigma at most: deeper, it fits noise.
_LEAST_NSIGMA = 1.0


@dataclass(frozen=True)
class Imaged:
    """An image made within a step: its files, what was measured on it, why it is not CLEANed."""

    name: str
    products: ImageProducts
    statistics: ImageStatistics
    fault: str = ""


@dataclass(frozen=True)
class ImageRecord:
    """A judged image on record.

    Attributes
    ----------
    statistics : ImageStatistics
    judged : str
        The step that made it.
    judged_with : mapping
        Parameters it was made with, as in `IMAGING_OPTIONS`: images made alike compare.
    products : mapping of str to str
        Its files, relative to the work directory.
    """

    statistics: ImageStatistics
    judged: str
    judged_with: Mapping[str, Any]
    products: Mapping[str, str]

    @classmethod
    def of(cls, result: StepResult) -> ImageRecord:
        """Return the judged image of a result."""
        metrics = result.metrics
        statistics = ImageStatistics(
            **{f.name: metrics[f.name] for f in fields(ImageStatistics) if f.name in metrics}
        )
        return cls(statistics, metrics["judged"], metrics["judged_with"], result.products)

    @property
    def uvmax_m(self) -> float:
        """Longest baseline imaged, m; 0 for all."""
        return float(self.judged_with["uvmax"])


def memory_bytes(settings: Settings) -> float:
    """Return the memory that the imager may use as an option of imaging; 0: worked out."""
    return 0.0 if settings["memory"] == "auto" else float(settings["memory"])


def clean_folder(context: Context, step: str) -> Path:
    """Return the step's image folder, emptied of what an earlier start left."""
    folder = context.workdir / "images" / step
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def imaging_options(
    context: Context,
    options: Mapping[str, Any],
    folder: Path,
    basename: str,
    refs: Sequence[TableRef],
    **changes: Any,
) -> ImagingOptions:
    """Return a step's parameters as options of the imager, on the run's grid.

    Parameters
    ----------
    context : Context
    options : mapping
        The step's, as in `IMAGING_OPTIONS`.
    folder, basename
        Where the products go.
    refs : sequence of TableRef
        The calibration shown: none means DATA.
    **changes
        Fields of ImagingOptions that differ.
    """
    grid, data = grid_facts(context), startup_facts(context)
    chosen_cell, chosen_size = changes.pop("cell_arcsec", None), changes.pop("imsize", None)
    cell, imsize = chosen_cell or grid.cell_arcsec, chosen_size or grid.imsize
    assert cell and imsize, "test_image chooses a grid"
    taper = options["uvtaper"]
    # a taper of about the resolution, which is some five pixels across
    taper_arcsec = {"none": 0.0, "auto": 5 * cell}.get(taper, taper)
    automask, threshold = options["nsigma_automask"], options["nsigma_autothreshold"]
    if context.settings[MASK_SETTING]:
        # the user's mask takes the place of an automatic one, and may hold noise as well
        automask, threshold = 0.0, max(threshold, _LEAST_NSIGMA)
    mosaic, centre_deg = run_mosaic(data) or (None, None)
    return ImagingOptions(
        vis=tuple(measurement_sets(context)),
        folder=folder,
        basename=basename,
        mask=_window(context, options, folder / f"{basename}-window.fits", imsize, cell),
        imsize=imsize,
        cell_arcsec=cell,
        column=column_in_use(refs),  # type: ignore[arg-type]
        robust=options["robust"],
        niter=options["niter"],
        automask_nsigma=automask,
        autothreshold_nsigma=threshold,
        deeper=context.tools.imager.goes_deeper,
        multiscale=options["with_multiscale"],
        uvtaper_arcsec=taper_arcsec,
        uvmin_m=options["uvmin"],
        uvmax_m=options["uvmax"],
        threads=context.settings["threads"],
        memory_bytes=memory_bytes(context.settings),
        # a mosaic has one spectral term
        channels_out=1 if mosaic else data.band_slices,
        nterms=1 if mosaic else data.spectral_terms,
        mosaic=mosaic,
        phase_centre_deg=centre_deg,
    ).but(**changes)


def _window(
    context: Context, options: Mapping[str, Any], path: Path, imsize: tuple[int, int], cell: float
) -> Path | None:
    """Return the user's mask, and that of ``clean_radius``; None: CLEAN may work everywhere."""
    radius = float(options.get("clean_radius", 0.0))
    header = run_grid(context, imsize, cell)
    drawn = user_mask(context, header)
    if not radius and drawn is None:
        return None
    inside = disc(imsize, cell, radius) if radius else np.ones(imsize[::-1], bool)
    if drawn is not None:
        inside &= drawn.inside
    return write_image(inside, mask_header(header), path)


def run_grid(context: Context, imsize: tuple[int, int], cell: float) -> fits.Header:
    """Return the header of an image about the phase centre."""
    data = startup_facts(context)
    centre = np.rad2deg([data.right_ascension_rad, data.declination_rad])
    return grid_header(imsize, cell, (float(centre[0]), float(centre[1])))


def make_image(context: Context, options: ImagingOptions, mask: Path | None = None) -> Imaged:
    """Make an image and measure it (within ``mask``, default: the source found in it).

    Where CLEAN fails, as it does on data whose phases are unusable, the dirty image takes its
    place, and ``fault`` says why: it is poor, and judged for what it is.

    Raises
    ------
    ImageError
        The dirty image is of no use either.
    """
    try:
        return _imaged(context, options, mask)
    except ImageError as error:
        if not options.niter:
            raise
        fault = f"{error.cause}; the dirty image takes its place (clean_radius may help CLEAN)"
    context.progress.activity(f"{options.basename}: {fault}")
    return replace(_imaged(context, options.but(niter=0, mask=None), mask), fault=fault)


def _imaged(context: Context, options: ImagingOptions, mask: Path | None) -> Imaged:
    """Make and measure an image; CLEAN that made it worse raises ImageError."""
    context.progress.activity(
        f"{context.tools.imager.name} {options.basename}"
        f" ({options.imsize[0]} x {options.imsize[1]} px, robust {options.robust:g})"
    )
    with context.clock.time("imaging"):
        products = context.tools.imager.image(options)
    check_clean(products)
    return Imaged(options.basename, products, measure_products(products, mask))


def judged_image(
    context: Context,
    folder: Path,
    name: str,
    refs: Sequence[TableRef],
    options: Mapping[str, Any] | None = None,
) -> Imaged:
    """Image a calibration with the parameters of the best image so far, so that they compare."""
    options = options or best_image(context).judged_with
    return make_image(context, imaging_options(context, options, folder, name, refs))


def image_row(context: Context, step: str, image: Imaged) -> dict[str, Any]:
    """Return an image's row of images.csv."""
    row = {"step": step, "name": image.name, "path": context.relative(image.products.image)}
    return {**row, **image.statistics.as_row(), "seconds": round(image.products.seconds, 2),
            "fault": image.fault}  # fmt: skip


def image_products(context: Context, image: Imaged) -> dict[str, str]:
    """Return the files of a judged image for the record."""
    files = image.products
    paths = {"image": files.image, "residual": files.residual, "model": files.model,
             "psf": files.psf}  # fmt: skip
    for name, path in (("dirty", files.dirty), ("response", files.response)):
        if path is not None:
            paths[name] = path
    if len(files.models) > 1:
        paths |= {f"model_{number}": path for number, path in enumerate(files.models)}
    return {name: context.relative(path) for name, path in paths.items()}


def model_files(context: Context, products: Mapping[str, str]) -> list[Path]:
    """Return the model images of a recorded image, one for each frequency slice or term."""
    slices = [name for name in products if name.startswith("model_")]
    names = sorted(slices, key=lambda name: int(name.removeprefix("model_"))) or ["model"]
    return [context.workdir / products[name] for name in names]


def options_of_model(context: Context, image: ImageRecord) -> ImagingOptions:
    """Return the options of a judged image, by which its model is turned into visibilities.

    They are those of its own files, since the response of a mosaic lies beside its image.
    """
    path = context.workdir / image.products["image"]
    name = path.name.removesuffix("-image.fits").removesuffix("-MFS")
    return imaging_options(context, image.judged_with, path.parent, name, ())


def is_judged(result: StepResult) -> bool:
    """Whether a result holds a judged image that was accepted."""
    return result.status == "done" and "judged" in result.metrics


def best_result(context: Context) -> StepResult:
    """Return the result whose judged image is the best so far: the last one accepted."""
    for result in reversed(context.results.values()):
        if is_judged(result):
            return result
    raise KeyError("no judged image yet")


def best_image(context: Context) -> ImageRecord:
    """Return the record of the best image so far."""
    return ImageRecord.of(best_result(context))
