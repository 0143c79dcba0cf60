"""Solutions of antennas that a solve could not follow, taken from elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from libs.gains.gain_solutions import GainSolutions

__all__ = ["keep_coherent"]


def keep_coherent(
    gains: GainSolutions,
    lost: Sequence[str],
    longer: Mapping[str, GainSolutions],
    as_they_came: Collection[str] = (),
) -> GainSolutions:
    """Replace the solutions of antennas whose own are noise.

    Parameters
    ----------
    gains : GainSolutions
        As solved.
    lost : sequence of str
        Antennas whose solutions are not to be used.
    longer : mapping of str to GainSolutions
        For some of them a solve at a longer interval, on the same frequency blocks and
        polarizations, taken over by interpolation in phase and amplitude.
    as_they_came : collection of str
        Antennas whose data were corrected before: without a longer interval they get gains of 1,
        which leaves them so. The others are flagged: uncorrected, they would spoil an image on
        the baselines between two of them that see the source.

    Returns
    -------
    GainSolutions
        On the grid of ``gains``. What replaces noise is not flagged, so that the data stay.
    """
    gain, flag, snr = gains.gain.copy(), gains.flag.copy(), gains.snr.copy()
    for name in lost:
        place = gains.antenna.index(name)
        if name not in longer:
            gain[:, :, place], snr[:, :, place] = 1.0, 0.0
            flag[:, :, place] = name not in as_they_came
            continue
        other = longer[name]
        mine = other.antenna.index(name)
        values = _at(other, mine, gains.time_s)
        if values.shape != gain[:, :, place].shape:
            raise ValueError(f"the solves of {name} differ in blocks or polarizations")
        gain[:, :, place], flag[:, :, place] = values, False
        snr[:, :, place] = np.median(other.snr[:, :, mine], axis=0)
    return replace(gains, gain=gain, flag=flag, snr=snr)


def _at(solutions: GainSolutions, antenna: int, time_s: np.ndarray) -> np.ndarray:
    """Gains (ntime, nfreq, npol) of an antenna at other times; edges hold, flagged left out."""
    _, nfreq, _, npol = solutions.shape
    out = np.ones((len(time_s), nfreq, npol), complex)
    for block in range(nfreq):
        for pol in range(npol):
            good = ~solutions.flag[:, block, antenna, pol]
            if not good.any():
                continue
            values = solutions.gain[good, block, antenna, pol]
            stamps = solutions.time_s[good]
            phase = np.interp(time_s, stamps, np.unwrap(np.angle(values)))
            amplitude = np.interp(time_s, stamps, np.abs(values))
            out[:, block, pol] = amplitude * np.exp(1j * phase)
    return out
