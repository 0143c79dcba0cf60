"""How much of the flux in data a model holds, whatever the phases of the antennas are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.ms.rows import read_rows, row_pieces
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

__all__ = ["ModelShare", "model_share"]

_NAMES = ("DATA", "MODEL_DATA", "FLAG", "FLAG_ROW", "ANTENNA1", "ANTENNA2")


@dataclass(frozen=True)
class ModelShare:
    """Flux of a model over that of data and its error, 1 sigma; NaN and infinite if unknown."""

    share: float
    error: float


def model_share(copies: Sequence[Path], field: int) -> ModelShare:
    """Return how much of the flux of a field MODEL_DATA holds.

    The product of the visibilities of one baseline in two neighbouring channels knows neither the
    phases of the antennas, which turn both alike, nor, in the mean, the noise. Where windows have
    one channel the two hands take the place of channels.

    Parameters
    ----------
    copies : sequence of Path
        Measurement sets.
    field : int
        FIELD_ID, the same in all.

    Returns
    -------
    ModelShare
        Root of the ratio of the sums of these products; noise by their imaginary parts.
    """
    data = model = noise = 0.0
    for ms in copies:
        found = Subtables(ms)
        with open_table(ms) as opened:
            for ddid, rows in row_pieces(opened, _NAMES, where=f"FIELD_ID == {field}"):
                read = read_rows(opened, _NAMES, rows)
                hands = list(found.setup_of[ddid].parallel)
                good = ~(read["FLAG"][:, :, hands] | read["FLAG_ROW"][:, None, None])
                good &= (read["ANTENNA1"] != read["ANTENNA2"])[:, None, None]
                own = _products(read["DATA"][:, :, hands], good)
                theirs = _products(read["MODEL_DATA"][:, :, hands], good)
                data += float(own.real.sum())
                noise += float((own.imag**2).sum())
                model += float(theirs.real.sum())
    if data <= 0 or model < 0:
        return ModelShare(math.nan, math.inf)
    share = math.sqrt(model / data)
    return ModelShare(share, 0.5 * share * math.sqrt(noise) / data)


def _products(
    values: NDArray[np.complexfloating], good: NDArray[np.bool_]
) -> NDArray[np.complex128]:
    """Products of neighbouring channels, else of the hands, where both are good, (n,)."""
    good = good & np.isfinite(values)
    axis = 1 if values.shape[1] > 1 else 2
    pairs = values.shape[axis] // 2 * 2
    first, second = (np.arange(start, pairs, 2) for start in (0, 1))
    both = np.take(good, first, axis) & np.take(good, second, axis)
    one, two = np.take(values, first, axis)[both], np.take(values, second, axis)[both]
    return np.asarray(one.astype(np.complex128) * two.conj())
