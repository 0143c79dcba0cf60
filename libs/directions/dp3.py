"""DP3 for a source's small data set: corrected, phase-shifted, averaged, core stations combined.

The result is that of `libs.directions.phase_shift`, made by the program that LOFAR's own pipelines
use, with one addition: a superstation of the core (https://dp3.readthedocs.io, the steps applycal,
phaseshifter, averager, stationadder, filter and preflagger).
"""

from __future__ import annotations

import fnmatch
import logging
import math
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.errors import ConfigError, InputError, ToolError
from libs.core.files import fsync_tree
from libs.core.process import run_tool, which
from libs.directions.phase_shift import ShiftOptions, ShiftPlan, plan_shift
from libs.h5parm.direction_gains import DirectionGains
from libs.h5parm.reader import write_h5parm
from libs.h5parm.regrid import regrid
from libs.h5parm.solset import Solset
from libs.ms.create import read_layout
from libs.ms.subtables import Subtables, put_phase_centre
from libs.ms.tables import open_table
from libs.ms.time_survey import TimeSurvey, survey_times

__all__ = [
    "INSTALL",
    "SUPERSTATION",
    "PhaseUp",
    "find_dp3",
    "phase_up",
    "prepare",
    "shift_parset",
    "unfit",
]

log = logging.getLogger(__name__)

SUPERSTATION = "ST001"
INSTALL = "pip install '.[lofar]', or put DP3 on the PATH"
# 24 bytes each; a longer table is thinned in time by whole integrations
_MOST_GAINS = 20_000_000
_FILLED = 1.1  # largest ratio of rows after DP3 fills gaps to rows before
_STORAGE = {"scalarflags": "false", "antennacompression": "false", "uvwcompression": "false"}


@dataclass(frozen=True)
class PhaseUp:
    """Stations combined into one.

    Attributes
    ----------
    station : str
        Name of the combined station.
    pattern : str
        Shell pattern of the members' names.
    members : tuple of str
    """

    station: str
    pattern: str
    members: tuple[str, ...]


def find_dp3() -> Path | None:
    """Return the path of DP3 on the PATH, or beside this Python, where pip puts it; else None."""
    beside = Path(sys.executable).with_name("DP3.py")
    return which("DP3") or which("DP3.py") or (beside if beside.exists() else None)


def phase_up(ms: Path, pattern: str, station: str = SUPERSTATION) -> PhaseUp:
    """Return the antennas of a measurement set that a pattern combines.

    Raises
    ------
    InputError
        Fewer than two match, no other station is left, or the new name is taken.
    """
    names = Subtables(ms).antenna_names
    members = tuple(name for name in names if fnmatch.fnmatchcase(name, pattern))
    if station in names:
        raise InputError(f"{ms} has a station {station} already", "leave phase_up empty")
    if len(members) < 2 or len(members) == len(names):
        raise InputError(
            f"{len(members)} of {len(names)} stations of {ms} match {pattern}",
            "set phase_up to a pattern of the core stations, such as CS*",
        )
    return PhaseUp(station, pattern, members)


def unfit(ms: Path, survey: TimeSurvey | None = None) -> str:
    """Return why DP3 cannot prepare these data; empty when it can.

    It needs one spectral window of four correlations and one field, in order of time, and it
    fills gaps between scans with flagged rows. ``survey`` is that of ``ms``, if known.
    """
    survey = survey or survey_times(ms)
    for ids, words in ((survey.ddids, "spectral windows"), (survey.field_ids, "fields")):
        if len(ids) > 1:
            return f"several {words}"
    correlations = len(read_layout(ms).corr_types[int(survey.ddids[0])])
    if correlations != 4:
        return f"{correlations} correlation(s) instead of 4"
    if not survey.in_order:
        return "rows that are not in order of time"
    times, interval = survey.time_s, survey.median_interval_s
    if len(times) > 1:
        spacing = survey.spacing_s
        if not math.isclose(spacing, interval, rel_tol=1e-3):
            return f"an INTERVAL of {interval:g} s for a spacing of {spacing:g} s"
        if (times[-1] - times[0]) / spacing + 1 > _FILLED * len(times):
            return "gaps between scans"
    return ""


def shift_parset(
    ms: Path,
    target: Path,
    options: ShiftOptions,
    *,
    steps: tuple[int, int] = (1, 1),
    gains: Path | None = None,
    added: PhaseUp | None = None,
    threads: int = 1,
) -> dict[str, str]:
    """Return DP3's parameters for a small data set.

    Parameters
    ----------
    ms, target : Path
    options : ShiftOptions
        Options; ``average_s`` and ``average_hz`` are not used, because ``steps`` replaces them.
    steps : (int, int)
        Numbers of integrations and channels averaged.
    gains : Path, optional
        File in h5parm format with phase000 and amplitude000 of one direction.
    added : PhaseUp, optional
        Stations to combine.
    threads : int
    """
    ra, dec = (math.degrees(angle) for angle in options.direction_rad)
    made: dict[str, dict[str, str]] = {}
    for name, soltab in (("phases", "phase000"), ("amplitudes", "amplitude000")):
        if gains is not None:
            made[name] = {
                "type": "applycal", "parmdb": str(gains), "correction": soltab,
                "interpolation": "nearest", "missingantennabehavior": "flag",
                "updateweights": "true",
            }  # fmt: skip
    centre = f"[{ra % 360:.10f}deg,{dec:.10f}deg]"
    made["shift"] = {"type": "phaseshifter", "phasecenter": centre}
    made["average"] = {"type": "averager", "timestep": str(steps[0]), "freqstep": str(steps[1])}
    if added is not None:
        members = ",".join(added.members)
        made["add"] = {"type": "stationadder", "stations": f"{{{added.station}:[{members}]}}"}
        made["drop"] = {"type": "filter", "baseline": f"!{added.pattern}&&*", "remove": "true"}
    if options.uvmin_m > 0:
        made["short"] = {"type": "preflagger", "uvmmin": f"{options.uvmin_m:g}"}
    return {
        "msin": str(ms), "msin.datacolumn": options.column, "msout": str(target),
        **{f"msout.{name}": value for name, value in _STORAGE.items()},
        "numthreads": str(threads), "steps": f"[{','.join(made)}]",
        **{f"{step}.{name}": value for step, keys in made.items() for name, value in keys.items()},
    }  # fmt: skip


def prepare(
    ms: Path,
    target: Path,
    options: ShiftOptions,
    gains: DirectionGains | None = None,
    *,
    added: PhaseUp | None = None,
    survey: TimeSurvey | None = None,
    threads: int = 1,
    stall_s: float = 600.0,
) -> ShiftPlan:
    """Make a small data set with DP3, as `libs.directions.phase_shift.shift_data` does without it.

    Parameters
    ----------
    ms : Path
        Measurement set, never written.
    target : Path
        New set; an existing one is replaced. It appears complete or not at all. Parset and log are
        beside it.
    options : ShiftOptions
    gains : DirectionGains, optional
        Gains that are divided out first; data without gains are flagged.
    added : PhaseUp, optional
        Stations to combine.
    survey : TimeSurvey, optional
        Time stamps of ``ms``, if known; otherwise they are read.
    threads : int
    stall_s : float
        Longest time in which DP3 may be silent and idle, s; after it DP3 is killed.

    Returns
    -------
    ShiftPlan
        Plan with the rows and size of the result.

    Raises
    ------
    ConfigError
        DP3 is not installed.
    InputError
        DP3 cannot process these data.
    ToolError
        DP3 failed.
    """
    program = find_dp3()
    if program is None:
        raise ConfigError("DP3 is not installed", INSTALL)
    survey = survey or survey_times(Path(ms))
    why = unfit(Path(ms), survey)
    if why:
        raise InputError(f"{ms} has {why}, which DP3 does not take", "set prepare to native")
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    plan = plan_shift(ms, options, survey)
    table = None
    if gains is not None:
        table = target.with_name(f"{target.stem}.gains.h5")
        write_h5parm(table, _on_grid(gains, ms, survey))
    parset = target.with_name(f"{target.stem}.parset")
    lines = shift_parset(
        ms, part, options, steps=_steps(ms, survey, plan), gains=table, added=added, threads=threads
    )
    parset.write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
    run_tool(
        [program, parset], target.with_name(f"{target.stem}.dp3.log"), cwd=target.parent,
        env=_environment(target.parent), stall_s=stall_s,
    )  # fmt: skip
    if not part.is_dir():
        raise ToolError(f"DP3 made no {target.name}", f"see {target.stem}.dp3.log")
    _true_last(part, survey)
    rows = _name_field(part, options.field)
    fsync_tree(part)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    if table:
        table.unlink()
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return replace(plan, rows=rows, size_bytes=size)


def _steps(ms: Path, survey: TimeSurvey, plan: ShiftPlan) -> tuple[int, int]:
    """Return the integrations and channels that a plan averages."""
    spacing = survey.spacing_s or plan.integration_s
    spw = read_layout(ms).spw_of[int(survey.ddids[0])]
    return max(1, round(plan.integration_s / spacing)), plan.widths[spw]


def _true_last(part: Path, survey: TimeSurvey) -> None:
    """Give the last average the time and length of the integrations that it contains.

    DP3 gives it the length of the others, even where the data end within it. Its rows are the
    last ones, because DP3 writes in order of time.
    """
    end = float(survey.time_s[-1] + 0.5 * survey.interval_s[-1])
    with open_table(part, write=True) as opened:
        last = opened.nrows() - 1
        time, length = opened.getcell("TIME", last), opened.getcell("INTERVAL", last)
        surplus = time + 0.5 * length - end
        if surplus < 1e-3 * length:
            return
        start, count = _last_rows(opened, time)
        for name, change in (("TIME", 0.5), ("TIME_CENTROID", 0.5), ("INTERVAL", 1.0)):
            values = opened.getcol(name, start, count)
            opened.putcol(name, values - change * surplus, start, count)
        exposure = opened.getcol("EXPOSURE", start, count)
        opened.putcol("EXPOSURE", np.minimum(exposure, length - surplus), start, count)


def _last_rows(opened: Any, time_s: float) -> tuple[int, int]:
    """Return the first row and the number of the rows at the end that have one time."""
    start, step = opened.nrows(), 4096
    while start:
        low = max(0, start - step)
        same = opened.getcol("TIME", low, start - low) == time_s
        others = np.flatnonzero(~same)
        if len(others):
            start = low + int(others[-1]) + 1
            break
        start = low
    return start, opened.nrows() - start


def _on_grid(gains: DirectionGains, ms: Path, survey: TimeSurvey) -> Solset:
    """Return gains at the data's own times and channels.

    DP3 takes the nearest solution, or interpolates phases across their wraps; on the data's own
    grid it does neither.
    """
    solset = gains.solset
    times, ddid = survey.time_s, int(survey.ddids[0])
    layout = read_layout(ms)
    channels = solset.frequency_hz
    if len(channels) > 1 or solset.tec_tecu is not None:
        channels = np.sort(layout.frequency_hz[layout.spw_of[ddid]])
    cells = len(times) * len(channels) * len(solset.antenna) * 2
    there = regrid(solset, times[:: max(1, math.ceil(cells / _MOST_GAINS))], channels)
    return replace(there, phase_rad=there.total_phase_rad, tec_tecu=None)


def _name_field(ms: Path, name: str) -> int:
    """Set the name of the field; return the number of rows."""
    if name:
        put_phase_centre(ms, name=name)
    with open_table(ms) as opened:
        return int(opened.nrows())


def _environment(folder: Path) -> Mapping[str, str]:
    """Return variables for DP3: one thread in BLAS, and measures data, which new stations need.

    The user's own casarc takes precedence; otherwise the data of the package casadata are used.
    """
    if os.environ.get("CASARCFILES"):
        return {"OPENBLAS_NUM_THREADS": "1"}
    import casadata

    casarc = folder / "casarc"
    casarc.write_text(f"measures.directory: {casadata.datapath}\n")
    return {"OPENBLAS_NUM_THREADS": "1", "CASARCFILES": str(casarc)}
