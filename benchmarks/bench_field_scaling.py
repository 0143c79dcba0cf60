"""How time and memory of a field's own work grow with the rows of its data and its directions.

The work is what the program does itself for a field: a survey of the data's time stamps, a
source's small data (phase shift and averaging), the subtraction of sources, and the merge of a
layer into the global table. Each is done in a process of its own; what is measured is its CPU
time, without what a tiny case of the same work takes (imports, compilation), and its largest
resident memory.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.bench import RESULTS
from benchmarks.synthetic_ms import EPOCH_S, make_ms, ring_array
from libs.directions.phase_shift import ShiftOptions, plan_shift, shift_data
from libs.directions.subtract import SkyModel, subtract_sources
from libs.h5parm.direction_gains import DirectionGains
from libs.h5parm.global_table import write_with_entries
from libs.h5parm.layer_merge import merge_layer
from libs.h5parm.provenance import Entry
from libs.h5parm.solset import DIAGONAL, Solset
from libs.h5parm.start import StartLimits
from libs.ms.time_survey import read_survey, survey_times, write_survey

__all__ = ["Case", "Measured", "exponent", "main", "make_data", "make_solutions"]

ANTENNAS, CHANNELS, TIMES, FREQUENCIES, STATIONS = 64, 2, 300, 4, 24
PLACE_RAD = (1.0, 0.5)  # where the data of benchmarks.synthetic_ms point
WORKS = ("survey", "prepare", "subtract", "merge")


@dataclass(frozen=True)
class Case:
    """A piece of work.

    Attributes
    ----------
    work : str
        One of ``WORKS``.
    rows : int
        Rows of the data; 0 for a merge.
    directions : int
        Sources prepared, subtracted or merged.
    """

    work: str
    rows: int
    directions: int


@dataclass(frozen=True)
class Measured:
    """CPU time and memory of a case.

    Attributes
    ----------
    cpu_s : float
    peak_mb : float
    """

    cpu_s: float
    peak_mb: float


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return p of the power law value ~ size^p that fits best."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def make_data(ms: Path, rows: int) -> None:
    """Write data of about so many rows: 64 antennas, 2 channels, 2 correlations, 1 s."""
    each = ANTENNAS * (ANTENNAS - 1) // 2
    make_ms(
        ms, position_m=ring_array(ANTENNAS, 5000.0), integrations=max(8, round(rows / each)),
        interval_s=1.0, channels=CHANNELS, noise_jy=0.5,
    )  # fmt: skip


def places(count: int) -> dict[str, tuple[float, float]]:
    """Return directions on a spiral of a degree."""
    return {
        f"S{i:03d}": (
            PLACE_RAD[0] + 0.02 * np.sqrt((i + 1) / count) * np.cos(2.4 * i),
            PLACE_RAD[1] + 0.02 * np.sqrt((i + 1) / count) * np.sin(2.4 * i),
        )
        for i in range(count)
    }


def make_solutions(path: Path, name: str, place: tuple[float, float], seed: int) -> None:
    """Write an h5parm of one direction; each lacks three stations, which others have."""
    rng = np.random.default_rng(seed)
    shape = (TIMES, FREQUENCIES, STATIONS, 1, 2)
    weight = np.full(shape, 10.0)
    lacking = [(seed + k) % STATIONS for k in (1, 2, 3)]
    weight[:, :, lacking] = 0.0
    known = weight > 0
    antenna = tuple(f"ea{i + 1:02d}" for i in range(STATIONS))
    table = Solset(
        time_s=EPOCH_S + np.linspace(0.0, 8.0 * TIMES, TIMES),
        frequency_hz=np.linspace(5.000e9, 5.006e9, FREQUENCIES),
        antenna=antenna, position_m=ring_array(STATIONS), direction=(name,),
        direction_rad=np.array([place]), polarization=DIAGONAL,
        phase_rad=np.where(known, rng.uniform(-3, 3, shape), 0.0),
        amplitude=np.where(known, rng.uniform(0.9, 1.1, shape), 1.0), weight=weight,
    )  # fmt: skip
    date = "2026-01-01T00:00:00.000Z"
    write_with_entries(
        path, table,
        [Entry(name, station, source=name, coherence=0.9, date=date) for station in antenna],
    )  # fmt: skip


# -- the work itself, in a process of its own -----------------------------------------------------


def _survey(folder: Path, _: int) -> None:
    write_survey(folder / "survey.npz", survey_times(folder / "data.ms"))


def _prepare(folder: Path, directions: int) -> None:
    ms = folder / "data.ms"
    survey = read_survey(folder / "survey.npz")
    for name, place in places(directions).items():
        options = ShiftOptions(place, name, 8.0, 4e6)
        plan_shift(ms, options, survey)
        shift_data(ms, folder / "small.ms", options, survey=survey)


def _subtract(folder: Path, directions: int) -> None:
    ms = folder / "data.ms"
    gains = DirectionGains.read(folder / "S000.h5", ms, "S000")

    def predict(uvw_m, frequency_hz):  # type: ignore[no-untyped-def]
        return np.ones((len(uvw_m), len(frequency_hz)), complex)

    models = [SkyModel(name, place, predict, gains) for name, place in places(directions).items()]
    subtract_sources(ms, folder / "left.ms", models)


def _merge(folder: Path, directions: int) -> None:
    named = places(directions)
    merge_layer(
        folder / "table.h5", None, [folder / f"{name}.h5" for name in named],
        {name: np.array(place) for name, place in named.items()}, StartLimits(),
    )  # fmt: skip


_WORK: dict[str, Callable[[Path, int], None]] = {
    "survey": _survey, "prepare": _prepare, "subtract": _subtract, "merge": _merge,
}  # fmt: skip


def work(case: Case, folder: Path, tiny: Path) -> Measured:
    """Do the work of a case in this process, once on tiny input before that counts."""
    _WORK[case.work](tiny, 2)
    before = time.process_time()
    _WORK[case.work](folder, case.directions)
    return Measured(time.process_time() - before, _peak_mb())


def _peak_mb() -> float:
    """Largest resident memory of this program; getrusage would count what began it, too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError("the kernel keeps no VmHWM")


# -- the ladder -----------------------------------------------------------------------------------


def _fill(folder: Path, rows: int, directions: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, place) in enumerate(places(directions).items()):
        make_solutions(folder / f"{name}.h5", name, place, seed)
    if rows:
        make_data(folder / "data.ms", rows)
        _survey(folder, 1)


def measure(case: Case, folder: Path, tiny: Path) -> Measured:
    """Do the work of a case in a new process."""
    words = [case.work, str(case.rows), str(case.directions), str(folder), str(tiny)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_field_scaling", "--child", *words],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    for name in ("small.ms", "left.ms"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def table(results: Sequence[tuple[Case, Measured]]) -> str:
    """Return the results as a Markdown table, with the fitted powers."""
    lines = ["| work | rows | directions | CPU, s | memory, MB |", "|" + "---|" * 5]
    lines += [
        f"| {case.work} | {case.rows or ''} | {case.directions} | {found.cpu_s:.2f} |"
        f" {found.peak_mb:.0f} |"
        for case, found in results
    ]
    for name in WORKS:
        for axis in ("rows", "directions"):
            other = "directions" if axis == "rows" else "rows"
            same = [(c, m) for c, m in results if c.work == name]
            kinds = sorted({getattr(c, other) for c, _ in same})
            for value in kinds:
                line = [(getattr(c, axis), m) for c, m in same if getattr(c, other) == value]
                if len({size for size, _ in line}) > 1:
                    power = exponent([s for s, _ in line], [m.cpu_s for _, m in line])
                    lines.append(f"{name}: CPU time ~ {axis}^{power:.2f} ({other} {value})")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ladder and print it."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=--field-scaling", description=__doc__)
    parser.add_argument("--rows", type=float, nargs="+", default=[2e5, 2e6, 2e7])
    parser.add_argument("--directions", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.child:
        kind, rows, directions, folder, tiny = arguments.child
        found = work(Case(kind, int(rows), int(directions)), Path(folder), Path(tiny))
        print(json.dumps(asdict(found)))
        return 0
    root: Path = arguments.results.absolute() / "field_scaling"
    shutil.rmtree(root, ignore_errors=True)
    _fill(root / "tiny", 20 * 2016, 2)
    results: list[tuple[Case, Measured]] = []

    def run(case: Case, place: Path) -> None:
        results.append((case, measure(case, place, root / "tiny")))
        record = [{**asdict(c), **asdict(m)} for c, m in results]
        (root.parent / "field_scaling.json").write_text(json.dumps(record, indent=1) + "\n")
        print(f"{results[-1]}", file=sys.stderr, flush=True)

    for count in arguments.directions:
        # places depend on the number: the spiral is filled evenly
        shutil.rmtree(root / "merge", ignore_errors=True)
        _fill(root / "merge", 0, count)
        run(Case("merge", 0, count), root / "merge")
    for number, rows in enumerate(map(int, sorted(arguments.rows))):
        folder = root / f"rows_{rows}"
        _fill(folder, rows, 1)
        run(Case("survey", rows, 1), folder)
        run(Case("prepare", rows, 1), folder)
        run(Case("subtract", rows, 1), folder)
        for count in arguments.directions if not number else ():
            run(Case("prepare", rows, count), folder)
            run(Case("subtract", rows, count), folder)
        shutil.rmtree(folder)
    shutil.rmtree(root)
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
