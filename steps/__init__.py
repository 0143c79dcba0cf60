"""The steps a pipeline may be made of; this is the only registry."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from libs.core.errors import ConfigError
from selfcal.options import unknown_name
from steps.standard import STANDARD

if TYPE_CHECKING:
    from selfcal.step import Step

__all__ = ["STANDARD", "STEPS", "build_steps"]

# module:class of each step; a module is imported when one of its steps is asked for, so that
# the names alone, as the help shows them, cost nothing
_PLACES = {
    "startup": "steps.startup:Startup",
    "save_init_flags": "steps.flagging:SaveInitFlags",
    "fov_image": "steps.imaging:FovImage",
    "run_rflag_init": "steps.flagging:RflagInit",
    "align": "steps.align:Align",
    "peel": "steps.peel:Peel",
    "test_image": "steps.imaging:TestImage",
    "select_refant": "steps.refant:SelectRefant",
    "closure_stats": "steps.closure_model:ClosureStats",
    "initial_model": "steps.closure_model:InitialModel",
    "p0": "steps.rounds.rounds:PhaseRound",
    "p1": "steps.rounds.rounds:PhaseRound",
    "p2": "steps.rounds.rounds:PhaseRound",
    "p3": "steps.rounds.rounds:PhaseRound",
    "p4": "steps.rounds.rounds:PhaseRound",
    "l1": "steps.rounds.rounds:PhaseRound",
    "l2": "steps.rounds.rounds:PhaseRound",
    "l3": "steps.rounds.rounds:PhaseRound",
    "l4": "steps.rounds.rounds:PhaseRound",
    "l5": "steps.rounds.rounds:PhaseRound",
    "ap1": "steps.rounds.amplitude_round:AmplitudeRound",
    "ap2": "steps.rounds.amplitude_round:AmplitudeRound",
    "b1": "steps.rounds.bandpass_round:BandpassRound",
    "closure_check": "steps.closure_check:ClosureCheck",
    "split_trial_1": "steps.products:SplitTrial",
    "report_results": "steps.products:ReportResults",
    "run_rflag_final": "steps.flagging:RflagFinal",
}


class _Registry(Mapping[str, "type[Step]"]):
    """The classes of the steps by name, each imported when it is asked for."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> type[Step]:
        module, _, kind = self._places[name].partition(":")
        found: type[Step] = getattr(importlib.import_module(module), kind)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


STEPS: Mapping[str, type[Step]] = _Registry(_PLACES)


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
        missing = sorted({"startup", *step.needs} - {step.name} - seen)
        if missing:
            raise ConfigError(
                f"step {step.name} needs {', '.join(missing)} before it", "reorder steps"
            )
        seen.add(step.name)
