"""Spectral windows of a target, for people: numbers in the execution that was observed first."""

from __future__ import annotations

from libs.record.schema import RunRecord, TargetEntry

__all__ = ["short_windows"]


def short_windows(record: RunRecord, target: TargetEntry) -> str:
    """Return the ids of a target's windows in its first execution, and the range of GHz."""
    executions = [each for each in record.executions if each.name in target.windows]
    if not executions:
        return ""
    first = min(executions, key=lambda each: each.begin_mjd_s)
    wanted = set(target.windows[first.name])
    chosen = [pair for pair in enumerate(first.windows) if pair[1].label in wanted]
    if not chosen:
        return ""
    runs: list[list[int]] = []
    for number, _ in chosen:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    numbers = ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    low, high = (pick(w.centre_hz for _, w in chosen) / 1e9 for pick in (min, max))
    span = f"{low:.2f}–{high:.2f}" if high > low else f"{low:.2f}"
    return f"{numbers} ({span})"
