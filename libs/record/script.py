"""Scripts of plain applycal calls, for those who apply solutions with CASA alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from libs.gains.solver import AppliedTable

__all__ = ["ApplyCall", "apply_script"]


@dataclass(frozen=True)
class ApplyCall:
    """A call of applycal.

    Attributes
    ----------
    ms : Path
        Measurement set that is written.
    title : str
        Target, for a comment.
    fields, spws : tuple of int
        Ids of the fields and spectral windows that are calibrated.
    tables : tuple of AppliedTable
        In order of application; none: CORRECTED_DATA becomes DATA.
    """

    ms: Path
    title: str
    fields: tuple[int, ...]
    spws: tuple[int, ...]
    tables: tuple[AppliedTable, ...]


_HEADING = '''"""Apply the self-calibration solutions of {prefix} with CASA: python {name}

CORRECTED_DATA and FLAG of the measurement sets below are written. Their flags are saved first, as
version {version}; a second run starts from that version, so that it changes nothing.
"""

from casatasks import applycal, flagmanager


def start_from_saved_flags(vis):
    versions = flagmanager(vis=vis, mode="list")
    names = [each["name"] for each in versions.values() if isinstance(each, dict)]
    mode = "restore" if "{version}" in names else "save"
    flagmanager(vis=vis, mode=mode, versionname="{version}")

'''

# applycal refuses a call without tables
_TAKE_DATA = """
def take_data_as_they_are(vis, field, spw):
    opened = table()
    opened.open(vis + "/DATA_DESCRIPTION")
    windows = list(opened.getcol("SPECTRAL_WINDOW_ID"))
    opened.close()
    opened.open(vis, nomodify=False)
    for number in [number for number, window in enumerate(windows) if window in spw]:
        rows = opened.query(f"FIELD_ID IN {field} AND DATA_DESC_ID == {number}")
        if rows.nrows():
            rows.putcol("CORRECTED_DATA", rows.getcol("DATA"))
        rows.close()
    opened.close()

"""


def apply_script(prefix: str, name: str, version: str, calls: Sequence[ApplyCall]) -> str:
    """Return a Python script of applycal calls.

    Parameters
    ----------
    prefix : str
        Name of the record.
    name : str
        Name of the script.
    version : str
        Flag version that is saved, or restored where it exists.
    calls : sequence of ApplyCall
    """
    parts = [_HEADING.format(prefix=prefix, name=name, version=version)]
    untouched = [call for call in calls if not call.tables]
    if untouched:
        tasks = "from casatasks import applycal, flagmanager\n"
        parts = [parts[0].replace(tasks, tasks + "from casatools import table\n"), _TAKE_DATA]
    parts += [
        f"start_from_saved_flags({str(ms)!r})\n" for ms in dict.fromkeys(call.ms for call in calls)
    ]
    # last: applycal makes CORRECTED_DATA where it is missing
    parts += [_call(call) for call in calls if call.tables]
    return "".join([*parts, *map(_untouched, untouched)])


def _untouched(call: ApplyCall) -> str:
    title = " ".join(call.title.split())
    words = f"{str(call.ms)!r}, {list(call.fields)}, {list(call.spws)}"
    return f"\n# {title}: no solutions\ntake_data_as_they_are({words})\n"


def _call(call: ApplyCall) -> str:
    lines = {
        "vis": repr(str(call.ms)),
        "field": repr(",".join(map(str, call.fields))),
        "spw": repr(",".join(map(str, call.spws))),
        "gaintable": _listed([repr(str(table.path)) for table in call.tables]),
        "gainfield": repr([""] * len(call.tables)),
        "interp": repr([table.interp for table in call.tables]),
        "spwmap": _listed([repr(list(table.spwmap)) for table in call.tables]),
        "calwt": "False",
        "applymode": "'calflag'",
        "flagbackup": "False",
    }
    title = " ".join(call.title.split())
    body = "".join(f"    {key}={value},\n" for key, value in lines.items())
    return f"\n# {title}\napplycal(\n{body})\n"


def _listed(items: Sequence[str]) -> str:
    return "[\n" + "".join(f"        {item},\n" for item in items) + "    ]"
