"""What perfect calibration would have given: the same data without gain errors, imaged alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from libs.core.errors import ConfigError
from libs.imaging.align import compare, shift_plane
from libs.imaging.interface import ImageProducts, Imager, ImagingOptions, open_image
from libs.imaging.native.native import NativeImager
from libs.imaging.statistics import ImageStatistics, dilate, grid_of, mad_std, measure_products
from libs.imaging.wsclean import WSClean
from reports.records import Run, read_run

__all__ = ["Judged", "compare_with_truth", "image_alike", "imager_of", "judged_options"]

_MASK_NSIGMA = 5.0


@dataclass(frozen=True)
class Judged:
    """A result beside perfect calibration.

    Attributes
    ----------
    flux_ratio : float
        Flux within the perfect image's source mask (5 sigma, widened by one beam), aligned;
        NaN where the perfect image shows no source.
    rms_difference_over_peak : float
        Of the aligned images.
    shift_arcsec : float
        What alignment took out.
    """

    flux_ratio: float
    rms_difference_over_peak: float
    shift_arcsec: float


def judged_options(run: Run, vis: Path, folder: Path, basename: str) -> ImagingOptions:
    """Return the parameters a run judged its final image with, for another data set's DATA.

    Read from the run's record, so a comparison cannot drift from it.
    """
    test = next(row for row in run.steps if row.step == "test_image")
    accepted = [row for row in run.steps if row.status == "done" and "judged_with" in row.metrics]
    used = accepted[-1].metrics["judged_with"]
    cell = float(test.metrics["cell_arcsec"])
    width, height = test.metrics["imsize"]
    taper = used["uvtaper"]
    data = next(row for row in run.steps if row.step == "startup").metrics
    return ImagingOptions(
        vis=(vis,),
        folder=folder,
        basename=basename,
        imsize=(int(width), int(height)),
        cell_arcsec=cell,
        robust=float(used["robust"]),
        niter=int(used["niter"]),
        automask_nsigma=float(used["nsigma_automask"]),
        autothreshold_nsigma=float(used["nsigma_autothreshold"]),
        deeper=imager_of(run).goes_deeper,
        multiscale=bool(used["with_multiscale"]),
        uvtaper_arcsec=float({"none": 0.0, "auto": 5 * cell}.get(taper, taper)),
        uvmin_m=float(used["uvmin"]),
        uvmax_m=float(used["uvmax"]),
        channels_out=int(data["band_slices"]),
        nterms=int(data["spectral_terms"]),
    )


def imager_of(run: Run) -> Imager:
    """Return the imager that a run worked with.

    Raises
    ------
    ConfigError
        It worked with one that no comparison is made with.
    """
    name = next(setting.value for setting in run.settings if setting.name == "imager")
    if name in ("auto", "native"):
        return NativeImager()
    if name == "wsclean":
        return WSClean()
    raise ConfigError(f"no comparison is made with {name}", "set imager to native or wsclean")


def image_alike(
    workdir: Path, vis: Path, folder: Path, basename: str = "perfect"
) -> tuple[ImageProducts, ImageStatistics]:
    """Image a data set as a run's images were judged, with the run's own imager; measure it."""
    run = read_run(workdir)
    products = imager_of(run).image(judged_options(run, vis, folder, basename))
    return products, measure_products(products)


def compare_with_truth(perfect: ImageProducts, image: Path) -> Judged:
    """Compare a result's restored image with the perfect one."""
    aligned = compare(perfect.image, image)
    reference, header = open_image(perfect.image)
    residual, _ = open_image(perfect.residual)
    plane, own_header = open_image(image)
    grid = grid_of(header)
    # a mosaic is blank where nothing was seen
    reference, plane = np.nan_to_num(reference), np.nan_to_num(plane)
    source = reference > _MASK_NSIGMA * mad_std(residual)
    flux_ratio = float("nan")
    if source.any():
        source = dilate(source, grid.beam_width_pixels)
        moved = shift_plane(plane, -aligned.shift_x_pixel, -aligned.shift_y_pixel)
        beams = grid.beam_area_pixels / grid_of(own_header).beam_area_pixels
        flux_ratio = float(np.sum(moved[source]) / np.sum(reference[source]) * beams)
    return Judged(flux_ratio, aligned.rms_difference_over_peak, aligned.shift_arcsec)
