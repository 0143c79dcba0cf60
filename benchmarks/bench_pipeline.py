"""Three targets of two executions through NRAO's auto_selfcal and through this program.

The data are those of `tests.pipeline_case`: two executions whose fields and windows are numbered
differently, two targets of one pointing, a mosaic of three, and a narrow window. Both programs run
with their own defaults for such a project: this one on the executions as observed, the peer on the
targets alone, which are split off for it, as the observatory's pipeline does, under names without
blanks and ``#``. What each wrote to CORRECTED_DATA is imaged by target with the same imager and
parameters, beside the data before self-calibration and those without errors of gains.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench import RESULTS
from benchmarks.peer import PACKAGE, PeerMissingError, data_for_peer, install_peer, run_peer
from benchmarks.running import ROOT, Finished, run_command, run_selfcal
from benchmarks.truth import compare_with_truth, imager_of, judged_options
from libs.imaging.interface import ImageProducts
from libs.imaging.statistics import ImageStatistics, measure_products
from libs.ms.pointings import common_pointings, number_pointings
from libs.ms.subset import choose_subset
from libs.ms.subset_copy import copy_subset
from libs.ms.subtables import Subtables, put_field_names
from libs.ms.tables import open_table
from reports.records import Run, read_run
from steps.facts import StartupFacts, recorded
from steps.mosaics import run_mosaic
from steps.ready_configs import load_ready_config
from tests.pipeline_case import TARGET, PipelineCase, make_pipeline_case

__all__ = ["Outcome", "main", "table"]

_RESULT = "pipeline_peers"


@dataclass(frozen=True)
class Outcome:
    """What one program made of one target.

    Attributes
    ----------
    target, program : str
    tried : tuple of str
        Solution intervals tried, in their order, as the program names them.
    snr_before, snr_after : float
        Peak over noise by the program's own images.
    dynamic_range : float
        Of the image that is made alike of all data.
    ratio : float
        The same over that of data without errors of gains.
    start : float
        That of the data before self-calibration over the same.
    flux_ratio : float
        Flux within the sources of the perfect image over the flux there.
    seconds, cpu_seconds : float
        Of the run of all targets.
    """

    target: str
    program: str
    tried: tuple[str, ...]
    snr_before: float
    snr_after: float
    dynamic_range: float
    ratio: float
    start: float
    flux_ratio: float
    seconds: float
    cpu_seconds: float


def _plain(name: str) -> str:
    """Return the name of a target as both programs write it."""
    return re.sub("[^A-Za-z0-9_.+-]", "_", name)


def _target_names(case: PipelineCase) -> list[str]:
    return list(dict.fromkeys(field.name for field in case.fields if field.intent == TARGET))


def _split(case: PipelineCase, execution: int, ms: Path, part: Path, names: Sequence[str]) -> Path:
    """Copy the fields of some names, and the windows in which targets are observed."""
    fields = [
        str(number) for number, place in enumerate(case.fields_of[execution])
        if case.fields[place].name in names
    ]  # fmt: skip
    windows = [str(n) for n, place in enumerate(case.windows_of[execution]) if place >= 0]
    copy_subset(ms, part, choose_subset(ms, field=",".join(fields), spw=",".join(windows)))
    return part


def peer_data(case: PipelineCase, folder: Path) -> list[Path]:
    """Return the targets of each execution as the peer wants them, in ``folder``."""
    made = []
    for number, ms in enumerate(case.vis):
        part = _split(case, number, ms, folder / "part.ms", _target_names(case))
        put_field_names(part, [_plain(field.name) for field in Subtables(part).fields])
        made.append(data_for_peer(part, folder, "", ms.stem))
        shutil.rmtree(part)
    return made


def run_ours(case: PipelineCase, folder: Path) -> tuple[Finished, dict[str, Any], list[Path]]:
    """Run this program on the executions; return how, its summary, and the sets with its result.

    The data of the case are left as they are: `apply` writes to copies.
    """
    settings, _ = load_ready_config("pipeline", "config")
    settings |= {"vis": [str(ms) for ms in case.vis], "plots": False}
    del settings["workdir"]
    finished, summary = run_selfcal(folder, settings)
    copies = []
    for ms in case.vis:
        copies.append(folder / "applied" / ms.name)
        shutil.rmtree(copies[-1], ignore_errors=True)
        shutil.copytree(ms, copies[-1])
    argv: list[str | Path] = [sys.executable, ROOT / "auto_selfcal.py", "apply", folder / "ours"]
    argv += ["--to", *copies]
    done = run_command(argv, folder / "apply.log", cwd=ROOT)
    if done.code:
        raise RuntimeError(f"apply: exit code {done.code}: {done.log.read_text()[-400:]}")
    for ms in copies:
        _corrected_to_data(ms)
    return finished, summary, copies


def _corrected_to_data(ms: Path) -> None:
    with open_table(ms, write=True) as opened:
        if "CORRECTED_DATA" in opened.colnames():
            for row in range(opened.nrows()):
                opened.putcell("DATA", row, opened.getcell("CORRECTED_DATA", row))


class Judge:
    """Images sets of one target alike, with imager and parameters of this program's run of it."""

    def __init__(self, case: PipelineCase, name: str, workdir: Path, folder: Path) -> None:
        self.case, self.name, self.folder = case, name, folder
        folder.mkdir(parents=True)
        self.run: Run = read_run(workdir)
        startup = next(row for row in self.run.steps if row.step == "startup")
        self.mosaic = run_mosaic(recorded(StartupFacts, startup.metrics))

    def image(self, sets: Sequence[Path], label: str) -> tuple[ImageProducts, ImageStatistics]:
        """Image the target of both executions, already split or not, and measure the image."""
        parts = []
        for number, ms in enumerate(sets):
            part = self.folder / f"{label}_{number}.ms"
            parts.append(self._part(number, ms, part))
        options = judged_options(self.run, parts[0], self.folder, label).but(vis=tuple(parts))
        if self.mosaic is not None:
            places = common_pointings(parts)
            for part in parts:
                number_pointings(part, places)
            mosaic, centre = self.mosaic
            options = options.but(mosaic=mosaic, phase_centre_deg=centre, nterms=1)
        products = imager_of(self.run).image(options)
        return products, measure_products(products)

    def _part(self, number: int, ms: Path, part: Path) -> Path:
        """Copy the target from a set of the case, or from one whose targets were split off."""
        names = [field.name for field in Subtables(ms).fields]
        if len(names) == len(self.case.fields):
            return _split(self.case, number, ms, part, [self.name])
        chosen = [str(n) for n, name in enumerate(names) if name == _plain(self.name)]
        copy_subset(ms, part, choose_subset(ms, field=",".join(chosen)))
        return part


def _tried(run: Run) -> tuple[str, ...]:
    """Return the intervals of the rounds of a run, with their steps."""
    found = []
    for row in run.rounds:
        interval = row.metrics.get("solint_s")
        seconds = f"{float(interval):.0f} s" if isinstance(interval, int | float) else "none"
        found.append(f"{row.step} {seconds}" + ("" if row.status == "done" else f" ({row.status})"))
    return tuple(found)


def compare_programs(folder: Path, limit_s: float) -> list[Outcome]:
    """Run both programs on the simulation and judge each target alike."""
    python = install_peer(folder)
    place = folder / _RESULT
    shutil.rmtree(place, ignore_errors=True)
    (place / "peer").mkdir(parents=True)
    case = make_pipeline_case(place / "data", perfect=True)
    theirs = run_peer(peer_data(case, place / "peer"), place / "peer", python, limit_s)
    finished, summary, applied = run_ours(case, place)
    rows = []
    for name in _target_names(case):
        entry = summary["targets"][_plain(name)]
        judge = Judge(
            case, name, place / "ours" / entry["workdir"], place / "images" / _plain(name)
        )
        perfect, ideal = judge.image(case.perfect, "perfect")
        start = judge.image(case.vis, "start")[1].dynamic_range / ideal.dynamic_range
        said = theirs.targets[_plain(name)]
        programs: Mapping[str, tuple[Sequence[Path], Finished, tuple[str, ...], float, float]] = {
            "this program": (
                applied, finished, _tried(judge.run), float(entry["initial"]["snr"]),
                float((entry["final"] or entry["initial"])["snr"]),
            ),
            PACKAGE: (
                theirs.sets, theirs.finished, tuple(said["tried"]), said["snr_before"],
                said["snr_after"],
            ),
        }  # fmt: skip
        for number, (program, (sets, run, tried, before, after)) in enumerate(programs.items()):
            products, measured = judge.image(sets, f"program_{number}")
            rows.append(Outcome(
                name, program, tried, before, after, measured.dynamic_range,
                measured.dynamic_range / ideal.dynamic_range, start,
                compare_with_truth(perfect, products.image).flux_ratio, run.seconds,
                run.cpu_seconds,
            ))  # fmt: skip
    return rows


def table(rows: Sequence[Outcome]) -> str:
    """Return the outcomes as a Markdown table."""
    lines = [
        "| target | program | intervals tried | SNR by itself: before, after | DR judged |"
        " start, of perfect | reached, of perfect | flux ratio |",
        "|" + "---|" * 8,
    ]
    lines += [
        f"| {r.target} | {r.program} | {', '.join(r.tried) or 'none'} | {r.snr_before:.0f},"
        f" {r.snr_after:.0f} | {r.dynamic_range:.0f} | {r.start:.3f} | {r.ratio:.3f} |"
        f" {r.flux_ratio:.3f} |"
        for r in rows
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print; 1, with the reason, when the peer cannot be installed or run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks --pipeline", description=__doc__)
    parser.add_argument("--limit", type=float, default=7200.0, help="seconds for the peer")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args(argv)
    folder: Path = arguments.results.absolute()
    try:
        rows = compare_programs(folder, arguments.limit)
    except PeerMissingError as error:
        print(f"no comparison: {error}")
        return 1
    (folder / f"{_RESULT}.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
    print(table(rows))
    for row in rows[:2]:
        print(f"{row.program}: {row.seconds:.0f} s, {row.cpu_seconds:.0f} s of CPU, all targets")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
