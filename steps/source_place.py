"""The place of a source in data whose image does not tell: by its fringes, or the phase centre."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from libs.closure.formation import BaselineVisibilities
from libs.closure.fringe_place import place_by_fringes
from libs.core.gaussian import GaussianComponent, component_visibilities
from libs.core.geometry import ARCSEC_PER_RAD
from libs.imaging.statistics import ImageStatistics
from steps.context import Context
from steps.facts import grid_facts
from steps.model_components import peak_component

__all__ = [
    "CERTAIN_SNR",
    "POINT",
    "SURE_SNR",
    "SourcePlace",
    "at_the_peak",
    "brightest_pixel",
    "place_before_calibration",
    "place_within",
]

# Below this SNR the brightest pixel of an image is not trusted to be the source: where nothing else
# tells, the source is taken to lie at the phase centre.
SURE_SNR = 20.0

# Wild phases scatter a source over the image, and its brightest artefact reaches a few tens of
# sigma of what CLEAN leaves. Of 38 drawn observations with phase errors two began above 100, both
# with the source in its place. Fringes need not be asked there, which spares a reading of the data.
CERTAIN_SNR = 100.0

# Within this distance the position of an image is the better one, and a position that is wrong by
# so little does not smear a solution interval.
_NEAR_BEAMS = 3.0

POINT = GaussianComponent(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, point=True)


@dataclass(frozen=True)
class SourcePlace:
    """Where a source lies.

    Attributes
    ----------
    offset_rad : (float, float)
        Direction cosines (l, m).
    said : str
        How fringes gave it; empty where they did not.
    """

    offset_rad: tuple[float, float]
    said: str

    @property
    def name(self) -> str:
        """The place in words."""
        if self.said:
            return "the place that its fringes give"
        return "the brightest pixel" if any(self.offset_rad) else "the phase centre"


def place_before_calibration(
    context: Context,
    data: BaselineVisibilities,
    image: ImageStatistics,
    components: Sequence[GaussianComponent],
) -> SourcePlace:
    """Return the place of the brightest component within the test image.

    It makes the peak of the image, or lies at the phase centre where the image does not show a
    source, unless the fringes of the uncalibrated data say otherwise.

    Parameters
    ----------
    context : Context
    data : BaselineVisibilities
        Not averaged in time.
    image : ImageStatistics
        Of an image on the grid of the test image.
    components : sequence of GaussianComponent
        The source about its brightest component.
    """
    grid = grid_facts(context)
    assert grid.imsize and grid.cell_arcsec, "test_image chooses a grid"
    start = (0.0, 0.0)
    if image.snr >= SURE_SNR:
        start = at_the_peak(image, grid.imsize, components)
    if image.snr >= CERTAIN_SNR:
        return SourcePlace(start, "")
    half_width_arcsec = 0.5 * min(grid.imsize) * grid.cell_arcsec
    return place_within(context, data, image, half_width_arcsec, start, components)


def at_the_peak(
    image: ImageStatistics, imsize: tuple[int, int], components: Sequence[GaussianComponent]
) -> tuple[float, float]:
    """Return where the brightest component lies if the image's peak is that of the components.

    The component that makes the peak of an image is not always that of most flux: a wide disc may
    have more than the point beside it, whose peak is higher.

    Returns
    -------
    (float, float)
        (l, m), rad; for a pixel's centre at the peak.
    """
    peak = brightest_pixel(image, imsize)
    if not components:
        return peak
    beam_rad = math.sqrt(image.beam_major_arcsec * image.beam_minor_arcsec) / ARCSEC_PER_RAD
    seen = peak_component(components, beam_rad)
    return peak[0] - seen.l_rad, peak[1] - seen.m_rad


def brightest_pixel(image: ImageStatistics, imsize: tuple[int, int]) -> tuple[float, float]:
    """Return (l, m) of the brightest pixel of an image about the phase centre, rad."""
    cell_rad = math.radians(image.cell_arcsec / 3600)
    nx, ny = imsize
    return (nx // 2 - image.peak_x_pixel) * cell_rad, (image.peak_y_pixel - ny // 2) * cell_rad


def place_within(
    context: Context,
    data: BaselineVisibilities,
    image: ImageStatistics,
    half_width_arcsec: float,
    start_rad: tuple[float, float] = (0.0, 0.0),
    components: Sequence[GaussianComponent] = (POINT,),
) -> SourcePlace:
    """Return where fringes place a source within so far of the phase centre, or the start.

    Parameters
    ----------
    context : Context
    data : BaselineVisibilities
        Not averaged in time.
    image : ImageStatistics
        Its beam is that to which the start may be wrong.
    half_width_arcsec : float
    start_rad : (float, float)
        Where the source is taken to lie otherwise, direction cosines.
    components : sequence of GaussianComponent
        The source about its brightest component.
    """
    with context.clock.time("solving"):
        found = place_by_fringes(
            data, partial(component_visibilities, tuple(components)),
            half_width_arcsec / ARCSEC_PER_RAD, start_rad,
        )  # fmt: skip
    near_rad = _NEAR_BEAMS * image.beam_major_arcsec / ARCSEC_PER_RAD
    if found is None or not found.significant:
        return SourcePlace(start_rad, "")
    if math.dist(found.offset_rad, start_rad) < near_rad:
        return SourcePlace(start_rad, "")
    l_arcsec, m_arcsec = (math.degrees(each) * 3600 for each in found.offset_rad)
    said = (
        f"fringes over {found.interval_s:.3g} s place the source {l_arcsec:+.3g},"
        f" {m_arcsec:+.3g} arcsec from the phase centre ({found.sigma:.1f} sigma;"
        f" {found.needed:.1f} needed)"
    )
    return SourcePlace(found.offset_rad, said)
