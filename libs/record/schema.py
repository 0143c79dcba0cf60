"""The record of a self-calibration as JSON, schema ``selfcal/1``.

Everything in it goes by name, frequency and direction: it means the same for another import of the
same observation, whose ids of antennas, windows and fields may differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libs.core.errors import ConfigError, InputError
from libs.core.files import write_atomically
from libs.record.decode import decode, encode

__all__ = [
    "SCHEMA",
    "AntennaEntry",
    "AppliedEntry",
    "ExecutionEntry",
    "FieldEntry",
    "FlagChange",
    "FlagShare",
    "FlaggedEntry",
    "IntervalEntry",
    "LengthBin",
    "RunRecord",
    "TargetEntry",
    "WindowEntry",
    "finite_or_none",
    "load_record",
    "parse_record",
    "record_name",
    "store_record",
]

SCHEMA = "selfcal/1"

State = Mapping[str, float | str | None]


@dataclass(frozen=True)
class AntennaEntry:
    """An antenna: name, station, and position (ITRF, m)."""

    name: str
    station: str
    position_m: tuple[float, ...]


@dataclass(frozen=True)
class WindowEntry:
    """A spectral window of the original data.

    Attributes
    ----------
    label : str
        Name that no other window of the execution has, by which the record refers to it.
    name : str
        Name in the data; may be empty.
    centre_hz, bandwidth_hz : float
        Mean of the channel centres and sum of the channel widths, Hz.
    channels : int
    """

    label: str
    name: str
    centre_hz: float
    bandwidth_hz: float
    channels: int


@dataclass(frozen=True)
class FieldEntry:
    """A field: name and phase centre (degrees, in ``frame``)."""

    name: str
    ra_deg: float
    dec_deg: float
    frame: str = "J2000"


@dataclass(frozen=True)
class ExecutionEntry:
    """An execution, as its original data describe it.

    Attributes
    ----------
    name : str
        Name of its data set, without the folder; no other execution of the record has it.
    telescope : str
    begin_mjd_s, end_mjd_s : float
        First and last time stamp, MJD seconds.
    antennas, windows, fields : tuple
        Entries in the order of the data; that order means nothing to a reader.
    """

    name: str
    telescope: str
    begin_mjd_s: float
    end_mjd_s: float
    antennas: tuple[AntennaEntry, ...]
    windows: tuple[WindowEntry, ...]
    fields: tuple[FieldEntry, ...]


@dataclass(frozen=True)
class FlaggedEntry:
    """Solutions flagged in one execution: fraction of all, and by antenna, 0 to 1."""

    fraction: float
    antennas: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FlagShare:
    """Fraction of the visibilities that is flagged, 0 to 1, before self-calibration and after."""

    before: float
    after: float


@dataclass(frozen=True)
class LengthBin:
    """Baselines from one length to another, m, and what is flagged of them."""

    low_m: float
    high_m: float
    share: FlagShare


@dataclass(frozen=True)
class FlagChange:
    """Flags of an execution.

    Attributes
    ----------
    antennas : mapping of str to FlagShare
        By name of the antenna: all its baselines.
    lengths : tuple of LengthBin
        By length of the baseline, increasing; bins of about equal numbers of baselines.
    """

    antennas: Mapping[str, FlagShare] = field(default_factory=dict)
    lengths: tuple[LengthBin, ...] = ()


@dataclass(frozen=True)
class IntervalEntry:
    """A solution interval that was tried.

    Attributes
    ----------
    step : str
        Step of the run.
    interval : str
        ``inf_EB`` (one solution an execution), ``inf`` (one a scan), ``int`` (one an integration)
        or seconds such as ``30s``; empty where nothing was solved.
    interval_s : float or None
        Length, s; None where it is no fixed time.
    calmode, gaintype : str
        ``p``, ``a`` or ``ap``; ``G`` or ``T``.
    combine : tuple of str
    passed : bool
        Whether it was accepted.
    reason : str
    before, after : mapping
        Statistics of the images without and with it; empty where there is none.
    beam_ratio : float or None
        Beam area after it, over that before.
    flagged : mapping of str to FlaggedEntry
        Solutions flagged, by execution.
    """

    step: str
    interval: str
    interval_s: float | None
    calmode: str
    gaintype: str
    combine: tuple[str, ...]
    passed: bool
    reason: str
    before: State = field(default_factory=dict)
    after: State = field(default_factory=dict)
    beam_ratio: float | None = None
    flagged: Mapping[str, FlaggedEntry] = field(default_factory=dict)


@dataclass(frozen=True)
class AppliedEntry:
    """A gain table and what it applies to.

    Attributes
    ----------
    execution : str
        Execution whose data it calibrates.
    table : str
        Path of the table, relative to the record.
    sha256 : str
        Hash of its files, as `libs.record.bundle.table_sha256` computes it.
    interval : str
        As in `IntervalEntry`.
    calmode : str
    interp : str
        Interpolation in time, ``linear`` or ``nearest``.
    spwmap : mapping of str to str
        For the label of each window that is calibrated, that of the window whose solutions it
        takes.
    table_windows : tuple of str
        Labels of the windows in the order of the table's own SPECTRAL_WINDOW.
    antennas : tuple of str
        Names in the order of the table's own ANTENNA.
    fields : tuple of FieldEntry
        Fields of the data that it calibrates; empty: all of its target.
    calwt : bool
        Whether weights are calibrated too; always False.
    """

    execution: str
    table: str
    sha256: str
    interval: str
    calmode: str
    interp: str
    spwmap: Mapping[str, str]
    table_windows: tuple[str, ...]
    antennas: tuple[str, ...]
    fields: tuple[FieldEntry, ...] = ()
    calwt: bool = False


@dataclass(frozen=True)
class TargetEntry:
    """A target in a band.

    Attributes
    ----------
    label : str
    fields : mapping of str to tuple of FieldEntry
        Its field, or the pointings of a mosaic, by execution: those of another may be given in
        another frame, or move.
    band : str
    status : str
        ``improved``, ``unchanged`` or ``failed``.
    reason : str
        Why it failed; empty otherwise.
    windows : mapping of str to tuple of str
        Labels of its windows, by execution.
    cell_arcsec : float or None
    imsize : tuple of int
        Width and height, pixels; empty where no image was made.
    intervals : tuple of IntervalEntry
        Every interval tried, in order.
    final_interval : str
        The last accepted; empty for none.
    initial, final : mapping
        Statistics of the first and the last image.
    applied : tuple of AppliedEntry
        In order of application.
    field_results : mapping of str to mapping
        Of a mosaic: statistics by pointing.
    window_results : mapping of str to mapping
        Of images of single windows: statistics ``initial`` and ``final`` by number of the window.
    flags : mapping of str to mapping
        Visibilities flagged before and after, by execution.
    qa_score : float or None
    datacolumn : str
        Column of the original data that was calibrated: what has to be DATA of the set to which
        the solutions are applied.
    """

    label: str
    fields: Mapping[str, tuple[FieldEntry, ...]]
    band: str
    status: str
    reason: str
    windows: Mapping[str, tuple[str, ...]]
    cell_arcsec: float | None
    imsize: tuple[int, ...]
    intervals: tuple[IntervalEntry, ...]
    final_interval: str
    initial: State
    final: State
    applied: tuple[AppliedEntry, ...]
    field_results: Mapping[str, Mapping[str, State]] = field(default_factory=dict)
    window_results: Mapping[str, Mapping[str, State]] = field(default_factory=dict)
    flags: Mapping[str, FlagChange] = field(default_factory=dict)
    qa_score: float | None = None
    datacolumn: str = "DATA"


@dataclass(frozen=True)
class RunRecord:
    """What a run decided, and what its solutions apply to.

    Attributes
    ----------
    schema : str
        `SCHEMA`.
    prefix : str
        Beginning of the names of its files.
    oussid, stage : str
        Settings from which names are made.
    versions : mapping of str to str
        Versions of the program and its tools.
    executions : tuple of ExecutionEntry
    targets : tuple of TargetEntry
    contfile : str
        Path of the file of line-free ranges, relative to the record; empty for none.
    of_state : str
        Hash of the run's own records at the time of writing, by which a record that is out of date
        is known.
    """

    schema: str
    prefix: str
    versions: Mapping[str, str]
    executions: tuple[ExecutionEntry, ...]
    targets: tuple[TargetEntry, ...]
    contfile: str = ""
    of_state: str = ""
    oussid: str = ""
    stage: str = "1"

    @property
    def applied(self) -> tuple[AppliedEntry, ...]:
        """Tables of all targets."""
        return tuple(entry for target in self.targets for entry in target.applied)

    def execution(self, name: str) -> ExecutionEntry:
        """Return an execution by name."""
        return next(each for each in self.executions if each.name == name)


def record_name(prefix: str) -> str:
    """Return the name of the record's file."""
    return f"{prefix}.selfcal.json"


def store_record(path: Path, record: RunRecord) -> None:
    """Write a record beside its place and rename it.

    Raises
    ------
    InputError
        It holds a number that is not finite.
    """
    try:
        text = json.dumps(encode(record), indent=1, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise InputError(
            f"{path.name} would hold a number that is not finite ({error})", "please report it"
        ) from error
    write_atomically(path, text + "\n")


def load_record(path: Path) -> RunRecord:
    """Read a record and check it against the schema.

    Raises
    ------
    ConfigError
        The file cannot be read, or something in it is missing, of the wrong type or contradicts
        the rest; all of it is listed.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error})", "make the bundle again") from error
    return parse_record(content, path.name)


def parse_record(content: Any, name: str) -> RunRecord:
    """Return a record from the content of its file; see `load_record`."""
    found = content.get("schema") if isinstance(content, dict) else None
    if found != SCHEMA:
        raise ConfigError(
            f"{name} has the schema {found!r}, not {SCHEMA!r}",
            "read it with the version of the program that wrote it",
        )
    faults: list[str] = []
    record = decode(RunRecord, content, "", faults)
    if not faults:
        assert isinstance(record, RunRecord)
        faults = _contradictions(record)
    if faults:
        raise ConfigError(f"{name} is no valid record: {'; '.join(faults)}", "make it again")
    assert isinstance(record, RunRecord)
    return record


def _contradictions(record: RunRecord) -> list[str]:
    """Return what refers to something that the record does not hold."""
    faults = []
    executions = {each.name: each for each in record.executions}
    if len(executions) < len(record.executions):
        faults.append("two executions have one name")
    if record.contfile and not _is_inside(record.contfile):
        faults.append(f"contfile is outside of the record's folder: {record.contfile!r}")
    labels = [target.label for target in record.targets]
    if len(set(labels)) < len(labels):
        faults.append("two targets have one label")
    for each in record.executions:
        windows = [window.label for window in each.windows]
        if len(set(windows)) < len(windows):
            faults.append(f"two windows of {each.name} have one label")
    for target in record.targets:
        for place, entry in enumerate(target.applied):
            where = f"targets[{target.label}].applied[{place}]"
            execution = executions.get(entry.execution)
            if not target.fields.get(entry.execution):
                faults.append(f"{where} has no field of the execution {entry.execution!r}")
            if execution is None:
                faults.append(f"{where} names the execution {entry.execution!r}, which is missing")
            else:
                faults += [f"{where} {text}" for text in _faults_of(entry, execution)]
    return faults


def _is_inside(name: str) -> bool:
    """Return whether a relative path stays in its folder."""
    path = Path(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _faults_of(entry: AppliedEntry, execution: ExecutionEntry) -> list[str]:
    known = {window.label for window in execution.windows}
    antennas = {antenna.name for antenna in execution.antennas}
    faults = []
    windows = {*entry.spwmap, *entry.table_windows}
    if not windows <= known:
        faults.append(f"names windows that are missing: {sorted(windows - known)}")
    if not set(entry.spwmap.values()) <= set(entry.table_windows):
        faults.append("takes solutions of windows that its table lacks")
    if not set(entry.antennas) <= antennas:
        faults.append(f"names antennas that are missing: {sorted(set(entry.antennas) - antennas)}")
    if entry.interp not in ("linear", "nearest"):
        faults.append(f"has the interpolation {entry.interp!r}")
    if entry.calwt:
        faults.append("calibrates weights, which is not supported")
    if not _is_inside(entry.table):
        faults.append(f"names a table outside of the record's folder: {entry.table!r}")
    if len(entry.sha256) != 64 or not set(entry.sha256) <= set("0123456789abcdef"):
        faults.append("has no valid sha256")
    return faults


def finite_or_none(value: float | None) -> float | None:
    """Return a number for JSON: None where it is not finite."""
    return value if value is not None and math.isfinite(value) else None
