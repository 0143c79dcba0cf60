"""Prediction of held-out data by gains of each interval and kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from libs.gains.solution_interval import SolutionInterval
from reports.records import as_number
from reports.style import INK, MINUS, MUTED, PALETTE, new_figure, styled

__all__ = ["HeldOutTrial", "held_out_figure", "read_trials"]

KINDS = {"p": "phase", "a": "amplitude", "ap": "amplitude and phase"}


@dataclass(frozen=True)
class HeldOutTrial:
    """One kind of gains and its result on held-out data.

    Attributes
    ----------
    interval : str
        Solution interval as text: ``"10 s"``, ``"one per scan"`` or ``"one for all scans"``.
    order : (float, bool)
        Position among intervals, shortest first; that of all scans together is last.
    kind : str
        Kind of gains: phase or amplitude, one gain or two, windows combined or not.
    chi2_fall, error : float
        Decrease of the chi-squared of held-out visibilities compared with no gains; its error.
    chosen : bool
        True for the choice with which the round was solved.
    """

    interval: str
    order: tuple[float, bool]
    kind: str
    chi2_fall: float
    error: float
    chosen: bool


def read_trials(metrics: Mapping[str, Any]) -> list[HeldOutTrial]:
    """Return the trials that a round recorded under ``held_out``; empty when there are none.

    Parameters
    ----------
    metrics : mapping
        Metrics of the step; ``solint_s``, ``calmode``, ``gaintype``, ``combine`` give the choice.
    """
    recorded = metrics.get("held_out")
    if not isinstance(recorded, Sequence) or isinstance(recorded, str):
        return []
    several = len({_frequency(entry) for entry in recorded if isinstance(entry, Mapping)})
    trials = []
    for entry in recorded:
        if isinstance(entry, Mapping) and math.isfinite(as_number(entry.get("gain"))):
            trials.append(_trial(entry, metrics, several > 1))
    return sorted(trials, key=lambda trial: trial.order)


def _trial(entry: Mapping[str, Any], metrics: Mapping[str, Any], several: bool) -> HeldOutTrial:
    interval = SolutionInterval.parse(entry.get("solint_s"))
    all_scans = bool(entry.get("combine_scan"))
    label = "one for all scans" if all_scans else str(interval)
    mode, gaintype = str(entry.get("calmode", "")), str(entry.get("gaintype", ""))
    kind = f"{KINDS.get(mode, mode)}, {'both pols' if gaintype == 'T' else 'each pol'}"
    if several:
        kind += f", {_frequency(entry)}"
    return HeldOutTrial(
        label,
        (interval.seconds, all_scans),
        kind,
        as_number(entry.get("gain")),
        as_number(entry.get("error")),
        _is_chosen(entry, metrics),
    )


def _frequency(entry: Mapping[str, Any]) -> str:
    """Return the treatment of the frequency axis."""
    solution = str(entry.get("solution", "gain"))
    if solution == "bandpass":
        return f"bandpass, blocks of {entry.get('channels_per_block')}"
    if solution != "gain":
        return {"tec": "TEC", "tec+phase": "TEC and phase", "delay+phase": "delays",
                "constants+phase": "constants, common phase",
                "constant_delay+phase": "constant delays, common phase",
                "delay+tec": "constant delays, common TEC"}.get(solution, solution)  # fmt: skip
    if entry.get("combine_spw"):
        return "windows combined"
    return "blocks of channels" if entry.get("channels_per_block") else "each window"


def _is_chosen(entry: Mapping[str, Any], metrics: Mapping[str, Any]) -> bool:
    for name, usual in (("solution", "gain"), ("channels_per_block", 0)):
        if entry.get(name, usual) != metrics.get(name, usual):
            return False
    if (entry.get("calmode"), entry.get("gaintype")) != (
        metrics.get("calmode"),
        metrics.get("gaintype"),
    ):
        return False
    combine = metrics.get("combine") or []
    if ("spw" in combine) != bool(entry.get("combine_spw")):
        return False
    chosen = SolutionInterval.parse(metrics.get("solint_s"))
    tried = SolutionInterval.parse(entry.get("solint_s"))
    return math.isclose(chosen.seconds, tried.seconds, rel_tol=1e-3) and (
        ("scan" in combine) == bool(entry.get("combine_scan"))
    )


@styled
def held_out_figure(metrics: Mapping[str, Any]) -> Figure | None:
    """Draw the decrease of held-out chi-squared by interval, one line for each kind of gains.

    Parameters
    ----------
    metrics : mapping
        Metrics of the round.

    Returns
    -------
    Figure or None
        Figure; None when the round recorded no trials. Above zero, gains predict data on which
        they were not solved; bars are one standard error; the choice is ringed.
    """
    trials = read_trials(metrics)
    if not trials:
        return None
    figure = new_figure(8.4, 2.9, placed=True)
    axes = figure.add_axes((0.085, 0.17, 0.62, 0.74))
    places = {name: place for place, name in enumerate(dict.fromkeys(t.interval for t in trials))}
    kinds = list(dict.fromkeys(trial.kind for trial in trials))
    for number, kind in enumerate(kinds):
        part = [trial for trial in trials if trial.kind == kind]
        x = np.array([places[trial.interval] for trial in part], dtype=float)
        fall = np.array([trial.chi2_fall for trial in part])
        error = np.nan_to_num([trial.error for trial in part])
        axes.errorbar(
            x, fall, yerr=error, color=PALETTE[number % len(PALETTE)], marker="o", ms=4, lw=1.2,
            capsize=2, label=kind,
        )  # fmt: skip
    for trial in trials:
        if trial.chosen:
            axes.plot(
                places[trial.interval], trial.chi2_fall, "o", ms=11, mfc="none", mec=INK, mew=1.4,
                ls="none", label="chosen",
            )  # fmt: skip
    axes.axhline(0, color=MUTED, lw=0.7)
    axes.set_xticks(list(places.values()), list(places))
    axes.set_xlim(-0.4, max(len(places) - 0.6, 0.4))
    exponent = _exponent([trial.chi2_fall for trial in trials])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _plain(y / 10**exponent)))
    axes.set_xlabel("Solution interval")
    unit = rf" ($10^{{{exponent}}}$)" if exponent else ""
    axes.set_ylabel(rf"Decrease of held-out $\chi^2${unit}")
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda place: labels[place] == "chosen")
    axes.legend(
        [handles[place] for place in order], [labels[place] for place in order],
        loc="upper left", bbox_to_anchor=(1.02, 1.04),
    )  # fmt: skip
    return figure


def _exponent(falls: Sequence[float]) -> int:
    """Return the power of ten of the axis; 0 for numbers that are short anyway."""
    largest = max(abs(fall) for fall in falls)
    return math.floor(math.log10(largest)) if largest >= 1e4 else 0


def _plain(value: float) -> str:
    return f"{value:.6g}".replace("-", MINUS)
