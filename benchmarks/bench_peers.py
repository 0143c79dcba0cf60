"""The same simulated data through NRAO's auto_selfcal and through this program.

The peer is installed from PyPI into an environment of its own (its pinned versions differ from
ours) and run as its manual says: in a folder that holds ``*_targets.ms``, with its own defaults.
It finds the VLA's bands by the names that telescope gives spectral windows, so the copy of a
VLA case is given such names and the telescope EVLA; visibilities are those we get. Results are
imaged alike. For the VLA it images the whole primary beam at full resolution (16384 pixels a
side at 5 GHz), which takes hours and more memory than a small machine has; ALMA's is smaller.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.bench import RESULTS
from benchmarks.running import ROOT, Finished, run_command, run_selfcal
from benchmarks.truth import compare_with_truth, image_alike
from libs.ms.tables import open_table
from libs.simulation.scenarios import make_scenario

__all__ = ["Row", "main"]

PACKAGE = "auto_selfcal"
REQUIREMENTS = (PACKAGE, "six")  # casatasks imports six without asking for it
CASES = {"alma_230ghz": "", "vla_a_5ghz": "EVLA_C", "vla_a_8ghz": "EVLA_X"}
_BASEBAND = 12  # A0C0 in the numbering of the VLA's correlator
_INSTALL_S = 3600
_CASA_CONFIG = """import casadata
measurespath = casadata.datapath
datapath = [casadata.datapath]
data_auto_update = False
measures_auto_update = False
log2term = False
"""


class PeerMissingError(Exception):
    """The peer cannot be installed or run; the message says why."""


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


def _home(folder: Path) -> dict[str, str]:
    """Return the variables under which the peer's CASA takes its measures from casadata."""
    home = folder / "peer-home"
    config = home / ".casa" / "config.py"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(_CASA_CONFIG)
    return {**os.environ, "HOME": str(home), "MPLBACKEND": "Agg", "PYTHONPATH": ""}


def _environment(folder: Path) -> Path:
    """Return the Python of the peer's environment; install it when it is not there yet."""
    python = folder / "peer-venv" / "bin" / "python"
    log = folder / "peer-install.log"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "peer-venv"], check=True)
    home = _home(folder)
    probe = [str(python), "-c", f"import {PACKAGE}"]
    if subprocess.run(probe, capture_output=True, env=home, cwd=folder).returncode == 0:
        return python
    with log.open("w") as stream:
        done = subprocess.run(
            [python, "-m", "pip", "install", "--disable-pip-version-check", *REQUIREMENTS],
            stdout=stream,
            stderr=subprocess.STDOUT,
            timeout=_INSTALL_S,
        )
    if done.returncode:
        last = [line for line in log.read_text().splitlines() if "ERROR" in line][-3:]
        raise PeerMissingError(f"pip install {PACKAGE} fails: " + " | ".join(last))
    return python


def _data_for_peer(ms: Path, folder: Path, band: str) -> Path:
    """Copy the data set under the name and with the descriptions that the peer asks for."""
    from casacore.tables import makescacoldesc

    target = folder / "benchmark_targets.ms"
    shutil.copytree(ms, target)
    with open_table(target / "SPECTRAL_WINDOW", write=True) as windows:
        if band:
            windows.putcol("NAME", [f"{band}#A0C0#{i}" for i in range(windows.nrows())])
        if "BBC_NO" not in windows.colnames():
            windows.addcols(makescacoldesc("BBC_NO", 0))
        windows.putcol("BBC_NO", np.full(windows.nrows(), _BASEBAND, np.int32))
    if not band:
        return target
    with open_table(target / "OBSERVATION", write=True) as observation:
        observation.putcol("TELESCOPE_NAME", ["EVLA"] * observation.nrows())
    return target


def _run_peer(ms: Path, folder: Path, python: Path, band: str) -> tuple[Finished, Path]:
    """Run the peer; return how it ended and the data set with its result in CORRECTED_DATA."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _data_for_peer(ms, folder, band)
    finished = run_command(
        [python, "-m", PACKAGE],
        folder / "peer.log",
        cwd=folder,
        env=_home(python.parents[2]),
    )
    made = sorted(folder.glob("*.calibrated.ms"))
    if finished.code or not made:
        last = finished.log.read_text(errors="replace").strip().splitlines()[-6:]
        raise PeerMissingError(f"{PACKAGE} exits with code {finished.code}: " + " | ".join(last))
    return finished, made[0]


def _corrected(ms: Path) -> Path:
    """Put CORRECTED_DATA, which holds the peer's result, into DATA of its copy."""
    with open_table(ms, write=True) as opened:
        if "CORRECTED_DATA" in opened.colnames():
            opened.putcol("DATA", opened.getcol("CORRECTED_DATA"))
    return ms


def compare_programs(case: str, folder: Path, scale: float) -> list[Row]:
    """Run both on one data set and image their results and the perfect data alike."""
    folder.mkdir(parents=True, exist_ok=True)
    python = _environment(folder)
    place = folder / "peers"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    simulation = make_scenario(case, place / f"{case}.ms", scale)
    ours, summary = run_selfcal(place, {"vis": str(simulation.ms)})
    workdir = place / "ours"
    assert simulation.perfect_ms is not None
    perfect, ideal = image_alike(workdir, simulation.perfect_ms, place / "images", "perfect")
    judged = compare_with_truth(perfect, workdir / summary["final"]["image"])
    reached = float(summary["final"]["dynamic_range"])
    rows = [_row("this program", ours, reached, ideal.dynamic_range, judged.flux_ratio)]
    theirs, made = _run_peer(simulation.ms, place / "peer", python, CASES[case])
    products, statistics = image_alike(workdir, _corrected(made), place / "images", "peer")
    judged = compare_with_truth(perfect, products.image)
    rows.append(
        _row(PACKAGE, theirs, statistics.dynamic_range, ideal.dynamic_range, judged.flux_ratio)
    )
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


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print; 1, with the reason, when the peer cannot be installed or run."""
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    parser.add_argument("--case", choices=CASES, default="alma_230ghz", help="simulation")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the integrations")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args(argv)
    folder: Path = arguments.results.absolute()
    try:
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
