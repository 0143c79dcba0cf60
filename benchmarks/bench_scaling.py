"""How the seconds of a run grow with rows, antennas and image size: three sizes of each."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.bench import RESULTS
from benchmarks.running import run_selfcal
from libs.simulation.scenarios import make_scenario, scenario

__all__ = ["Point", "main", "points"]

CASE = "vla_a_5ghz"


@dataclass(frozen=True)
class Point:
    """One run of the ladder: ``axis`` is what differs from the first of its kind."""

    axis: str
    integrations: float
    antennas: int
    imsize: int


@dataclass(frozen=True)
class Timing:
    """What a run took, seconds and MB."""

    rows: int
    seconds: float
    imaging: float
    solving: float
    peak_mb: float


def points(largest: float = 4.0) -> Iterator[Point]:
    """Yield the runs: rows, antennas and pixels are changed one at a time."""
    for factor in (largest / 4, largest / 2, largest):
        yield Point("rows", factor, 27, 256)
    for antennas in (9, 18, 27):
        yield Point("antennas", largest / 4, antennas, 256)
    for imsize in (256, 512, 1024):
        yield Point("pixels", largest / 4, 27, imsize)


def measure(point: Point, folder: Path) -> Timing:
    """Run the command on data of this size; fov_image is left out, its size is not a choice."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = dataclasses.replace(scenario(CASE), imsize=point.imsize)
    simulation = make_scenario(
        chosen, folder / "data.ms", point.integrations, antennas=point.antennas, perfect=False
    )
    steps = ["startup", "save_init_flags", "test_image", "select_refant", "initial_model",
             "p0", "p1", "p2", "ap1"]  # fmt: skip
    settings = {
        "vis": str(simulation.ms),
        "imsize": point.imsize,
        "cell": f"{chosen.cell_arcsec}arcsec",
        "steps": steps,
    }
    finished, summary = run_selfcal(folder, settings)
    return Timing(
        rows=simulation.observation.rows,
        seconds=finished.seconds,
        imaging=float(summary["seconds_imaging"]),
        solving=float(summary["seconds_solving"]),
        peak_mb=finished.peak_mb,
    )


def table(results: Sequence[tuple[Point, Timing]]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| changed | rows | antennas | pixels | s | s imaging | s solving | memory, MB |",
        "|" + "---|" * 8,
    ]
    for point, timing in results:
        lines.append(
            f"| {point.axis} | {timing.rows} | {point.antennas} | {point.imsize}² |"
            f" {timing.seconds:.0f} | {timing.imaging:.0f} | {timing.solving:.1f} |"
            f" {timing.peak_mb:.0f} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ladder and print it."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--largest", type=float, default=4.0,
                        help="most integrations, in units of the benchmark's own")  # fmt: skip
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args(argv)
    folder = arguments.results.absolute() / "scaling"
    results: list[tuple[Point, Timing]] = []
    known: dict[Point, Timing] = {}
    for point in points(arguments.largest):
        key = dataclasses.replace(point, axis="")
        if key not in known:
            shutil.rmtree(folder, ignore_errors=True)
            print(f"{point} ...", file=sys.stderr, flush=True)
            known[key] = measure(point, folder)
        results.append((point, known[key]))
        record = [{**asdict(p), **asdict(t)} for p, t in results]
        (arguments.results.absolute() / "scaling.json").write_text(json.dumps(record, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
