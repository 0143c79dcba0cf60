"""A small record, and sets that hold what it is of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from libs.record.matching import SetFacts
from libs.record.schema import (
    SCHEMA,
    AntennaEntry,
    AppliedEntry,
    ExecutionEntry,
    FieldEntry,
    FlaggedEntry,
    IntervalEntry,
    RunRecord,
    TargetEntry,
    WindowEntry,
)

WINDOWS = tuple(
    WindowEntry(f"X#BB_{i}#SW-01", f"X#BB_{i}#SW-01", 217e9 + 2e9 * i, 1.875e9, 8) for i in range(3)
)
FIELDS = (FieldEntry("cal", 10.0, 5.0), FieldEntry("04287+1801", 67.0, 18.0))
ANTENNAS = tuple(AntennaEntry(f"A{i}", f"P{i}", (100.0 * i, 0.0, 5.0)) for i in range(4))


def execution(name: str = "one", begin_s: float = 5e9) -> ExecutionEntry:
    return ExecutionEntry(name, "ALMA", begin_s, begin_s + 600.0, ANTENNAS, WINDOWS, FIELDS)


def applied(own: ExecutionEntry, table: str = "products/a.tbl") -> AppliedEntry:
    labels = tuple(window.label for window in own.windows[:2])
    return AppliedEntry(
        own.name, table, "0" * 64, "30s", "p", "linear",
        {labels[0]: labels[1], labels[1]: labels[1]}, labels,
        tuple(antenna.name for antenna in own.antennas),
    )  # fmt: skip


def record(*executions: ExecutionEntry) -> RunRecord:
    executions = executions or (execution(),)
    trial = IntervalEntry("p0", "30s", 30.0, "p", "T", ("spw",), True, "better",
                          {"snr": 10.0, "peak_jy_beam": None}, {"snr": 20.0}, 1.01,
                          {"one": FlaggedEntry(0.1, {"A0": 0.4})})  # fmt: skip
    target = TargetEntry(
        "04287+1801", {own.name: FIELDS[1:] for own in executions}, "6", "improved", "",
        {own.name: tuple(window.label for window in own.windows[:2]) for own in executions},
        0.05, (128, 128), (trial,), "30s", {"snr": 10.0}, {"snr": 20.0},
        tuple(applied(own) for own in executions), qa_score=0.98,
    )  # fmt: skip
    return RunRecord(SCHEMA, "oussid", {"selfcal": "1"}, executions, (target,))


def set_of(own: ExecutionEntry, path: str = "/data/x.ms") -> SetFacts:
    return SetFacts(
        Path(path), replace(own, name=Path(path).name), frozenset(range(len(own.fields)))
    )
