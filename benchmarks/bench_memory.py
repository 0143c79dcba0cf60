"""How much memory the program's own process holds as data grow: rows, antennas, channels.

The data are those of a point source with phase errors. What is measured is the largest resident
memory of the command itself; imagers and CASA are other programs, with limits of their own.
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
from benchmarks.running import run_selfcal
from benchmarks.synthetic_ms import make_ms, ring_array
from libs.core.files import tree_bytes

__all__ = ["LIMIT_MB", "Peak", "Size", "main", "sizes"]

LIMIT_MB = 1000.0
STEPS = ["startup", "save_init_flags", "test_image", "select_refant", "closure_stats",
         "initial_model", "p0", "ap1", "split_trial_1"]  # fmt: skip


@dataclass(frozen=True)
class Size:
    """Antennas, integrations in all, spectral windows, channels of each."""

    antennas: int
    integrations: int
    spws: int
    channels: int

    @property
    def rows(self) -> int:
        """Of the measurement set."""
        return self.integrations * self.spws * self.antennas * (self.antennas - 1) // 2


@dataclass(frozen=True)
class Peak:
    """What a run of this size held at most."""

    data_gb: float
    seconds: float
    peak_mb: float
    children_mb: float


def sizes(largest: float = 1.0) -> list[Size]:
    """Return the ladder: one start, then more rows, more antennas, more channels."""
    many, some, few = (max(32, round(number * largest)) for number in (1000, 250, 64))
    return [
        Size(27, few, 1, 8),
        Size(27, many, 1, 8),
        Size(27, many, 4, 8),
        Size(64, few, 4, 8),
        Size(64, some, 4, 8),
        Size(64, few, 4, 64),
    ]


def measure(size: Size, folder: Path) -> Peak:
    """Make data of this size, run the command on them, and remove them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ms = folder / "data.ms"
    make_ms(
        ms, position_m=ring_array(size.antennas, 5000.0), integrations=-(-size.integrations // 4),
        scans=4, spws=size.spws, channels=size.channels, noise_jy=0.5,
    )  # fmt: skip
    data_gb = tree_bytes(ms) / 1e9
    settings = {"vis": str(ms), "imsize": 256, "cell": "0.3arcsec", "steps": STEPS}
    finished, _ = run_selfcal(folder, settings)
    shutil.rmtree(folder, ignore_errors=True)
    return Peak(data_gb, finished.seconds, finished.peak_mb, finished.children_mb)


def table(results: Sequence[tuple[Size, Peak]]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| antennas | spws | channels | rows | data, GB | s | memory, MB | of children, MB |",
        "|" + "---|" * 8,
    ]
    for size, peak in results:
        lines.append(
            f"| {size.antennas} | {size.spws} | {size.channels} | {size.rows} |"
            f" {peak.data_gb:.2f} | {peak.seconds:.0f} | {peak.peak_mb:.0f} |"
            f" {peak.children_mb:.0f} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ladder and print it; 1 when any run held more than the limit."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=--memory", description=__doc__)
    parser.add_argument("--largest", type=float, default=1.0,
                        help="factor on the number of integrations")  # fmt: skip
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args(argv)
    folder: Path = arguments.results.absolute()
    results: list[tuple[Size, Peak]] = []
    for size in sizes(arguments.largest):
        print(f"{size} ...", file=sys.stderr, flush=True)
        results.append((size, measure(size, folder / "memory")))
        record = [{**asdict(s), "rows": s.rows, **asdict(p)} for s, p in results]
        (folder / "memory.json").write_text(json.dumps(record, indent=1) + "\n")
        print(table(results[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(results))
    above = [size for size, peak in results if peak.peak_mb > LIMIT_MB]
    for size in above:
        print(f"more than {LIMIT_MB:.0f} MB: {size}")
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
