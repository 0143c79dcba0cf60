"""Simulated sessions and their runs, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from auto_selfcal import main
from libs.catalogues.flux_standards import named_standard
from libs.imaging.standard_models import find_model_image, read_standard_image, resolved_model
from libs.simulation.array_configurations import load_configuration
from libs.simulation.observation import Observation, Source, SpectralWindow
from libs.simulation.session import (
    SessionErrors,
    SessionField,
    SimulatedSession,
    simulate_session,
)

PHASE_JY, TARGET_JY = 2.5, 0.3
LOW_HZ, WIDTH_HZ = 1.4e9, 64e6
# with half the noise as good as all 27
ANTENNAS = 14


def make_session(
    path: Path, *, seed: int, second_hz: float = 2.2e9, errors: SessionErrors | None = None,
    standard: str = "3C147", array: str = "vla.d", resolved: bool = False,
    channels: int = 32, **more: Any,
) -> SimulatedSession:  # fmt: skip
    """A flux calibrator, a phase calibrator and a target in two windows; scan numbers all 1.

    Where it is resolved the flux calibrator is the image of it, not a point.
    """
    known = named_standard(standard)
    assert known is not None
    windows = tuple(SpectralWindow(hz, WIDTH_HZ, channels) for hz in (LOW_HZ, second_hz))
    observation = Observation(
        load_configuration(array).thinned(ANTENNAS),
        (0, 0),
        5.0e9,
        10.0,
        60.0,
        windows,
        noise_jy=0.1,
    )
    flux = known.flux_jy(np.array([LOW_HZ, second_hz]))
    # the simulator has power laws: through the standard's flux in both windows
    index = float(np.log(flux[1] / flux[0]) / np.log(second_hz / LOW_HZ))
    middle = 0.5 * (LOW_HZ + second_hz)
    there = Source(float(flux[0] * (middle / LOW_HZ) ** index), spectral_index=index)
    place = (known.right_ascension_deg, known.declination_deg)
    if resolved:
        image = find_model_image(known, LOW_HZ)
        assert image is not None
        at = np.radians(place)
        model = read_standard_image(image, (float(at[0]), float(at[1])))
        more["models"] = {"flux cal": resolved_model(model, known)}
    fields = [
        SessionField("flux cal", place, () if resolved else (there,), (0.0,), 180.0),
        SessionField("J0555+39", (88.9, 39.8), (Source(PHASE_JY),), (300.0, 700.0, 1100.0), 60.0),
        SessionField(
            "field 1", (90.0, 45.0), (Source(TARGET_JY, l_arcsec=80, m_arcsec=40),),
            (400.0, 800.0), 200.0,
        ),
    ]  # fmt: skip
    errors = errors or SessionErrors((1.0, 20.0), 0.1, 0.2, 30.0)
    return simulate_session(
        path, observation, fields, errors, seed=seed, scan_numbers=False, **more
    )


def write_config(folder: Path, vis: Path | str, **settings: Any) -> Path:
    """A config of a run in ``folder/work``."""
    path = folder / "session.yaml"
    path.write_text(
        yaml.safe_dump({"vis": [str(vis)], "workdir": str(folder / "work"), **settings})
    )
    return path


def calibrate(config: Path, *words: str) -> int:
    """Run the command in this process."""
    return main(["calibrate", str(config), "--quiet", *words])
