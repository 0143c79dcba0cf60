"""Rows of gains.csv: what the solutions of each antenna and polarization are like."""

from __future__ import annotations

from typing import Any

import numpy as np

from libs.gains.gain_solutions import GainSolutions

__all__ = ["GAIN_COLUMNS", "gains_rows"]

GAIN_COLUMNS = (
    "step", "ms", "spw", "antenna", "polarization", "solutions", "flagged_fraction",
    "snr_median", "phase_rms_deg", "phase_mean_deg", "amplitude_mean", "amplitude_std",
)  # fmt: skip


def gains_rows(solutions: GainSolutions, *, step: str, ms: str) -> list[dict[str, Any]]:
    """Return one row of gains.csv for each spectral window, antenna and polarization.

    Parameters
    ----------
    solutions : GainSolutions
    step, ms : str
        What the rows are of.

    Returns
    -------
    list of dict
        With the keys ``GAIN_COLUMNS``. Phases are circular means and rms about them; statistics
        without an unflagged solution are empty.
    """
    rows = []
    for spw in np.unique(solutions.spw):
        blocks = solutions.spw == spw
        for antenna, name in enumerate(solutions.antenna):
            for pol, polarization in enumerate(solutions.polarization):
                flag = solutions.flag[:, blocks, antenna, pol]
                gain = solutions.gain[:, blocks, antenna, pol][~flag]
                snr = solutions.snr[:, blocks, antenna, pol][~flag]
                row = {
                    "step": step, "ms": ms, "spw": int(spw), "antenna": name,
                    "polarization": polarization, "solutions": flag.size,
                    "flagged_fraction": round(float(flag.mean()), 6) if flag.size else 1.0,
                }  # fmt: skip
                rows.append(row | _gain_statistics(gain, snr))
    return rows


def _gain_statistics(gain: np.ndarray, snr: np.ndarray) -> dict[str, Any]:
    names = GAIN_COLUMNS[7:]
    if not gain.size:
        return dict.fromkeys(names, "")
    amplitude = np.abs(gain)
    # unit phasors: a phase near +-180 deg must not average to 0
    mean = np.mean(gain / np.where(amplitude > 0, amplitude, 1.0))
    deviation = np.degrees(np.angle(gain * np.conj(mean)))
    values = (
        np.median(snr),
        np.sqrt(np.mean(deviation**2)),
        np.degrees(np.angle(mean)),
        amplitude.mean(),
        amplitude.std(),
    )
    return {name: float(f"{value:.6g}") for name, value in zip(names, values, strict=True)}
