"""How the imager's time and memory grow with rows and pixels, beside WSClean.

Every point is a process of its own on data like ``vla_a_5ghz`` without gain errors divided out:
at most 2000 components down to 3 sigma. The imagers take turns, and what the machine does
meanwhile falls on both.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.bench import RESULTS
from benchmarks.bench_imager import cpu_s, imager_named, options_of
from benchmarks.running import ROOT, run_command
from libs.imaging.native.memory import image_bytes
from libs.simulation.scenarios import make_scenario, scenario

__all__ = ["Point", "fitted_exponent", "main", "table"]

_CASE = "vla_a_5ghz"
_PIXELS = 512
_ROWS = (1e5, 1e6, 1e7)
_SIZES = (256, 512, 1024, 2048, 4096)
_LONGEST_S = 300.0  # an imager that took longer is not asked for the next larger point


@dataclass(frozen=True)
class Point:
    """One image: ``limit_mb`` is what the imager was allowed, 0 for all it wants."""

    axis: str
    imager: str
    threads: int
    rows: int
    pixels: int
    limit_mb: float
    cpu_s: float
    wall_s: float
    peak_mb: float


def fitted_exponent(size: Sequence[float], seconds: Sequence[float]) -> float:
    """Return b of seconds = a size^b by least squares of the logarithms."""
    return float(np.polyfit(np.log(size), np.log(seconds), 1)[0])


def make_one(
    vis: Path, folder: Path, imager: str, threads: int, pixels: int, limit_mb: float
) -> dict[str, float]:
    """Make one image in this process; return its CPU and wall seconds."""
    options = dataclasses.replace(
        options_of(_CASE, vis, folder, "scaling", False), imsize=(pixels, pixels),
        threads=threads, niter=2000, automask_nsigma=0.0, autothreshold_nsigma=3.0,
        memory_bytes=1e6 * limit_mb,
    )  # fmt: skip
    start = cpu_s(), time.monotonic()
    imager_named(imager, folder).image(options)
    return {"cpu_s": cpu_s() - start[0], "wall_s": time.monotonic() - start[1]}


class _Runner:
    """Runs points on data that are made when the number of rows changes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows, self.made = folder, 0.0, 0
        self.points: list[Point] = []

    def data(self, rows: float) -> Path:
        """Return data of about so many rows."""
        path = self.folder / "data.ms"
        if rows != self.rows:
            shutil.rmtree(path, ignore_errors=True)
            chosen = scenario(_CASE)
            factor = rows / chosen.observation().rows
            self.made = make_scenario(chosen, path, factor, perfect=False).observation.rows
            self.rows = rows
        return path

    def run(
        self, axis: str, imager: str, threads: int, rows: float, pixels: int, limit_mb: float = 0.0
    ) -> Point:
        """Make one image in a process of its own."""
        vis = self.data(rows)
        result = self.folder / "point.json"
        words = [
            sys.executable, "-m", "benchmarks.bench_imager_scaling", "--folder", str(self.folder),
            "--one", str(vis), imager, str(threads), str(pixels), str(limit_mb),
        ]  # fmt: skip
        done = run_command(words, self.folder / "point.out", cwd=ROOT)
        if done.code:
            raise RuntimeError(done.log.read_text(errors="replace")[-2000:])
        taken = json.loads(result.read_text())
        peak = max(done.peak_mb, done.children_mb)
        point = Point(axis, imager, threads, self.made, pixels, limit_mb, peak_mb=peak, **taken)
        self.points.append(point)
        print(row_of(point), file=sys.stderr, flush=True)
        return point

    def series(
        self, axis: str, places: Sequence[tuple[float, int]], imagers: Sequence[tuple[str, int]]
    ) -> None:
        """Run every imager at every place, as long as it is quick enough."""
        slow: set[tuple[str, int]] = set()
        for rows, pixels in places:
            for imager, threads in imagers:
                if (imager, threads) in slow:
                    continue
                if self.run(axis, imager, threads, rows, pixels).wall_s > _LONGEST_S:
                    slow.add((imager, threads))


def row_of(point: Point) -> str:
    """Return a point as a row of the table."""
    limit = f"{point.limit_mb:.0f}" if point.limit_mb else "-"
    return (
        f"| {point.axis} | {point.imager} | {point.threads} | {point.rows} | {point.pixels}² |"
        f" {limit} | {point.cpu_s:.2f} | {point.wall_s:.1f} | {point.peak_mb:.0f} |"
    )


def table(points: Sequence[Point]) -> str:
    """Return the points as a Markdown table, and the exponents of each axis."""
    lines = [
        "| changed | imager | threads | rows | pixels | limit, MB | CPU s | wall s | memory, MB |",
        "|" + "---|" * 9,
        *map(row_of, points),
        "",
    ]
    groups: dict[tuple[str, str, int], list[Point]] = {}
    for point in points:
        if not point.limit_mb:
            groups.setdefault((point.axis, point.imager, point.threads), []).append(point)
    for (axis, imager, threads), some in groups.items():
        # the smallest is mostly start-up
        large = sorted(some, key=lambda p: (p.rows, p.pixels))[1:]
        if len(large) > 1:
            size = [float(p.rows if axis == "rows" else p.pixels**2) for p in large]
            power = fitted_exponent(size, [p.cpu_s for p in large])
            lines.append(f"{imager}, {threads} thread(s): CPU grows as {axis}^{power:.2f}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the points and print the table."""
    parser = argparse.ArgumentParser(prog="bench_imager_scaling", description=__doc__)
    parser.add_argument("--rows", nargs="*", type=float, default=_ROWS)
    parser.add_argument("--sizes", nargs="*", type=int, default=_SIZES)
    parser.add_argument("--imagers", nargs="*", default=("native", "wsclean"))
    parser.add_argument("--threads", nargs="*", type=int, default=(1, 2), help="of native")
    parser.add_argument("--folder", type=Path, default=RESULTS / "imager_scaling")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    folder = given.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if given.one:
        vis, imager, threads, pixels, limit = given.one
        taken = make_one(Path(vis), folder, imager, int(threads), int(pixels), float(limit))
        (folder / "point.json").write_text(json.dumps(taken))
        return 0
    runner = _Runner(folder)
    who = [
        (name, t) for name in given.imagers for t in (given.threads if name == "native" else [1])
    ]
    if given.rows:
        runner.series("pixels", [(given.rows[0], size) for size in given.sizes], who)
    runner.series("rows", [(rows, _PIXELS) for rows in given.rows], who)
    if "native" in given.imagers and given.rows:
        # so much that the image fits and the largest data do not
        limit = (image_bytes((_PIXELS, _PIXELS), 1, 1) + 4e8) / 1e6
        runner.run("streamed", "native", 1, given.rows[-1], _PIXELS, limit)
    shutil.rmtree(folder / "data.ms", ignore_errors=True)
    print(table(runner.points))
    return 0


if __name__ == "__main__":
    sys.exit(main())
