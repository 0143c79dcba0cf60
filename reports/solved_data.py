"""Which data sets a run solved on, as its records say."""

from __future__ import annotations

from pathlib import Path

from reports.records import Run

__all__ = ["solved_ms", "working_copies"]


def solved_ms(run: Run, table: Path) -> Path | None:
    """Return the working copy on which a table was solved, which names the feeds of the gains."""
    copies = working_copies(run)
    return next((ms for ms in copies if ms.stem in table.name), copies[0] if copies else None)


def working_copies(run: Run) -> list[Path]:
    """Return the data sets on which the run solved: as recorded, else those in ``data``."""
    for row in run.steps:
        names = [name for name in sorted(row.products) if name.startswith("working_copy")]
        paths = [path for name in names if (path := run.file(row.products[name])) is not None]
        if paths:
            return paths
    folder = run.workdir / "data"
    return sorted(folder.glob("*.ms")) if folder.is_dir() else []
