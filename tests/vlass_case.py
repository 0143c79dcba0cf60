"""A small set like those of the VLA Sky Survey, of few windows, channels and integrations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from libs.simulation.gains import StationErrors
from libs.simulation.mosaic import MosaicSimulation, PolarizedSource
from libs.simulation.observation import Observation
from libs.simulation.survey import (
    CENTRE_DEG,
    REFERENCE_HZ,
    SURVEY_SKY,
    simulate_survey,
    survey_observation,
)
from libs.simulation.survey import survey_window_hz as window_hz

__all__ = ["CENTRE_DEG", "REFERENCE_HZ", "make_case", "observation", "window_hz"]


def observation(spws: tuple[int, ...], **changes: Any) -> Observation:
    """Return an observation of few integrations and channels."""
    return survey_observation(spws, **{"integrations": 2, "channels": 2, **changes})


def make_case(
    path: Path,
    spws: tuple[int, ...] = (2, 3),
    sky: tuple[PolarizedSource, ...] = SURVEY_SKY,
    errors: StationErrors | None = None,
    *,
    seed: int = 0,
    **changes: Any,
) -> MosaicSimulation:
    """Simulate the set."""
    return simulate_survey(path, observation(spws, **changes), sky, errors, seed=seed)
