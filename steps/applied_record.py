"""The record of what a run wrote to its own input, so that its steps are not run again for that.

Applying solutions changes the input's columns and flags. The same command must reuse every step
afterwards: a run that took its own result for new data would replace the solutions by nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from libs.core.files import write_atomically
from libs.inputs.input_data import InputData, identity, resolve_inputs

__all__ = ["applications_noted", "identity_before", "was_applied"]

_RECORD = "input_applied.json"


def identity_before(workdir: Path, source: InputData) -> dict[str, Any]:
    """Return what distinguishes an input as it was before this run's solutions were applied to it.

    Parameters
    ----------
    workdir : Path
        Of the run.
    source : InputData

    Returns
    -------
    dict
        Identity, see `libs.inputs.input_data.identity`; that of now where nothing was applied, or
        where something else has changed the data since.
    """
    now = identity(source)
    noted = _entry(workdir, source.path)
    return dict(noted["before"]) if noted and noted["after"] == _plain(now) else now


def was_applied(workdir: Path, source: InputData) -> bool:
    """Return True where an input is as this run's solutions left it: CORRECTED_DATA are theirs."""
    noted = _entry(workdir, source.path)
    return bool(noted) and noted["after"] == _plain(identity(source))


@contextmanager
def applications_noted(workdir: Path, data_sets: Sequence[Path]) -> Iterator[None]:
    """Note how measurement sets are before and after solutions are applied within the context."""
    sources = [source for path in data_sets for source in resolve_inputs(str(path))]
    before = {str(source.path): _plain(identity_before(workdir, source)) for source in sources}
    yield
    noted = _read(workdir)
    for source in sources:
        path = str(source.path)
        noted[path] = {"before": before[path], "after": _plain(identity(source))}
    write_atomically(workdir / _RECORD, json.dumps(noted, indent=1) + "\n")


def _read(workdir: Path) -> dict[str, Any]:
    path = workdir / _RECORD
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _entry(workdir: Path, path: Path) -> dict[str, Any]:
    return dict(_read(workdir).get(str(path), {}))


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    """Return an identity as a file holds it: lists in place of tuples."""
    return dict(json.loads(json.dumps(found)))
