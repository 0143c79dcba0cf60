"""The flux scale through amplitude self-calibration: the mean gain of all antennas is 1.

An antenna far from the others counts little in that mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.ms.tables import open_table

__all__ = [
    "GainTable",
    "common_scale_weights",
    "flux_factor",
    "hold_common_flux_scale",
    "hold_flux_scale",
    "mean_pair_product",
    "sharing_a_site",
]

SITE_M = 10e3

# Amplitude errors of antennas are taken to follow Student's t distribution of so many degrees of
# freedom: like a normal one, with the tails that pointing errors, a bad receiver, or phases that
# do not hold make.
_FREEDOM = 4.0


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
    products, pairs = _pair_sums(amplitude, good, weight)
    return products / pairs if pairs > 0 else 1.0


def common_scale_weights(
    amplitude: NDArray[np.floating], good: NDArray[np.bool_], error: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return how much each antenna's amplitude tells of the common scale of all.

    Antennas whose gains scatter alike count alike, however sensitive they are. One far from the
    others tells little: an antenna whose phases do not hold for the solution interval loses
    amplitude, which is no matter of the flux scale. The weights are those of a maximum-likelihood
    fit of a centre to values of Student's t distribution (Lange, Little & Taylor 1989, JASA 84,
    881), (nu + 1) / (nu + d^2 / s^2) over s^2, with the variance s^2 of an antenna the scatter of
    all and its own error.

    Parameters
    ----------
    amplitude : (ninterval, nant) float
    good : (ninterval, nant) bool
    error : (ninterval, nant) float
        Of the amplitudes; 0: not known.

    Returns
    -------
    (ninterval, nant) float
        Relative to each other; 0 where a solution is not good.
    """
    if not good.any():
        return np.zeros(good.shape)
    ratio = np.where(good, amplitude, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        log = np.log(ratio)
        own = np.where(good, (error / ratio) ** 2, 0.0)
    seen = good.any(axis=1)
    away = np.zeros(good.shape)
    away[seen] = log[seen] - np.nanmedian(log[seen], axis=1)[:, None]
    away = np.where(good, away, 0.0)
    scatter = (1.4826 * float(np.median(np.abs(away[good])))) ** 2
    variance = max(scatter - float(np.median(own[good])), 0.0) + own
    typical = float(np.median(variance[good]))
    if not typical > 0:
        return good.astype(float)
    variance = np.maximum(variance, 1e-3 * typical)
    weight = typical / variance * (_FREEDOM + 1) / (_FREEDOM + away**2 / variance)
    return np.where(good, weight, 0.0)


def _pair_sums(
    amplitude: NDArray[np.floating],
    good: NDArray[np.bool_],
    weight: NDArray[np.floating] | None = None,
) -> tuple[float, float]:
    """Return the sums over pairs, twice, of w_p w_q a_p a_q and of w_p w_q."""
    share = np.where(good, 1.0 if weight is None else weight, 0.0)
    value = share * np.where(good, amplitude, 0.0)
    pairs = share.sum(axis=1) ** 2 - (share**2).sum(axis=1)
    products = value.sum(axis=1) ** 2 - (value**2).sum(axis=1)
    return float(products.sum()), float(pairs.sum())


def hold_flux_scale(table: Path, known: NDArray[np.bool_] | None = None) -> dict[int, float]:
    """Scale a gain table so that it leaves the flux of an image as it was, spw by spw.

    Self-calibration cannot tell a common factor of all gains from the flux of the source; left
    to itself it drifts. The table's amplitudes are divided by the mean of sqrt(a_p a_q) over all
    pairs of antennas and both polarizations, with the weights of `common_scale_weights`.

    Which mean is right depends on how amplitudes err, which nobody knows: if evenly about 1, the
    mean of a; if as much by a factor as by its inverse, that of log a. They differ by half the
    variance of a, in the flux by all of it. The mean of sqrt(a) lies between them: its flux is
    wrong by half the variance in either case, 2 % where amplitudes scatter by 20 %.

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
    return hold_common_flux_scale([GainTable(table, known=known)])[0]


@dataclass(frozen=True)
class GainTable:
    """A gain table whose flux scale is held together with that of others.

    Attributes
    ----------
    path : Path
        CASA gain table.
    window_hz : mapping of int to (float, float)
        Mean frequency and width of its spectral windows, Hz; empty where it is the only table.
    known : (nant,) bool or None
        Antennas whose amplitudes are right on average; None: all.
    """

    path: Path
    window_hz: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    known: NDArray[np.bool_] | None = None


def hold_common_flux_scale(tables: Sequence[GainTable]) -> list[dict[int, float]]:
    """Scale the gain tables of several executions alike, so that their image keeps its flux.

    All were solved against one model, so that a flux scale of one execution that differs from
    the others' is in its gains, and is mended with them. One factor for each table would put it
    back. Windows of one frequency, which every table has, share a factor; where some tables lack
    a window, those that are left of all tables share one.

    Parameters
    ----------
    tables : sequence of GainTable
        Changed in place; phases and flags stay. Each counts by the time it covers.

    Returns
    -------
    list of dict of int to float
        The factors each table's spectral windows were divided by; windows without solutions
        are left out.
    """
    found = [_window_products(table) for table in tables]
    factors: list[dict[int, float]] = [{} for _ in tables]
    for group in _window_groups(tables, found):
        pairs = sum(found[number][window].pairs for number, window in group)
        products = sum(found[number][window].products for number, window in group)
        for number, window in group:
            factors[number][window] = products / pairs if pairs > 0 else 1.0
    for table, own in zip(tables, factors, strict=True):
        _divide(table.path, own)
    return factors


@dataclass(frozen=True)
class _PairSums:
    """Sums over pairs of antennas in a window: of sqrt(a_p a_q), and of weights, times seconds."""

    products: float
    pairs: float


def _window_products(table: GainTable) -> dict[int, _PairSums]:
    """Return the sums of each window of a table that has solutions."""
    found: dict[int, _PairSums] = {}
    with open_table(table.path) as opened:
        spw, time = opened.getcol("SPECTRAL_WINDOW_ID"), opened.getcol("TIME")
        length, antenna = opened.getcol("INTERVAL"), opened.getcol("ANTENNA1")
        gain, flag = np.abs(opened.getcol("CPARAM")), opened.getcol("FLAG")
        with_errors = "PARAMERR" in opened.colnames() and opened.nrows() > 0
        error = np.abs(opened.getcol("PARAMERR")) if with_errors else np.zeros(gain.shape)
    for window in np.unique(spw).tolist():
        mine = np.flatnonzero(spw == window)
        good = ~flag[mine] & (gain[mine] > 0)
        if not good.any():
            continue
        stamps, interval = np.unique(time[mine], return_inverse=True)
        # channels and polarizations are intervals of their own
        cells = gain.shape[1] * gain.shape[2]
        shape = (len(stamps), cells, int(antenna.max()) + 1)
        amplitude, present = np.zeros(shape), np.zeros(shape, bool)
        uncertain = np.zeros(shape)
        amplitude[interval, :, antenna[mine]] = gain[mine].reshape(-1, cells)
        uncertain[interval, :, antenna[mine]] = error[mine].reshape(-1, cells)
        present[interval, :, antenna[mine]] = good.reshape(-1, cells)
        if table.known is not None:
            present &= table.known[: shape[2]]
        covered = np.zeros(len(stamps))
        covered[interval] = length[mine]
        flat = (-1, shape[2])
        amplitude, present = amplitude.reshape(flat), present.reshape(flat)
        weight = common_scale_weights(amplitude, present, uncertain.reshape(flat))
        products, pairs = _pair_sums(np.sqrt(amplitude), present, weight)
        # within a table all intervals count alike; INTERVAL may be 0
        each = max(float(covered.mean()), 1e-3)
        found[window] = _PairSums(each * products, each * pairs)
    return found


def _window_groups(
    tables: Sequence[GainTable], found: Sequence[Mapping[int, _PairSums]]
) -> list[list[tuple[int, int]]]:
    """Return which windows share a factor, as (table, window)."""
    if len(tables) == 1:
        return [[(0, window)] for window in found[0]]
    groups: list[list[tuple[int, int]]] = []
    for number, windows in enumerate(found):
        for window in windows:
            centre, width = tables[number].window_hz[window]
            for group in groups:
                other, first = group[0]
                there, wide = tables[other].window_hz[first]
                new = number not in {member for member, _ in group}
                if new and abs(centre - there) < 0.5 * min(width, wide):
                    group.append((number, window))
                    break
            else:
                groups.append([(number, window)])
    everywhere = sum(bool(windows) for windows in found)
    shared = [group for group in groups if len(group) == everywhere]
    rest = [member for group in groups if len(group) < everywhere for member in group]
    return shared + ([rest] if rest else [])


def _divide(table: Path, factors: Mapping[int, float]) -> None:
    """Divide the gains of spectral windows, and their errors, by a factor each."""
    with open_table(table, write=True) as opened:
        spw = opened.getcol("SPECTRAL_WINDOW_ID")
        by_row = np.array([factors.get(int(window), 1.0) for window in spw])[:, None, None]
        for name in ("CPARAM", "PARAMERR"):
            if name in opened.colnames():
                values = opened.getcol(name)
                opened.putcol(name, (values / by_row).astype(values.dtype))


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
