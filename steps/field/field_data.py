"""What makes a source's small data set: DP3 where it is installed, else the project's own code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.errors import ConfigError, InputError
from libs.core.files import replacing, write_atomically
from libs.directions import dp3
from libs.directions.phase_shift import ShiftOptions, ShiftPlan, shift_data
from libs.h5parm.direction_gains import DirectionGains
from libs.h5parm.reader import read_h5parm
from libs.h5parm.superstation import write_spread
from libs.ms.subtables import Subtables
from selfcal.options import Option

__all__ = ["PREPARE_OPTIONS", "check_prepare", "give_to_members", "make_data"]

_RECORD = "phased_up.json"

PREPARE_OPTIONS = (
    Option("prepare", "choice", "auto", "what makes the sources' data: native, dp3, or auto: DP3"
           " where it is installed and takes the data", choices=("auto", "native", "dp3")),
    Option("phase_up", "str", "", "core stations (CS*) that DP3 adds up to ST001 in the sources'"
           " data; empty: none"),
)  # fmt: skip


def check_prepare(settings: Mapping[str, Any]) -> None:
    """Check, before anything runs, that there is what makes the data.

    Raises
    ------
    ConfigError
        DP3 is asked for, or needed, and is not installed.
    """
    if settings["phase_up"] and settings["prepare"] == "native":
        raise ConfigError(
            "prepare = native adds no stations up", "leave phase_up empty, or set prepare to dp3"
        )
    wanted = settings["prepare"] == "dp3" or settings["phase_up"]
    if wanted and dp3.find_dp3() is None:
        what = "prepare = dp3" if settings["prepare"] == "dp3" else "phase_up"
        raise ConfigError(f"{what} needs DP3, which is not installed", dp3.INSTALL)


def make_data(
    settings: Mapping[str, Any],
    ms: Path,
    target: Path,
    options: ShiftOptions,
    gains: DirectionGains | None,
    *,
    threads: int,
) -> tuple[ShiftPlan, str]:
    """Make a source's small data set.

    Parameters
    ----------
    settings : mapping
        The field's: ``prepare``, ``phase_up``, ``tool_stall``.
    ms, target, options, gains
        As in `libs.directions.phase_shift.shift_data`.
    threads : int

    Returns
    -------
    plan : ShiftPlan
    how : str
        What made it.

    Raises
    ------
    SelfcalError
        DP3 is needed and cannot take the data, or it failed.
    """
    why_not = _why_native(settings, ms)
    added = dp3.phase_up(ms, settings["phase_up"]) if settings["phase_up"] else None
    record = target.parent / _RECORD
    record.unlink(missing_ok=True)
    if why_not:
        if added:
            raise InputError(
                f"phase_up needs DP3, and {ms.name}: {why_not}", "leave phase_up empty"
            )
        return shift_data(ms, target, options, gains), f"native code ({why_not})"
    plan = dp3.prepare(
        ms, target, options, gains, added=added, threads=threads, stall_s=settings["tool_stall"]
    )
    if added is None:
        return plan, "DP3"
    found = Subtables(ms)
    places = found.position_m[[found.antenna_names.index(name) for name in added.members]]
    write_atomically(record, json.dumps({**asdict(added), "position_m": places.tolist()}))
    return plan, f"DP3, {len(added.members)} stations added up to {added.station}"


def _why_native(settings: Mapping[str, Any], ms: Path) -> str:
    """Why the project's own code makes the data; empty: DP3 does."""
    if settings["prepare"] == "native":
        return "prepare = native"
    if settings["prepare"] == "dp3":
        return ""
    if dp3.find_dp3() is None:
        return "DP3 is not installed"
    why = dp3.unfit(ms)
    return f"{why}, which DP3 does not take" if why else ""


def give_to_members(data: Path, h5parm: Path) -> None:
    """Give the gains of an added-up station to its members, who are in the field's data.

    Parameters
    ----------
    data : Path
        Folder of a source's small data, where what was added up is on record.
    h5parm : Path
        Replaced, unless nothing was added up or the sum has no solutions.
    """
    record = data / _RECORD
    if not record.exists():
        return
    added = json.loads(record.read_text())
    if added["station"] not in read_h5parm(h5parm).antenna:
        return
    with replacing(h5parm) as beside:
        write_spread(
            h5parm, beside, added["station"], added["members"], np.array(added["position_m"])
        )
