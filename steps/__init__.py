"""The steps a pipeline may be made of; this dict is the only registry."""

from __future__ import annotations

from collections.abc import Sequence

from libs.core.errors import ConfigError
from selfcal.options import unknown_name
from selfcal.step import Step
from steps.closure_check import ClosureCheck
from steps.closure_model import ClosureStats, InitialModel
from steps.flagging import RflagFinal, RflagInit, SaveInitFlags
from steps.imaging import FovImage, TestImage
from steps.products import ReportResults, SplitTrial
from steps.refant import SelectRefant
from steps.rounds.amplitude_round import AmplitudeRound
from steps.rounds.rounds import PhaseRound
from steps.startup import Startup

__all__ = ["STANDARD", "STEPS", "build_steps"]

STEPS: dict[str, type[Step]] = {
    "startup": Startup,
    "save_init_flags": SaveInitFlags,
    "fov_image": FovImage,
    "run_rflag_init": RflagInit,
    "test_image": TestImage,
    "select_refant": SelectRefant,
    "closure_stats": ClosureStats,
    "initial_model": InitialModel,
    "p0": PhaseRound,
    "p1": PhaseRound,
    "p2": PhaseRound,
    "p3": PhaseRound,
    "p4": PhaseRound,
    "l1": PhaseRound,
    "l2": PhaseRound,
    "l3": PhaseRound,
    "l4": PhaseRound,
    "l5": PhaseRound,
    "ap1": AmplitudeRound,
    "ap2": AmplitudeRound,
    "closure_check": ClosureCheck,
    "split_trial_1": SplitTrial,
    "report_results": ReportResults,
    "run_rflag_final": RflagFinal,
}

STANDARD = (
    "startup", "save_init_flags", "fov_image", "run_rflag_init", "test_image", "select_refant",
    "closure_stats", "initial_model", "p0", "p1", "p2", "ap1", "split_trial_1", "report_results",
    "run_rflag_final",
)  # fmt: skip


def build_steps(names: Sequence[str]) -> list[Step]:
    """Return the steps of a list of names.

    Raises
    ------
    ConfigError
        A name is not known, or a step comes before one it needs.
    """
    for name in names:
        if name not in STEPS:
            raise unknown_name("step", name, list(STEPS))
    steps = [STEPS[name](name) for name in names]
    _check_order(steps)
    return steps


def _check_order(steps: Sequence[Step]) -> None:
    seen: set[str] = set()
    for step in steps:
        needed = {"startup", *step.needs} - {step.name}
        missing = sorted(needed - seen)
        if missing:
            raise ConfigError(
                f"step {step.name} needs {', '.join(missing)} before it", "reorder steps"
            )
        seen.add(step.name)
