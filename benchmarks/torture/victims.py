"""What is killed: a run of one target, of two executions, of several targets, a session."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.torture.observation import DOUBLE, make_observation, small_array, small_config
from libs.catalogues.flux_standards import named_standard
from libs.ms.tables import open_table
from libs.simulation.observation import Observation, Source, SpectralWindow
from libs.simulation.session import SessionErrors, SessionField, simulate_session

__all__ = ["VICTIMS", "Victim", "make_victim"]

_KEPT = ("status", "initial", "final", "accepted", "rejected", "tables", "warnings")
_CHANGING = ("startup", "save_init_flags", "peel", "align", "test_image", "p0", "split_trial_1")
_SESSION_STEPS = ("combine", "identify", "flag_calibrators", "set_model", "calibrate",
                  "apply_calibration", "calibrator_images")  # fmt: skip
_TARGET_STEPS = ("startup", "save_init_flags", "test_image", "p0", "split_trial_1")


@dataclass(frozen=True)
class Victim:
    """A command that is killed.

    Attributes
    ----------
    name : str
    command : tuple of str
        Words before the config.
    inputs : tuple of Path
    settings : mapping
        Of the config, without ``workdir``.
    result : callable
        Function of a work directory that returns what the run came to, without times and paths.
    """

    name: str
    command: tuple[str, ...]
    inputs: tuple[Path, ...]
    settings: Mapping[str, Any]
    result: Callable[[Path], Mapping[str, Any]]

    def config(self, workdir: Path) -> Path:
        """Write the config of a run in a work directory beside it."""
        workdir.parent.mkdir(parents=True, exist_ok=True)
        path = workdir.with_suffix(".yaml")
        path.write_text(json.dumps({**self.settings, "workdir": str(workdir)}))
        return path

    def words(self, workdir: Path) -> list[str | Path]:
        """Return the command line of a run."""
        return [*self.command, self.config(workdir)]


def _summary(workdir: Path) -> Mapping[str, Any]:
    summary = json.loads((workdir / "summary.json").read_text())
    return {name: summary[name] for name in _KEPT}


def _of_targets(workdir: Path) -> Mapping[str, Any]:
    targets = json.loads((workdir / "summary.json").read_text())["targets"]
    return {
        name: {key: entry[key] for key in ("status", "initial", "final") if key in entry}
        for name, entry in targets.items()
    }


def _of_session(workdir: Path) -> Mapping[str, Any]:
    records = json.loads((workdir / "tables" / "calibration.json").read_text())
    with open_table(workdir / records[0]["tables"]["G1flux"]) as opened:
        gains = opened.getcol("CPARAM")
    images = (workdir / "fluxes.csv").read_text()
    return {
        "fluxes": [record["fluxes"] for record in records],
        "gains": np.round(gains, 5).tolist(),
        "images": images,
    }


def _single(folder: Path) -> Victim:
    origin = make_observation(folder / "origin.ms")
    return Victim("single", (), (origin,), small_config(origin, folder), _summary)


def _executions(folder: Path) -> Victim:
    """Two executions, the second moved and brighter, with a bright source outside the image."""
    moved = tuple(Source(1.1 * s.flux_jy, s.l_arcsec + 2.0, s.m_arcsec - 1.5) for s in DOUBLE)
    bright = (Source(20.0, 150.0, 90.0),)
    made = []
    for number, sky in enumerate((DOUBLE, moved)):
        path = make_observation(
            folder / f"execution{number}.ms", 5 + number, sky=sky, later_s=9000.0 * number
        )
        beside = make_observation(
            folder / f"bright{number}.ms", 15 + number, sky=bright, later_s=9000.0 * number,
            noise_jy=0.0,
        )  # fmt: skip
        with open_table(path, write=True) as opened, open_table(beside) as other:
            opened.putcol("DATA", opened.getcol("DATA") + other.getcol("DATA"))
        made.append(path)
    settings = {
        **small_config(made[0], folder), "vis": [str(path) for path in made],
        "steps": list(_CHANGING),
        "overrides": {"peel": {"max_pixels": 512, "cycles": 2, "passes": 1, "source_imsize": 64}},
    }  # fmt: skip
    return Victim("executions", (), tuple(made), settings, _summary)


def _targets(folder: Path) -> Victim:
    template = Observation(
        small_array(), (0, 0), 5.0844e9, 10.0, 40.0,
        (SpectralWindow(4.97e9, 3.2e7, 4), SpectralWindow(5.11e9, 3.2e7, 4)), noise_jy=0.02,
    )  # fmt: skip
    fields = [
        SessionField("north", (225.0, 30.0), DOUBLE, (0.0, 400.0), 40.0),
        SessionField("south", (226.0, 29.0), (Source(0.8),), (200.0, 600.0), 40.0),
    ]
    made = simulate_session(
        folder / "targets.ms", template, fields, SessionErrors(drift_deg_h=60.0), seed=3
    )
    settings = {
        **small_config(made.ms, folder), "steps": list(_TARGET_STEPS),
        "targets": ["north", "south"], "cluster": "local:2", "neighbours": "never",
    }  # fmt: skip
    return Victim("targets", (), (made.ms,), settings, _of_targets)


def _session(folder: Path) -> Victim:
    known = named_standard("3C147")
    assert known is not None
    window = SpectralWindow(1.4e9, 64e6, 16)
    template = Observation(small_array(), (0, 0), 5.0844e9, 10.0, 60.0, (window,), noise_jy=0.2)
    flux = float(known.flux_jy(np.array([1.4e9]))[0])
    place = (known.right_ascension_deg, known.declination_deg)
    fields = [
        SessionField("3C147", place, (Source(flux),), (0.0,), 120.0),
        SessionField("phase", (88.9, 49.0), (Source(2.5),), (200.0, 500.0), 60.0),
        SessionField("target", (90.0, 48.0), (Source(0.5),), (300.0,), 120.0),
    ]
    errors = SessionErrors((1.0, 20.0), 0.1, 0.2, 30.0)
    made = simulate_session(folder / "session.ms", template, fields, errors, seed=4)
    settings = {"vis": [str(made.ms)], "steps": list(_SESSION_STEPS), "imsize": 128}
    return Victim("session", ("calibrate", "--quiet"), (made.ms,), settings, _of_session)


VICTIMS: Mapping[str, Callable[[Path], Victim]] = {
    "single": _single,
    "executions": _executions,
    "targets": _targets,
    "session": _session,
}


def make_victim(name: str, folder: Path) -> Victim:
    """Make the data of a victim in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return VICTIMS[name](folder)
