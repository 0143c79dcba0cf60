"""Matching of several source lists, and the selection and order of the sources to calibrate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from libs.catalogues.radii import CALIBRATOR_RADIUS_DEG, TARGET_RADIUS_DEG
from libs.catalogues.source_list import MATCH_ARCSEC, MIN_FLUX_JY, FieldSource
from libs.core.angles import separation_rad
from libs.core.errors import InputError
from libs.core.geometry import ARCSEC_PER_RAD

__all__ = ["cross_match", "make_layers", "select_sources"]


def _distances_rad(one: FieldSource, others: Sequence[FieldSource]) -> Any:
    places = np.array([(o.ra_rad, o.dec_rad) for o in others]).reshape(-1, 2)
    return separation_rad(places, np.array([one.ra_rad, one.dec_rad]))


def cross_match(
    sources: Sequence[FieldSource],
    calibrators: Sequence[FieldSource],
    radius_arcsec: float = MATCH_ARCSEC,
) -> list[FieldSource]:
    """Join a survey's sources with LBCS: matches get the LBCS flags and the survey's position.

    Parameters
    ----------
    sources, calibrators : sequence of FieldSource
        The survey's sources, and those of LBCS.
    radius_arcsec : float
        Largest separation at which the nearest source counts as the same one.

    Returns
    -------
    list of FieldSource
        The sources, followed by calibrators without a counterpart.
    """
    joined = list(sources)
    alone = []
    for calibrator in calibrators:
        apart = _distances_rad(calibrator, sources)
        if len(apart) and apart.min() <= radius_arcsec / ARCSEC_PER_RAD:
            i = int(apart.argmin())
            flags = max(joined[i].lbcs_flags, calibrator.lbcs_flags, key=lambda f: f.count("P"))
            joined[i] = replace(joined[i], lbcs_flags=flags)
        else:
            alone.append(calibrator)
    names = {source.name for source in joined}
    return joined + [replace(c, name=f"{c.name}_LBCS") if c.name in names else c for c in alone]


def select_sources(
    sources: Sequence[FieldSource],
    ra_rad: float,
    dec_rad: float,
    *,
    calibrator_radius_deg: float = CALIBRATOR_RADIUS_DEG,
    radius_deg: float = TARGET_RADIUS_DEG,
    min_flux_jy: float = MIN_FLUX_JY,
) -> list[FieldSource]:
    """Return LBCS calibrators and bright sources, each kind within its radius of a centre."""
    centre = FieldSource("centre", ra_rad, dec_rad)
    chosen = []
    for source, apart in zip(sources, np.rad2deg(_distances_rad(centre, sources)), strict=True):
        calibrator = source.is_calibrator and apart <= calibrator_radius_deg
        bright = source.flux_jy >= min_flux_jy and apart <= radius_deg
        if calibrator or bright:
            chosen.append(source)
    return chosen


def make_layers(
    sources: Sequence[FieldSource], limits_jy: Sequence[float]
) -> list[list[FieldSource]]:
    """Divide sources among layers: calibrators and the brightest first, then down to each limit.

    Parameters
    ----------
    sources : sequence of FieldSource
    limits_jy : sequence of float
        Least flux density of each layer, in falling order.

    Returns
    -------
    list of lists of FieldSource
        Sources of each layer, brightest first. Layers without sources are left out, and so are
        sources below the last limit that are not calibrators.

    Raises
    ------
    InputError
        The limits are not in falling order.
    """
    if not limits_jy or any(b >= a for a, b in itertools.pairwise(limits_jy)):
        raise InputError(
            f"layers {list(limits_jy)} do not fall from bright to faint",
            "write [300mJy, 50mJy, 10mJy]",
        )
    layers: list[list[FieldSource]] = [[] for _ in limits_jy]
    for source in sources:
        place = next((i for i, low in enumerate(limits_jy) if source.flux_jy >= low), None)
        if source.is_calibrator:
            place = 0
        if place is not None:
            layers[place].append(source)

    def brightness(source: FieldSource) -> tuple[float, str]:
        return (-source.flux_jy if math.isfinite(source.flux_jy) else 0.0, source.name)

    return [sorted(layer, key=brightness) for layer in layers if layer]
