"""What the report of a session shows: bandpasses, coverage, elevations, residuals, fluxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import SolveError
from libs.core.horizon import elevation_and_parallactic
from libs.gains.caltable import read_caltable, read_solutions
from libs.gains.native import NativeSolver
from libs.gains.solver import SolveOptions
from libs.ms.field_directions import j2000_directions
from libs.ms.rows import read_rows, row_pieces
from libs.ms.scans import read_visits
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from selfcal.step import Step, StepResult
from steps.calibrate.apply_calibration import tables_for
from steps.calibrate.roles import Roles
from steps.calibrate.session_data import (
    Tuning,
    restore_flags,
    roles_of,
    tunings_of,
    write_record,
)
from steps.calibrate.solve import SOLVED_FLAGS
from steps.context import Context

__all__ = ["SessionReport", "bandpass_structure"]

STRUCTURE = 0.1  # relative to the running median
_WINDOW = 9  # channels of the running median, at least
_MOST_UV = 4000


class SessionReport(Step):
    """Measure what the report shows, and write it for the page."""

    needs = ("combine", "identify", "calibrate", "apply_calibration")

    def changes_data(self, context: Context) -> bool:
        """Return True: it restores the flags of the calibrators."""
        return True

    def run(self, context: Context) -> StepResult:
        """Write session_report.json."""
        roles = roles_of(context)
        records = {
            item["tuning"]: item
            for item in json.loads((context.product("calibration") or Path()).read_text())
        }
        parts: list[dict[str, Any]] = []
        for tuning in tunings_of(context):
            ms = restore_flags(context, tuning, SOLVED_FLAGS)
            record = records[tuning.name]
            context.progress.activity(f"{tuning.name} bandpass and residuals".strip())
            parts.append(
                {
                    "tuning": tuning.name,
                    "bandpass": _bandpasses(context, record),
                    "residual_phase_deg": {
                        name: _residual_deg(context, tuning, roles, name, record)
                        for name in roles.calibrators
                    },
                    "sky": _sky(ms, roles),
                    "uv": {name: _uv(ms, roles.ids[name]) for name in roles.fields},
                }
            )
        write_record(context.workdir / "session_report.json", {"roles": roles.why, "parts": parts})
        worst = max(max(part["residual_phase_deg"].values(), default=0.0) for part in parts)
        off = sum(len(part["bandpass"]["structure"]) for part in parts)
        return StepResult(
            reason=f"residual phases of the calibrators up to {worst:.2g} deg; {off} channels of"
            " antennas off their running median by more than 10 %",
            products={"session_report": "session_report.json"},
            metrics={"residual_phase_deg": worst, "structure_channels": off},
        )


def bandpass_structure(
    amplitude: NDArray[np.float64], good: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return amplitudes over their running median, along channels; NaN where flagged.

    Parameters
    ----------
    amplitude, good : (nchan, nant, npol)
    """
    nchan = len(amplitude)
    half = max(_WINDOW, nchan // 16) // 2
    values = np.where(good, amplitude, np.nan)
    ratio = np.full(values.shape, np.nan)
    with np.errstate(invalid="ignore"):
        for chan in range(nchan):
            around = values[max(0, chan - half) : chan + half + 1]
            enough = np.isfinite(around).sum(axis=0) > half // 2
            if enough.any():
                middle = np.where(enough, np.nanmedian(np.where(enough, around, 1), axis=0), np.nan)
                ratio[chan] = values[chan] / middle
    return ratio


def _bandpasses(context: Context, record: dict[str, Any]) -> dict[str, Any]:
    table = read_caltable(context.workdir / record["tables"]["B0"])
    curves, structure = [], []
    for spw, part in sorted(table.spws.items()):
        good = ~part.flag[0]
        amplitude = np.abs(part.gain[0]).astype(np.float64)
        ratio = bandpass_structure(amplitude, good)
        off = np.argwhere(np.abs(ratio - 1) > STRUCTURE)
        structure += [
            {"spw": spw, "channel": int(c), "antenna": table.antenna[a],
             "feed": (table.feeds or ("0", "1"))[k], "ratio": round(float(ratio[c, a, k]), 4)}
            for c, a, k in off
        ]  # fmt: skip
        curves.append(
            {
                "spw": spw, "ghz": [round(float(hz) / 1e9, 9) for hz in part.frequency_hz],
                "antenna": list(table.antenna),
                "amplitude": _rounded(np.where(good, amplitude, np.nan)[..., 0].T),
                "phase_deg": _rounded(
                    np.where(good, np.degrees(np.angle(part.gain[0])), np.nan)[..., 0].T
                ),
                "ratio": _rounded(ratio[..., 0].T),
            }
        )  # fmt: skip
    return {"curves": curves, "structure": structure}


def _rounded(values: NDArray[np.floating]) -> list[list[float | None]]:
    return [[None if np.isnan(v) else round(float(v), 4) for v in row] for row in values]


def _residual_deg(
    context: Context, tuning: Tuning, roles: Roles, name: str, record: dict[str, Any]
) -> float:
    """Rms of the phases that a calibrator's corrected data still have, by antenna and scan."""
    ms = context.workdir / tuning.ms
    table = context.workdir / "tables" / f"residual{tuning.suffix}"
    options = SolveOptions(
        fields=roles.ids[name], refant=tuple(record["refant"]),
        minblperant=context.settings["minblperant"], minsnr=context.settings["minsnr"],
    )  # fmt: skip
    prior = tables_for(record, roles, name, context)
    try:
        NativeSolver(corr_dep_flags=True).solve(ms, table, options, prior)
    except SolveError:
        return float("nan")
    left = read_solutions(table, ms)
    phase = np.angle(left.gain[~left.flag])
    return float(np.degrees(np.sqrt(np.mean(phase**2)))) if phase.size else float("nan")


def _sky(ms: Path, roles: Roles) -> list[dict[str, Any]]:
    """Elevation and parallactic angle of each visit, at its begin, middle and end."""
    place = np.mean(Subtables(ms).position_m, axis=0)
    directions = j2000_directions(ms)
    name_of = {number: name for name, ids in roles.ids.items() for number in ids}
    rows = []
    for visit in read_visits(ms):
        if visit.field not in name_of:
            continue
        times = np.array([visit.begin_s, 0.5 * (visit.begin_s + visit.end_s), visit.end_s])
        height, turn = elevation_and_parallactic(place, directions[visit.field], times)
        rows.append(
            {
                "field": name_of[visit.field], "scan": visit.scan,
                "time_s": [float(t) for t in times],
                "elevation_deg": [round(float(v), 2) for v in height],
                "parallactic_deg": [round(float(v), 2) for v in turn],
            }
        )  # fmt: skip
    return rows


def _uv(ms: Path, fields: tuple[int, ...]) -> list[list[float]]:
    """A sample of the baselines of a field, (u, v) in km."""
    found = []
    with open_table(ms) as opened:
        where = f"FIELD_ID IN {list(fields)} && ANTENNA1 != ANTENNA2"
        for _, rows in row_pieces(opened, ("UVW",), where=where):
            found.append(read_rows(opened, ("UVW",), rows)["UVW"][:, :2] / 1e3)
    uv = np.concatenate(found) if found else np.zeros((0, 2))
    step = max(1, len(uv) // _MOST_UV)
    return [[round(float(u), 4), round(float(v), 4)] for u, v in uv[::step]]
