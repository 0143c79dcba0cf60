"""The flux scale through amplitude self-calibration: mean product of two antennas' gains is 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.ms.tables import open_table

__all__ = ["flux_factor", "hold_flux_scale", "mean_pair_product", "sharing_a_site"]

SITE_M = 10e3


def sharing_a_site(position_m: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which stations have another within 10 km.

    On the baseline between them a source that longer ones resolve is a point, so its flux tells
    the product of their amplitudes: network calibration (Blackburn et al. 2019, ApJ 882, 23).

    Parameters
    ----------
    position_m : (nant, 3) float
        Geocentric positions.

    Returns
    -------
    (nant,) bool
    """
    apart = np.linalg.norm(position_m[:, None] - position_m[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    return np.asarray(apart.min(axis=1, initial=np.inf) < SITE_M)


def mean_pair_product(
    amplitude: NDArray[np.floating],
    good: NDArray[np.bool_],
    weight: NDArray[np.floating] | None = None,
) -> float:
    """Return the mean of a_p a_q over all pairs of antennas and all intervals.

    That is the factor by which an image of data corrupted by these amplitudes, with baselines
    of weight w_p w_q, is too bright.

    Parameters
    ----------
    amplitude : (ninterval, nant) float
    good : (ninterval, nant) bool
    weight : (ninterval, nant) float, optional
        Of the antennas; default: all alike.

    Returns
    -------
    float
        1 where no interval has two good antennas.
    """
    share = np.where(good, 1.0 if weight is None else weight, 0.0)
    value = share * np.where(good, amplitude, 0.0)
    pairs = share.sum(axis=1) ** 2 - (share**2).sum(axis=1)
    products = value.sum(axis=1) ** 2 - (value**2).sum(axis=1)
    return float(products.sum() / pairs.sum()) if pairs.sum() > 0 else 1.0


def hold_flux_scale(table: Path, known: NDArray[np.bool_] | None = None) -> dict[int, float]:
    """Scale a gain table so that it leaves the flux of an image as it was, spw by spw.

    Self-calibration cannot tell a common factor of all gains from the flux of the source; left
    to itself it drifts. The table's amplitudes are divided by the root of `mean_pair_product`
    over both polarizations: what antennas too high added to the image and those too low took
    from it balances.

    Parameters
    ----------
    table : Path
        CASA gain table, changed in place; phases and flags stay.
    known : (nant,) bool, optional
        Antennas whose amplitudes are right on average: only their products count. Default: all.

    Returns
    -------
    dict of int to float
        The factor each spectral window was divided by; windows without solutions are left out.
    """
    factors: dict[int, float] = {}
    with open_table(table, write=True) as opened:
        spw, time = opened.getcol("SPECTRAL_WINDOW_ID"), opened.getcol("TIME")
        antenna = opened.getcol("ANTENNA1")
        gain, flag = opened.getcol("CPARAM"), opened.getcol("FLAG")
        error = opened.getcol("PARAMERR") if "PARAMERR" in opened.colnames() else None
        for window in np.unique(spw):
            mine = np.flatnonzero(spw == window)
            good = ~flag[mine] & (np.abs(gain[mine]) > 0)
            if not good.any():
                continue
            interval = np.unique(time[mine], return_inverse=True)[1]
            # channels and polarizations are intervals of their own
            cells = gain.shape[1] * gain.shape[2]
            shape = (int(interval.max()) + 1, cells, int(antenna.max()) + 1)
            amplitude, present = np.zeros(shape), np.zeros(shape, bool)
            amplitude[interval, :, antenna[mine]] = np.abs(gain[mine]).reshape(-1, cells)
            present[interval, :, antenna[mine]] = good.reshape(-1, cells)
            if known is not None:
                present &= known[: shape[2]]
            rows = (-1, shape[2])
            product = mean_pair_product(amplitude.reshape(rows), present.reshape(rows))
            factors[int(window)] = float(np.sqrt(product))
            gain[mine] /= factors[int(window)]
            if error is not None:
                error[mine] /= factors[int(window)]
        opened.putcol("CPARAM", gain)
        if error is not None:
            opened.putcol("PARAMERR", error)
    return factors


def flux_factor(table: Path) -> float:
    """Return by what applying a gain table changes the flux of a naturally weighted image.

    `hold_flux_scale` counts all antennas alike, the best guess while nothing is known of their
    amplitudes. An image counts them by their weights: what a heavy antenna's wrong amplitude had
    done to its flux, the table rightly takes back. The weight of an antenna's solution,
    1 / error^2, stands for that of its data.

    Parameters
    ----------
    table : Path
        CASA gain table with errors.

    Returns
    -------
    float
        1 for a table without solutions or errors.
    """
    with open_table(table) as opened:
        if "PARAMERR" not in opened.colnames() or opened.nrows() == 0:
            return 1.0
        keys = np.stack([opened.getcol("SPECTRAL_WINDOW_ID"), opened.getcol("TIME")])
        antenna = opened.getcol("ANTENNA1")
        gain, flag = np.abs(opened.getcol("CPARAM")), opened.getcol("FLAG")
        error = np.abs(opened.getcol("PARAMERR"))
    interval = np.unique(keys, axis=1, return_inverse=True)[1].ravel()
    good = ~flag & (gain > 0) & (error > 0)
    cells = gain.shape[1] * gain.shape[2]
    shape = (int(interval.max()) + 1, cells, int(antenna.max()) + 1)
    amplitude, weight, present = np.ones(shape), np.zeros(shape), np.zeros(shape, bool)
    amplitude[interval, :, antenna] = gain.reshape(-1, cells)
    present[interval, :, antenna] = good.reshape(-1, cells)
    with np.errstate(divide="ignore"):
        weight[interval, :, antenna] = np.where(good, 1 / error**2, 0.0).reshape(-1, cells)
    rows = (-1, shape[2])
    product = mean_pair_product(
        amplitude.reshape(rows), present.reshape(rows), weight.reshape(rows)
    )
    return 1 / product if product > 0 else 1.0
