"""Flags: edges of the band everywhere, automatic flagging of the calibrators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.flagging.rflag import RflagOptions, run_rflag
from libs.ms import flag_versions
from libs.ms.rows import read_rows, row_pieces, write_rows
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from selfcal.step import Step, StepResult
from steps.calibrate.session_data import (
    CALIBRATORS_FLAGGED,
    INITIAL_FLAGS,
    restore_flags,
    roles_of,
    tunings_of,
)
from steps.context import Context

__all__ = ["FlagCalibrators", "flag_edges", "flag_some_fields", "flagged_fields"]

_MOST_FLAGGED = 0.999


class FlagCalibrators(Step):
    """Flag the edges of the windows and what stands out of the calibrators."""

    needs = ("combine", "identify")
    uses = ("edges", "flag_methods")

    def changes_data(self, context: Context) -> bool:
        """Return True: it flags."""
        return True

    def run(self, context: Context) -> StepResult:
        """Restore the initial flags, flag, and save the outcome as a version."""
        roles = roles_of(context)
        said = []
        for tuning in tunings_of(context):
            ms = restore_flags(context, tuning, INITIAL_FLAGS)
            before = flag_versions.count(ms).fraction
            flag_edges(ms, context.settings["edges"])
            flag_versions.save_version(ms, "edges", "edges of the windows")
            reason = self._flag(context, ms, roles.field_ids(*roles.calibrators))
            after = flag_versions.count(ms).fraction
            said.append(f"{tuning.name} {100 * before:.1f} -> {100 * after:.1f} %: {reason}")
            shares = flagged_fields(ms)
            for name in roles.calibrators:
                own = [shares[i] for i in roles.ids[name] if i in shares]
                if not own or min(own) > _MOST_FLAGGED:
                    raise InputError(
                        f"the calibrator {name} is fully flagged",
                        "look at its data, or name another calibrator",
                    )
            flag_versions.save_version(ms, CALIBRATORS_FLAGGED, "calibrators flagged")
        return StepResult(reason="; ".join(one.strip() for one in said))

    def _flag(self, context: Context, ms: Path, fields: Sequence[int]) -> str:
        methods = tuple(context.settings["flag_methods"])
        if not methods:
            return "no automatic flagging"
        return flag_some_fields(context, ms, fields, "edges", RflagOptions(methods=methods))


def flag_edges(ms: Path, fraction: float) -> None:
    """Flag a fraction of the channels at either edge of every window of some channels."""
    windows = Subtables(ms).windows
    with open_table(ms, write=True) as opened:
        spw_of = Subtables(ms).spw_of
        for ddid, rows in row_pieces(opened, ("FLAG",)):
            channels = windows[int(spw_of[ddid])].channels
            count = math.floor(fraction * channels)
            if not count:
                continue
            flag = read_rows(opened, ("FLAG",), rows)["FLAG"]
            flag[:, :count] = True
            flag[:, channels - count :] = True
            write_rows(opened, rows, {"FLAG": flag})


def flag_some_fields(
    context: Context, ms: Path, fields: Sequence[int], version: str, options: RflagOptions
) -> str:
    """Flag some fields automatically; those of others stay as a saved version has them.

    Parameters
    ----------
    context : Context
    ms : Path
    fields : sequence of int
        FIELD_ID.
    version : str
        Flags that all begins with.
    options : RflagOptions

    Returns
    -------
    str
        What came of it.
    """
    flag_versions.restore_version(ms, version)

    def others(opened: Any, low: int, count: int) -> NDArray[np.bool_]:
        return ~np.isin(opened.getcol("FIELD_ID", low, count), list(fields))

    # neither flagged nor counted meanwhile
    with open_table(ms, write=True) as opened:
        for _, rows in row_pieces(opened, ("FLAG",), where=others):
            flag = np.ones_like(read_rows(opened, ("FLAG",), rows)["FLAG"])
            write_rows(opened, rows, {"FLAG": flag})
    # an older version of this name is of other flags
    flag_versions.save_version(ms, "before_automatic", "flags before automatic flagging")
    result = run_rflag(
        ms, context.tools.session, options=options, version="before_automatic",
        log=context.workdir / "logs" / "flagging.log", progress=context.progress.activity,
    )  # fmt: skip
    flag_versions.restore_version(ms, version, where=others)
    return result.reason


def flagged_fields(ms: Path) -> dict[int, float]:
    """Return the fraction of each field's visibilities that is flagged."""
    sums: dict[int, NDArray[np.int64]] = {}
    with open_table(ms) as opened:
        for _, rows in row_pieces(opened, ("FLAG",)):
            read = read_rows(opened, ("FLAG", "FLAG_ROW", "FIELD_ID"), rows)
            flag = read["FLAG"] | read["FLAG_ROW"][:, None, None]
            for field in np.unique(read["FIELD_ID"]).tolist():
                mine = flag[read["FIELD_ID"] == field]
                pair = np.array([mine.sum(), mine.size], np.int64)
                sums[field] = sums.get(field, np.zeros(2, np.int64)) + pair
    return {field: float(pair[0] / pair[1]) for field, pair in sums.items()}
