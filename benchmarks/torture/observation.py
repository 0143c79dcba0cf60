"""The small observation that is broken, and the config it is calibrated with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from libs.ms.antennas import AntennaArray
from libs.simulation.observation import (
    Observation,
    Source,
    SpectralWindow,
    StationErrors,
    simulate,
)

__all__ = ["DOUBLE", "STEPS", "digest", "make_observation", "small_array", "small_config"]

STEPS = (
    "startup", "save_init_flags", "test_image", "select_refant", "closure_stats", "p0", "ap1",
    "split_trial_1",
)  # fmt: skip


DOUBLE = (Source(1.0), Source(0.3, 25.0, -12.0))


def small_array() -> AntennaArray:
    """Return ten antennas within 1.5 km."""
    rng = np.random.default_rng(1)
    angle = 2 * np.pi * np.arange(10) / 10 + rng.uniform(0, 0.5, 10)
    radius_m = np.geomspace(60.0, 1500.0, 10)
    place = np.stack([radius_m * np.cos(angle), radius_m * np.sin(angle), 0 * angle], axis=1)
    place += np.array([-1601185.0, -5041977.0, 3554876.0])
    names = tuple(f"ea{number + 1:02d}" for number in range(10))
    return AntennaArray("VLA", names, names, place, np.full(10, 25.0))


def make_observation(
    path: Path,
    seed: int = 1,
    *,
    sky: Sequence[Source] = DOUBLE,
    later_s: float = 0.0,
    noise_jy: float = 0.02,
    field: str = "target",
) -> Path:
    """Write ten antennas, two windows of four channels, three scans of a double source."""
    observation = Observation(
        small_array(), (225.0, 30.0), 5.0844e9 + later_s, 10.0,
        40.0, (SpectralWindow(4.97e9, 3.2e7, 4), SpectralWindow(5.11e9, 3.2e7, 4)), scans=3,
        gap_s=300.0, noise_jy=noise_jy, field=field,
    )  # fmt: skip
    errors = StationErrors(phase_walk_deg=30.0, phase_walk_s=600.0, amp_offset=0.05)
    simulate(path, observation, sky, errors, seed=seed, perfect=False)
    return path


def small_config(vis: Path, workdir: Path, until: str = "") -> dict[str, Any]:
    """Return the settings of a run that takes seconds."""
    steps = STEPS[: STEPS.index(until) + 1] if until else STEPS
    return {
        "vis": str(vis), "workdir": str(workdir), "imsize": 128, "cell": "1arcsec",
        "steps": list(steps), "threads": 1, "quiet": True,
        "plots": False,
    }  # fmt: skip


def digest(folder: Path) -> str:
    """Return a digest of a file, or of what a folder holds but for casacore's locks."""
    found = hashlib.sha256(folder.read_bytes() if folder.is_file() else b"")
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "table.lock":
            found.update(path.relative_to(folder).as_posix().encode())
            found.update(path.read_bytes())
    return found.hexdigest()
