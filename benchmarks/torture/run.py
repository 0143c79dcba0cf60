"""Broken settings, broken data and sudden death: how often the command comes off badly.

    python -m benchmarks.torture.run [--settings 500] [--sets 500] [--kills 200] [--seed 1]

Counted are tracebacks, errors of Python or of casacore in place of a message, failures without a
word, crashes, hangs, originals that were changed, and results that differ after a kill. What went
wrong is listed with the number of the draw, which the same seed repeats (``--first``), and its
folder is kept.
"""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.torture.kills import Reference, killed_run
from benchmarks.torture.observation import digest, make_observation
from benchmarks.torture.outcomes import Attempt
from benchmarks.torture.sets import mutated_set
from benchmarks.torture.settings import random_settings
from benchmarks.torture.victims import VICTIMS, make_victim

__all__ = ["main"]


class _Tally:
    """Counts of one kind of torture."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.draws = 0
        self.well = 0
        self.faults: collections.Counter[str] = collections.Counter()

    def add(self, number: int, found: Attempt, *more: str) -> None:
        """Count an attempt and show its faults."""
        self.draws += 1
        self.well += found.code == 0
        for fault in filter(None, (found.fault, *more)):
            self.faults[fault] += 1
            last = (found.output.strip().splitlines() or [""])[-1]
            print(f"{self.name} {number}: {fault}: {found.what[:300]}: {last[:300]}", flush=True)

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {name}" for name, count in self.faults.items()) or "0 faults"
        return f"{self.name}: {self.draws} draws, {self.well} ended well, {faults}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for; return 1 where anything came off badly."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    add = parser.add_argument
    add("--settings", type=int, default=500, help="random configs and command lines")
    add("--sets", type=int, default=500, help="mutated measurement sets")
    add("--kills", type=int, default=200, help="runs killed at random instants, of all victims")
    add("--victims", nargs="+", choices=list(VICTIMS), default=list(VICTIMS), help="what is killed")
    add("--seed", type=int, default=1)
    add("--first", type=int, default=0, help="number of the first draw")
    add("--folder", type=Path, help="where runs are made; default: a temporary folder")
    asked = parser.parse_args(argv)
    folder = (asked.folder or Path(tempfile.mkdtemp(prefix="torture_"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    origin = make_observation(folder / "origin.ms")
    before = digest(origin)
    tallies = [_Tally("settings"), _Tally("sets")]
    draws = range(asked.first, asked.first + asked.settings)
    for number in draws:
        tallies[0].add(number, random_settings(number, asked.seed, origin, folder / "."))
    for number in range(asked.first, asked.first + asked.sets):
        found, changed = mutated_set(number, asked.seed, origin, folder)
        tallies[1].add(number, found, "original changed" if changed else "")
    for place, name in enumerate(asked.victims if asked.kills else ()):
        victim = make_victim(name, folder / f"data_{name}")
        reference = Reference(victim, folder / f"kills_{name}")
        tallies.append(_Tally(f"kills of {name}"))
        for number in range(asked.first + place, asked.first + asked.kills, len(asked.victims)):
            found, different = killed_run(number, asked.seed, reference)
            tallies[-1].add(number, found, f"difference in {different}" if different else "")
        if reference.changed:
            tallies[-1].faults["original changed"] += 1
    changed = digest(origin) != before
    print(*tallies, f"the observation itself: {'CHANGED' if changed else 'unchanged'}", sep="\n")
    print(f"what is kept: {folder}")
    return int(changed or any(tally.faults for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
