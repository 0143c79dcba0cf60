"""Whether data may hold delays: a look at each spectral window before blocks of it are solved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from libs.gains.delay import DelayFit, solve_delays
from libs.gains.normal_equations import accumulate_batches
from libs.gains.solution_interval import SolutionInterval
from libs.gains.solver import AppliedTable, SolveOptions
from libs.gains.tec_table import DELAY_BLOCKS, used_channels

__all__ = ["channels_for_delays"]

_LOOK = SolutionInterval(60.0)  # phases change within a scan
_MOST_LOOKS = 16  # of them, evenly spread
_LEAST_CHANNELS = 4  # of every window
# of a delay over its error: antennas without any have 1 in the mean
_SIGNIFICANT = 2.0
_LEAST_TURN_RAD = 0.1  # from one end of a window to the other: less costs no coherence


def channels_for_delays(ms: Path, options: SolveOptions, prior: Sequence[AppliedTable] = ()) -> int:
    """Return the channels of a block that shows the delays of the data; 0: there are none.

    Delays of some minutes are averaged. They are there when they scatter by more than
    twice their errors from antenna to antenna, and turn phases within a window by more than 0.1
    rad. That costs one pass over the data and spares the blocks to data that need none; held-out
    data decide about the delays themselves.

    Parameters
    ----------
    ms : Path
        With a model.
    options : SolveOptions
        Of the round.
    prior : sequence of AppliedTable
        Tables beneath it.
    """
    channels = used_channels(ms)
    widths = [len(hz) for hz in channels.values()]
    if not widths or min(widths) < _LEAST_CHANNELS:
        return 0
    size = max(1, -(-max(widths) // DELAY_BLOCKS))
    fields = options.combine & {"field"}
    look = replace(options, solint=_LOOK, combine=fields, calmode="p", solution="gain")
    fits: dict[int, list[DelayFit]] = {}
    for sums in accumulate_batches(ms, look, prior, channels_per_block=size, corr_dep_flags=True):
        some = slice(None, None, max(1, len(sums.time_s) // _MOST_LOOKS))
        for spw in np.unique(sums.spw).tolist():
            mine = sums.spw == spw
            if mine.sum() > 1:
                fits.setdefault(spw, []).append(
                    solve_delays(
                        sums.vis[some][:, mine], sums.weight[some][:, mine],
                        sums.antenna1, sums.antenna2,
                        len(sums.antenna), sums.frequency_hz[mine],
                        minblperant=options.minblperant,
                    )
                )  # fmt: skip
    found = [_spread(parts) for parts in fits.values()]
    for (ratio, spread_ns), hz in zip(found, channels.values(), strict=False):
        turn = 2e-9 * np.pi * spread_ns * float(np.ptp(hz))
        if ratio > _SIGNIFICANT and turn > _LEAST_TURN_RAD:
            return size
    return 0


def _spread(parts: Sequence[DelayFit]) -> tuple[float, float]:
    """Scatter of the antennas' mean delays over their errors, and in ns; 0 where unknown."""
    delay = np.concatenate([part.delay_ns for part in parts])
    error = np.concatenate([part.error_ns for part in parts])
    good = ~np.concatenate([part.flag for part in parts])
    # each interval has a delay of its own in common
    common = np.ma.median(np.ma.array(delay, mask=~good), axis=1, keepdims=True)
    delay = delay - np.ma.filled(common, 0.0)
    weight = np.where(good, 1 / np.maximum(error, 1e-9) ** 2, 0)
    total = weight.sum(axis=0)
    known = total > 0
    if known.sum() < 6:
        return 0.0, 0.0
    mean = (weight * delay).sum(axis=0)[known] / total[known]
    ratio = np.sqrt(np.mean(mean**2 * total[known]))
    return float(ratio), float(np.sqrt(np.mean(mean**2)))
