"""Who is who: the fields of a session by what they are for."""

from __future__ import annotations

import numpy as np

from libs.closure.compactness import measure_compactness
from libs.core.files import write_atomically
from libs.ms.field_directions import j2000_directions
from libs.ms.scans import read_visits
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from selfcal.step import Step, StepResult
from steps.calibrate.roles import FieldFacts, Roles, choose_roles
from steps.calibrate.session_data import tunings_of
from steps.context import Context

__all__ = ["Identify", "field_facts"]


class Identify(Step):
    """Find flux calibrator, phase calibrators and targets among the fields."""

    needs = ("combine",)
    uses = ("flux_calibrator", "phase_calibrators", "targets")

    def run(self, context: Context) -> StepResult:
        """Write roles.json."""
        settings = context.settings
        first = tunings_of(context)[0]
        facts = field_facts(context, first.ms)
        roles = choose_roles(
            facts, settings["flux_calibrator"], settings["phase_calibrators"], settings["targets"]
        )
        write_atomically(context.workdir / "roles.json", roles.as_json())
        for name in roles.fields:
            context.progress.note(f"  {_line(name, roles)}")
        for text in roles.warnings:
            context.progress.note(f"  {text}", warning=True)
        return StepResult(
            reason=f"flux {roles.flux_calibrator} ({roles.standard}), phase"
            f" {', '.join(roles.phase_calibrators) or 'none'}, targets"
            f" {', '.join(roles.targets) or 'none'}",
            products={"roles": "roles.json"},
            metrics={"warnings": list(roles.warnings)},
        )


def _line(name: str, roles: Roles) -> str:
    """What a field is, and why."""
    if name == roles.flux_calibrator:
        what = "flux calibrator"
    elif name in roles.phase_calibrators:
        what = "phase calibrator"
    else:
        what = f"target, calibrated by {roles.calibrator_of[name]}"
    return f"{name}: {what} ({roles.why[name]})"


def field_facts(context: Context, ms: str) -> list[FieldFacts]:
    """Return what is known of each field name with data, in the order of the observation."""
    path = context.workdir / ms
    fields, states = Subtables(path).fields, Subtables(path).states
    places = j2000_directions(path)
    visits = read_visits(path)
    intents: dict[int, set[str]] = {}
    with open_table(path) as opened:
        for field in {visit.field for visit in visits}:
            some = opened.query(f"FIELD_ID == {field}", columns="STATE_ID")
            used = np.unique(some.getcol("STATE_ID")).tolist()
            some.close()
            intents[field] = {states[i].intents for i in used if 0 <= i < len(states)} - {""}
    # a state that every field shares says nothing
    if len(intents) > 1 and len({frozenset(found) for found in intents.values()}) == 1:
        intents = {field: set() for field in intents}
    by_name: dict[str, list[int]] = {}
    for visit in visits:
        ids_of = by_name.setdefault(fields[visit.field].name.strip(), [])
        if visit.field not in ids_of:
            ids_of.append(visit.field)
    facts = []
    for name, ids in by_name.items():
        context.progress.activity(f"closure phases of {name}")
        measured = measure_compactness(path, tuple(ids))
        facts.append(
            FieldFacts(
                name, tuple(ids), *places[ids[0]],
                tuple(sorted(set().union(*(intents[i] for i in ids)))),
                tuple(visit for visit in visits if visit.field in ids),
                measured.closure_deg, measured.snr,
            )
        )  # fmt: skip
    return facts
