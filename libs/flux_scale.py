"""The flux scale through amplitude self-calibration: tables of mean log-amplitude zero."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from libs.tables import open_table

__all__ = ["hold_flux_scale"]


def hold_flux_scale(table: Path) -> dict[int, float]:
    """Divide a gain table by the geometric mean of its amplitudes, for each spectral window.

    Self-calibration cannot tell a common factor of all gains from the flux of the source; left
    to itself it drifts. With the geometric mean at 1 the product of two such tables is one too,
    and antennas that are too high by a factor weigh as much as those too low by it.

    Parameters
    ----------
    table : Path
        CASA gain table, changed in place; phases and flags stay.

    Returns
    -------
    dict of int to float
        The factor each spectral window was divided by; windows without solutions are left out.
    """
    factors: dict[int, float] = {}
    with open_table(table, write=True) as opened:
        spw = opened.getcol("SPECTRAL_WINDOW_ID")
        antenna = opened.getcol("ANTENNA1")
        gain, flag = opened.getcol("CPARAM"), opened.getcol("FLAG")
        error = opened.getcol("PARAMERR") if "PARAMERR" in opened.colnames() else None
        for window in np.unique(spw):
            mine = spw == window
            good = ~flag & (np.abs(gain) > 0) & mine[:, None, None]
            if not good.any():
                continue
            # antennas count alike, however many of their solutions are good
            means = [
                np.log(np.abs(gain[good & (antenna == ant)[:, None, None]])).mean()
                for ant in np.unique(antenna[good.any(axis=(1, 2))])
            ]
            factors[int(window)] = float(np.exp(np.mean(means)))
            gain[mine] /= factors[int(window)]
            if error is not None:
                error[mine] /= factors[int(window)]
        opened.putcol("CPARAM", gain)
        if error is not None:
            opened.putcol("PARAMERR", error)
    return factors
