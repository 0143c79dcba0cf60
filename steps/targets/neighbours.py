"""A target that could not be calibrated by its own data tries a neighbour's solutions.

The neighbour's solutions know nothing of the target's data, so all of these are held out: whatever
the correction brings in their image, it is no fit to their noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.angles import separation_rad
from libs.core.numbers import format_quantity
from selfcal.settings import Settings
from selfcal.state import State
from steps.facts import StartupFacts, recorded
from steps.targets.run import FOLDER, TargetTask

__all__ = ["NEIGHBOUR_SETTING", "Attempt", "find_attempts", "judge_attempt"]

NEIGHBOUR_SETTING = "neighbours"
LEAST_RISE_SIGMA = 3.0
"""Rise of the peak, in sigma of the noise of both images, below which nothing was gained.

The highest of many pixels of noise scatters by 0.3 sigma, a source's peak by one.
"""

_FARTHEST_RAD = math.radians(10.0)  # beyond it the atmosphere over the array is another


@dataclass(frozen=True)
class Attempt:
    """A second run of a target, on data corrected with the solutions of another.

    Attributes
    ----------
    place : int
        Of the target among all.
    task : TargetTask
    neighbour : str
        Label of the other target.
    separation_deg : float
    """

    place: int
    task: TargetTask
    neighbour: str
    separation_deg: float


def find_attempts(
    tasks: Sequence[TargetTask], results: Sequence[Mapping[str, Any]], settings: Settings
) -> list[Attempt]:
    """Return the second runs worth trying: for each unchanged target the nearest improved one.

    It has data of the same sets in the same band, and lies within 10 degrees.
    """
    if settings[NEIGHBOUR_SETTING] == "never" or settings["start_from"]:
        return []
    found = []
    improved = [
        (task, place)
        for task, result in zip(tasks, results, strict=True)
        if result["status"] == "improved"
        and (place := _place(task)) is not None
        and (Path(task.folder) / "solutions.h5").exists()
    ]
    for number, (task, result) in enumerate(zip(tasks, results, strict=True)):
        here = _place(task) if result["status"] == "unchanged" else None
        if here is None:
            continue
        near = [
            (float(separation_rad(here, place)), other)
            for other, place in improved
            if other.target.band == task.target.band
            and set(other.target.vis) & set(task.target.vis)
        ]
        if not near:
            continue
        apart, other = min(near, key=lambda pair: pair[0])
        if apart <= _FARTHEST_RAD:
            found.append(_attempt(number, task, other, math.degrees(apart)))
    return found


def _place(task: TargetTask) -> np.ndarray | None:
    """Return RA and Dec of a target, rad; None where its run did not begin."""
    record = State(Path(task.folder)).get("startup")
    if record is None or record.result.status != "done":
        return None
    facts = recorded(StartupFacts, record.result.metrics)
    return np.array([facts.right_ascension_rad, facts.declination_rad])


def _attempt(number: int, task: TargetTask, other: TargetTask, apart_deg: float) -> Attempt:
    label = f"{task.target.label}@{other.target.label}"
    folder = Path(task.folder).with_name(label)
    config = {
        **task.config,
        "workdir": str(folder),
        "start_from": str(Path(other.folder) / "solutions.h5"),
    }
    target = replace(task.target, label=label)
    again = replace(task, target=target, folder=str(folder), config=config)
    return Attempt(number, again, other.target.label, apart_deg)


def judge_attempt(
    attempt: Attempt, first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what came of a target in the end: its second run where that is better.

    The images compared are those before any round of either run, so that the target's own data
    had no part in what differs.

    Parameters
    ----------
    attempt : Attempt
    first, second : mapping
        Results of the target as the data came, and with the neighbour's solutions.
    """
    label = attempt.neighbour
    notes = list(first["notes"])
    if second["status"] == "failed":
        text = f"the solutions of {label} could not be tried: {second['reason']}"
        return {**first, "notes": [*notes, text]}
    before, after = first["initial"], second["initial"]
    noise = math.hypot(before["rms_jy_beam"], after["rms_jy_beam"])
    rise = after["peak_jy_beam"] - before["peak_jy_beam"]
    sigma = rise / noise if noise > 0 else 0.0
    said = (
        f"with the solutions of {label}, {attempt.separation_deg:.2g} deg away, the peak goes from"
        f" {format_quantity(before['peak_jy_beam'], 'Jy/beam')} to"
        f" {format_quantity(after['peak_jy_beam'], 'Jy/beam')} ({sigma:+.1f} sigma)"
    )
    if sigma < LEAST_RISE_SIGMA or not after["snr"] > before["snr"]:
        wanted = f"{LEAST_RISE_SIGMA:g} sigma and a higher SNR are asked for"
        return {**first, "notes": [*notes, f"{said}: not taken, {wanted}"]}
    final = second["final"] or after
    return {
        **second,
        "label": first["label"],
        "workdir": f"{FOLDER}/{attempt.task.target.label}",
        "status": "improved",
        "initial": before,
        "final": final,
        "neighbour": label,
        "notes": [*notes, f"{said}: taken"],
    }
