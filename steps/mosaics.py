"""Mosaics: several pointings of one target that are imaged and calibrated together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from libs.core.coordinates import lm_to_radec, radec_to_lm
from libs.core.errors import ConfigError
from libs.core.geometry import good_size
from libs.imaging.interface import ImagingOptions
from libs.imaging.joint import Mosaic
from libs.imaging.mosaic import mosaic_size
from libs.imaging.primary_beam import SAME_DISH, find_beam
from libs.ms.pointings import common_pointings, linked, number_pointings, number_visit_groups
from libs.ms.subtables import Subtables
from libs.ms.summary import MsSummary, summarise
from selfcal.step import Skip
from steps.context import Context
from steps.facts import MosaicFacts, StartupFacts, latest
from steps.instruments import dish_diameter_m, identify

__all__ = [
    "MOSAIC_SETTING",
    "MosaicFound",
    "check_dishes",
    "common_to_fields",
    "is_mosaic",
    "join_pointings",
    "mosaic_imsize",
    "run_mosaic",
    "single_fields_only",
    "unlike_dishes",
]

MOSAIC_SETTING = "mosaic"

_LEAST_PIXELS = 128


@dataclass(frozen=True)
class MosaicFound:
    """The pointings of a mosaic.

    Attributes
    ----------
    pointings : tuple of (str, (float, float))
        Name and direction (J2000, rad) of each, by field id in every working copy.
    centre_rad : (float, float)
        Centre of the image that holds them: middle of their extent, RA and Dec, J2000, rad.
    notes : tuple of str
        What was done to the working copies.
    """

    pointings: tuple[tuple[str, tuple[float, float]], ...]
    centre_rad: tuple[float, float]
    notes: tuple[str, ...]

    def as_facts(self) -> tuple[dict[str, str | float], ...]:
        """Return the pointings as `StartupFacts` records them."""
        return tuple(
            {"name": name, "ra_deg": math.degrees(ra), "dec_deg": math.degrees(dec)}
            for name, (ra, dec) in self.pointings
        )


def join_pointings(context: Context, copies: Sequence[Path]) -> MosaicFound:
    """Number the pointings of a mosaic alike in all working copies, and its scans.

    Raises
    ------
    ConfigError
        The fields of the working copies are no mosaic that can be calibrated together.
    """
    places = common_pointings(copies)
    used = [summarise(ms) for ms in copies]
    _check_is_mosaic(context, places, copies, used)
    notes = []
    for ms in copies:
        number_pointings(ms, places)
        before, after = number_visit_groups(ms)
        if after != before:
            notes.append(f"{ms.name}: {before} scans without a break between them are {after}")
    return MosaicFound(tuple(places), _middle([place for _, place in places]), tuple(notes))


def _middle(places: Sequence[tuple[float, float]]) -> tuple[float, float]:
    offsets = [radec_to_lm(*place, *places[0]) for place in places]
    middle = [0.5 * (min(o[i] for o in offsets) + max(o[i] for o in offsets)) for i in (0, 1)]
    return lm_to_radec(middle[0], middle[1], *places[0])


def _check_is_mosaic(
    context: Context,
    places: Sequence[tuple[str, tuple[float, float]]],
    copies: Sequence[Path],
    used: Sequence[MsSummary],
) -> None:
    """Refuse fields that are no mosaic, or one that is not to be or cannot be joined."""
    names = ", ".join(dict.fromkeys(name for name, _ in places))
    said = f"the selection holds {len(places)} fields: {names}"
    several = "name one with field = ..., or several with targets = [...]"
    if len({name for name, _ in places}) > 1 or context.settings[MOSAIC_SETTING] != "auto":
        raise ConfigError(said, several)
    first = used[0]
    settings = context.settings
    instrument = identify(
        first.telescope, first.mean_frequency_hz, settings["instrument"], settings["band"]
    )[0]
    check_dishes(said, copies, used)
    dishes = [dish_diameter_m(instrument, each.dish_diameter_m) for each in used]
    beam = find_beam(instrument, first.mean_frequency_hz, max(dishes))
    if beam is None:
        raise ConfigError(
            f"{said}, and the primary beam of {instrument} is not known", several
        )  # fmt: skip
    width = 2.0 * beam.reach_rad(first.mean_frequency_hz, 0.5)
    if len(linked([place for _, place in places], width)) > 1:
        raise ConfigError(
            f"{said}, which are farther apart than the width of the primary beam"
            f" ({math.degrees(width) * 3600:.3g} arcsec)", several
        )  # fmt: skip
    if context.settings["imager"] == "wsclean":
        raise ConfigError(
            f"{names} is a mosaic, which WSClean does not image jointly",
            "set imager to native or tclean, or mosaic = 'never' for each pointing by itself",
        )


def unlike_dishes(used: Sequence[MsSummary]) -> bool:
    """Whether measurement sets differ in the diameter of their dishes, as far as it is known."""
    known = [each.dish_diameter_m for each in used if each.dish_diameter_m > 1.0]
    return bool(known) and max(known) > SAME_DISH * min(known)


def check_dishes(said: str, copies: Sequence[Path], used: Sequence[MsSummary]) -> None:
    """Refuse a set whose own dishes are unlike; sets may differ, each with a beam of its own."""
    for ms, summary in zip(copies, used, strict=True):
        antennas = Subtables(ms).antennas
        known = [antennas[n].diameter_m for n in summary.antennas_used]
        known = [diameter for diameter in known if diameter > 1.0]
        if known and max(known) > SAME_DISH * min(known):
            sizes = ", ".join(f"{dish:g} m" for dish in sorted(set(known)))
            raise ConfigError(
                f"{said}, and {ms.name} has dishes of {sizes}: its baselines have no primary beam"
                " in common",
                "split it by kind of dish (antenna selection), and give the parts as executions",
            )


# -- for the steps after startup ------------------------------------------------------------------


def is_mosaic(context: Context) -> bool:
    """Whether the run is of a mosaic."""
    return bool(latest(context, MosaicFacts).pointings)


def common_to_fields(context: Context) -> frozenset[str]:
    """Return what a solve combines so that the pointings of a mosaic share their gains."""
    return frozenset({"field"}) if is_mosaic(context) else frozenset()


def run_mosaic(data: StartupFacts) -> tuple[Mosaic, tuple[float, float]] | None:
    """Return the mosaic that a run images and its centre, J2000, deg; None for one field."""
    if not data.pointings:
        return None
    diameter = dish_diameter_m(data.instrument, data.dish_diameter_m)
    ra, dec = math.degrees(data.right_ascension_rad), math.degrees(data.declination_rad)
    fields = tuple(range(len(data.pointings)))
    return Mosaic(fields, data.instrument, diameter, unlike=data.unlike_dishes), (ra, dec)


def mosaic_imsize(options: ImagingOptions) -> tuple[int, int]:
    """Return the size of an image that holds a mosaic, whose fast transforms are cheap."""
    wide, high = mosaic_size(options)
    return good_size(wide, least=_LEAST_PIXELS), good_size(high, least=_LEAST_PIXELS)


def single_fields_only(context: Context, what: str) -> None:
    """Skip a step that knows one field only.

    Raises
    ------
    Skip
        The run is of a mosaic.
    """
    if is_mosaic(context):
        raise Skip(f"{what} of a mosaic are not formed: each pointing sees another sky")
