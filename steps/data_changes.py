"""Visibilities that steps change in the working copies, kept aside and put back.

A step that changes DATA first keeps it in a column of its own. What a step changed is undone when
it, or a step before it, runs again, so that a step always finds what it would have found at the
first start, whatever a kill left behind.
"""

from __future__ import annotations

from pathlib import Path

from libs.ms import flag_versions
from libs.ms.kept_column import copy_column, keep_column
from libs.ms.tiled_headers import save_headers
from selfcal.step import Step
from steps.context import Context
from steps.data_state import measurement_sets, noted, set_note

__all__ = ["CHANGING_STEPS", "keep_data", "kept_name", "undo_changes"]

CHANGING_STEPS = ("peel", "align")
"""Steps that change DATA, in their order."""

_KEPT = "kept"


def kept_name(step: str) -> str:
    """Return the column with the visibilities as a step found them."""
    return f"DATA_BEFORE_{step.upper()}"


def keep_data(ms: Path, step: str) -> None:
    """Keep DATA and the weights as a step finds them; what shows the old data is forgotten."""
    if noted(ms).get(_key(step)) != _KEPT:
        keep_column(ms, kept_name(step))
        flag_versions.save_weights(ms, kept_name(step))
        save_headers(ms)  # with the new column's
        set_note(ms, **{_key(step): _KEPT})
    set_note(ms, tables="", model="")


def undo_changes(context: Context, step: Step) -> None:
    """Put back what steps changed that have not run yet at this point of the run."""
    if not context.results:  # the first step makes the copies
        return
    for name in reversed(CHANGING_STEPS):
        if name in context.results:
            return
        for ms in measurement_sets(context):
            if noted(ms).get(_key(name)) == _KEPT:
                set_note(ms, tables="", model="")
                copy_column(ms, kept_name(name))
                flag_versions.restore_weights(ms, kept_name(name))
                set_note(ms, **{_key(name): ""})


def _key(step: str) -> str:
    return f"before_{step}"
