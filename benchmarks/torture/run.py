"""Broken settings, broken data and sudden death: how often the command comes off badly.

    python -m benchmarks.torture.run [--settings 500] [--sets 500] [--kills 200] [--seed 1]

Counted are tracebacks, errors of Python or of casacore in place of a message, failures without a
word, crashes, hangs, originals that were changed, and results that differ after a kill. What went
wrong is listed with the number of the draw, which the same seed repeats (``--first``), and its
folder is kept. Each draw is a line of ``results.jsonl`` in the folder: the same command goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.torture.escapes import Escapes
from benchmarks.torture.false_imager import put_imager
from benchmarks.torture.harms import HARMS, unable
from benchmarks.torture.kills import Reference, killed_run
from benchmarks.torture.observation import digest, make_observation
from benchmarks.torture.outcomes import Attempt
from benchmarks.torture.sets import mutated_set
from benchmarks.torture.settings import random_settings
from benchmarks.torture.victims import VICTIMS, make_victim, small_run

__all__ = ["main"]

Draw = Callable[[int], tuple[Attempt, str]]
"""Function of the number of a draw: how the command ended, and what else was wrong."""


class _Results:
    """The draws that were made, in a file that outlives a run that is stopped."""

    def __init__(self, path: Path, seed: int) -> None:
        self._path, self._seed = path, seed
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows: list[dict[str, Any]] = [
            row for row in map(json.loads, lines) if row["seed"] == seed
        ]

    def missing(self, kind: str, numbers: Iterable[int]) -> list[int]:
        """Return the draws of a kind that were not made yet."""
        made = {row["number"] for row in self.rows if row["kind"] == kind}
        return [number for number in numbers if number not in made]

    def add(self, kind: str, number: int, found: Attempt, more: str) -> None:
        """Keep a draw and show its faults."""
        faults = [fault for fault in (found.fault, more) if fault]
        lines = [line for line in found.output.splitlines() if line.strip()]
        last = lines[-1][:300] if lines else ""
        row = {
            "kind": kind, "number": number, "seed": self._seed, "what": found.what[:300],
            "code": found.code, "faults": faults, "last": last, "cpu_s": round(found.cpu_s, 2),
        }  # fmt: skip
        self.rows.append(row)
        with self._path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        for fault in faults:
            print(f"{kind} {number}: {fault}: {row['what']}: {last}", flush=True)

    def table(self) -> Mapping[str, str]:
        """Return a line for each kind: draws, those that ended well, faults."""
        table = {}
        for kind in dict.fromkeys(row["kind"] for row in self.rows):
            rows = [row for row in self.rows if row["kind"] == kind]
            faults = collections.Counter(fault for row in rows for fault in row["faults"])
            listed = ", ".join(f"{count} {name}" for name, count in faults.items()) or "0 faults"
            well = sum(row["code"] == 0 for row in rows)
            table[kind] = f"{kind}: {len(rows)} draws, {well} ended well, {listed}"
        return table


def _settings(origin: Path, seed: int) -> Draw:
    return lambda number: (random_settings(number, seed, origin, origin.parent), "")


def _sets(origin: Path, seed: int) -> Draw:
    def draw(number: int) -> tuple[Attempt, str]:
        found, changed = mutated_set(number, seed, origin, origin.parent)
        return found, "original changed" if changed else ""

    return draw


def _kills(name: str, origin: Path, seed: int) -> Draw:
    """Return the draws of one victim, whose data and undisturbed run are made now."""
    folder = origin.parent
    for left in (folder / f"data_{name}", folder / f"kills_{name}" / "reference"):
        shutil.rmtree(left, ignore_errors=True)  # of a run of this that was stopped
    victim = make_victim(name, folder / f"data_{name}")
    reference = Reference(victim, folder / f"kills_{name}")

    def draw(number: int) -> tuple[Attempt, str]:
        found, different = killed_run(number, seed, reference)
        if reference.changed:
            return found, "original changed"
        return found, f"difference in {different}" if different else ""

    return draw


def _harm(name: str, origin: Path, seed: int) -> Draw:
    """Return the draws of one kind of trouble."""
    folder = origin.parent / f"harm_{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    harm: Mapping[str, Any] = {}
    if name == "imager":
        programs = put_imager(folder / "reference_imager", "", 0)
        harm = {"env": {"PATH": f"{programs}:{os.environ['PATH']}"}}
    victim = small_run(folder / "data", "wsclean" if name == "imager" else "native")
    reference = Reference(victim, folder, harm)

    def draw(number: int) -> tuple[Attempt, str]:
        rng = np.random.default_rng([seed, number, list(HARMS).index(name)])
        found, more = HARMS[name](rng, folder / f"{name}_{number}", reference)
        return found, "original changed" if reference.changed else more

    return draw


def _make(
    kind: str, numbers: Iterable[int], results: _Results, prepare: Callable[[], Draw]
) -> None:
    """Make the draws of a kind that are missing."""
    missing = results.missing(kind, numbers)
    draw = prepare() if missing else None
    for number in missing:
        assert draw is not None
        results.add(kind, number, *draw(number))


def _asked(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    add = parser.add_argument
    add("--settings", type=int, default=500, help="random configs and command lines")
    add("--sets", type=int, default=500, help="mutated measurement sets")
    add("--kills", type=int, default=200, help="runs killed at random instants, of all victims")
    add("--victims", nargs="+", choices=list(VICTIMS), default=list(VICTIMS), help="what is killed")
    add("--harms", type=int, default=250, help="runs on a machine that gives trouble, of all kinds")
    add("--kinds", nargs="+", choices=list(HARMS), default=list(HARMS), help="what trouble it is")
    add("--escapes", type=int, default=200, help="files from elsewhere that try to escape")
    add("--seed", type=int, default=1)
    add("--first", type=int, default=0, help="number of the first draw")
    add("--folder", type=Path, help="where runs are made; default: a temporary folder")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for; return 1 where anything came off badly."""
    asked = _asked(argv)
    folder = (asked.folder or Path(tempfile.mkdtemp(prefix="torture_"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    origin = folder / "origin.ms"
    if not origin.exists():
        make_observation(origin)
    before, seed, first = digest(origin), asked.seed, asked.first
    results = _Results(folder / "results.jsonl", seed)
    of = functools.partial(_make, results=results)
    settings, sets = (range(first, first + count) for count in (asked.settings, asked.sets))
    of("settings", settings, prepare=functools.partial(_settings, origin, seed))
    of("sets", sets, prepare=functools.partial(_sets, origin, seed))
    for place, name in enumerate(asked.victims):
        numbers = range(first + place, first + asked.kills, len(asked.victims))
        of(f"kills of {name}", numbers, prepare=functools.partial(_kills, name, origin, seed))
    for place, name in enumerate(asked.kinds):
        numbers = range(first + place, first + asked.harms, len(asked.kinds))
        if asked.harms and unable(name):
            print(f"{name}: not tried: {unable(name)}")
            continue
        of(name, numbers, prepare=functools.partial(_harm, name, origin, seed))
    escapes = Escapes(folder / "escapes", origin, seed)
    of("escapes", range(first, first + asked.escapes), prepare=lambda: escapes.draw)
    changed = digest(origin) != before
    print(*results.table().values(), sep="\n")
    print(f"the observation itself: {'CHANGED' if changed else 'unchanged'}")
    print(f"what is kept: {folder}")
    return int(changed or any(row["faults"] for row in results.rows))


if __name__ == "__main__":
    sys.exit(main())
