"""Data sets on which a run solved, and what it solved for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from libs.core.errors import SelfcalError
from libs.gains.caltable import read_solutions
from libs.gains.gain_solutions import GainSolutions
from libs.ms.tables import column_names
from reports.records import Run

__all__ = ["solved_ms", "table_solutions", "visibility_columns", "working_copies"]


def solved_ms(run: Run, table: Path) -> Path | None:
    """Return the working copy on which a table was solved, which names the feeds of the gains."""
    copies = working_copies(run)
    return next((ms for ms in copies if ms.stem in table.name), copies[0] if copies else None)


def table_solutions(run: Run, table: Path) -> GainSolutions:
    """Return the solutions of a table; those of the last tables that were read are kept.

    Raises
    ------
    InputError
        It is not a table of complex gains, or holds none.
    """
    stamps = tuple(
        (file.name, file.stat().st_size, file.stat().st_mtime_ns)
        for file in sorted(table.iterdir())
    )
    return _solutions(table, solved_ms(run, table), stamps)


@lru_cache(maxsize=16)
def _solutions(table: Path, ms: Path | None, stamps: tuple[object, ...]) -> GainSolutions:
    return read_solutions(table, ms)


def working_copies(run: Run) -> list[Path]:
    """Return the data sets on which the run solved: as recorded, else those in ``data``."""
    for row in run.steps:
        names = [name for name in sorted(row.products) if name.startswith("working_copy")]
        paths = [path for name in names if (path := run.file(row.products[name])) is not None]
        if paths:
            return paths
    folder = run.workdir / "data"
    return sorted(folder.glob("*.ms")) if folder.is_dir() else []


def visibility_columns(run: Run) -> list[tuple[str, tuple[Path, ...], str, str]]:
    """Return label, data sets, column and model column: DATA of the working copies, the result.

    Data that were split off have no model to be set against; then the working copies do.
    """
    working = tuple(working_copies(run))
    if not working:
        return []
    if run.summary.get("status") == "unchanged":  # there is no other state
        return [("DATA", working, "DATA", "MODEL_DATA")]
    named = run.summary.get("calibrated_ms") or []
    names = [named] if isinstance(named, str) else list(named)
    calibrated = tuple(path for name in names if (path := run.file(str(name))) is not None)
    column = str(run.summary.get("column") or "CORRECTED_DATA")
    there = bool(calibrated) and len(calibrated) == len(names)
    if not there or not _have_column(calibrated, "MODEL_DATA"):
        calibrated, column = working, "CORRECTED_DATA"
    found = [("Before: DATA", working, "DATA", "MODEL_DATA")]
    if (calibrated, column) != (working, "DATA") and _have_column(calibrated, column):
        of = "" if calibrated == working else " of " + ", ".join(ms.name for ms in calibrated)
        found.append((f"After: {column}{of}", calibrated, column, "MODEL_DATA"))
    return found


def _have_column(data_sets: Sequence[Path], column: str) -> bool:
    try:
        return all(column in column_names(ms) for ms in data_sets)
    except SelfcalError:
        return False
