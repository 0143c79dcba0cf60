"""The same simulated data through NRAO's auto_selfcal and through this program.

``--case`` takes a named simulation, ``--random N --seed S`` the first N cases of the campaign's
drawing from that seed on which the peer can do (`benchmarks.peer_random.counts` says which). Both
programs run with their own defaults; results are imaged alike. For the VLA the peer images the
whole primary beam at full resolution (16384 pixels a side at 5 GHz in A), which takes hours and
more memory than a small machine has; ALMA's is smaller.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.bench import RESULTS
from benchmarks.peer import PACKAGE, PeerMissingError, data_for_peer, install_peer, run_peer
from benchmarks.peer_random import compare_drawn, random_table, tally
from benchmarks.running import ROOT, Finished, run_selfcal
from benchmarks.truth import compare_with_truth, image_alike
from libs.simulation.scenarios import make_scenario

__all__ = ["Row", "main"]

CASES = {"alma_230ghz": "", "vla_a_5ghz": "EVLA_C", "vla_a_8ghz": "EVLA_X"}


@dataclass(frozen=True)
class Row:
    """One program's result; dynamic range and flux beside perfect calibration."""

    program: str
    seconds: float
    cpu_seconds: float
    peak_mb: float
    dynamic_range: float
    ratio: float
    flux_ratio: float


def compare_programs(case: str, folder: Path, scale: float) -> list[Row]:
    """Run both on one data set and image their results and the perfect data alike."""
    python = install_peer(folder)
    place = folder / "peers"
    shutil.rmtree(place, ignore_errors=True)
    (place / "peer").mkdir(parents=True)
    simulation = make_scenario(case, place / f"{case}.ms", scale)
    ours, summary = run_selfcal(place, {"vis": str(simulation.ms)})
    workdir = place / "ours"
    assert simulation.perfect_ms is not None
    perfect, ideal = image_alike(workdir, simulation.perfect_ms, place / "images", "perfect")
    judged = compare_with_truth(perfect, workdir / summary["final"]["image"])
    reached = float(summary["final"]["dynamic_range"])
    rows = [_row("this program", ours, reached, ideal.dynamic_range, judged.flux_ratio)]
    given = data_for_peer(simulation.ms, place / "peer", CASES[case])
    theirs = run_peer([given], place / "peer", python)
    products, statistics = image_alike(workdir, theirs.sets[0], place / "images", "peer")
    judged = compare_with_truth(perfect, products.image)
    rows.append(
        _row(PACKAGE, theirs.finished, statistics.dynamic_range, ideal.dynamic_range,
             judged.flux_ratio)
    )  # fmt: skip
    return rows


def _row(program: str, finished: Finished, reached: float, ideal: float, flux: float) -> Row:
    return Row(
        program,
        finished.seconds,
        finished.cpu_seconds,
        max(finished.peak_mb, finished.children_mb),
        reached,
        reached / ideal,
        flux,
    )


def table(rows: Sequence[Row]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| program | s | CPU s | memory, MB | DR | of perfect | flux ratio |",
        "|" + "---|" * 7,
    ]
    lines += [
        f"| {r.program} | {r.seconds:.0f} | {r.cpu_seconds:.0f} | {r.peak_mb:.0f} |"
        f" {r.dynamic_range:.0f} | {r.ratio:.3f} | {r.flux_ratio:.3f} |"
        for r in rows
    ]
    return "\n".join(lines)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    parser.add_argument("--case", choices=CASES, default="alma_230ghz", help="simulation")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the integrations")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="drawn cases")
    parser.add_argument("--seed", type=int, default=1, help="seed from which they are drawn")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds for a drawn case")
    parser.add_argument("--keep", action="store_true", help="keep data and images of drawn cases")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print; 1, with the reason, when the peer cannot be installed or run."""
    arguments = _parse(argv)
    folder: Path = arguments.results.absolute()
    try:
        if arguments.random:
            drawn = compare_drawn(
                arguments.seed, arguments.random, folder, arguments.limit, keep=arguments.keep
            )
            print(random_table(drawn))
            print(", ".join(f"{name}: {count}" for name, count in tally(drawn).items()))
            return 0
        rows = compare_programs(arguments.case, folder, arguments.scale)
    except PeerMissingError as error:
        print(f"no comparison: {error}")
        return 1
    (folder / "peers.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
    print(table(rows))
    faster = rows[1].seconds / rows[0].seconds
    print(f"{arguments.case}; this program is {faster:.1f} times as fast")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
