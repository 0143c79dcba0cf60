"""A ladder of solution intervals given by hand: which rounds it makes, and their parameters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from libs.core.errors import ConfigError
from selfcal.options import Option
from selfcal.settings import Settings
from steps import STANDARD, STEPS
from steps.standard import WHOLE_EXECUTION

__all__ = ["SOLINTS_SETTING", "with_solints"]

SOLINTS_SETTING = "solints"
TEMPLATE = "pipeline"
_PHASE_ROUND = re.compile(r"p\d+")
_INTERVAL = Option("solints", "time", "inf", "", words=("int", "inf"))


def with_solints(settings: Settings) -> Settings:
    """Return settings in which ``solints``, if it is set, makes the phase rounds.

    Each interval is a phase round, p0 and on. ``inf_EB`` solves a constant of each window and
    polarization, anew every 4500 s; the intervals after it solve a phase common to all windows with
    such constants beneath it. What the user sets for a round by itself wins.

    Raises
    ------
    ConfigError
        An interval is not understood, there are too many, or the list of steps has no phase round.
    """
    wanted: Sequence[str] = settings[SOLINTS_SETTING]
    if not wanted:
        return settings
    names = [name for name in STEPS if _PHASE_ROUND.fullmatch(name)]
    if len(wanted) > len(names):
        raise ConfigError(
            f"solints has {len(wanted)} intervals", f"give at most {len(names)}, one for each round"
        )
    rounds = names[: len(wanted)]
    steps = list(settings["steps"] or STANDARD)
    places = [i for i, name in enumerate(steps) if _PHASE_ROUND.fullmatch(name)]
    if not places:
        raise ConfigError("solints without a phase round in steps", "add p0 to steps")
    kept = [name for name in steps if not _PHASE_ROUND.fullmatch(name)]
    at = places[0]
    values = {**settings.values, "steps": (*kept[:at], *rounds, *kept[at:])}
    origin = {**settings.origin, "steps": SOLINTS_SETTING}
    if settings["template"] == "auto":
        values["template"], origin["template"] = TEMPLATE, SOLINTS_SETTING
    overrides = {step: dict(own) for step, own in settings.step_overrides.items()}
    for number, (name, interval) in enumerate(zip(rounds, wanted, strict=True)):
        constants = WHOLE_EXECUTION in wanted[:number]
        given = {key: (value, SOLINTS_SETTING) for key, value in _form(interval, constants).items()}
        overrides[name] = {**given, **overrides.get(name, {})}
    return replace(settings, values=values, origin=origin, step_overrides=overrides)


def _form(interval: str, constants: bool) -> dict[str, Any]:
    """Parameters of the round of one interval."""
    if interval == WHOLE_EXECUTION:
        from libs.gains.two_factors import LONGEST_CONSTANT_S  # arrays, which -h does not wait for

        return {
            "solint": f"{LONGEST_CONSTANT_S:g}s", "combine": ["scan"], "gaintype": "G",
            "solution": "gain",
        }  # fmt: skip
    try:
        _INTERVAL.parse(interval)
    except ConfigError as error:
        raise ConfigError(
            f"solints has {interval!r}", f"use {WHOLE_EXECUTION}, inf, int or a time such as 30s"
        ) from error
    if constants:
        return {
            "solint": interval, "combine": [], "gaintype": "G", "solution": "constants+phase",
        }  # fmt: skip
    return {"solint": interval, "combine": ["spw"], "gaintype": "T", "solution": "gain"}
