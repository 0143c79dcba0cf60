"""The work directory of a run: its name after the data, and whose results it holds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from libs.core.errors import ConfigError
from libs.core.files import write_atomically
from selfcal.paths import absolute
from selfcal.settings import Settings
from selfcal.state import State

__all__ = ["AUTO_WORKDIR", "check_owner", "name_workdir", "note_owner"]

AUTO_WORKDIR = "auto"
_RECORD = "input.json"
_SUFFIXES = (".ms", ".uvfits", ".fits", ".uvh5", ".uvf")


def name_workdir(settings: Settings) -> Settings:
    """Return settings whose work directory has a name: that of the data where it is ``auto``."""
    if settings["workdir"] != AUTO_WORKDIR:
        return settings
    vis = settings["vis"]
    first = (vis if isinstance(vis, str) else next(iter(vis), "")).removeprefix("demo:")
    name = Path(first.rstrip("/")).name
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    parts = [name, settings["field"]]
    words = [re.sub(r"[^\w.+-]+", "_", part).strip("_") for part in parts if part]
    values = {**settings.values, "workdir": "_".join(["work", *filter(None, words)])}
    return replace(settings, values=values)


def _owner(settings: Settings) -> dict[str, Any]:
    """Return whose results a work directory would hold."""
    vis = settings["vis"]
    named = [vis] if isinstance(vis, str) else list(vis)
    return {"vis": sorted(map(absolute, named)), "field": settings.values.get("field", "")}


def check_owner(settings: Settings, arguments: Mapping[str, Any]) -> None:
    """Refuse a work directory with the results of other data, which the run would replace.

    Parameters
    ----------
    settings : Settings
    arguments : mapping
        ``restart``: the user wants everything anew.

    Raises
    ------
    ConfigError
        The directory holds finished steps of other data, or of another field of them.
    """
    workdir, own = settings.workdir, _owner(settings)
    path = workdir / _RECORD
    if arguments.get("restart") or not path.exists() or not _has_results(workdir):
        return
    there = json.loads(path.read_text())
    if there["vis"] != own["vis"]:
        what = f"those of {', '.join(there['vis'])}"
    elif own["field"] and own["field"] not in (there["field"], _field_of(workdir)):
        what = f"those of field {there['field'] or _field_of(workdir)}"
    else:
        return
    now = ", ".join(own["vis"]) + (f", field {own['field']}" if own["field"] else "")
    raise ConfigError(
        f"{workdir} holds other results, {what}, which a run of {now} would replace",
        "choose another with --workdir, or replace them with --restart",
    )


def note_owner(settings: Settings) -> None:
    """Record whose results a work directory holds from now on; the directory is held."""
    write_atomically(settings.workdir / _RECORD, json.dumps(_owner(settings), indent=2) + "\n")


def _has_results(workdir: Path) -> bool:
    """Return True when a step or a target has finished there."""
    if (workdir / "targets").is_dir():
        return True
    state = State(workdir)
    return any(record.result.status != "failed" for record in state.records())


def _field_of(workdir: Path) -> str:
    """Return the name of the field that the first step found; empty where it did not run."""
    for record in State(workdir).records():
        if "field" in record.result.metrics:
            return str(record.result.metrics["field"])
    return ""
