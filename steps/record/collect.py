"""What a finished run holds, read from its work directory: rounds, tables, images, originals."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from libs.core.errors import ConfigError
from libs.gains.solution_interval import SolutionInterval
from libs.gains.two_factors import LONGEST_CONSTANT_S
from libs.inputs.input_data import resolve_inputs
from libs.ms.subtables import Subtables
from libs.ms.summary import describe_ms
from libs.ms.view import read_view
from libs.ms.virtual_windows import name_ending
from libs.record.facts import copied_windows, describe_execution
from libs.record.schema import ExecutionEntry, FieldEntry, finite_or_none
from selfcal.state import Record, State
from steps.data_state import INITIAL
from steps.facts import FlagFacts, StartupFacts, recorded
from steps.standard import STANDARD, WHOLE_EXECUTION

__all__ = [
    "STATISTICS",
    "FinishedRun",
    "interval_name",
    "safe_name",
    "state_hash",
    "statistics_of",
    "window_key",
]

STATISTICS = (
    "peak_jy_beam", "rms_jy_beam", "snr", "near_field_rms_jy_beam", "near_field_snr",
    "dynamic_range", "total_flux_jy", "beam_major_arcsec", "beam_minor_arcsec", "beam_pa_deg",
)  # fmt: skip

_UNSAFE = re.compile(r"[^A-Za-z0-9_.+\-]")


def safe_name(text: str) -> str:
    """Return a text as part of a file's name."""
    return _UNSAFE.sub("_", text).strip(".") or "field"


def interval_name(metrics: Mapping[str, Any]) -> str:
    """Return the name of a round's solution interval: inf_EB, inf, int or seconds; empty: none."""
    value = metrics.get("solint_s")
    if value is None:
        return ""
    interval = SolutionInterval.parse(value)
    if interval.per_integration:
        return "int"
    # constants of an execution are solved anew when it is longer than they hold
    if "scan" in metrics.get("combine", ()) and interval.seconds >= LONGEST_CONSTANT_S:
        return WHOLE_EXECUTION
    return "inf" if interval.per_scan else f"{interval.seconds:.4g}s"


@dataclass(frozen=True)
class FinishedRun:
    """A finished run of one target.

    Attributes
    ----------
    workdir : Path
    state : State
    settings : mapping
        Values of the run's settings.
    """

    workdir: Path
    state: State
    settings: Mapping[str, Any]

    @classmethod
    def read(cls, workdir: Path, names: Mapping[str, str] | None = None) -> FinishedRun:
        """Read a work directory.

        Parameters
        ----------
        workdir : Path
        names : mapping, optional
            Settings ``oussid`` and ``stage``, which no step depends on; default: as recorded.

        Raises
        ------
        ConfigError
            It holds no run.
        """
        path = workdir / "resolved.yaml"
        if not path.exists():
            raise ConfigError(f"{workdir} holds no run", "name the work directory of a run")
        resolved = yaml.safe_load(path.read_text())
        values = {
            name: entry["value"]
            for name, entry in resolved.items()
            if isinstance(entry, dict) and "value" in entry
        }
        return cls(workdir, State(workdir), values | dict(names or {}))

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """Records of the steps that ran, in the order of the run."""
        names = self.settings.get("steps") or STANDARD
        return tuple(record for record in map(self.state.get, names) if record)

    @cached_property
    def startup(self) -> StartupFacts:
        """Facts of the working copies."""
        record = self.state.get("startup")
        if record is None or record.result.status != "done":
            raise ConfigError(f"{self.workdir} has no working copies", "run it first")
        return recorded(StartupFacts, record.result.metrics)

    @property
    def copies(self) -> list[Path]:
        """Working copies, in the order of the input."""
        return [self.workdir / "data" / name for name in self.startup.working_copies]

    @cached_property
    def rounds(self) -> tuple[Record, ...]:
        """Records of the rounds that solved for gains, or tried to."""
        return tuple(
            record
            for record in self.records
            if record.result.metrics.get("kind") == "round" and record.result.status != "skipped"
        )

    @cached_property
    def first_image(self) -> Record | None:
        """Record of the image before any round; None where none was judged."""
        return next((r for r in self.records if _is_judged(r) and r not in self.rounds), None)

    @property
    def last_image(self) -> Record | None:
        """Record of the last image that was accepted."""
        return next((r for r in reversed(self.records) if _is_judged(r)), None)

    @cached_property
    def originals(self) -> tuple[ExecutionEntry, ...]:
        """Executions in the order of the working copies, as their original data describe them.

        Data that are no measurement set are described by their working copy.
        """
        found = []
        for (name, path), copy in zip(self.inputs, self.copies, strict=True):
            if (path / "table.dat").is_file():
                with read_view(path) as view:
                    found.append(describe_execution(view.path, name))
            else:
                found.append(describe_execution(copy, name))
        return tuple(found)

    @cached_property
    def inputs(self) -> tuple[tuple[str, Path], ...]:
        """Name of the execution and path of the input of each working copy."""
        taken = [str(own["vis"]) for own in self._selections]
        paths = [Path(vis) for vis in taken]
        if not taken:
            sources = resolve_inputs(self.settings["vis"])
            return tuple((source.name, source.path) for source in sources)
        found: dict[str, Path] = {}
        for path in paths:
            stem = safe_name(path.stem if path.suffix.lower() == ".ms" else path.name)
            name, number = stem, 2
            while name in found:
                name, number = f"{stem}_{number}", number + 1
            found[name] = path
        return tuple(found.items())

    @property
    def _selections(self) -> Sequence[Mapping[str, str]]:
        """What was taken of each input; empty for runs that did not record it."""
        record = self.state.get("startup")
        return list(record.result.metrics.get("selections", ())) if record else []

    @cached_property
    def copied(self) -> tuple[tuple[str, ...], ...]:
        """Labels of the windows of each working copy, by the copy's own ids."""
        numbers = [own.get("windows", "") for own in self._selections] or [""] * len(self.copies)
        return tuple(
            tuple(execution.windows[int(number)].label for number in taken.split(","))
            if taken
            else copied_windows(Subtables(copy).windows, execution.windows)
            for copy, execution, taken in zip(self.copies, self.originals, numbers, strict=True)
        )

    def fields_of(self, copy: int) -> tuple[FieldEntry, ...]:
        """Return the fields of a working copy as its original data describe them."""
        fields = self.originals[copy].fields
        words = (self._selections[copy].get("field", "") if self._selections else "").split(",")
        if all(word.strip().isdigit() for word in words):
            chosen = [fields[int(word)] for word in words]
        else:
            own = Subtables(self.copies[copy]).fields
            names = {own[i].name.strip() for i in describe_ms(self.copies[copy]).fields_used}
            chosen = [each for each in fields if each.name.strip() in names]
        # some writers repeat a field for each of its setups
        return tuple(dict.fromkeys(chosen))

    @property
    def first_execution(self) -> ExecutionEntry:
        """The execution that was observed first, whatever the order of the input."""
        return min(self.originals, key=lambda each: (each.begin_mjd_s, each.name))

    @property
    def oussid(self) -> str:
        """Setting of this name."""
        return str(self.settings.get("oussid") or "")

    @property
    def prefix(self) -> str:
        """Beginning of the names of products: ``oussid``, or the first execution's name."""
        return safe_name(self.oussid or self.first_execution.name)

    @property
    def stage(self) -> str:
        """Stage of a larger pipeline, for names."""
        return safe_name(str(self.settings.get("stage") or "1"))

    @property
    def base_flags(self) -> str:
        """Flag version from which every round starts."""
        for record in reversed(self.records):
            name = recorded(FlagFacts, record.result.metrics).flag_version
            if name and record.result.status == "done":
                return name
        return INITIAL

    def window_numbers(self) -> dict[str, int]:
        """Return the number of each window of the run, by label: its id in the first execution.

        Windows that it lacks follow, by the numbers of the others.
        """
        order = sorted(
            zip(self.originals, self.copied, strict=True), key=lambda pair: pair[0].begin_mjd_s
        )
        found: dict[str, int] = {}
        for execution, labels in order:
            ids = {window.label: number for number, window in enumerate(execution.windows)}
            for label in labels:
                ending = window_key(label)
                if ending not in found:
                    found[ending] = ids[label]
        return found

    def gain_rows(self) -> list[dict[str, str]]:
        """Return the rows of gains.csv."""
        path = self.workdir / "gains.csv"
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))


def state_hash(workdir: Path) -> str:
    """Return a hash of what a run, or the runs of several targets, have recorded so far."""
    own = workdir / "steps.csv"
    files = [own] if own.exists() else sorted(workdir.glob("targets/*/steps.csv"))
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def window_key(label: str) -> str:
    """Return what windows of several executions share of their labels."""
    return name_ending(label) or label


def _is_judged(record: Record) -> bool:
    return record.result.status == "done" and "judged" in record.result.metrics


def statistics_of(record: Record | None) -> dict[str, float | str | None]:
    """Return the statistics of a step's judged image; empty where it has none."""
    metrics = record.result.metrics if record else {}
    if STATISTICS[0] not in metrics:
        return {}
    return {name: finite_or_none(metrics.get(name)) for name in STATISTICS}
