"""What the steps of a session share: its data by tuning, its roles, its tables and flags."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from libs.core.errors import InputError
from libs.core.files import write_atomically
from libs.ms import flag_versions
from steps.calibrate.roles import Roles, read_roles
from steps.context import Context

__all__ = [
    "CALIBRATORS_FLAGGED",
    "INITIAL_FLAGS",
    "Tuning",
    "file_name",
    "read_record",
    "restore_flags",
    "roles_of",
    "split_path",
    "table_path",
    "tunings_of",
    "write_record",
    "write_tunings",
]

INITIAL_FLAGS = "initial"
CALIBRATORS_FLAGGED = "calibrators"


@dataclass(frozen=True)
class Tuning:
    """A part of the band that is calibrated by itself.

    Attributes
    ----------
    name : str
        Added to names of files; empty where there is only one.
    ms : str
        Measurement set with all fields, relative to the work directory.
    centre_hz : float
    """

    name: str
    ms: str
    centre_hz: float

    @property
    def suffix(self) -> str:
        """End of names of files."""
        return f"_{self.name}" if self.name else ""


def write_tunings(path: Path, tunings: Sequence[Tuning]) -> None:
    """Record the tunings of a session."""
    write_atomically(path, json.dumps([asdict(one) for one in tunings], indent=1) + "\n")


def tunings_of(context: Context) -> list[Tuning]:
    """Return the tunings of the session.

    Raises
    ------
    InputError
        The data were not combined yet.
    """
    path = context.product("session")
    if path is None or not path.exists():
        raise InputError("there are no combined data", "run the step combine first")
    return [Tuning(**one) for one in json.loads(path.read_text())]


def roles_of(context: Context) -> Roles:
    """Return which field is what.

    Raises
    ------
    InputError
        That was not found out yet.
    """
    path = context.product("roles")
    if path is None or not path.exists():
        raise InputError("nothing says which field is what", "run the step identify first")
    return read_roles(path)


def file_name(field: str) -> str:
    """Return the name of a field as files have it."""
    return re.sub(r"[^A-Za-z0-9_.+\-]", "_", field).strip(".") or "field"


def table_path(context: Context, tuning: Tuning, field: str, kind: str) -> Path:
    """Return where a table of a field is, ``tables/1331+305.K0``."""
    return context.workdir / "tables" / f"{file_name(field)}{tuning.suffix}.{kind}"


def split_path(context: Context, tuning: Tuning, field: str) -> Path:
    """Return where the calibrated data of a field are, ``1331+305_noauto_1GC.ms``."""
    return context.workdir / f"{file_name(field)}_noauto_1GC{tuning.suffix}.ms"


def restore_flags(context: Context, tuning: Tuning, version: str) -> Path:
    """Bring the flags of the data to a saved version; return the data."""
    ms = context.workdir / tuning.ms
    flag_versions.restore_version(ms, version)
    return ms


def read_record(context: Context, name: str) -> dict[str, object]:
    """Return a record of an earlier step, by the name of its product.

    Raises
    ------
    InputError
        There is none.
    """
    path = context.product(name)
    if path is None or not path.exists():
        raise InputError(f"there is no {name} of the session", f"run the step that makes {name}")
    found: dict[str, object] = json.loads(path.read_text())
    return found


def write_record(path: Path, values: object) -> None:
    """Write a record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(values, indent=1) + "\n")
