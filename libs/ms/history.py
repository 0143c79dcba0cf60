"""The HISTORY subtable: what programs did to a measurement set."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from libs.ms.tables import open_table

__all__ = ["add_history", "read_history"]

_MJD_OF_UNIX_S = 40587 * 86400.0


def add_history(ms: Path, message: str, *, application: str, command: str) -> None:
    """Add a row to a measurement set's HISTORY, where it has such a subtable.

    Parameters
    ----------
    ms : Path
    message : str
        The change in a sentence.
    application : str
        Name and version of the program.
    command : str
        Command line.
    """
    if not (ms / "HISTORY" / "table.dat").exists():
        return
    with open_table(f"{ms}::HISTORY", write=True) as opened:
        row = opened.nrows()
        opened.addrows(1)
        values = {
            "TIME": time.time() + _MJD_OF_UNIX_S, "MESSAGE": message, "APPLICATION": application,
            "PRIORITY": "INFO", "ORIGIN": "selfcal", "OBJECT_ID": -1, "OBSERVATION_ID": -1,
        }  # fmt: skip
        for name, value in values.items():
            opened.putcell(name, row, value)
        # cells of a variable shape are undefined until they are written
        opened.putcell("CLI_COMMAND", row, np.array([command]))
        opened.putcell("APP_PARAMS", row, np.array([""]))


def read_history(ms: Path) -> list[tuple[str, str]]:
    """Return application and message of each row."""
    if not (ms / "HISTORY" / "table.dat").exists():
        return []
    with open_table(f"{ms}::HISTORY") as opened:
        if not opened.nrows():
            return []
        return list(zip(opened.getcol("APPLICATION"), opened.getcol("MESSAGE"), strict=True))
