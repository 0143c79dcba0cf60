"""What the record says of a round's solves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from libs.gains.noise_followed import noise_followed
from libs.gains.solver import SolveOptions, SolveResult
from steps.facts import as_metrics
from steps.rounds.held_out import HeldOut, curve

__all__ = ["CoherenceRecord", "HeldOutRecord", "SolveRecord", "Solved"]


@dataclass(frozen=True)
class Solved:
    """One working copy's table, how it was solved and what held-out data said.

    Of the incoherent antennas ``replaced`` have other solutions than those solved for, and
    ``dropped``, among them, have none and are flagged.
    """

    ms: str
    result: SolveResult
    options: SolveOptions
    held_out: HeldOut | None
    flux_factor: float = 1.0
    replaced: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def _noise_followed(solved: Solved) -> float:
    """By which fraction phases that follow the noise raise the source.

    Not a number where held-out data did not tell noise and source, or the solver not what it
    solved for.
    """
    asked, unknowns = solved.held_out, solved.result.unknown_phases
    if asked is None or asked.coherence is None or unknowns is None:
        return math.nan
    if not math.isfinite(asked.choice.noise):
        return math.nan
    return noise_followed(unknowns, asked.coherence.explained / asked.choice.noise)


@dataclass(frozen=True)
class CoherenceRecord:
    """Which stations are coherent, and what became of the others' solutions.

    Attributes
    ----------
    stations_apart : tuple of str
        In phase with neighbours, but not with the array.
    station_coherence : mapping of str to float
        1 as the model says, 0 for noise.
    incoherent_stations, replaced_stations, dropped_stations, kept_from_longer : tuple of str
        Those that failed; with other solutions than those solved for; of these, without any;
        with the solutions of a longer interval.
    coherent_fraction, coherent_of_unflagged : float
        Of all stations tested, and of those that still have data.
    """

    stations_apart: tuple[str, ...]
    station_coherence: Mapping[str, float]
    incoherent_stations: tuple[str, ...]
    coherent_fraction: float
    coherent_of_unflagged: float
    replaced_stations: tuple[str, ...]
    dropped_stations: tuple[str, ...]
    kept_from_longer: tuple[str, ...]

    @classmethod
    def of(cls, solved: Sequence[Solved]) -> CoherenceRecord:
        """Sum up the solves of all working copies."""
        held_out = [one.held_out for one in solved if one.held_out is not None]
        tested = [(i.coherence, i.fallback) for i in held_out if i.coherence is not None]
        good = {
            name: bool(value)
            for one, _ in tested
            for name, value, sigma in zip(one.antenna, one.coherent, one.sigma, strict=True)
            if np.isfinite(sigma)
        }
        good.update((name, False) for item in held_out for name in item.fallback)
        dropped = {name for one in solved for name in one.dropped}
        left = [value for name, value in good.items() if name not in dropped]
        apart = {name for one, fallback in tested for name in one.apart if name not in fallback}
        longer = [n for item in held_out for n, wanted in item.fallback.items() if wanted]
        return cls(
            stations_apart=tuple(sorted(apart)),
            station_coherence={
                name: round(float(value), 4)
                for one, _ in tested
                for name, value in zip(one.antenna, one.coherence, strict=True)
                if np.isfinite(value)
            },
            incoherent_stations=tuple(sorted(n for n, value in good.items() if not value)),
            coherent_fraction=float(np.mean(list(good.values()))) if good else 0.0,
            coherent_of_unflagged=float(np.mean(left)) if left else 0.0,
            replaced_stations=tuple(sorted({n for one in solved for n in one.replaced})),
            dropped_stations=tuple(sorted(dropped)),
            kept_from_longer=tuple(sorted(longer)),
        )


@dataclass(frozen=True)
class HeldOutRecord:
    """What held-out data said.

    Attributes
    ----------
    chosen : str
        The choice in words.
    held_out : tuple of dict
        All candidates and their scores, as `steps.rounds.held_out.curve` gives them.
    longest_baseline_km : float or None
        Longest baseline between two coherent stations; None where none was tested.
    coherence : CoherenceRecord or None
    """

    chosen: str
    held_out: tuple[Mapping[str, Any], ...]
    longest_baseline_km: float | None = None
    coherence: CoherenceRecord | None = None

    def as_metrics(self) -> dict[str, Any]:
        """Return flat metrics."""
        found = {"chosen": self.chosen, "held_out": list(self.held_out)}
        if self.coherence is None:
            return found
        return {
            **found, "longest_baseline_km": self.longest_baseline_km, **as_metrics(self.coherence)
        }  # fmt: skip


@dataclass(frozen=True)
class SolveRecord:
    """What the record says of a round's solves.

    Attributes
    ----------
    options : SolveOptions
        Of the first working copy.
    solutions_flagged_fraction, solution_snr_median, flux_factor : float
        Over all working copies.
    noise_followed : float
        Fraction by which phases that follow the noise raise the source; not a number where that is
        unknown.
    solve_options : mapping of str to SolveOptions
        By working copy.
    held_out : HeldOutRecord or None
        None where held-out data were not asked.
    """

    options: SolveOptions
    solutions_flagged_fraction: float
    solution_snr_median: float
    flux_factor: float
    noise_followed: float
    solve_options: Mapping[str, SolveOptions]
    held_out: HeldOutRecord | None = None

    @classmethod
    def of(cls, solved: Sequence[Solved]) -> SolveRecord:
        """Sum up the solves of all working copies."""
        asked = [one.held_out for one in solved if one.held_out is not None]
        held_out = None
        if asked:
            choice = asked[0].choice
            held_out = HeldOutRecord(choice.reason, tuple(curve(choice)))
            if any(item.coherence is not None for item in asked):
                held_out = replace(
                    held_out,
                    longest_baseline_km=max(item.longest_m for item in asked) / 1000,
                    coherence=CoherenceRecord.of(solved),
                )
        return cls(
            options=solved[0].options,
            solutions_flagged_fraction=float(
                np.mean([one.result.flagged_fraction for one in solved])
            ),
            solution_snr_median=float(np.median([one.result.median_snr for one in solved])),
            flux_factor=float(np.mean([one.flux_factor for one in solved])),
            noise_followed=float(np.mean([_noise_followed(one) for one in solved])),
            solve_options={one.ms: one.options for one in solved},
            held_out=held_out,
        )

    @property
    def coherent_fraction(self) -> float:
        """Fraction of the stations that are coherent; 1 where none was tested."""
        tested = self.held_out.coherence if self.held_out else None
        return tested.coherent_fraction if tested else 1.0

    @property
    def reach_m(self) -> float:
        """Longest baseline between coherent stations, m; infinite where none was tested."""
        longest_km = self.held_out.longest_baseline_km if self.held_out else None
        return math.inf if longest_km is None else 1000 * longest_km

    def as_metrics(self) -> dict[str, Any]:
        """Return flat metrics."""
        options = self.options
        return {
            "solint_s": options.solint.recorded,
            "combine": sorted(options.combine),
            "gaintype": options.gaintype,
            "solution": options.solution,
            "channels_per_block": options.channels_per_block,
            "solutions_flagged_fraction": self.solutions_flagged_fraction,
            "solution_snr_median": self.solution_snr_median,
            "flux_factor": self.flux_factor,
            **({} if math.isnan(self.noise_followed) else {"noise_followed": self.noise_followed}),
            "solve_options": {ms: one.as_record() for ms, one in self.solve_options.items()},
            **(self.held_out.as_metrics() if self.held_out else {}),
        }
