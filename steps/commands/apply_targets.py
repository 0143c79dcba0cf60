"""Applying what a run of several targets found: each target's tables to its own rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from libs.core.errors import ConfigError
from libs.inputs.input_data import resolve_inputs
from selfcal.state import hold_workdir
from steps.commands.apply_original import Application, apply_planned, plan_application

__all__ = ["apply_targets", "has_targets"]


def has_targets(workdir: Path) -> bool:
    """Whether a work directory holds a run of several targets."""
    path = workdir / "summary.json"
    return path.exists() and "targets" in json.loads(path.read_text())


def apply_targets(workdir: Path, to: str | None, field: str = "") -> Iterator[str]:
    """Apply the tables of every target to the rows of its field and windows; yield what was done.

    Targets that failed or were not improved are left out, and told. Every data set is looked
    at before the first is written.

    Parameters
    ----------
    workdir : Path
        Of the whole run.
    to : str or None
        The only measurement set to write; None: all inputs.
    field : str
        Must be empty: each target has its own.

    Raises
    ------
    ConfigError
        A field is given, no target has solutions, or as `steps.commands.apply_original`.
    """
    if field:
        raise ConfigError(
            "each target is applied to its own field",
            f"for another give the work directory of one: {workdir / 'targets'}/NAME",
        )
    with ExitStack() as held:
        held.enter_context(hold_workdir(workdir))
        targets = json.loads((workdir / "summary.json").read_text())["targets"]
        planned: list[Application] = []
        for label, entry in targets.items():
            folder = workdir / entry["workdir"]
            why = _why_not(entry, folder) or _not_of(folder, to, targets, workdir)
            if why:
                yield f"{label}: {why}"
                continue
            held.enter_context(hold_workdir(folder))
            planned += plan_application(folder, to)
        if not planned:
            raise ConfigError("no target has solutions to apply", "there is nothing to apply")
        for work in planned:
            yield f"{work.workdir.name}: {apply_planned(work)}"


def _why_not(entry: Mapping[str, Any], folder: Path) -> str:
    """Why a target has nothing to apply; empty when it has."""
    path = folder / "summary.json"
    if entry["status"] == "failed" or not path.exists():
        return "failed, nothing is applied"
    # its own, which is newer where the target was run by itself since
    found = json.loads(path.read_text())
    return "" if found["tables"] else f"{found['status']}, there is nothing to apply"


def _not_of(folder: Path, to: str | None, targets: Mapping[str, Any], workdir: Path) -> str:
    """Why a target has nothing for the measurement set asked for, one of the others' inputs."""
    if to is None:
        return ""
    wanted = Path(to).resolve()
    if wanted in _inputs(folder):
        return ""
    others = [workdir / entry["workdir"] for entry in targets.values()]
    if any(wanted in _inputs(other) for other in others):
        return f"has no data in {to}"
    return ""


def _inputs(folder: Path) -> set[Path]:
    """Paths of the data a run was of; none where it never began."""
    path = folder / "resolved.yaml"
    if not path.exists():
        return set()
    resolved = yaml.safe_load(path.read_text())
    return {source.path for source in resolve_inputs(resolved["vis"]["value"])}
