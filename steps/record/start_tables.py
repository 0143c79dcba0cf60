"""Gain tables of the solutions that a run started from, which are in no table of its own."""

from __future__ import annotations

from pathlib import Path

from libs.gains.caltable_writer import write_caltable
from libs.h5parm.direction_gains import DirectionGains
from libs.h5parm.export import gains_for
from steps.facts import start_facts
from steps.record.collect import FinishedRun

__all__ = ["START", "start_table", "write_start_tables"]

START = "start"
"""What names of tables have in place of a solution interval."""


def start_table(copy: Path) -> str:
    """Return the path of a working copy's table, relative to the work directory."""
    return f"tables/{START}.{copy.stem}.gcal"


def write_start_tables(run: FinishedRun) -> list[Path]:
    """Write a table for each working copy that was corrected before the first round.

    Returns
    -------
    list of Path
        The working copies; empty where the run did not start from solutions, or where its input
        was corrected with them beforehand.

    Raises
    ------
    InputError
        The solutions do not fit the working copies.
    """
    record = run.state.get("startup")
    source = record.result.products.get("start_solutions") if record else None
    if record is None or source is None or not start_facts(record.result).start_corrected:
        return []
    for copy in run.copies:
        # stations without solutions were left as they came
        gains = DirectionGains.read(run.workdir / source, copy, missing="unit")
        write_caltable(run.workdir / start_table(copy), gains_for(gains.solset, copy), copy)
    return run.copies
