"""What a round passes on: the state it starts from, its trials, and the record it leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from libs.imaging.statistics import ImageStatistics
from selfcal.step import StepResult, TableRef
from steps.context import Context
from steps.facts import as_metrics, latest, recorded
from steps.images import Imaged, ImageRecord
from steps.rounds.solve_record import Solved, SolveRecord

__all__ = [
    "BestState",
    "Closeness",
    "Coherence",
    "CycleCount",
    "Refusal",
    "RoundFacts",
    "RoundRecord",
    "Trial",
    "TrialRecord",
    "coherence_of_last_round",
    "round_facts",
]


class Refusal(StrEnum):
    """Why a round was taken back, as far as the rounds after it need to know."""

    NO_SOLUTION = "no solution"
    FLAGGED = "too much was flagged"
    INCOHERENT = "solutions do not hold on the added baselines"
    NOT_BETTER = "the image of the same baselines is no better"

    @property
    def ends_ladder(self) -> bool:
        """Whether it says that solutions are incoherent, so that longer baselines are of no use.

        On the same baselines phases may have been good before: that says nothing against them.
        """
        return self is not Refusal.NOT_BETTER


@dataclass(frozen=True)
class BestState:
    """The best state so far: its judged image and tables.

    Attributes
    ----------
    image : ImageRecord
    tables : tuple of TableRef
    flux_factor : float
        Factor by which the amplitudes of its own round change the flux.
    closure_chi2 : float or None
        Reduced chi2 of its image's model against closure quantities, where it was measured.
    held_out_sigma : float or None
        What held-out baselines say of its gains, as in `RoundRecord`.
    incremental_on : tuple of str
        Rounds whose tables were kept beneath these gains.
    pointings : tuple of mapping or None
        Of a mosaic: fields of `libs.imaging.pointing_check.PointingMeasure` of each pointing, and
        ``model_share`` and its error (`libs.ms.model_share`); None for one without an image; empty
        where they were not measured.
    """

    image: ImageRecord
    tables: tuple[TableRef, ...]
    flux_factor: float = 1.0
    closure_chi2: float | None = None
    held_out_sigma: float | None = None
    incremental_on: tuple[str, ...] = ()
    pointings: tuple[Mapping[str, Any] | None, ...] = ()
    solve_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, result: StepResult, tables: tuple[TableRef, ...]) -> BestState:
        """Return the state that a result with a judged image led to."""
        facts = round_facts(result)
        return cls(
            ImageRecord.of(result), tables, facts.flux_factor, facts.closure_chi2,
            facts.held_out_sigma, tuple(facts.incremental_on), facts.pointings_measured,
            facts.solve_options,
        )  # fmt: skip

    def held_out_of(self, incremental_on: Sequence[str]) -> tuple[str, float]:
        """Return the state's round and its `held_out_sigma`, for gains that would replace its own.

        Not a number for gains on top of them, or on others: these are asked of other data.
        """
        same = self.tables and self.incremental_on == tuple(incremental_on)
        sigma = self.held_out_sigma if same else None
        return self.image.judged, math.nan if sigma is None else sigma


@dataclass(frozen=True)
class Trial:
    """One cycle of a round: solved, applied and, unless flags forbade it, imaged.

    Attributes
    ----------
    refs : tuple of TableRef
        The state it would lead to.
    solved : tuple of Solved
    flagged : (float, float)
        Fraction of the visibilities flagged before and with it.
    newly_flagged : float
        Fraction flagged anew, apart from antennas that are incoherent.
    images : tuple of Imaged
        Start image (where one was made) and judged image.
    mask_file : Path or None
        None when the model came from closure quantities.
    mask_reason : str
    model_from : str
        The image that gave the model, or ``initial_model``.
    judged_with : mapping
        Parameters of the judged image.
    pointings : tuple of mapping or None
        `BestState.pointings` with it.
    pointings_said : str
        What pointings keep, where not all have the new solutions.
    """

    refs: tuple[TableRef, ...]
    solved: tuple[Solved, ...]
    flagged: tuple[float, float]
    newly_flagged: float
    images: tuple[Imaged, ...]
    mask_file: Path | None
    mask_reason: str
    model_from: str
    judged_with: Mapping[str, Any]
    pointings: tuple[Mapping[str, Any] | None, ...] = ()
    pointings_said: str = ""

    @property
    def image(self) -> Imaged:
        """The judged image."""
        return self.images[-1]


@dataclass(frozen=True)
class TrialRecord:
    """How a cycle went.

    Attributes
    ----------
    calmode : str
        ``p``, ``a`` or ``ap``.
    minsnr : float
    mask : str
        Where the model comes from.
    model_from : str
        The image that gave the model, or ``initial_model``.
    flagged_before, flagged_after : float
        Fraction of the visibilities flagged without and with the solutions.
    limit_m : float
        Longest baseline imaged, m; 0 for all.
    incremental_on : tuple of str
        Rounds whose tables are kept beneath.
    """

    calmode: str
    minsnr: float
    mask: str
    model_from: str
    flagged_before: float
    flagged_after: float
    limit_m: float
    incremental_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class Closeness:
    """Agreement of the image's model with closure quantities, as reduced chi2.

    Attributes
    ----------
    closure_chi2, closure_phase_chi2, closure_amplitude_chi2 : float
        All, phases, log amplitudes.
    closure_chi2_before : float or None
        That of the best image before, where its model could be compared.
    """

    closure_chi2: float
    closure_phase_chi2: float
    closure_amplitude_chi2: float
    closure_chi2_before: float | None = None

    @property
    def pair(self) -> tuple[float, float] | None:
        """Chi2 of the new and of the best image's model; None with nothing to compare."""
        before = self.closure_chi2_before
        return None if before is None else (self.closure_chi2, before)

    @property
    def fell(self) -> float:
        """Fraction by which chi2 fell; what is below 1 all agrees."""
        if self.closure_chi2_before is None:
            return 0.0
        return 1 - max(self.closure_chi2, 1.0) / max(self.closure_chi2_before, 1.0)


@dataclass(frozen=True)
class CycleCount:
    """How often a round was repeated, and what ended it.

    Attributes
    ----------
    cycles : int
        Cycles that were accepted.
    cycles_tried : int
        The same and, where the last was refused, that one.
    last_cycle_refused : str or None
        Why the last cycle was refused or not made; None where it was accepted.
    flux_change_percent : float
        Of the total flux, over all accepted cycles.
    """

    cycles: int
    cycles_tried: int
    flux_change_percent: float
    last_cycle_refused: str | None = None


@dataclass(frozen=True)
class RoundRecord:
    """What the record says of a round; parts that a cycle did not come to are None.

    Attributes
    ----------
    trial : TrialRecord or None
    solve : SolveRecord or None
    statistics : ImageStatistics or None
        Of the judged image.
    closeness : Closeness or None
    held_out_sigma : float or None
        How many times its error chi2 of held-out baselines falls with the gains.
    states_sigma : float or None
        By how many times the error its image's model and gains explain more of held-out baselines
        than those of the state before.
    shift_arcsec : float or None
        Shift of the judged image against the best one before.
    shift : str or None
        Why it is unknown.
    warning : str or None
    refusal : Refusal or None
        None for a round that was accepted.
    judged : str or None
        The step whose image it is, for accepted rounds, ...
    judged_with : mapping or None
        ... and its parameters.
    count : CycleCount or None
        Of accepted rounds.
    pointings_measured, pointings_before : tuple of mapping or None
        `BestState.pointings` of a mosaic with the round's solutions, and of the state before it.
    """

    trial: TrialRecord | None = None
    solve: SolveRecord | None = None
    statistics: ImageStatistics | None = None
    closeness: Closeness | None = None
    held_out_sigma: float | None = None
    states_sigma: float | None = None
    shift_arcsec: float | None = None
    shift: str | None = None
    warning: str | None = None
    refusal: Refusal | None = None
    judged: str | None = None
    judged_with: Mapping[str, Any] | None = None
    count: CycleCount | None = None
    pointings_measured: tuple[Mapping[str, Any] | None, ...] = ()
    pointings_before: tuple[Mapping[str, Any] | None, ...] = ()

    def as_metrics(self) -> dict[str, Any]:
        """Return the flat metrics of the record, among them what kind of step it is."""
        found: dict[str, Any] = {"kind": "round"}
        for part in (self.trial, self.closeness, self.count):
            if part is not None:
                found |= as_metrics(part)
        if self.solve is not None:
            found |= self.solve.as_metrics()
        if self.statistics is not None:
            found |= self.statistics.as_row()
        own = (
            "held_out_sigma",
            "states_sigma",
            "shift_arcsec",
            "shift",
            "warning",
            "judged",
            "judged_with",
        )
        found |= {name: getattr(self, name) for name in own if getattr(self, name) is not None}
        for name in ("pointings_measured", "pointings_before"):
            if getattr(self, name):
                found[name] = list(getattr(self, name))
        if self.refusal is not None:
            found["refusal"] = self.refusal.value
        return found


@dataclass(frozen=True)
class RoundFacts:
    """What later rounds need of a recorded round.

    Attributes
    ----------
    kind : str
        ``round`` for a round, empty for other steps.
    refusal : str or None
        A `Refusal`.
    decided_by : str or None
        The rung by whose outcome a rung of the ladder was not tried.
    limit_m : float or None
        Longest baseline imaged, m.
    flux_factor, closure_chi2, held_out_sigma, incremental_on, solve_options
        As in `BestState`.
    pointings_measured : tuple of mapping or None
        `BestState.pointings`.
    """

    kind: str = ""
    refusal: str | None = None
    decided_by: str | None = None
    limit_m: float | None = None
    flux_factor: float = 1.0
    closure_chi2: float | None = None
    held_out_sigma: float | None = None
    incremental_on: tuple[str, ...] = ()
    pointings_measured: tuple[Mapping[str, Any] | None, ...] = ()
    solve_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Coherence:
    """Fraction of the stations not flagged that the last round found coherent."""

    coherent_of_unflagged: float = 1.0


def round_facts(result: StepResult) -> RoundFacts:
    """Return what a result says, if it is a round's."""
    return recorded(RoundFacts, result.metrics)


def coherence_of_last_round(context: Context) -> float:
    """Return the fraction of unflagged stations whose solutions the last round found coherent."""
    return latest(context, Coherence).coherent_of_unflagged
