"""Which targets and bands the data of a run with several targets hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from libs.core.angles import separation_rad
from libs.core.errors import ConfigError
from libs.imaging.primary_beam import find_beam
from libs.ms.field_directions import SAME_PLACE_RAD
from libs.ms.pointings import linked
from libs.ms.virtual_windows import (
    VirtualWindow,
    find_virtual_windows,
    select_windows,
)
from selfcal.options import nearest
from steps.copy_names import copy_name, field_word
from steps.instruments import identify
from steps.targets.executions import INTENT, Execution, in_order_of_time

MOVES = "{name} moves on the sky, so that several executions do not make one image"
"""Why a target that follows an ephemeris is not calibrated with several executions."""

__all__ = ["ALL", "MOVES", "Sighting", "Target", "TargetPart", "find_pointings", "find_targets"]

ALL = ("all",)


@dataclass(frozen=True)
class TargetPart:
    """What a target takes of one execution.

    Attributes
    ----------
    vis : str
        Measurement set, as the user wrote it.
    fields : tuple of int
        Ids of the field; several of the pointings of a mosaic, and where the execution has a
        field twice at one place.
    spw : str
        Windows and channels by the execution's own numbers, in the order of their virtual ones.
    copy : str
        Name of its working copy without ``.ms``.
    windows : tuple of int
        Virtual number of each window in ``spw``.
    """

    vis: str
    fields: tuple[int, ...]
    spw: str
    copy: str = ""
    windows: tuple[int, ...] = ()

    @property
    def field(self) -> str:
        """Selection of the fields by id."""
        return ",".join(map(str, self.fields))


@dataclass(frozen=True)
class Target:
    """A field in a band: what is a run of its own.

    Attributes
    ----------
    label : str
        Name of its folder; no two share it.
    name, band : str
        Field, and band as in ``templates/instruments.yaml``; the band may be empty.
    parts : tuple of TargetPart
        What it takes of each execution, in order of time.
    windows : tuple of int
        Virtual windows that it has.
    notes : tuple of str
        What is left out.
    problem : str
        Why it cannot be run; empty when it can.
    """

    label: str
    name: str
    band: str
    parts: tuple[TargetPart, ...]
    windows: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""

    @property
    def vis(self) -> tuple[str, ...]:
        """Its executions, in order of time."""
        return tuple(part.vis for part in self.parts)


# -- from what the data hold to what is run ------------------------------------------------------


@dataclass(frozen=True)
class Sighting:
    """A field in an execution: its ids there."""

    execution: Execution
    fields: tuple[int, ...]

    @property
    def used(self) -> frozenset[int]:
        """Windows in which it has data."""
        return frozenset().union(*(self.execution.used[number] for number in self.fields))


def find_targets(
    executions: Sequence[Execution],
    wanted: Sequence[str],
    *,
    spw: str = "",
    instrument: str = "auto",
    band: str = "auto",
    mosaics: bool = False,
) -> list[Target]:
    """Return every target in every band, in the order of the fields.

    The order of the executions does not matter: they are taken in order of time.

    Parameters
    ----------
    executions : sequence of Execution
    wanted : sequence of str
        Names of fields, or `ALL`.
    spw : str
        Windows and channels to keep, by virtual number (`libs.ms.virtual_windows`); empty: all.
    instrument, band : str
        As in the config; a band that is named is that of all windows.
    mosaics : bool
        Whether pointings of one name whose primary beams overlap are one target.

    Raises
    ------
    ConfigError
        A field is in none of the executions, ``all`` finds none, windows are not named by
        number, or it is not clear which windows of several executions are the same.
    """
    ordered = in_order_of_time(executions)
    names = _names(ordered, wanted)
    pointings = [(name, seen) for name in names for seen in find_pointings(ordered, name)]
    selection = _Selection.make(ordered, [seen for _, seen in pointings], spw)
    found: list[Target] = []
    taken: set[str] = set()
    stems: set[str] = set()
    for name in names:
        own = [seen for other, seen in pointings if other == name]
        targets: list[Target] = []
        units = _units(own, selection, instrument, band, mosaics)
        for seen, bands in units:
            stem = field_word(name) + (f"_{seen[0].fields[0]}" if len(units) > 1 else "")
            stem = _distinct(stem, stems)
            targets += _targets_of(name, stem, seen, ordered, bands, selection, taken)
        if not targets and tuple(wanted) != ALL:
            raise ConfigError(f"{name} has no data in spw = {spw!r}", "leave it out of targets")
        found += targets
    if not found:
        raise ConfigError(f"no target has data in spw = {spw!r}", "correct spw")
    return found


def _names(executions: Sequence[Execution], wanted: Sequence[str]) -> list[str]:
    """Names of the fields to calibrate, in the order asked for or that of the data."""
    there = dict.fromkeys(
        execution.fields[number] for execution in executions for number in sorted(execution.used)
    )
    if tuple(wanted) != ALL:
        for name in wanted:
            if name.strip() not in there:
                raise ConfigError(
                    f"targets names '{name}', which has no data{nearest(name, there)}",
                    f"there are {', '.join(there)}",
                )
        return list(dict.fromkeys(name.strip() for name in wanted))
    names = dict.fromkeys(
        execution.fields[number]
        for execution in executions
        for number in sorted(execution.used)
        if execution.is_target(number)
    )
    if not names:
        raise ConfigError(
            f"no field has the intent {INTENT}",
            f"name the targets; there are {', '.join(there)}",
        )
    return list(names)


def find_pointings(executions: Sequence[Execution], name: str) -> list[list[Sighting]]:
    """Return the fields of a name, those at one place together whatever their ids are.

    Parameters
    ----------
    executions : sequence of Execution
        In order of time.
    name : str

    Returns
    -------
    list of list of Sighting
        Of each place: the executions that observed it, in order of time. The places are in order
        of id in the first execution that has them.
    """
    single = [
        (execution, number)
        for execution in executions
        for number in sorted(execution.used)
        if execution.fields[number] == name
    ]
    groups: list[list[tuple[Execution, int]]] = []
    for execution, number in single:
        near = [g for g in groups if any(_same_place(execution, number, *other) for other in g)]
        groups = [g for g in groups if g not in near]
        groups.append([*(one for g in near for one in g), (execution, number)])
    rank = {execution.vis: place for place, execution in enumerate(executions)}
    places = []
    for group in groups:
        by_execution: dict[str, list[int]] = {}
        for execution, number in sorted(group, key=lambda one: (rank[one[0].vis], one[1])):
            by_execution.setdefault(execution.vis, []).append(number)
        places.append(
            [Sighting(executions[rank[vis]], tuple(ids)) for vis, ids in by_execution.items()]
        )
    return sorted(places, key=lambda seen: (rank[seen[0].execution.vis], seen[0].fields))


def _same_place(one: Execution, first: int, two: Execution, second: int) -> bool:
    """Whether two fields have one direction; those that move with a body are told by name."""
    here, there = one.directions_rad[first], two.directions_rad[second]
    if here is None or there is None:
        return here is there
    return float(separation_rad(np.array(here), np.array(there))) <= SAME_PLACE_RAD


@dataclass(frozen=True)
class _Selection:
    """The virtual windows of the targets and what selects each in each execution."""

    windows: Mapping[int, VirtualWindow]
    chosen: Mapping[int, Mapping[str, str]]

    @classmethod
    def make(
        cls, executions: Sequence[Execution], pointings: Sequence[Sequence[Sighting]], spw: str
    ) -> _Selection:
        """Match the windows in which the targets have data, and choose among them."""
        fields: dict[str, list[int]] = {execution.vis: [] for execution in executions}
        for seen in pointings:
            for sighting in seen:
                fields[sighting.execution.vis] += sighting.fields
        windows = find_virtual_windows([each.windows_of(fields[each.vis]) for each in executions])
        return cls({each.number: each for each in windows}, select_windows(spw, windows))

    def part(self, sighting: Sighting, numbers: Sequence[int], stem: str) -> TargetPart | None:
        """What some virtual windows of a field are in an execution; None where it has none."""
        execution = sighting.execution
        own = {
            number: self.windows[number].members[execution.vis].number
            for number in numbers
            if execution.vis in self.windows[number].members
        }
        own = {number: window for number, window in own.items() if window in sighting.used}
        if not own:
            return None
        words = ",".join(self.chosen[number][execution.vis] for number in own)
        copy = copy_name(execution.name, stem, list(own.values()))
        return TargetPart(execution.vis, sighting.fields, words, copy, tuple(own))


def _units(
    own: Sequence[Sequence[Sighting]],
    selection: _Selection,
    instrument: str,
    band: str,
    mosaics: bool,
) -> list[tuple[Sequence[Sighting], dict[str, list[int]]]]:
    """What of the pointings of a name is calibrated together, and its windows by band.

    A pointing by itself, or in each band those that are within a primary beam of each other.
    """
    bands = [_bands(seen, selection, instrument, band) for seen in own]
    if not mosaics or len(own) < 2:
        return list(zip(own, bands, strict=True))
    found: dict[tuple[int, ...], dict[str, list[int]]] = {}
    for name in dict.fromkeys(name for each in bands for name in each):
        members = [number for number, each in enumerate(bands) if name in each]
        windows = sorted({window for number in members for window in bands[number][name]})
        centre_hz = np.mean([selection.windows[window].reference.centre_hz for window in windows])
        for group in _overlapping([own[n] for n in members], float(centre_hz), instrument, band):
            together = tuple(members[place] for place in group)
            taken = {window for number in together for window in bands[number][name]}
            found.setdefault(together, {})[name] = sorted(taken)
    return [(_joined([own[n] for n in together]), found[together]) for together in sorted(found)]


def _overlapping(
    pointings: Sequence[Sequence[Sighting]], frequency_hz: float, instrument: str, band: str
) -> list[list[int]]:
    """Groups of pointings within an HPBW of each other; each alone where no beam is known."""
    executions = [one.execution for seen in pointings for one in seen]
    places = [seen[0].execution.directions_rad[seen[0].fields[0]] for seen in pointings]
    dishes = [each.dish_diameter_m for each in executions]
    named = identify(executions[0].telescope, frequency_hz, instrument, band)[0]
    # the largest dishes have the narrowest beam
    beam = find_beam(named, frequency_hz, max(dishes)) if min(dishes) > 0 else None
    if beam is None or any(place is None for place in places):
        return [[number] for number in range(len(pointings))]
    width = 2.0 * beam.reach_rad(frequency_hz, 0.5)
    return linked([place for place in places if place is not None], width)


def _joined(pointings: Sequence[Sequence[Sighting]]) -> list[Sighting]:
    """The fields of several pointings by execution, in order of time."""
    ids: dict[str, tuple[int, ...]] = {}
    by_name = {one.execution.vis: one.execution for seen in pointings for one in seen}
    for one in (one for seen in pointings for one in seen):
        ids[one.execution.vis] = (*ids.get(one.execution.vis, ()), *one.fields)
    return [Sighting(each, ids[each.vis]) for each in in_order_of_time(list(by_name.values()))]


def _bands(
    seen: Sequence[Sighting], selection: _Selection, instrument: str, band: str
) -> dict[str, list[int]]:
    """Virtual windows that are chosen and in which a field has data, by band."""
    found: dict[str, list[int]] = {}
    for number in sorted(selection.chosen):
        window = selection.windows[number]
        if any(selection.part(sighting, [number], "") for sighting in seen):
            telescope = seen[0].execution.telescope
            centre_hz = window.reference.centre_hz
            found.setdefault(identify(telescope, centre_hz, instrument, band)[1], []).append(number)
    return found


def _targets_of(
    name: str,
    stem: str,
    seen: Sequence[Sighting],
    executions: Sequence[Execution],
    bands: Mapping[str, Sequence[int]],
    selection: _Selection,
    taken: set[str],
) -> list[Target]:
    """The targets that one field makes, a band each."""
    found = []
    for band, numbers in bands.items():
        label = _distinct(f"{stem}_{band or 'other'}" if len(bands) > 1 else stem, taken)
        parts = tuple(filter(None, (selection.part(one, numbers, stem) for one in seen)))
        vis = [part.vis for part in parts]
        said = f"has no {band} data of {name}" if len(bands) > 1 else f"has no data of {name}"
        notes = tuple(f"{e.vis} {said}" for e in executions if e.vis not in vis)
        moves = len(parts) > 1 and any(one.execution.moves(one.fields) for one in seen)
        problem = MOVES.format(name=name) if moves else ""
        found.append(Target(label, name, band, parts, tuple(numbers), notes, problem))
    return found


def _distinct(label: str, taken: set[str]) -> str:
    """A label that is not taken yet, also where letters of both cases are one."""
    name, number = label, 2
    while name.lower() in taken:
        name, number = f"{label}_{number}", number + 1
    taken.add(name.lower())
    return name
