"""Windows of a gain table, whose channels are the blocks of channels that were solved for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.ms.tables import open_table

__all__ = ["collapse_windows"]

_WIDTHS = ("CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION")


def collapse_windows(
    ms: str | Path, target: Path, centre_hz: Mapping[int, NDArray[np.float64]]
) -> None:
    """Fill the empty windows of a gain table from those of the data it belongs to.

    Parameters
    ----------
    ms : path
    target : Path
        Gain table.
    centre_hz : mapping of int to (nblock,) float64
        Centres of the blocks of channels of each window with solutions, Hz. The other windows
        keep one channel and are flagged.
    """
    plain = ("REF_FREQUENCY", "MEAS_FREQ_REF", "NAME", "NET_SIDEBAND", "IF_CONV_CHAIN",
             "FREQ_GROUP", "FREQ_GROUP_NAME", "TOTAL_BANDWIDTH")  # fmt: skip
    with (
        open_table(f"{ms}::SPECTRAL_WINDOW") as source,
        open_table(f"{target}::SPECTRAL_WINDOW", write=True) as made,
    ):
        made.addrows(source.nrows())
        names = set(source.colnames())
        for spw in range(source.nrows()):
            for name in plain:
                if name in names:
                    made.putcell(name, spw, source.getcell(name, spw))
            frequency = np.atleast_1d(source.getcell("CHAN_FREQ", spw))
            centre = centre_hz.get(spw, np.array([frequency.mean()]))
            width = float(np.abs(source.getcell("CHAN_WIDTH", spw)).sum()) / len(centre)
            made.putcell("NUM_CHAN", spw, len(centre))
            made.putcell("CHAN_FREQ", spw, centre)
            for name in _WIDTHS:
                made.putcell(name, spw, np.full(len(centre), width))
            made.putcell("FLAG_ROW", spw, spw not in centre_hz)
