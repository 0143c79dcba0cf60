"""The ladder of baseline lengths: the limit of each rung, and when the ladder ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libs.imaging.judging import ladder_uvmax_m
from selfcal.step import Skip
from steps.context import Context
from steps.facts import closure_facts, model_facts
from steps.images import best_image
from steps.rounds.record import Refusal, round_facts

__all__ = ["check_rung", "judged_parameters", "on_ladder"]


def on_ladder(context: Context) -> bool:
    """Whether the step that runs is a rung."""
    return bool(context.options.get("uvmax") == "ladder")


def judged_parameters(context: Context, best: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of the judged image: the best one's, or with the rung's own limit."""
    options = dict(best)
    if on_ladder(context):
        options["uvmax"] = ladder_uvmax_m(
            closure_facts(context).coherent_m,
            context.options["ladder_bottom"],
            context.options["ladder_top"],
            context.options["ladder_rung"],
            context.options["ladder_rungs"],
        )
    elif context.options.get("uvmax"):
        options["uvmax"] = context.options["uvmax"]
    return options


def check_rung(context: Context) -> None:
    """Skip a rung that cannot help.

    The ladder ends at a rung whose solutions are incoherent: with longer baselines there would
    be less signal still. A rung that was refused on the same baselines as the state before says
    nothing against longer ones, and one that was not tried says nothing at all: what counts is
    the last rung that was.

    Raises
    ------
    Skip
        The ladder has ended, or the rung would only repeat another.
    """
    if not on_ladder(context) or context.options["ladder_rung"] == 0:
        return
    tried = [
        (name, result)
        for name, result in context.results.items()
        if round_facts(result).decided_by is None
    ]
    last, result = tried[-1]
    refusal = round_facts(result).refusal
    incoherent = refusal is None or Refusal(refusal).ends_ladder
    if result.status != "done" and incoherent:
        raise Skip(f"the ladder ended at {last}", {"decided_by": last})
    own_m = judged_parameters(context, best_image(context).judged_with)["uvmax"]
    last_m = round_facts(result).limit_m
    if own_m != last_m:
        return
    if result.status != "done":
        raise Skip(f"it has the same baselines as {last}, which did not help", {"decided_by": last})
    if model_facts(context).closure_model_complete:
        raise Skip(
            f"{last} had every baseline, against a model that describes them", {"decided_by": last}
        )
