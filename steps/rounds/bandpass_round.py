"""Rounds that solve for bandpasses, on top of the gains found before, by held-out data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from libs.gains.normal_equations import accumulate
from libs.gains.solution_interval import PER_SCAN
from libs.gains.solver import AppliedTable, SolveOptions
from libs.gains.tec_table import used_channels
from libs.heldout.bandpass import choose_bandpass
from libs.ms.summary import MsSummary, summarise
from selfcal.options import Option
from selfcal.step import Skip, StepResult, TableRef
from steps.context import Context
from steps.data_state import measurement_sets
from steps.facts import refant_facts
from steps.mosaics import common_to_fields
from steps.rounds.held_out import BYTES_PER_SUM, MOST_BYTES, HeldOut, chosen_options, curve
from steps.rounds.round_options import ROUND_OPTIONS
from steps.rounds.rounds import GainRound
from steps.rounds.solving import set_by_user

__all__ = ["BandpassRound"]

LEAST_CHANNELS = 4  # of every spectral window
_WITHOUT = (
    "solint", "combine", "solution", "outliers", "incremental_on", "incoherent", "uvmax",
    "ladder_rung", "ladder_rungs", "ladder_bottom", "ladder_top", "min_coherent",
)  # fmt: skip


class BandpassRound(GainRound):
    """A round of bandpasses, relative in amplitude and phase, on top of all tables so far.

    Held-out data choose blocks of channels, phases alone or amplitudes too, and one bandpass for
    all scans or for each; and whether there is any to be seen.
    """

    amplitude = True
    solution = "bandpass"
    options = (
        *(option for option in ROUND_OPTIONS if option.name not in _WITHOUT),
        Option("calmode", "choice", "auto", "ap: amplitude and phase, p: phase only, auto: by"
               " held-out data", choices=("auto", "ap", "p")),
        Option("combine", "names", ["scan"], "scan: one bandpass for all scans; empty: one for"
               " each; held-out data choose unless it is set", choices=("scan",)),
    )  # fmt: skip

    def calmode(self, context: Context) -> str:
        """Amplitude and phase, unless phases alone are asked for."""
        return "p" if context.options["calmode"] == "p" else "ap"

    def run(self, context: Context) -> StepResult:
        """As a round of gains.

        Raises
        ------
        Skip
            The data are too coarse for a bandpass, or the solver knows none.
        """
        if context.tools.solver.name != "native":
            raise Skip("bandpasses of rounds are solved for by the native solver only")
        for ms in measurement_sets(context):
            fewest = min(map(len, used_channels(ms).values()), default=0)
            if fewest < LEAST_CHANNELS:
                raise Skip(
                    f"a spectral window has fewer than {LEAST_CHANNELS} channels ({fewest}), in"
                    " which no bandpass shows"
                )
        return super().run(context)

    def prior_tables(self, context: Context) -> tuple[TableRef, ...]:
        """All tables so far."""
        return context.tables

    def solve_options(
        self,
        context: Context,
        ms: Path,
        calmode: str,
        prior: Sequence[AppliedTable],
        fields: Sequence[int] = (),
    ) -> tuple[SolveOptions, HeldOut | None]:
        """Return how to solve, by held-out data; what the user set stays.

        Raises
        ------
        Skip
            Held-out data see no bandpass.
        """
        values = context.options
        options = SolveOptions(
            solint=PER_SCAN, combine=frozenset(values["combine"]) | common_to_fields(context),
            calmode=calmode,  # type: ignore[arg-type]
            gaintype=values["gaintype"], refant=refant_facts(context).refant,
            minsnr=values["minsnr"], minblperant=values["minblperant"],
            uvmin_m=values["solve_uvmin"], uvmax_m=values["solve_uvmax"], solution="bandpass",
            channels_per_block=values["block"] or 1, fields=tuple(fields),
        )  # fmt: skip
        context.progress.activity(f"held-out data of {ms.name}")
        with context.clock.time("solving"):
            held_out = self._ask(context, ms, options, prior)
        best = held_out.choice.best
        if best is None:
            reason = held_out.choice.reason
            raise Skip(reason, {"chosen": reason, "held_out": curve(held_out.choice)})
        fixed = [name for name in ("combine", "gaintype") if set_by_user(context, name)]
        if values["block"]:
            fixed.append("block")
        options = chosen_options(options, best, ["solint", *fixed])
        return replace(options, calmode=best.calmode), held_out

    def _ask(
        self, context: Context, ms: Path, options: SolveOptions, prior: Sequence[AppliedTable]
    ) -> HeldOut:
        together, width = bandpass_sums(summarise(ms), options.channels_per_block)
        axes = (options.combine & {"field"}) | frozenset({"scan"} if together else ())
        equations = accumulate(
            ms, replace(options, combine=axes), prior,
            channels_per_block=width, corr_dep_flags=True,
        )  # fmt: skip
        known = equations.antenna
        choice = choose_bandpass(
            equations, block=width,
            calmodes=("ap", "p") if context.options["calmode"] == "auto" else (options.calmode,),
            refants=[known.index(name) for name in options.refant if name in known],
            minblperant=options.minblperant, progress=lambda text: context.progress.tick(),
        )  # fmt: skip
        return HeldOut(choice)


def bandpass_sums(summary: MsSummary, width: int) -> tuple[bool, int]:
    """Return whether the sums are of all scans together, and the channels of their blocks.

    Those that memory allows: scans apart before all together, narrow blocks before wide ones.
    """
    baselines = len(summary.antenna) * (len(summary.antenna) - 1) // 2
    channels = [len(summary.frequency_hz[spw]) for spw in summary.spws_used]
    scans = max(1, summary.scans)
    each = baselines * 2 * BYTES_PER_SUM

    def size(width: int) -> float:
        return float(each * np.sum([math.ceil(count / width) for count in channels]))

    together = scans * size(width) > MOST_BYTES
    while together and size(width) > MOST_BYTES and 4 * width <= min(channels):
        width *= 2
    return together, width
