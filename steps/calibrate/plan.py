"""The steps of a session, in order."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from libs.core.errors import ConfigError
from selfcal.options import unknown_name
from selfcal.step import Step

__all__ = ["PROJECT_STEPS", "SESSION_STEPS", "project_steps", "session_steps"]

# module:class of each step; a module is imported when its step is asked for
_PLACES = {
    "combine": "steps.calibrate.combine:Combine",
    "identify": "steps.calibrate.identify:Identify",
    "flag_calibrators": "steps.calibrate.flag_calibrators:FlagCalibrators",
    "set_model": "steps.calibrate.set_model:SetModel",
    "calibrate": "steps.calibrate.solve:SolveSession",
    "apply_calibration": "steps.calibrate.apply_calibration:ApplyCalibration",
    "calibrator_images": "steps.calibrate.session_images:CalibratorImages",
    "target_images": "steps.calibrate.target_images:TargetImages",
    "catalogue": "steps.calibrate.source_lists:SourceLists",
    "session_report": "steps.calibrate.session_report:SessionReport",
}

SESSION_STEPS = tuple(_PLACES)

_PROJECT_PLACES = {
    "find_sessions": "steps.calibrate.ingest:FindSessions",
    "ingest_scans": "steps.calibrate.ingest:IngestScans",
}

PROJECT_STEPS = tuple(_PROJECT_PLACES)


def _made(name: str, place: str) -> Step:
    module, _, kind = place.partition(":")
    made: Step = getattr(importlib.import_module(module), kind)(name)
    return made


def project_steps() -> list[Step]:
    """Return the steps that make measurement sets of a project's files."""
    return [_made(name, place) for name, place in _PROJECT_PLACES.items()]


def session_steps(names: Sequence[str] = ()) -> list[Step]:
    """Return the steps of a session; all of them where none is named.

    Raises
    ------
    ConfigError
        A name is not known, or a step comes before one it needs.
    """
    steps: list[Step] = []
    for name in names or SESSION_STEPS:
        if name not in _PLACES:
            raise unknown_name("step", name, SESSION_STEPS)
        steps.append(_made(name, _PLACES[name]))
    seen: set[str] = set()
    for step in steps:
        missing = sorted(set(step.needs) - seen)
        if missing:
            raise ConfigError(
                f"step {step.name} needs {', '.join(missing)} before it", "reorder steps"
            )
        seen.add(step.name)
    return steps
