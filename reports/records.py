"""The records of a run as typed rows, the only source of every figure, table and page.

A run may be under way, killed or failed: anything missing or cut off is left out and named in
:attr:`Run.problems`; nothing is invented in its place.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from libs.core.errors import InputError
from libs.gains.solution_interval import SolutionInterval

__all__ = [
    "AppliedRow",
    "GainRow",
    "ImageRow",
    "Run",
    "Setting",
    "StepRow",
    "read_run",
    "read_summary",
]

logger = logging.getLogger(__name__)

GAIN_KEY = ("step", "ms", "spw", "antenna", "polarization")
GAIN_NUMBERS = (
    "flagged_fraction", "snr_median", "phase_rms_deg", "phase_mean_deg",
    "amplitude_mean", "amplitude_std",
)  # fmt: skip
STATISTICS = ("peak_jy_beam", "rms_jy_beam", "snr", "dynamic_range", "total_flux_jy")


@dataclass(frozen=True)
class AppliedRow:
    """A gain table applied after a step: data set, path relative to the run, spwmap, interp."""

    ms: str
    path: str
    spwmap: tuple[int, ...]
    interp: str


@dataclass(frozen=True)
class StepRow:
    """The last record of one step.

    Attributes
    ----------
    step, status, fingerprint, template, reason, finished : str
        Texts of the record; ``status`` is done, skipped, rejected or failed.
    seconds, seconds_imaging, seconds_solving : float
        Wall-clock time; 0 when not recorded.
    tables : tuple of AppliedRow
        Gain tables in order of application: the state after the step.
    products : dict of str to str
        Paths of files relative to the work directory.
    metrics, settings : dict
        Numbers and options; keys carry their unit.
    """

    step: str
    status: str
    fingerprint: str = ""
    template: str = ""
    reason: str = ""
    finished: str = ""
    seconds: float = 0.0
    seconds_imaging: float = 0.0
    seconds_solving: float = 0.0
    tables: tuple[AppliedRow, ...] = ()
    products: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """True when its result is part of the state from which the next step starts."""
        return self.status == "done"

    @property
    def is_round(self) -> bool:
        """True when the record is of a round: it solved for gains, or tried to."""
        return self.metrics.get("kind") == "round"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was said loudly while it ran."""
        heard = self.metrics.get("warnings")
        own = [self.metrics["warning"]] if "warning" in self.metrics else []
        return tuple(map(str, [*own, *(heard if isinstance(heard, list) else [])]))

    @property
    def interval(self) -> SolutionInterval | None:
        """Solution interval of its solve; None where nothing was solved."""
        recorded = self.metrics.get("solint_s")
        return None if recorded is None else SolutionInterval.parse(recorded)

    @property
    def gain_tables(self) -> tuple[str, ...]:
        """Tables it solved itself, one for each data set, relative to the work directory."""
        return tuple(
            path
            for name, path in sorted(self.products.items())
            if name == "table" or name.startswith("table_")
        )

    def named(self, kind: str) -> list[str]:
        """Return the products whose names begin with a kind, one for each data set."""
        return [path for name, path in self.products.items() if name.startswith(kind)]

    def metric(self, name: str) -> float:
        """Return a number that it recorded; NaN when there is none of this name."""
        return as_number(self.metrics.get(name))


@dataclass(frozen=True)
class ImageRow:
    """Statistics of one image, by names that carry the unit."""

    step: str
    name: str
    path: str
    values: Mapping[str, float | str]

    def value(self, name: str) -> float:
        """Return a number; NaN when there is none of this name."""
        return as_number(self.values.get(name))


@dataclass(frozen=True)
class GainRow:
    """Solutions of one antenna and polarization in one spectral window of one step."""

    step: str
    ms: str
    spw: str
    antenna: str
    polarization: str
    solutions: int
    flagged_fraction: float
    snr_median: float
    phase_rms_deg: float
    phase_mean_deg: float
    amplitude_mean: float
    amplitude_std: float


@dataclass(frozen=True)
class Setting:
    """A setting, its value and its origin (default, template, config, --set)."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True)
class Run:
    """All records in a work directory.

    Attributes
    ----------
    workdir : Path
    steps : tuple of StepRow
        Steps in the order of the run.
    images : tuple of ImageRow
    gains : tuple of GainRow
    settings : tuple of Setting
    summary : dict
        Contents of ``summary.json``; empty before the end of a run.
    problems : tuple of str
        Records that could not be read, one line each.
    outdated : tuple of str
        Steps that were recorded before a step on which they build ran again; they are not part of
        the run until they run again too.
    """

    workdir: Path
    steps: tuple[StepRow, ...] = ()
    images: tuple[ImageRow, ...] = ()
    gains: tuple[GainRow, ...] = ()
    settings: tuple[Setting, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """Status improved, unchanged or failed as recorded; incomplete before the end of a run."""
        if any(row.status == "failed" for row in self.steps):
            return "failed"
        return str(self.summary.get("status") or "incomplete")

    @property
    def rounds(self) -> tuple[StepRow, ...]:
        """Steps that solved for gains."""
        return tuple(row for row in self.steps if row.is_round)

    def imaged(self) -> tuple[StepRow, ...]:
        """Return the steps with a judged image, whose statistics form the run's history."""
        return tuple(row for row in self.steps if math.isfinite(self.statistic(row, STATISTICS[0])))

    def statistic(self, row: StepRow, name: str) -> float:
        """Return a statistic of a step's judged image, from its own metrics or images.csv.

        NaN when neither has it.
        """
        value = row.metric(name)
        if math.isfinite(value):
            return value
        path = row.products.get("image")
        if path and path != (self.summary.get("untouched") or {}).get("image"):
            for image in self.images:
                if image.step == row.step and image.path == path:
                    return image.value(name)
        return math.nan

    def file(self, relative: str | None) -> Path | None:
        """Return the path of a recorded product, None when it does not exist (any more)."""
        if not relative:
            return None
        path = self.workdir / relative
        return path if path.exists() else None


def as_number(value: object) -> float:
    """Return a recorded value as a number; NaN for text, lists, nothing and truth values."""
    if isinstance(value, bool) or value is None:
        return math.nan
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def read_summary(workdir: Path, part: str, what: str, command: str) -> Mapping[str, Any]:
    """Return ``summary.json`` of a work directory.

    Parameters
    ----------
    workdir : Path
    part : str
        Key that a summary of this kind has.
    what : str
        What was to be there, for the error.
    command : str
        Command that writes it.

    Raises
    ------
    InputError
        It cannot be read, or is of another kind.
    """
    try:
        summary: Mapping[str, Any] = json.loads((workdir / "summary.json").read_text())
        summary[part]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{workdir} holds no {what} ({error})", f"run auto_selfcal.py {command} first"
        ) from error
    return summary


def read_run(workdir: str | Path) -> Run:
    """Read everything that a run has recorded so far.

    Parameters
    ----------
    workdir : path
        The run's work directory.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        There is no such directory, or no step was ever recorded in it.
    """
    workdir = Path(workdir)
    if not (workdir / "steps.csv").is_file():
        raise InputError(f"{workdir} holds no steps.csv", "name the work directory of a run")
    problems: list[str] = []
    resolved = _read_mapping(workdir / "resolved.yaml", yaml.safe_load, problems)
    order = _plain(resolved.get("steps"))
    steps, outdated = _read_steps(workdir / "steps.csv", order, problems)
    return Run(
        workdir=workdir,
        steps=steps,
        images=_read_images(workdir / "images.csv", problems),
        gains=_read_gains(workdir / "gains.csv", problems),
        settings=tuple(_flatten(resolved)),
        summary=_read_mapping(workdir / "summary.json", json.loads, problems),
        problems=tuple(problems),
        outdated=outdated,
    )


def _read_mapping(path: Path, parse: Any, problems: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        problems.append(f"{path.name} cannot be read: {' '.join(str(error).split())}")
        return {}
    if not isinstance(content, dict):
        problems.append(f"{path.name} does not hold a mapping")
        return {}
    return content


def _rows(path: Path, problems: list[str]) -> Iterator[dict[str, str]]:
    """Yield rows of a CSV file; rows that do not match the header are reported, not used."""
    if not path.is_file():
        return
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        for row in reader:
            if None in row or None in row.values():
                problems.append(f"{path.name}: line {reader.line_num} is cut off and not used")
                continue
            yield row


def _read_steps(
    path: Path, order: object, problems: list[str]
) -> tuple[tuple[StepRow, ...], tuple[str, ...]]:
    """Return the last row of each step in the order of the run, and names of outdated steps."""
    last: dict[str, StepRow] = {}
    for row in _rows(path, problems):
        try:
            parsed = _step(row)
        except (ValueError, KeyError, TypeError) as error:
            problems.append(f"steps.csv: row of step {row.get('step')} cannot be read: {error}")
            continue
        last.pop(parsed.step, None)  # inserted at the end, in order of execution
        last[parsed.step] = parsed
    names = [str(name) for name in order] if isinstance(order, list) else []
    written = {name: place for place, name in enumerate(last)}
    listed = [last.pop(name) for name in dict.fromkeys(names) if name in last]
    latest, current, outdated = -1, [], []
    for step in listed:
        # a step recorded before one ahead of it describes a state that no longer exists
        if written[step.step] < latest:
            outdated.append(step.step)
        else:
            latest = written[step.step]
            current.append(step)
    return (*current, *last.values()), tuple(outdated)


def _step(row: dict[str, str]) -> StepRow:
    tables = tuple(
        AppliedRow(
            str(entry.get("ms", "")),
            str(entry["path"]),
            tuple(int(spw) for spw in entry.get("spwmap") or ()),
            str(entry.get("interp", "")),
        )
        for entry in json.loads(row.get("tables") or "[]")
    )
    seconds = {
        name: float(row.get(name) or 0)
        for name in ("seconds", "seconds_imaging", "seconds_solving")
    }
    return StepRow(
        step=row["step"],
        status=row["status"],
        fingerprint=row.get("fingerprint", ""),
        template=row.get("template", ""),
        reason=row.get("reason", ""),
        finished=row.get("finished", ""),
        tables=tables,
        products={str(k): str(v) for k, v in json.loads(row.get("products") or "{}").items()},
        metrics=dict(json.loads(row.get("metrics") or "{}")),
        settings=dict(json.loads(row.get("settings") or "{}")),
        **seconds,
    )


def _read_images(path: Path, problems: list[str]) -> tuple[ImageRow, ...]:
    last: dict[tuple[str, str], ImageRow] = {}
    for row in _rows(path, problems):
        key = (row.pop("step", ""), row.pop("name", ""))
        relative = row.pop("path", "")
        values: dict[str, float | str] = {}
        for name, text in row.items():
            number = as_number(text)
            values[name] = text if math.isnan(number) else number
        last[key] = ImageRow(*key, relative, values)
    return tuple(last.values())


def _read_gains(path: Path, problems: list[str]) -> tuple[GainRow, ...]:
    last: dict[tuple[str, ...], GainRow] = {}
    for row in _rows(path, problems):
        key = tuple(row.get(name, "") for name in GAIN_KEY)
        count = as_number(row.get("solutions"))
        numbers = [as_number(row.get(name)) for name in GAIN_NUMBERS]
        last[key] = GainRow(*key, 0 if math.isnan(count) else int(count), *numbers)  # type: ignore[arg-type, call-arg]
    return tuple(last.values())


def _plain(entry: object) -> object:
    """Return the value of an entry of resolved.yaml, with or without its origin."""
    if isinstance(entry, dict) and "value" in entry:
        return entry["value"]
    return entry


def _flatten(resolved: Mapping[str, Any], prefix: str = "") -> Iterable[Setting]:
    """Convert nested settings to dotted names; ``{value, origin}`` is a setting with its origin."""
    for key, entry in resolved.items():
        name = f"{prefix}{key}"
        if isinstance(entry, dict) and "value" in entry and len(entry) <= 3:
            origin = next((entry[k] for k in ("origin", "source", "from") if k in entry), "")
            yield Setting(name, _text(entry["value"]), str(origin))
        elif isinstance(entry, dict) and entry:
            yield from _flatten(entry, f"{name}.")
        else:
            yield Setting(name, _text(entry), "")


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
