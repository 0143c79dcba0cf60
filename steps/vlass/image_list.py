"""Image targets from a parameter list, of the continuum or one for each group of windows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.angles import parse_direction
from libs.core.coordinates import radec_to_lm
from libs.core.errors import ConfigError, InputError
from libs.core.geometry import ARCSEC_PER_RAD
from libs.imaging.primary_beam import find_beam
from libs.inputs.parameter_list import (
    ParameterList,
    group_label,
    read_parameter_list,
    window_groups,
)
from libs.ms.rows import chunks
from libs.ms.subtables import Subtables
from selfcal.step import Step, StepResult
from steps.context import Context
from steps.vlass.vlass_data import ImageTarget, write_targets
from steps.vlass.vlass_settings import PlaneReject, plane_reject
from steps.vlass.vlass_startup import working_copy

__all__ = ["EditImageList", "flagged_fractions", "rejected"]

_GRID = ("phasecenter", "imagename", "imsize", "cell", "spw")
_CUBE = ("robust", "niter", "uvrange", "pblimit", "scales", "stokes", "vlass_plane_reject_ms")
# Keys of the lists as published that say what is done here anyway, with the values allowed.
_FIXED: dict[str, tuple[Any, ...]] = {
    "gridder": ("mosaic",), "specmode": ("mfs",), "nterms": (1,),
    "deconvolver": ("multiscale", "mtmfs"), "intent": ("TARGET", ""), "weighting": ("briggs",),
    "reffreq": ("", None), "datacolumn": ("corrected", ""), "conjbeams": (False, None),
}  # fmt: skip
_ALWAYS = ("imaging_mode", "editmode")
# Keys of the continuum's list that do not concern its grid.
_CONTINUUM = (
    *_CUBE, *_FIXED, "cfcache", "wprojplanes", "cycleniter", "cyclefactor", "threshold", "nsigma",
    "mask", "pbmask", "clean_no_mask_selfcal_image", "cycleniter_final_image_nomask",
    "search_radius_arcsec", "uvtaper", "nbin", "nchan", "start", "width", "field", "sensitivity",
)  # fmt: skip

_DEFAULT_IMSIZE, _DEFAULT_CELL = 12500, "0.6arcsec"
_DEFAULT_SPWS = tuple(str(spw) for spw in range(2, 18))
_SQUARE_ARCSEC = 3600.0


class EditImageList(Step):
    """Make the image targets of one of the two lists; the second takes the place of the first."""

    needs = ("vlass_startup",)
    uses = ("field_buffer", "pb_limit", "instrument", "plane_reject")
    uses_files = ("seip_list", "ccip_list")

    def run(self, context: Context) -> StepResult:
        """Write the targets to ``<step>.json``."""
        cube = self.name.endswith("ccip")
        key = "ccip_list" if cube else "seip_list"
        known = (*_GRID, *_ALWAYS, *(_CUBE if cube else ()), *(_FIXED if cube else _CONTINUUM))
        given = read_parameter_list(
            Path(context.settings[key]), known, ("phasecenter", "imagename")
        )
        _check_mode(given, cube=cube)
        targets = _targets(context, given, cube=cube)
        write_targets(context.workdir / f"{self.name}.json", targets)
        kept = [target for target in targets if not target.dropped]
        lost = [f"{target.label}: {target.dropped}" for target in targets if target.dropped]
        for text in lost:
            context.progress.note(f"  {text}", warning=True)
        if not kept:
            raise InputError(
                f"none of the {len(targets)} image targets is left; {'; '.join(lost)}",
                "look at the flags, or change plane_reject",
            )
        first = kept[0]
        size = f"{first.imsize[0]} x {first.imsize[1]} px of {first.cell_arcsec:g} arcsec"
        what = f"{len(kept)} image targets" if cube else "the continuum's grid"
        reason = f"{what}: {size}, {len(first.fields)} pointings"
        if lost:
            reason += f"; left out: {'; '.join(lost)}"
        metrics: dict[str, Any] = {"targets": len(kept), "left_out": lost}
        return StepResult(reason=reason, products={self.name: f"{self.name}.json"}, metrics=metrics)


def _check_mode(given: ParameterList, *, cube: bool) -> None:
    """Refuse what would be done otherwise than the list says."""
    values = given.values
    mode = values.get("imaging_mode", "")
    begins = "VLASS-SE-CUBE" if cube else "VLASS-SE-CONT"
    if mode and not str(mode).startswith(begins):
        raise ConfigError(
            f"{given.place('imaging_mode')}: imaging_mode is {mode!r}", f"give a list of {begins}"
        )
    if values.get("editmode", "replace" if cube else "add") not in ("add", "replace"):
        raise ConfigError(
            f"{given.place('editmode')}: editmode is {values['editmode']!r}", "give add or replace"
        )
    if not cube:
        return
    for key, allowed in _FIXED.items():
        if key in values and values[key] not in allowed:
            raise ConfigError(
                f"{given.place(key)}: {key} is {values[key]!r}, images are made with"
                f" {allowed[0]!r}",
                "leave it out",
            )


def _targets(context: Context, given: ParameterList, *, cube: bool) -> list[ImageTarget]:
    ms = working_copy(context)
    found = Subtables(ms)
    there = {int(spw) for spw in context.metric("spws")}
    centre_mhz = {spw: found.windows[spw].mean_hz / 1e6 for spw in sorted(there)}
    wanted = given.values.get("spw") or [s for s in _DEFAULT_SPWS if int(s) in there]
    if cube:
        groups = window_groups(wanted, centre_mhz, given.place("spw"))
    else:
        groups = (tuple(sorted(there)),)
    centre = _phase_centre(given)
    imsize, cell = _grid(given)
    parameters = _parameters(given) if cube else {}
    flags = flagged_fractions(ms)
    rule = plane_reject(given.values.get("vlass_plane_reject_ms", context.settings["plane_reject"]))
    pb_limit = parameters.get("pb_limit", context.settings["pb_limit"])
    targets = []
    for group in groups:
        label = group_label(group) if cube else "cont"
        lowest = min(float(found.windows[spw].frequency_hz.min()) for spw in group)
        # the continuum's model is seen by pointings at its edge as well
        fields = _fields(context, ms, centre, imsize, cell, lowest, pb_limit, held=cube)
        share, by_field = _flags_of(flags, group, fields)
        targets.append(
            ImageTarget(
                name=f"{given.values['imagename']}.{label}" if cube else given.values["imagename"],
                label=label, spws=group,
                frequency_hz=float(np.mean([found.windows[spw].mean_hz for spw in group])),
                phasecenter_deg=centre, imsize=imsize, cell_arcsec=cell, fields=fields,
                flagged=share, mask="QLcatmask-tier1, combined-tier2, pb" if cube else "",
                parameters=parameters, dropped=rejected(group, share, by_field, rule) if cube
                else "",
            )
        )  # fmt: skip
    return targets


def _phase_centre(given: ParameterList) -> tuple[float, float]:
    """Return the centre of the image, J2000 deg, from ``J2000 14:12:00.0 +020.00.00.0``."""
    text = str(given.values["phasecenter"])
    parts = text.split()
    if len(parts) == 3 and parts[0].upper() in ("J2000", "ICRS"):
        dec = parts[2]
        if ":" not in dec and dec.count(".") >= 2:  # CASA's degrees.minutes.seconds
            dec = dec.replace(".", ":", 2)
        try:
            ra_rad, dec_rad = parse_direction(parts[1], dec)
        except ConfigError as error:
            raise ConfigError(
                f"{given.place('phasecenter')}: {error.cause}", error.remedy
            ) from error
        return math.degrees(ra_rad), math.degrees(dec_rad)
    raise ConfigError(
        f"{given.place('phasecenter')}: phasecenter is {text!r}",
        "write it as 'J2000 14:12:00.0 +020.00.00.0'",
    )


def _grid(given: ParameterList) -> tuple[tuple[int, int], float]:
    """Return size and pixel size of the images."""
    size = given.values.get("imsize") or _DEFAULT_IMSIZE
    pair = [size, size] if isinstance(size, int) else list(size)
    pair = pair * 2 if len(pair) == 1 else pair
    if len(pair) != 2 or not all(
        isinstance(one, int) and one >= 16 and one % 2 == 0 for one in pair
    ):
        raise ConfigError(
            f"{given.place('imsize')}: imsize is {size!r}", "give one or two even numbers"
        )
    cell = given.values.get("cell") or _DEFAULT_CELL
    text = cell[0] if isinstance(cell, (list, tuple)) and cell else cell
    try:
        if not str(text).endswith("arcsec"):
            raise ValueError(text)
        arcsec = float(str(text).removesuffix("arcsec"))
    except ValueError as error:
        raise ConfigError(
            f"{given.place('cell')}: cell is {cell!r}", "write it as '0.6arcsec'"
        ) from error
    return (pair[0], pair[1]), arcsec


def _parameters(given: ParameterList) -> dict[str, Any]:
    """Return the parameters of the cube's list that take the place of the config's."""
    values = given.values
    found: dict[str, Any] = {}
    for key, name in (("robust", "robust"), ("pblimit", "pb_limit")):
        if key in values:
            if isinstance(values[key], bool) or not isinstance(values[key], (int, float)):
                raise ConfigError(f"{given.place(key)}: {key} is {values[key]!r}", "give a number")
            found[name] = float(values[key])
    if "niter" in values:
        if not isinstance(values["niter"], int) or values["niter"] < 1:
            raise ConfigError(
                f"{given.place('niter')}: niter is {values['niter']!r}", "give a number above 0"
            )
        found["niter"] = values["niter"]
    if "scales" in values:
        found["scales"] = [str(int(scale)) for scale in values["scales"]]
    if "stokes" in values:
        found["stokes"] = str(values["stokes"])
    if "uvrange" in values:
        found["uvmax"] = _uvmax_m(given)
    return found


def _uvmax_m(given: ParameterList) -> float:
    """Return the longest baseline, m, of ``<12km``."""
    text = str(given.values["uvrange"]).replace(" ", "")
    for unit, metres in (("km", 1000.0), ("m", 1.0)):
        body = text.removeprefix("<").removesuffix(unit)
        if text.startswith("<") and text.endswith(unit) and body.replace(".", "", 1).isdigit():
            return metres * float(body)
    if not text:
        return 0.0
    raise ConfigError(f"{given.place('uvrange')}: uvrange is {text!r}", "write it as '<12km'")


def _fields(
    context: Context,
    ms: Path,
    centre_deg: tuple[float, float],
    imsize: tuple[int, int],
    cell_arcsec: float,
    lowest_hz: float,
    pb_limit: float,
    *,
    held: bool,
) -> tuple[int, ...]:
    """Return the pointings of the square degree and its buffer that the image holds.

    With ``held`` it must hold their beams too.
    """
    diameter = float(context.metric("dish_diameter_m"))
    beam = find_beam(context.settings["instrument"], lowest_hz, diameter)
    if beam is None:
        raise ConfigError(
            f"the primary beam of {context.settings['instrument']} is not known",
            "correct instrument",
        )
    reach = beam.reach_rad(lowest_hz, pb_limit) * ARCSEC_PER_RAD if held else 0.0
    buffer = _SQUARE_ARCSEC / 2 + context.settings["field_buffer"]
    limits = [min(buffer, pixels * cell_arcsec / 2 - reach) for pixels in imsize]
    used = {int(field) for field in context.metric("field_ids")}
    near, cut = [], 0
    for number, field in enumerate(Subtables(ms).fields):
        offset = radec_to_lm(*field.pointing_rad, *np.radians(centre_deg))
        east, north = (abs(one) * ARCSEC_PER_RAD for one in offset)
        if number not in used or max(east, north) > buffer:
            continue
        if east <= limits[0] and north <= limits[1]:
            near.append(number)
        else:
            cut += 1
    if cut:
        context.progress.note(
            f"  {cut} pointings are left out: the image does not hold"
            f" {'their beams' if held else 'them'}",
            warning=True,
        )
    if not near:
        raise ConfigError(
            "the image holds the primary beam of no pointing",
            f"correct phasecenter, or make imsize larger than {2 * reach / cell_arcsec:.0f}",
        )
    return tuple(near)


Flags = Mapping[tuple[int, int], tuple[int, int]]


def flagged_fractions(ms: Path) -> dict[tuple[int, int], tuple[int, int]]:
    """Return flagged and all visibilities by spectral window and field."""
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for chunk in chunks(ms, ("FLAG", "FLAG_ROW", "FIELD_ID")):
        flag = chunk["FLAG"] | chunk["FLAG_ROW"][:, None, None]
        for field in np.unique(chunk["FIELD_ID"]).tolist():
            own = flag[chunk["FIELD_ID"] == field]
            before = found.get((chunk.spw, field), (0, 0))
            found[chunk.spw, field] = before[0] + int(own.sum()), before[1] + own.size
    return found


def _flags_of(
    flags: Flags, group: tuple[int, ...], fields: tuple[int, ...]
) -> tuple[float, dict[int, float]]:
    """Return the flagged fraction of a group, and by field."""
    by_field = {}
    total = [0, 0]
    for field in fields:
        own = [flags[spw, field] for spw in group if (spw, field) in flags]
        flagged, count = sum(one[0] for one in own), sum(one[1] for one in own)
        if count:
            by_field[field] = flagged / count
        total = [total[0] + flagged, total[1] + count]
    return (total[0] / total[1] if total[1] else 1.0), by_field


def rejected(
    group: tuple[int, ...], flagged: float, by_field: Mapping[int, float], rule: PlaneReject
) -> str:
    """Return why a group of windows is not imaged; empty where it is.

    Parameters
    ----------
    group : tuple of int
        Windows.
    flagged : float
        Flagged fraction of all its data.
    by_field : mapping of int to float
        The same by field.
    rule : PlaneReject
    """
    if flagged >= 1.0:
        return "all of its data are flagged"
    if not rule.apply or set(group) & rule.exclude_spw:
        return ""
    bad = sum(share > rule.flagpct_thresh for share in by_field.values())
    if bad >= rule.nfield_thresh:
        return f"{bad} of {len(by_field)} fields are flagged more than {rule.flagpct_thresh:.0%}"
    return ""
