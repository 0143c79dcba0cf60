"""NRAO's auto_selfcal: its installation, the data as it asks for them, one run of it.

It is installed from PyPI into an environment of its own (its pinned versions differ from ours) and
run as its manual says: in a folder that holds ``*_targets.ms``, with its own defaults, and told to
apply what it found to these sets. It finds the VLA's bands by the names that telescope gives
spectral windows, so copies of VLA data are given such names and the telescope EVLA; visibilities
are those that we get.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.running import Finished, run_command
from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.ms.tables import open_table

__all__ = [
    "PACKAGE",
    "PeerMissingError",
    "PeerRun",
    "data_for_peer",
    "image_pixels",
    "install_peer",
    "run_peer",
]

PACKAGE = "auto_selfcal"
REQUIREMENTS = (PACKAGE, "six")  # casatasks imports six without asking for it
_BASEBAND = 12  # A0C0 in the numbering of the VLA's correlator
_INSTALL_S = 3600
_CASA_CONFIG = """import casadata
measurespath = casadata.datapath
datapath = [casadata.datapath]
data_auto_update = False
measures_auto_update = False
log2term = False
"""
# What it leaves by target and band, of which a few entries are copied in its own environment.
_READ_LIBRARY = """
import json, pickle
library = pickle.load(open("selfcal_library.pickle", "rb"))
plan = pickle.load(open("selfcal_plan.pickle", "rb"))
found = {}
for target, bands in library.items():
    for band, entry in bands.items():
        found[target] = {
            "success": bool(entry["SC_success"]), "final_solint": str(entry["final_solint"]),
            "snr_before": float(entry["SNR_orig"]), "snr_after": float(entry["SNR_final"]),
            "imsize": [int(size) for size in entry["imsize"]],
            "planned": [str(solint) for solint in plan[target][band]["solints"]],
            "tried": [str(solint) for solint in plan[target][band]["solints"]
                      if any(solint in entry[vis] for vis in entry["vislist"])],
        }
json.dump(found, open("library.json", "w"))
"""


class PeerMissingError(Exception):
    """The peer cannot be installed or run; the message says why."""


@dataclass(frozen=True)
class PeerRun:
    """How a run of the peer ended.

    Attributes
    ----------
    finished : Finished
    sets : tuple of Path
        Data sets with its result in DATA, in the order in which they were given.
    targets : dict of str to dict
        What it says of each target: ``success``, ``final_solint``, ``snr_before``, ``snr_after``,
        ``imsize``, ``planned``, ``tried``.
    """

    finished: Finished
    sets: tuple[Path, ...]
    targets: dict[str, dict[str, Any]]


def _home(folder: Path) -> dict[str, str]:
    """Return the variables under which the peer's CASA takes its measures from casadata."""
    home = folder / "peer-home"
    config = home / ".casa" / "config.py"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(_CASA_CONFIG)
    return {**os.environ, "HOME": str(home), "MPLBACKEND": "Agg", "PYTHONPATH": ""}


def install_peer(folder: Path) -> Path:
    """Return the Python of the peer's environment; install it when it is not there yet.

    Raises
    ------
    PeerMissingError
        It cannot be installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
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


def data_for_peer(ms: Path, folder: Path, band: str, name: str = "benchmark") -> Path:
    """Copy a data set under the name and with the descriptions that the peer asks for.

    Parameters
    ----------
    ms, folder : Path
        Data set, and where its copy goes.
    band : str
        As the VLA names it (``EVLA_X``); empty for ALMA.
    name : str
        The copy is ``NAME_targets.ms``.
    """
    from casacore.tables import makescacoldesc

    target = folder / f"{name}_targets.ms"
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


def image_pixels(telescope: str, frequency_hz: float, longest_m: float) -> int:
    """Return about how many pixels wide the peer makes its images of a single field.

    It images one and a half widths of the primary beam, three below 12 GHz at the VLA, a tenth
    more, with four pixels to the resolution of the longest baseline.

    Parameters
    ----------
    telescope : str
        ``VLA``, ``ALMA`` or ``ACA``.
    frequency_hz, longest_m : float
        Mean frequency, and the longest baseline, m.
    """
    width_arcsec = {"VLA": 45.0 * 60.0 * 1e9, "ALMA": 63.0 * 1e11, "ACA": 108.0 * 1e11}[telescope]
    width = 1.5 * width_arcsec / frequency_hz
    if telescope == "VLA" and frequency_hz < 12e9:
        width *= 2.0
    cell_arcsec = math.degrees(SPEED_OF_LIGHT_M_S / frequency_hz / longest_m / 4.0) * 3600.0
    return round(1.1 * width / cell_arcsec)


def run_peer(
    sets: Sequence[Path], folder: Path, python: Path, limit_s: float = math.inf
) -> PeerRun:
    """Run the peer on data sets made by `data_for_peer`, which then hold its result in DATA.

    Raises
    ------
    PeerMissingError
        It fails, or takes longer than ``limit_s`` seconds.
    """
    home = _home(python.parents[2])
    argv: list[str | Path] = [python, "-m", PACKAGE, "--apply_to_target_ms"]
    finished = run_command(argv, folder / "peer.log", cwd=folder, env=home, limit_s=limit_s)
    if finished.code:
        last = finished.log.read_text(errors="replace").strip().splitlines()[-4:]
        why = f"is not done after {finished.seconds:.0f} s" if finished.code < 0 else (
            f"exits with code {finished.code}")  # fmt: skip
        raise PeerMissingError(f"{PACKAGE} {why}: " + " | ".join(last))
    subprocess.run([python, "-c", _READ_LIBRARY], check=True, cwd=folder, env=home)
    targets = json.loads((folder / "library.json").read_text())
    return PeerRun(finished, tuple(_corrected(ms) for ms in sets), targets)


def _corrected(ms: Path) -> Path:
    """Put CORRECTED_DATA, which holds the peer's result where it had one, into DATA."""
    with open_table(ms, write=True) as opened:
        if "CORRECTED_DATA" in opened.colnames():
            for row in range(opened.nrows()):
                opened.putcell("DATA", row, opened.getcell("CORRECTED_DATA", row))
    return ms
