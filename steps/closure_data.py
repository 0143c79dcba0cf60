"""The visibilities that closure quantities are formed of, averaged as far as they allow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from libs.closure.agreement import within_baselines
from libs.closure.coherence_time import CoherenceTime, averaged, coherence_time
from libs.closure.formation import BaselineVisibilities
from libs.closure.read import BLOCK_FRACTION, hands_are_copies, read_visibilities
from libs.core.errors import InputError
from libs.ms.summary import MsSummary, describe_ms, summarise
from selfcal.options import Option
from selfcal.step import Skip
from steps.context import Context
from steps.data_state import measurement_sets

__all__ = [
    "CLOSURE_READ_OPTIONS",
    "FEW_STATIONS",
    "PLACING_BLOCKS",
    "ClosureInput",
    "closure_input",
    "read_closure_data",
]

CLOSURE_READ_OPTIONS = (
    Option("average", "time", "auto", "averaging before closures are formed; 0: none; auto: while"
           " the visibilities stay coherent, as far as their SNR needs it", minimum=0,
           words=("auto",)),
    Option("interval", "time", "60s", "averaging of the bispectra, short for the source's changes",
           minimum=0),
    Option("false_alarm", "float", 0.01, "probability that noise passes for a source", minimum=0),
)  # fmt: skip


PLACING_BLOCKS = 8  # of the band: phases between them tell a position
FEW_STATIONS = 15  # up to which several models may fit the closure quantities alike


@dataclass(frozen=True)
class ClosureInput:
    """Visibilities of one working copy and how long they may be averaged.

    Attributes
    ----------
    data : BaselineVisibilities
        As they were read.
    average_s : float
        Averaging time that was asked for or found, s; 0: none.
    coherence : CoherenceTime or None
        None where the averaging time was asked for.
    """

    data: BaselineVisibilities
    average_s: float
    coherence: CoherenceTime | None

    def averaged(self, average_s: float | None = None) -> BaselineVisibilities:
        """Return the visibilities averaged over a time, default ``average_s``."""
        return averaged(self.data, self.average_s if average_s is None else average_s)

    def trials_s(self) -> list[float]:
        """Return averaging times worth trying, s: the one found, then a third and twice of it.

        Only that one where it was asked for, where none is needed, and for many stations, whose
        closure quantities leave little choice.
        """
        many = len(self.data.antenna) > FEW_STATIONS
        if many or self.coherence is None or not self.average_s:
            return [self.average_s]
        longer = min(2 * self.average_s, self.coherence.coherent_s)
        others = [self.average_s / 3] + ([longer] if longer > 1.3 * self.average_s else [])
        return [self.average_s, *others]


def read_closure_data(
    context: Context, *, uvmin_m: float = 0.0, least_blocks: int = 1, column: str = "DATA"
) -> BaselineVisibilities:
    """Read the visibilities of the working copy with the most data.

    Parameters
    ----------
    context : Context
    uvmin_m : float
        Shortest baseline, m.
    least_blocks : int
        The band is cut into so many parts at least, as far as there are channels.
    column : str
        Column ``DATA``, or ``MODEL_DATA`` for the same visibilities of the model in it.

    Raises
    ------
    InputError
        There are no data.
    """
    copies = measurement_sets(context)
    largest = max(copies, key=lambda ms: describe_ms(ms).rows)
    context.progress.activity(f"closure quantities of {largest.name}")
    data = read_visibilities(
        largest,
        column=column,
        block_hz=_block_hz(summarise(largest), least_blocks),
        # hands of a model are always alike: those of the data decide
        combine_hands=hands_are_copies(largest),
        noise_from_data=column == "DATA",
    )
    return within_baselines(data, uvmin_m) if uvmin_m else data


def closure_input(context: Context, least_blocks: int = 1, uvmin_m: float = 0.0) -> ClosureInput:
    """Read the working copy with the most data.

    Parameters
    ----------
    context : Context
    least_blocks : int
        The band is cut into so many parts at least, as far as there are channels.
    uvmin_m : float
        Shortest baseline, m.

    Raises
    ------
    Skip
        There are no data.
    """
    try:
        data = read_closure_data(context, uvmin_m=uvmin_m, least_blocks=least_blocks)
    except InputError as error:
        raise Skip(f"no closure quantities: {error}") from error
    average = context.options["average"]
    if average != "auto":
        return ClosureInput(data, average, None)
    found = coherence_time(data)
    return ClosureInput(data, found.average_s, found)


def _block_hz(summary: MsSummary, least_blocks: int) -> float:
    """Return the width of blocks of which the band holds so many; 0: blocks of the usual width."""
    windows = [np.asarray(summary.frequency_hz[spw]) for spw in summary.spws_used]
    if len(windows) >= least_blocks:
        return 0.0
    parts = -(-least_blocks // len(windows))
    width = min(float(np.ptp(f)) * (1 + 1 / max(len(f) - 1, 1)) for f in windows) / parts
    usual = BLOCK_FRACTION * float(np.mean([f.mean() for f in windows]))
    return width if 0 < width < usual else 0.0
