"""Bundles of runs."""

from __future__ import annotations

from pathlib import Path

from libs.core.errors import ConfigError
from libs.core.numbers import format_quantity
from libs.record.bundle import write_bundle
from libs.record.schema import load_record
from selfcal.state import hold_workdir
from steps.record.build import record_of_run

__all__ = ["bundle_run"]


def bundle_run(workdir: Path, output: Path | None = None) -> str:
    """Bundle a finished run; return a line that says what was written.

    Parameters
    ----------
    workdir : Path
        Of a run of one target or of several.
    output : Path, optional
        The archive; default ``PREFIX.selfcal.tgz`` in the current folder.

    Raises
    ------
    ConfigError
        There is no finished run, a table is missing or was changed, or the archive cannot be
        written.
    """
    path = record_of_run(workdir)
    if path is None:
        raise ConfigError(f"{workdir} holds no record of a finished run", "run it to its end")
    with hold_workdir(workdir):
        record = load_record(path)
        target = output or Path(f"{record.prefix}.selfcal.tgz")
        if not target.absolute().parent.is_dir():
            raise ConfigError(f"{target.parent} is no folder", "correct -o")
        write_bundle(target, workdir, record)
    tables = len({entry.table for entry in record.applied})
    size = format_quantity(target.stat().st_size, "B")
    return f"{target}: the record and {tables} gain table(s), {size}"
