"""Random observations, self-calibrated with the defaults and scored: ``--n 200 --seed S``.

Every case follows from its own seed, S, S + 1, ..., so that one of them is repeated alone with
``--n 1``. Results are added to ``campaign.jsonl`` one by one; a campaign that was killed goes on
where it stopped. The report is printed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.bench import RESULTS
from benchmarks.campaign.report import report
from benchmarks.campaign.scoring import Drawing, Score, run_drawn
from libs.core.errors import SelfcalError
from selfcal.cluster import Outcome, run_all

__all__ = ["main"]


def _done(path: Path) -> dict[int, dict[str, Any]]:
    """Return the scores on record, by seed; a line cut off by a kill is left out."""
    done = {}
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            done[int(row["seed"])] = row
    return done


def _scored(outcome: Outcome) -> Score:
    """Return the score of a case; one whose process died was not run."""
    if outcome.ok:
        score: Score = outcome.value
        return score
    return Score(outcome.item.seed, "unknown", "not run", {}, fault=outcome.error)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases that are not on record and print the report; 1 when any could not be run."""
    parser = argparse.ArgumentParser(prog="make bench-random", description=__doc__)
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--n", type=int, default=20, help="number of cases")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first case")
    parser.add_argument("--cluster", default=f"local:{cores}",
                        help="where cases run side by side: local:N, tcp://host:port (a Dask"
                             " scheduler) or slurm.yaml; default: one a core")  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="keep data and images of every case")
    parser.add_argument("--restart", action="store_true", help="forget the cases on record")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args(argv)
    folder: Path = arguments.results.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "campaign.jsonl"
    if arguments.restart:
        record.unlink(missing_ok=True)
    wanted = range(arguments.seed, arguments.seed + arguments.n)
    done = _done(record)
    with record.open("a") as stream:
        if stream.tell() and not record.read_bytes().endswith(b"\n"):
            stream.write("\n")  # ends a line that a kill cut off

        def note(outcome: Outcome) -> None:
            row = asdict(_scored(outcome))
            done[row["seed"]] = row
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            print(f"{row['seed']} {row['title']}: {row['status']}, {row['ratio']:.3f} of perfect,"
                  f" flux {row['flux_ratio']:.3f} {row['fault']}", file=sys.stderr)  # fmt: skip

        left = [Drawing(seed, folder, arguments.keep) for seed in wanted if seed not in done]
        try:
            run_all(run_drawn, left, arguments.cluster, note)
        except SelfcalError as error:
            parser.error(str(error))
    scores = [Score(**done[seed]) for seed in wanted if seed in done]
    print(report([asdict(each) for each in scores]))
    return 1 if any(each.fault for each in scores) else 0


if __name__ == "__main__":
    sys.exit(main())
