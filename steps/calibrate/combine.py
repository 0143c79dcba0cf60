"""Combining the data of a session: one measurement set a tuning, in order of time."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.catalogues.flux_standards import find_standard
from libs.core.errors import InputError
from libs.core.numbers import counted
from libs.inputs.input_data import InputData
from libs.inputs.working_copy import (
    check_disk,
    copy_size_bytes,
    identity,
    make_working_copy,
    resolve_inputs,
)
from libs.ms import flag_versions
from libs.ms.field_directions import j2000_directions
from libs.ms.rows import read_rows, row_pieces, write_rows
from libs.ms.sanitise import add_scratch_columns
from libs.ms.scans import Visit, number_scans, read_visits
from libs.ms.subset import choose_subset
from libs.ms.subset_copy import copy_subset
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from selfcal.step import Step, StepResult
from steps.calibrate.session_data import INITIAL_FLAGS, Tuning, write_tunings
from steps.context import Context

__all__ = ["Combine", "check_antennas", "scans_to_drop", "tuning_groups"]

logger = logging.getLogger(__name__)

APART = 1.2  # ratio of the centres of two tunings that are calibrated apart
_SAME_PLACE_M = 1.0


class Combine(Step):
    """Copy the data of a session, join them in time and by window, number the scans."""

    uses = ("vis", "datacolumn", "flux_scans", "flux_calibrator", "tunings")

    def identity(self, context: Context) -> Mapping[str, Any]:
        """Return what tells these data from others."""
        return {"data": [identity(source) for source in _inputs(context)]}

    def changes_data(self, context: Context) -> bool:
        """Return True: it makes the data."""
        return True

    def run(self, context: Context) -> StepResult:
        """Make data/session.ms, one for each tuning."""
        sources = _inputs(context)
        data = context.workdir / "data"
        data.mkdir(parents=True, exist_ok=True)
        for old in data.glob("session*"):
            shutil.rmtree(old, ignore_errors=True)
        check_disk(context.workdir, 3 * sum(copy_size_bytes(source) for source in sources))
        whole, notes = _one_set(context, sources, data)
        notes += _scan_numbers(whole)
        notes += _drop_scans(context, whole)
        tunings = _split_tunings(context, whole)
        for tuning in tunings:
            flag_versions.save_version(context.workdir / tuning.ms, INITIAL_FLAGS, "as combined")
        write_tunings(data / "session.json", tunings)
        for note in notes:
            context.progress.note(f"  {note}")
        fields = Subtables(context.workdir / tunings[0].ms).fields
        return StepResult(
            reason=f"{counted(len(sources), 'set')}, {counted(len(fields), 'field')}, "
            + counted(len(tunings), "tuning"),
            products={
                "session": "data/session.json", **{f"data{t.suffix}": t.ms for t in tunings}
            },
            metrics={"notes": notes, "tunings": [t.name for t in tunings]},
        )  # fmt: skip


def _inputs(context: Context) -> list[InputData]:
    return resolve_inputs([str(name) for name in context.settings["vis"]])


def _one_set(context: Context, sources: Sequence[InputData], data: Path) -> tuple[Path, list[str]]:
    """Copy every input and join the copies; return the joined set and notes."""
    notes: list[str] = []
    copies = []
    for source in sources:
        target = data / ("session.ms" if len(sources) == 1 else f"session_part_{source.name}.ms")
        # a demonstration has a field of its own; a session takes all
        whole = replace(source, demo=None)
        made = make_working_copy(
            whole, target, datacolumn=context.settings["datacolumn"], one_target=False,
            session=context.tools.session, progress=context.progress.activity,
        )  # fmt: skip
        notes += [f"{source.name}: {note}" for note in made.notes]
        copies.append(target)
    if len(copies) == 1:
        return copies[0], notes
    check_antennas(copies)
    whole_set = data / "session.ms"
    context.progress.activity(f"joining {len(copies)} sets")
    part = data / "session_joined.ms"
    context.tools.session.run(
        "concat", vis=copies, concatvis=part, timesort=True, copypointing=False
    )
    if not (part / "table.dat").exists():
        raise InputError("the sets could not be joined", f"see {context.tools.session.log_dir}")
    part.rename(whole_set)
    for copy in copies:
        shutil.rmtree(copy)
    return whole_set, notes


def check_antennas(sets: Sequence[Path]) -> None:
    """Check that antennas of one name are in one place.

    Raises
    ------
    InputError
        They are not.
    """
    places: dict[str, tuple[NDArray[np.float64], Path]] = {}
    for ms in sets:
        for antenna in Subtables(ms).antennas:
            known = places.setdefault(antenna.name, (antenna.position_m, ms))
            apart = float(np.linalg.norm(known[0] - antenna.position_m))
            if apart > _SAME_PLACE_M:
                raise InputError(
                    f"antenna {antenna.name} of {ms.stem} is {apart:.0f} m from that of"
                    f" {known[1].stem}",
                    "give sets of one array configuration",
                )


def _scan_numbers(ms: Path) -> list[str]:
    """Number the scans anew where visits share a number."""
    visits = read_visits(ms)
    if len({visit.scan for visit in visits}) == len(visits):
        return []
    before, after = number_scans(ms)
    return [f"scans numbered anew, 1 to {after}: there were {before} numbers"]


def scans_to_drop(visits: Sequence[Visit], wanted: Sequence[str]) -> list[int]:
    """Return the scans of a flux calibrator that are left out.

    Parameters
    ----------
    visits : sequence of Visit
        Of the flux calibrator.
    wanted : sequence of str
        ``all``, ``last``, or numbers of scans.

    Raises
    ------
    InputError
        A number is none of its scans.
    """
    if not visits or tuple(wanted) == ("all",):
        return []
    numbers = [visit.scan for visit in visits]
    kept = [str(numbers[-1])] if tuple(wanted) == ("last",) else list(wanted)
    unknown = [one for one in kept if one not in map(str, numbers)]
    if unknown:
        raise InputError(
            f"flux_scans names {unknown[0]}, which is no scan of the flux calibrator",
            f"its scans are {', '.join(map(str, numbers))}",
        )
    return [number for number in numbers if str(number) not in kept]


def _drop_scans(context: Context, ms: Path) -> list[str]:
    """Flag the scans of flux calibrators that are left out."""
    wanted = context.settings["flux_scans"]
    name = context.settings["flux_calibrator"]
    fields = Subtables(ms).fields
    places = j2000_directions(ms)
    notes = []
    visits = read_visits(ms)
    for number, (field, place) in enumerate(zip(fields, places, strict=True)):
        is_flux = field.name.strip() == name or (name == "auto" and find_standard(*place))
        if not is_flux:
            continue
        dropped = scans_to_drop([v for v in visits if v.field == number], wanted)
        if dropped:
            _flag_scans(ms, dropped)
            listed = ", ".join(map(str, dropped))
            notes.append(f"scans {listed} of {field.name.strip()} are left out (flux_scans)")
    return notes


def _flag_scans(ms: Path, scans: Sequence[int]) -> None:
    def wanted(opened: Any, low: int, count: int) -> NDArray[np.bool_]:
        return np.asarray(np.isin(opened.getcol("SCAN_NUMBER", low, count), scans))

    with open_table(ms, write=True) as opened:
        for _, rows in row_pieces(opened, ("FLAG",), where=wanted):
            flag = np.ones_like(read_rows(opened, ("FLAG",), rows)["FLAG"])
            write_rows(opened, rows, {"FLAG": flag, "FLAG_ROW": np.ones(len(rows), bool)})


def tuning_groups(centre_hz: Sequence[float], how: str) -> list[list[int]]:
    """Return the windows of each tuning, by rising frequency.

    Parameters
    ----------
    centre_hz : sequence of float
        Of each window.
    how : str
        ``auto``: apart where neighbours differ by more than 20 %; ``together``; ``apart``: each
        window by itself.
    """
    order = sorted(range(len(centre_hz)), key=lambda i: centre_hz[i])
    if how == "apart":
        return [[number] for number in order]
    groups = [[order[0]]]
    for one, other in pairwise(order):
        if how == "auto" and centre_hz[other] > APART * centre_hz[one]:
            groups.append([])
        groups[-1].append(other)
    return [sorted(group) for group in groups]


def _split_tunings(context: Context, whole: Path) -> list[Tuning]:
    """Divide the set where tunings are far apart."""
    centre = [window.mean_hz for window in Subtables(whole).windows]
    groups = tuning_groups(centre, context.settings["tunings"])
    if len(groups) == 1:
        return [Tuning("", context.relative(whole), float(np.mean(centre)))]
    tunings = []
    for group in groups:
        middle = float(np.mean([centre[i] for i in group]))
        name = f"{middle / 1e6:.0f}MHz"
        target = whole.with_name(f"session_{name}.ms")
        spw = ",".join(map(str, group))
        copy_subset(whole, target, choose_subset(whole, spw=spw))
        add_scratch_columns(target)
        tunings.append(Tuning(name, context.relative(target), middle))
    shutil.rmtree(whole)
    return tunings
