"""Applying a run's solutions to the original data: only on request, the flags saved first."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from libs import flags, tables
from libs.calibration import AppliedTable
from libs.caltable_writer import write_caltable
from libs.errors import ConfigError, InputError
from libs.gains import NativeSolver
from libs.ingest import resolve_inputs
from libs.solutions import GainSolutions
from libs.tiled_headers import guarded, take_back
from selfcal.state import State, hold_workdir
from steps import STANDARD

__all__ = ["apply_solutions", "apply_to_original"]

VERSION = "before_selfcal_apply"


def apply_to_original(workdir: Path, to: str | None) -> Iterator[str]:
    """Apply the tables a run ended with to its input (or ``to``); yield what was done.

    CORRECTED_DATA and FLAG of the target are written; its flags are saved beforehand, in the
    version ``before_selfcal_apply``, as flagmanager shows it.

    Raises
    ------
    ConfigError
        The run has no accepted solutions, or the target is none of its inputs and its spectral
        windows differ from theirs.
    InputError
        The target is no measurement set.
    """
    if not (workdir / "summary.json").exists():
        raise ConfigError(f"{workdir} holds no finished run", "run the pipeline first")
    with hold_workdir(workdir):
        summary = json.loads((workdir / "summary.json").read_text())
        _refuse_started(workdir)
        if not summary["tables"]:
            raise ConfigError("the run accepted no solutions", "there is nothing to apply")
        resolved = yaml.safe_load((workdir / "resolved.yaml").read_text())
        for source, refs in _targets(workdir, resolved, to):
            yield _apply(source, refs, workdir)


def _refuse_started(workdir: Path) -> None:
    """What a run started from is in its h5parm, not in its gain tables."""
    startup = State(workdir).get("startup")
    if startup and startup.result.metrics.get("start_corrected"):
        given = startup.result.metrics["started_from"]
        raise ConfigError(
            f"the run started from the solutions of {given}, which its tables do not hold",
            f"use solutions apply {workdir / 'solutions.h5'} MS, which holds both",
        )


def _targets(
    workdir: Path, resolved: dict[str, Any], to: str | None
) -> Iterator[tuple[Path, list[AppliedTable]]]:
    """Pairs of a data set to write and its tables."""
    state = State(workdir)
    names = resolved["steps"]["value"] or STANDARD
    records = [record for record in map(state.get, names) if record]
    last = records[-1].result.tables
    sources = resolve_inputs(resolved["vis"]["value"])
    wanted = [s for s in sources if to is None or s.path == Path(to).resolve()]
    if not wanted and len(sources) > 1:
        raise ConfigError(f"{to} is none of the run's inputs", "name one of them")
    wanted = wanted or sources
    startup = state.get("startup")
    if startup and startup.result.metrics.get("datacolumn") == "CORRECTED_DATA":
        raise ConfigError(
            "the run started from CORRECTED_DATA, which applying to DATA would overwrite",
            "take the calibrated data from the run, or split CORRECTED_DATA to DATA first",
        )
    for source in wanted:
        path = Path(to).resolve() if to else source.path
        if source.kind != "ms" and to is None:
            raise ConfigError(f"{source.vis} is no measurement set", "name one with --to")
        copy = workdir / "data" / f"{source.name}.ms"
        take_back(path)
        _check_windows(copy, path)
        yield (
            path,
            [
                AppliedTable(workdir / ref.path, ref.spwmap, ref.interp)  # type: ignore[arg-type]
                for ref in last
                if ref.ms == copy.name
            ],
        )


def _check_windows(copy: Path, target: Path) -> None:
    """The tables number spectral windows as the working copy does."""
    ours, theirs = tables.summarise(copy), tables.summarise(target)
    if ours.antenna != theirs.antenna and len(ours.antenna) != len(theirs.antenna):
        raise InputError(f"{target} has other antennas than the run", "name the run's input")
    same = len(ours.frequency_hz) == len(theirs.frequency_hz) and all(
        abs(a.mean() - b.mean()) < 1.0
        for a, b in zip(ours.frequency_hz, theirs.frequency_hz, strict=True)
    )
    if not same:
        raise InputError(
            f"{target} has other spectral windows than the run's working copy",
            "apply solutions.h5 instead: solutions apply goes by frequency",
        )


def _apply(target: Path, own: list[AppliedTable], workdir: Path) -> str:
    with guarded(target):
        return _apply_within(target, own, workdir)


def _apply_within(target: Path, own: list[AppliedTable], workdir: Path) -> str:
    if not flags.has_version(target, VERSION):
        flags.save_version(target, VERSION, f"before the solutions of {workdir.name}")
    else:
        flags.restore_version(target, VERSION)
    tables.ensure_data_column(target, "CORRECTED_DATA", copy="DATA")
    result = NativeSolver(corr_dep_flags=True).apply(target, own)
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    return (
        f"{target}: {len(own)} table(s) applied to CORRECTED_DATA, flags"
        f" {result.flagged_before:.1%} -> {result.flagged_after:.1%} (saved: {VERSION}), {stamp}"
    )


def apply_solutions(ms: Path, gains: GainSolutions) -> str:
    """Apply gains of an h5parm to CORRECTED_DATA of a measurement set, by frequency and time."""
    with guarded(ms):
        return _apply_solutions_within(ms, gains)


def _apply_solutions_within(ms: Path, gains: GainSolutions) -> str:
    if flags.has_version(ms, VERSION):
        flags.restore_version(ms, VERSION)
    else:
        flags.save_version(ms, VERSION, "before solutions of an h5parm")
    tables.ensure_data_column(ms, "CORRECTED_DATA", copy="DATA")
    with tempfile.TemporaryDirectory(dir=ms.parent) as folder:
        table = Path(folder) / "h5parm.gcal"
        write_caltable(table, gains, ms)
        result = NativeSolver(corr_dep_flags=True).apply(ms, [AppliedTable(table)])
    return f"{ms}: applied, {result.flagged_after:.1%} flagged (before: {VERSION})"
