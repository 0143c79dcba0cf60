"""Separation of TECs from the other phases of solutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from libs.core.angles import tec_phase_rad, wrap_rad
from libs.gains.tec_table import TecSolutions
from libs.h5parm.solset import Solset

__all__ = ["with_tec"]

_SAME_TIME_S = 0.01
_GAIN_ROUNDING_RAD = 1e-5  # gain tables are in single precision


def with_tec(
    solset: Solset, tables: Sequence[tuple[TecSolutions | None, tuple[str, ...]]]
) -> Solset:
    """Return gains in which the part of the phases due to TEC is separate.

    The gains themselves do not change: their phases become TEC and a remainder, which is zero
    where a pure TEC was solved for.

    Parameters
    ----------
    solset : Solset
        Solutions of one direction.
    tables : sequence of (TecSolutions or None, tuple of str)
        TECs kept beside each gain table that is a factor of ``solset``, and their antennas.

    Returns
    -------
    Solset
        Solutions; ``solset`` itself where no table was made from TECs.
    """
    known = [(tec, antenna) for tec, antenna in tables if tec is not None]
    if not known:
        return solset
    tec_tecu = np.zeros((solset.shape[0], *solset.shape[2:4]))
    for tec, antenna in known:
        own = np.searchsorted(tec.time_s, solset.time_s - _SAME_TIME_S)
        there = np.flatnonzero(own < len(tec.time_s))
        there = there[np.abs(tec.time_s[own[there]] - solset.time_s[there]) <= _SAME_TIME_S]
        columns = np.array([solset.antenna.index(name) for name in antenna])
        tec_tecu[there[:, None], columns, 0] = tec.tec_tecu[own[there]]
    tec_tecu = np.where(solset.valid.any(axis=(1, 4)), tec_tecu, 0.0)
    turned = tec_phase_rad(tec_tecu, solset.frequency_hz)[..., None]
    left = np.where(solset.valid, wrap_rad(solset.phase_rad - turned), 0.0)
    left[np.abs(left) < _GAIN_ROUNDING_RAD] = 0.0
    return replace(solset, phase_rad=left, tec_tecu=tec_tecu)
