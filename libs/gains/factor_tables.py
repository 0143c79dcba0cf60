"""Gains that are a constant times a common phase, as the two tables of their factors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.gains.caltable import read_solutions
from libs.gains.caltable_writer import write_caltable
from libs.gains.gain_solutions import GainSolutions
from libs.gains.two_factors import constant_spans
from libs.ms.tables import open_table
from libs.ms.time_survey import first_of_stamps

__all__ = ["GainFactors", "split_factors", "write_factor_tables"]


@dataclass(frozen=True)
class GainFactors:
    """Both factors of gains.

    Attributes
    ----------
    constants : GainSolutions
        Of each window and polarization, at the first and last time of each part of the execution
        in which they hold: the nearest ones in time are those that apply.
    common : GainSolutions
        Phase common to windows and polarizations, at every interval; of one window, the first.
    """

    constants: GainSolutions
    common: GainSolutions


def split_factors(solutions: GainSolutions, span: NDArray[np.int64]) -> GainFactors:
    """Return the factors whose products phases are.

    Parameters
    ----------
    solutions : GainSolutions
        Phases of each window and polarization that differ by constants.
    span : (ntime,) int64
        Part of the execution that each interval belongs to: 0, 1...
    """
    parts = int(span.max()) + 1
    shape = (parts, *solutions.shape[1:])
    constant, snr = np.ones(shape, np.complex128), np.zeros(shape)
    for number in range(parts):
        mine = span == number
        good = np.where(solutions.flag[mine], 0, solutions.snr[mine])
        gain = np.where(solutions.flag[mine], 0, solutions.gain[mine])
        constant[number] = _constants(gain, good)
        snr[number] = good.max(axis=0)
    gain = np.where(solutions.flag, 0, solutions.gain * constant[span].conj())
    common = gain.sum(axis=(1, 3), keepdims=True)
    lost = np.asarray(solutions.flag.all(axis=(1, 3), keepdims=True))
    edges = np.unique([f(np.flatnonzero(span == n)) for n in range(parts) for f in (min, max)])
    at_edges: NDArray[np.float64] = snr[span[edges]]
    return GainFactors(
        replace(
            solutions, time_s=solutions.time_s[edges], interval_s=solutions.interval_s[edges],
            gain=constant[span[edges]], flag=~(at_edges > 0), snr=at_edges,
        ),
        replace(
            solutions, frequency_hz=solutions.frequency_hz[:1], spw=solutions.spw[:1],
            polarization=("I",), gain=np.where(lost, 1, _unit(common)), flag=lost,
            snr=np.where(solutions.flag, 0, solutions.snr).max(axis=(1, 3), keepdims=True),
        ),
    )  # fmt: skip


def _unit(values: NDArray[np.complex128]) -> NDArray[np.complex128]:
    size = np.abs(values)
    return np.divide(values, size, out=np.ones_like(values), where=size > 0)


def _constants(gain: NDArray[np.complex128], snr: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Phases of one part against that window and hand of each antenna which has the best SNR."""
    found = np.ones(gain.shape[1:], np.complex128)
    for antenna in range(gain.shape[2]):
        total = snr[:, :, antenna].sum(axis=0)
        window, hand = np.unravel_index(np.argmax(total), total.shape)
        reference = gain[:, window, antenna, hand].conj()
        found[:, antenna] = _unit((gain[:, :, antenna] * reference[:, None, None]).sum(axis=0))
    return found


def write_factor_tables(table: Path, ms: Path, constants: Path, common: Path) -> int:
    """Write the factors of a table of both as tables of their own.

    Parameters
    ----------
    table : Path
        Table of a solve for ``constants+phase``.
    ms : Path
        Data that it was solved on.
    constants, common : Path
        Tables to write.

    Returns
    -------
    int
        Window of the common phases, which all windows of the data take.
    """
    solutions = read_solutions(table, ms)
    with open_table(ms) as opened:
        stamps = first_of_stamps(opened, ("SCAN_NUMBER",))
    place = np.searchsorted(stamps["TIME"], solutions.time_s).clip(0, len(stamps["TIME"]) - 1)
    scan = stamps["SCAN_NUMBER"][place].astype(np.int64)
    factors = split_factors(solutions, constant_spans(solutions.time_s, scan))
    write_caltable(constants, factors.constants, ms)
    write_caltable(common, factors.common, ms)
    return int(factors.common.spw[0])
