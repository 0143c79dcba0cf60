"""A run's solutions.h5: the product of its accepted rounds, and the rounds themselves.

Each round's own table is kept in the file, so that the product can be recomputed. A round that is
repeated after a crash replaces itself, and a round that is undone leaves no trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.core.files import locked
from libs.gains.gain_solutions import GainSolutions
from libs.h5parm.combine import combine
from libs.h5parm.provenance import DATASET, Entry, entries_from, entries_of, rows_of, timestamp
from libs.h5parm.reader import SOLSET, as_written, open_h5, read_h5parm, write_h5parm
from libs.h5parm.solset import Solset, from_gain_solutions

__all__ = ["INPUT", "Round", "accumulate_round", "read_rounds", "start_from"]

INPUT = "input"
"""Name of the round with the solutions from which a run started."""

_TABLE = "rounds"
_ARRAYS = ("time_s", "frequency_hz", "position_m", "direction_rad", "phase_rad", "amplitude")


@dataclass(frozen=True)
class Round:
    """An accepted round.

    Attributes
    ----------
    name : str
    on : tuple of str
        Rounds whose tables were applied before this one was solved, in order.
    date : str
        Date of the solutions, UTC, ISO 8601.
    run : str
        Name of the run to which it belongs.
    solset : Solset
        Solutions of this round alone, of one direction.
    coherence : (nant,) float64
        Coherence of each antenna, 0 to 1; NaN where not measured.
    entries : tuple of Entry
        Provenance of solutions from which the run started; empty for its own.
    """

    name: str
    on: tuple[str, ...]
    date: str
    run: str
    solset: Solset
    coherence: NDArray[np.float64]
    entries: tuple[Entry, ...] = ()

    def same_as(self, other: Round) -> bool:
        """Return True when both hold the same solutions (the date does not matter)."""
        arrays = (*_ARRAYS, "weight", "tec_tecu")
        return (
            (self.name, self.on, self.run) == (other.name, other.on, other.run)
            and self.entries == other.entries
            and np.array_equal(self.coherence, other.coherence, equal_nan=True)
            and (self.solset.antenna, self.solset.direction, self.solset.polarization)
            == (other.solset.antenna, other.solset.direction, other.solset.polarization)
            and all(
                np.array_equal(getattr(self.solset, a), getattr(other.solset, a)) for a in arrays
            )
        )


def accumulate_round(
    run_h5parm: Path,
    round_name: str,
    solutions: GainSolutions | Solset,
    *,
    on: Sequence[str] = (),
    direction: str = "target",
    direction_rad: Sequence[float] = (0.0, 0.0),
    run: str = "",
    coherence: Mapping[str, float] | None = None,
    date: str | None = None,
    timeout_s: float = 600.0,
) -> Solset:
    """Add an accepted round to the run's h5parm.

    The file then holds the product of the rounds ``on`` and this one. A round of the same name, and
    all that were accepted after it, are replaced. The same call again changes nothing, so a run
    killed at any time and continued ends with the same solutions.

    Parameters
    ----------
    run_h5parm : Path
        File to change, created if necessary; it is replaced as a whole, under a lock.
    round_name : str
        Name of the round.
    solutions : GainSolutions or Solset
        Solutions of this round alone (of one direction, if a Solset).
    on : sequence of str
        Rounds whose tables were applied before this one was solved; solutions of other rounds are
        not part of the product.
    direction, direction_rad : str, (ra, dec)
        Target of `GainSolutions`; J2000, rad.
    run : str
        Name of the run, for the provenance.
    coherence : mapping of str to float, optional
        Coherence of each antenna, 0 to 1.
    date : str, optional
        Date, UTC, ISO 8601; default now.

    Returns
    -------
    Solset
        Product of the rounds.

    Raises
    ------
    InputError
        A round in ``on`` is not in the file, or there are no solutions.
    """
    if isinstance(solutions, GainSolutions):
        solutions = from_gain_solutions(solutions, direction, direction_rad)
    if len(solutions.direction) != 1:
        raise InputError(f"a round has one direction, not {len(solutions.direction)}", "choose one")
    known = coherence or {}
    new = Round(
        name=round_name,
        on=tuple(on),
        date=date or timestamp(),
        run=run,
        solset=as_written(solutions),
        coherence=np.array([known.get(name, np.nan) for name in solutions.antenna]),
    )
    return _accept(Path(run_h5parm), new, timeout_s)


def start_from(
    run_h5parm: Path, initial: Path, *, run: str = "", timeout_s: float = 600.0
) -> Solset:
    """Begin a run's h5parm with the solutions by which its data were corrected.

    They become the round named `INPUT`, which later rounds name in ``on``. Stations for which no
    round has a solution keep these, with their provenance.

    Parameters
    ----------
    run_h5parm : Path
        File of the run, which is created.
    initial : Path
        File of one direction, such as `libs.h5parm.nearest.best` returns.

    Raises
    ------
    InputError
        The file is not an h5parm of one direction.
    """
    initial = Path(initial)
    solset = as_written(read_h5parm(initial))
    if len(solset.direction) != 1:
        raise InputError(f"{initial} has {len(solset.direction)} directions", "choose one")
    entries = entries_of(initial, solset)
    known = {entry.station: entry.coherence for entry in entries.values()}
    new = Round(
        name=INPUT,
        on=(),
        date=max(entry.date for entry in entries.values()) if entries else timestamp(),
        run=run,
        solset=solset,
        coherence=np.array([known.get(name, np.nan) for name in solset.antenna]),
        entries=tuple(entries.values()),
    )
    return _accept(Path(run_h5parm), new, timeout_s)


def read_rounds(run_h5parm: Path) -> list[Round]:
    """Return the rounds of a run's h5parm in the order in which they were accepted.

    Raises
    ------
    InputError
        The file is not an h5parm, or not one of a run.
    """
    path = Path(run_h5parm)
    with open_h5(path) as file:
        group = file.get(SOLSET)
        if group is None or _TABLE not in group:
            raise InputError(f"{path} holds no rounds", "give the solutions.h5 of a run")
        return [_read_round(group, i, row) for i, row in enumerate(group[_TABLE][()])]


def _accept(path: Path, new: Round, timeout_s: float) -> Solset:
    with locked(path, timeout_s):
        rounds = read_rounds(path) if path.exists() else []
        names = [old.name for old in rounds]
        before = rounds[: names.index(new.name)] if new.name in names else rounds
        for name in new.on:
            _index(before, name, path)
        if len(before) + 1 == len(rounds) and rounds[-1].same_as(new):
            return _product(rounds)[0]
        return _write(path, [*before, new])


def _index(rounds: Sequence[Round], name: str, path: Path) -> int:
    names = [r.name for r in rounds]
    if name not in names:
        raise InputError(f"{path} has no round {name}", f"it has {', '.join(names) or 'none'}")
    return names.index(name)


def _product(rounds: Sequence[Round]) -> tuple[Solset, list[Entry]]:
    """Return the product of the last round and those it was solved on, and its provenance."""
    by_name = {r.name: r for r in rounds}
    last = rounds[-1]
    factors = [*(by_name[name] for name in last.on), last]
    product = factors[0].solset
    for factor in factors[1:]:
        product = combine(product, factor.solset).solset
    # The target's position is that in the run's own rounds.
    target = last.solset
    product = as_written(
        replace(product, direction=target.direction, direction_rad=target.direction_rad)
    )
    return product, [
        entry
        for station in product.antenna
        if (entry := _origin(station, target.direction[0], factors)) is not None
    ]


def _origin(station: str, direction: str, factors: Sequence[Round]) -> Entry | None:
    """Return the provenance of one station: the last factor with its solutions, and the input."""
    own, given = None, None
    for factor in factors:
        if station not in factor.solset.antenna:
            continue
        i = factor.solset.antenna.index(station)
        if not factor.solset.valid[:, :, i].any():
            continue
        if factor.entries:
            given = next((e for e in factor.entries if e.station == station), None)
            continue
        own = Entry(
            direction,
            station,
            source=direction,
            run=factor.run,
            coherence=float(factor.coherence[i]),
            date=factor.date,
        )
    if own is None:
        return None if given is None else replace(given, direction=direction)
    if given is not None:
        own = replace(own, refined_from=given.source, input=given.input)
    return own


# ------------------------------------------------------------------------------------- the file


def _write(path: Path, rounds: Sequence[Round]) -> Solset:
    product, entries = _product(rounds)
    datasets: dict[str, NDArray[Any]] = {
        DATASET: rows_of(product, entries, made_here=True),
        _TABLE: _text_table(
            [{"name": r.name, "on": ",".join(r.on), "date": r.date, "run": r.run} for r in rounds]
        ),
    }
    for number, one in enumerate(rounds):
        datasets |= {f"round{number:02d}_{key}": a for key, a in _arrays(one).items()}
    write_h5parm(path, product, datasets)
    return product


def _arrays(one: Round) -> dict[str, NDArray[Any]]:
    solset = one.solset
    arrays: dict[str, NDArray[Any]] = {name: getattr(solset, name) for name in _ARRAYS}
    arrays["weight"] = solset.weight.astype(np.float32)
    for name in ("antenna", "direction", "polarization"):
        arrays[name] = np.array([text.encode() for text in getattr(solset, name)])
    arrays["coherence"] = one.coherence
    if solset.tec_tecu is not None:
        arrays["tec_tecu"] = solset.tec_tecu
    if one.entries:
        arrays[DATASET] = rows_of(solset, one.entries, made_here=False)
    return arrays


def _text_table(rows: Sequence[Mapping[str, str]]) -> NDArray[Any]:
    names = list(rows[0])
    widths = {n: max(16, *(len(row[n].encode()) + 1 for row in rows)) for n in names}
    table = np.zeros(len(rows), dtype=[(n, f"S{widths[n]}") for n in names])
    for name in names:
        table[name] = [row[name].encode() for row in rows]
    return table


def _read_round(group: h5py.Group, number: int, row: Any) -> Round:
    def get(name: str) -> Any:
        node = group.get(f"round{number:02d}_{name}")
        return None if node is None else node[()]

    def names(name: str) -> tuple[str, ...]:
        return tuple(text.decode() for text in get(name))

    entries = get(DATASET)
    solset = Solset(
        antenna=names("antenna"),
        direction=names("direction"),
        polarization=names("polarization"),
        weight=get("weight").astype(float),
        tec_tecu=get("tec_tecu"),
        **{name: get(name) for name in _ARRAYS},
    )
    on = row["on"].decode()
    return Round(
        name=row["name"].decode(),
        on=tuple(on.split(",")) if on else (),
        date=row["date"].decode(),
        run=row["run"].decode(),
        solset=solset,
        coherence=get("coherence"),
        entries=() if entries is None else tuple(entries_from(entries)),
    )
