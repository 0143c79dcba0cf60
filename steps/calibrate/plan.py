"""The steps of a session, in order."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from libs.core.errors import ConfigError
from selfcal.options import unknown_name
from selfcal.step import Step

__all__ = ["SESSION_STEPS", "session_steps"]

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
        module, _, kind = _PLACES[name].partition(":")
        steps.append(getattr(importlib.import_module(module), kind)(name))
    seen: set[str] = set()
    for step in steps:
        missing = sorted(set(step.needs) - seen)
        if missing:
            raise ConfigError(
                f"step {step.name} needs {', '.join(missing)} before it", "reorder steps"
            )
        seen.add(step.name)
    return steps
