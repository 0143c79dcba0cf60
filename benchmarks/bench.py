"""How good and how fast the program is, on simulations and on its demonstration.

Each case is simulated, self-calibrated by the real command as shipped, and set beside the same
data with the true gains divided out, imaged with the same imager and parameters. With
``--imager`` given several times the runs of each imager alternate, case by case.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.running import ROOT, Finished, run_selfcal
from benchmarks.truth import compare_with_truth, image_alike
from libs.core.errors import SelfcalError
from libs.simulation.scenarios import SCENARIOS, make_scenario, scenario
from reports.records import read_run
from steps.run_options import load_run_config

__all__ = ["CASES", "Result", "case_settings", "compare", "main", "run_case", "table"]

RESULTS = ROOT / "benchmarks" / "results"
DEMO = "demo:3c273"
LOFAR_MAP_ARCSEC = 20.0  # the least that the catalogue of a source asks for
CASES = (
    "vla_a_5ghz", "vla_a_8ghz", "alma_230ghz", "vla_a_3mjy", "noise_only", "lofar_hba",
    "lofar_two_5arcsec", "lofar_intl_noise", "vla_a_offaxis", "vla_b_lobes", "alma_345ghz_ring",
    "vlba_8ghz", "vla_a_delays", "vla_a_bandpass", DEMO,
)  # fmt: skip
GIVEN_GRID = ("vla_a_offaxis", "vla_b_lobes")


@dataclass(frozen=True)
class Result:
    """One case: units are in the names; ``ratio`` is the final over the perfect dynamic range.

    ``cpu_seconds`` is that of the run and of all programs it started; ``imager`` is the one
    asked for, or ``auto``.
    """

    case: str
    imager: str
    status: str
    dr_initial: float
    dr_final: float
    dr_perfect: float
    ratio: float
    flux_ratio: float
    difference_over_peak: float
    rounds: str
    seconds: float
    cpu_seconds: float
    seconds_imaging: float
    seconds_solving: float
    whole_over_imaging: float
    peak_mb: float
    children_mb: float
    rounds_rejected: dict[str, str] = field(default_factory=dict)


def case_settings(
    case: str, folder: Path, scale: float, seed: int | None
) -> tuple[dict[str, Any], Path | None]:
    """The config of a case, and its perfect data where these exist beforehand."""
    if case == DEMO:
        return {"vis": DEMO}, None
    ms = folder / f"{case}.ms"
    simulation = make_scenario(case, ms, scale, seed=seed)
    settings: dict[str, Any] = {"vis": str(ms)}
    if case in GIVEN_GRID:
        # the first image shows too little of the source to choose a size by
        chosen = scenario(case)
        settings |= {"imsize": chosen.imsize, "cell": f"{chosen.cell_arcsec}arcsec"}
    if case.startswith("lofar"):
        settings = _lofar_settings(case) | settings
    return settings, simulation.perfect_ms


def _lofar_settings(case: str) -> dict[str, Any]:
    """The config that ``init lofar`` writes, with a map of the one source."""
    chosen = scenario(case)
    width = max(chosen.imsize * chosen.cell_arcsec, LOFAR_MAP_ARCSEC)
    return {
        **load_run_config(ROOT / "templates" / "configs" / "lofar.py"),
        "cell": f"{chosen.cell_arcsec}arcsec",
        "imsize": int(np.ceil(width / chosen.cell_arcsec / 64)) * 64,
    }


def run_case(
    case: str,
    folder: Path,
    scale: float = 1.0,
    seed: int | None = None,
    imager: str | None = None,
) -> Result:
    """Simulate, self-calibrate and compare one case; everything it makes is in ``folder``.

    Parameters
    ----------
    case : str
    folder : Path
    scale : float
        Factor on the integrations.
    seed : int, optional
        Another draw of noise and gains.
    imager : str, optional
        Imager of the run and of the perfect image; the default is as shipped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings, perfect_ms = case_settings(case, folder, scale, seed)
    if imager is not None:
        settings["imager"] = imager
    finished, summary = run_selfcal(folder, settings)
    workdir = folder / "ours"
    if perfect_ms is None:
        perfect_ms = next((workdir / "data").glob("*_untouched.ms"))
    return compare(case, workdir, perfect_ms, finished, summary)


def compare(
    case: str, workdir: Path, perfect_ms: Path, finished: Finished, summary: dict[str, Any]
) -> Result:
    """Set a finished run beside the same data without gain errors, imaged alike."""
    products, statistics = image_alike(workdir, perfect_ms, workdir.parent / "perfect")
    judged = compare_with_truth(products, workdir / summary["final"]["image"])
    imaging = float(summary["seconds_imaging"])
    final = float(summary["final"]["dynamic_range"])
    return Result(
        case=case,
        imager=next(s.value for s in read_run(workdir).settings if s.name == "imager"),
        status=summary["status"],
        dr_initial=float(summary["initial"]["dynamic_range"]),
        dr_final=final,
        dr_perfect=statistics.dynamic_range,
        ratio=final / statistics.dynamic_range,
        flux_ratio=judged.flux_ratio,
        difference_over_peak=judged.rms_difference_over_peak,
        rounds=" ".join(summary["accepted"]) or "-",
        rounds_rejected=dict(summary["rejected"]),
        seconds=finished.seconds,
        cpu_seconds=finished.cpu_seconds,
        seconds_imaging=imaging,
        seconds_solving=float(summary["seconds_solving"]),
        whole_over_imaging=finished.seconds / imaging if imaging else float("nan"),
        peak_mb=finished.peak_mb,
        children_mb=finished.children_mb,
    )


COLUMNS = (
    ("data", "case", "{}"),
    ("imager", "imager", "{}"),
    ("status", "status", "{}"),
    ("DR before", "dr_initial", "{:.0f}"),
    ("DR after", "dr_final", "{:.0f}"),
    ("DR perfect", "dr_perfect", "{:.0f}"),
    ("of perfect", "ratio", "{:.3f}"),
    ("flux ratio", "flux_ratio", "{:.3f}"),
    ("difference / peak", "difference_over_peak", "{:.1e}"),
    ("rounds kept", "rounds", "{}"),
    ("s", "seconds", "{:.0f}"),
    ("CPU s", "cpu_seconds", "{:.0f}"),
    ("s imaging", "seconds_imaging", "{:.0f}"),
    ("s solving", "seconds_solving", "{:.1f}"),
    ("whole / imaging", "whole_over_imaging", "{:.2f}"),
    ("memory, MB", "peak_mb", "{:.0f}"),
)


def table(results: Sequence[Result]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| " + " | ".join(title for title, _, _ in COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    for result in results:
        cells = [form.format(getattr(result, name)) for _, name, form in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def save(results: Sequence[Result], path: Path) -> None:
    """Write results and the machine they were measured on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = {"system": platform.platform(), "cores": cores, "python": platform.python_version()}
    record = {"machine": machine, "results": [asdict(result) for result in results]}
    path.write_text(json.dumps(record, indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases; 1 when any could not be run."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=[*CASES, *(n for n in SCENARIOS if n not in CASES)],
        help="this case (may be repeated)",
    )  # fmt: skip
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the integrations")
    parser.add_argument(
        "--seed", type=int, action="append",
        help="another draw of the simulated noise and gains (may be repeated); the demonstration"
        " has one only",
    )  # fmt: skip
    parser.add_argument(
        "--imager", action="append", choices=["native", "wsclean"],
        help="imager of runs and perfect images (may be repeated: the runs alternate); default:"
        " as shipped",
    )  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="keep data and images of every case")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args(argv)
    folder: Path = arguments.results.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    failed = []
    draws = [
        (case, seed, imager)
        for case in arguments.only or CASES
        for seed in ([None] if case == DEMO else arguments.seed or [None])
        for imager in arguments.imager or [None]
    ]
    for case, seed, imager in draws:
        name = case if seed is None else f"{case} ({seed})"
        place = folder / case.replace(":", "_")
        shutil.rmtree(place, ignore_errors=True)
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            result = run_case(case, place, arguments.scale, seed, imager)
        # one case that fails must not cost the others' figures
        except (RuntimeError, SelfcalError, OSError, KeyError) as error:
            traceback.print_exc()
            failed.append(f"{name}: {type(error).__name__}: {error}")
            continue
        results.append(replace(result, case=name))
        save(results, folder / "bench.json")
        print(table(results[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
        if not arguments.keep:
            shutil.rmtree(place, ignore_errors=True)
    print(table(results))
    for line in failed:
        print(f"not run: {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
