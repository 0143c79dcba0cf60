"""Rounds that solve for amplitudes too: the phase-corrected data are split beforehand."""

from __future__ import annotations

from libs.ms import split
from selfcal.options import Option
from selfcal.step import Skip, StepResult
from steps.context import Context
from steps.data_state import ensure_tables, measurement_sets
from steps.rounds.record import coherence_of_last_round
from steps.rounds.round_options import ROUND_OPTIONS
from steps.rounds.rounds import GainRound

__all__ = ["AmplitudeRound"]


class AmplitudeRound(GainRound):
    """An amplitude and phase round, the flux scale kept by normalising the table.

    The phase-corrected data are split beforehand, so that both states can be compared.
    """

    amplitude = True
    options = (
        *ROUND_OPTIONS,
        Option("calmode", "choice", "ap", "ap: amplitude and phase, a: amplitude only",
               choices=("ap", "a")),
        Option("split_before", "bool", True, "split the phase-corrected data first"),
        Option("flux_from", "choice", "all", "whose amplitudes are right on average, which fixes"
               " the flux scale: all stations', or those with another within 10 km",
               choices=("all", "sites")),
        Option("require_coherent", "float", 0.0,
               "skip when fewer of the stations that are not flagged were coherent in the last"
               " phase round", minimum=0),
    )  # fmt: skip

    def calmode(self, context: Context) -> str:
        """Amplitude, or amplitude and phase."""
        return str(context.options["calmode"])

    def run(self, context: Context) -> StepResult:
        """As a phase round, with amplitudes."""
        coherent = coherence_of_last_round(context)
        if context.tables and coherent < context.options["require_coherent"]:
            wanted = context.options["require_coherent"]
            raise Skip(
                f"the phases were coherent on {coherent:.0%} of the stations only; amplitudes are"
                f" solved for when {wanted:.0%} are"
            )
        return super().run(context)

    def prepare(self, context: Context) -> None:
        """Split CORRECTED_DATA of the phase-only state."""
        if not context.options["split_before"] or not context.tables:
            return
        ensure_tables(context, context.tables)
        for ms in measurement_sets(context):
            target = ms.with_name(f"{ms.stem}.before_{self.name}.ms")
            context.progress.activity(f"split {target.name}")
            split.split_calibrated(
                ms, target, context.tools.session, log=context.workdir / "logs" / "split.log"
            )
