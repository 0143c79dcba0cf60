"""Weights from the noise of the data, pooled over bins, baselines and antennas.

A variance from n complex samples is uncertain by 1/sqrt(n - 1), and weights with such scatter cost
sensitivity. Where the variances of a baseline's bins differ no more than the sampling error,
their mean is the better estimate; where those of baselines differ no more than products of two
antennas do, the antennas' values are. The data determine the pooling: each logarithm of a
variance is drawn towards the mean in the ratio of its sampling variance to the true spread
(empirical Bayes; Efron & Morris 1973, J. Am. Stat. Assoc. 68, 117). The logarithm of a variance
from nu degrees of freedom has its mean psi(nu / 2) - ln(nu / 2) above the truth and the variance
psi'(nu / 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.ms import flag_versions
from libs.ms.rows import Chunk, chunks, read_rows, row_pieces
from libs.ms.sanitise import match_sigma
from libs.ms.tables import column_names, open_table

__all__ = ["MOST_CORRELATED", "Pooled", "Weighed", "pool_variances", "pool_weights"]

Float = NDArray[np.float64]
Int = NDArray[np.int64]

_LEAST_SAMPLES = 3.0
_KEYS = ("ANTENNA1", "ANTENNA2", "TIME", "SCAN_NUMBER")
MOST_CORRELATED = 1.3


@dataclass(frozen=True)
class Pooled:
    """Variances after pooling.

    Attributes
    ----------
    log_variance : (nbin,) float64
        Natural logarithm of each bin's variance, relative to the expected one.
    bin_spread, baseline_spread : float
        True spread, as a standard deviation of the logarithm, of bins about their baseline and
        of baselines about the product of their antennas; 0 when sampling explains all scatter.
    """

    log_variance: Float
    bin_spread: float
    baseline_spread: float


def pool_variances(log_variance: Float, samples: Float, group: Int, ant1: Int, ant2: Int) -> Pooled:
    """Draw variances towards those of their baseline, and these towards those of its antennas.

    Parameters
    ----------
    log_variance : (nbin,) float64
        Natural logarithm of the sample variance of each bin.
    samples : (nbin,) float64
        Complex samples in each bin, 2 or more.
    group : (nbin,) int64
        Group of each bin (correlation, window); every group has its own antenna factors.
    ant1, ant2 : (nbin,) int64
        Antennas of each bin's baseline.

    Returns
    -------
    Pooled
    """
    from scipy.special import digamma, polygamma

    half = samples - 1.0  # half the degrees of freedom
    value = log_variance - (digamma(half) - np.log(half))
    noise = polygamma(1, half)
    of_bin, first = _groups(group, ant1, ant2)
    lines = np.stack([group[first], ant1[first], ant2[first]])
    count = np.bincount(of_bin).astype(np.float64)
    mean = np.bincount(of_bin, value) / count
    scatter = float(((value - mean[of_bin]) ** 2).sum())
    free = float(len(value) - len(count))
    expected = float((noise * (1 - 1 / count[of_bin])).sum())
    bins = max(0.0, (scatter - expected) / free) if free > 0 else 0.0
    mean_noise = np.bincount(of_bin, noise) / count**2 + bins / count
    fitted, baselines = _antenna_fit(mean, mean_noise, lines)
    mean = _towards(mean, fitted, mean_noise, baselines)
    return Pooled(
        _towards(value, mean[of_bin], noise, bins), float(np.sqrt(bins)), float(np.sqrt(baselines))
    )


def _groups(*keys: NDArray[np.generic]) -> tuple[Int, Int]:
    """Number equal combinations; return each item's number, (n,), and each number's first item."""
    order = np.lexsort(keys[::-1])
    new = np.zeros(len(order), bool)
    new[:1] = True
    for key in keys:
        new[1:] |= key[order][1:] != key[order][:-1]
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(new) - 1
    return number, order[new].astype(np.int64)


def _towards(value: Float, centre: Float, noise: Float, spread: float) -> Float:
    return np.asarray((spread * value + noise * centre) / (spread + noise))


def _antenna_fit(mean: Float, noise: Float, lines: Int) -> tuple[Float, float]:
    """Fit baselines as sums of two antennas' logarithms; return these and the true variance."""
    fitted = mean.copy()
    excess, free = 0.0, 0.0
    for group in np.unique(lines[0]):
        mine = np.flatnonzero(lines[0] == group)
        antennas, place = np.unique(lines[1:, mine], return_inverse=True)
        place = place.reshape(2, -1)
        if len(mine) <= 2 * len(antennas):
            continue  # too few baselines to improve on their own values
        design = np.zeros((len(mine), len(antennas)))
        design[np.arange(len(mine)), place[0]] += 1
        design[np.arange(len(mine)), place[1]] += 1
        root = 1 / np.sqrt(noise[mine])
        solution = np.linalg.lstsq(design * root[:, None], mean[mine] * root, rcond=None)[0]
        fitted[mine] = design @ solution
        excess += float(((mean[mine] - fitted[mine]) ** 2 - noise[mine]).sum())
        excess += float(noise[mine].mean()) * len(antennas)
        free += len(mine) - len(antennas)
    return fitted, max(0.0, excess / free) if free > 0 else 0.0


def pool_weights(ms: str | Path, before: str, timebin_s: float, *, column: str) -> Weighed:
    """Set weights from differences of neighbouring channels, in place; SIGMA is set to match.

    Second differences v_k - 2 v_k+1 + v_k+2 contain no source, no uncalibrated phase and, to first
    order, no delay; those of white noise have six times its variance. Bins without three
    neighbouring channels take the mean of their baseline or, failing that, of all.

    Parameters
    ----------
    ms : path
    before : str
        Name under which the original weights are saved (`flag_versions.save_weights`). Variances
        are pooled in units of those expected from them.
    timebin_s : float
        Length of a bin, s.
    column : str
        Column of visibilities.

    Returns
    -------
    Weighed
        Result; nothing is changed when the noise of channels is not independent.
    """
    ms = Path(ms)
    with open_table(flag_versions.saved_weights(ms, before)) as saved:
        scan = _Scan(saved, timebin_s, column)
        parts, wide, narrow = [], 0.0, 0.0
        for chunk in chunks(ms, scan.names):
            part = scan.bins(chunk)
            parts.append(replace(part, of_row=part.of_row[:0]))  # there are many rows but few bins
            one, two = _strides(chunk, column)
            narrow, wide = narrow + one, wide + two
        correlation = wide / narrow if narrow > 0 and wide > 0 else float("nan")
        every = _joined(parts)
        known = every.samples >= _LEAST_SAMPLES
        if not known.any() or correlation > MOST_CORRELATED:
            return Weighed(False, 0.0, 0.0, correlation)
        pooled = pool_variances(
            every.log_variance[known],
            every.samples[known],
            every.group[known],
            every.ant1[known],
            every.ant2[known],
        )
        value = _filled(every, known, pooled.log_variance)
        _write(ms, scan, parts, value)
    match_sigma(ms)
    return Weighed(True, pooled.bin_spread, pooled.baseline_spread, correlation)


@dataclass(frozen=True)
class Weighed:
    """Result of `pool_weights`.

    Attributes
    ----------
    changed : bool
        True when the weights were changed.
    bin_spread, baseline_spread : float
        As in `Pooled`.
    correlation : float
        Ratio of the variance from channels two apart to that from neighbours: 1 for independent
        noise, 4.7 for Hanning-smoothed channels; NaN with fewer than five channels.
    """

    changed: bool
    bin_spread: float
    baseline_spread: float
    correlation: float


@dataclass(frozen=True)
class _Bins:
    """Bins of a chunk: the bin of each correlation of each row, and the contents of the bins."""

    of_row: Int  # (nrow, ncorr), -1 for autocorrelations
    group: Int  # (nbin,): data description and correlation
    ant1: Int
    ant2: Int
    log_variance: Float
    samples: Float


def _joined(parts: Sequence[_Bins]) -> _Bins:
    return _Bins(
        of_row=np.zeros((0, 0), np.int64),
        group=np.concatenate([part.group for part in parts]),
        ant1=np.concatenate([part.ant1 for part in parts]),
        ant2=np.concatenate([part.ant2 for part in parts]),
        log_variance=np.concatenate([part.log_variance for part in parts]),
        samples=np.concatenate([part.samples for part in parts]),
    )


def _second_differences(chunk: Chunk, column: str, stride: int) -> tuple[Float, Float]:
    """Return the sum of |differences|^2 / 6 and their number, (nrow, ncorr) each."""
    data = chunk[column]
    good = ~(chunk["FLAG"] | chunk["FLAG_ROW"][:, None, None]) & np.isfinite(data)
    if data.shape[1] <= 2 * stride:
        zero = np.zeros((data.shape[0], data.shape[2]))
        return zero, zero.copy()
    low, mid, high = (slice(k, k - 2 * stride or None) for k in (0, stride, 2 * stride))
    usable = good[:, low] & good[:, mid] & good[:, high]
    change = np.where(usable, data[:, low] - 2 * data[:, mid] + data[:, high], 0)
    power = (np.abs(change) ** 2).sum(axis=1, dtype=np.float64) / 6
    return power, usable.sum(axis=1).astype(np.float64)


def _independent(count: Float) -> Float:
    """Return the independent samples in overlapping second differences of white noise.

    It is (tr C)^2 / tr C^2 of their covariance, which has 6, -4 and 1 on and beside the diagonal.
    """
    squares = 36 * count + 32 * np.maximum(count - 1, 0) + 2 * np.maximum(count - 2, 0)
    return np.asarray(36 * count**2 / np.maximum(squares, 1.0), np.float64)


def _strides(chunk: Chunk, column: str) -> tuple[float, float]:
    """Return the median variance of rows, times the rows, for channels one and two apart."""
    found = []
    for stride in (1, 2):
        power, count = _second_differences(chunk, column, stride)
        if not (count > 0).any():
            return 0.0, 0.0
        found.append(float(np.median(power[count > 0] / count[count > 0])) * len(chunk.rows))
    return found[0], found[1]


@dataclass(frozen=True)
class _Scan:
    """Rules by which rows are put into bins."""

    saved: Any
    timebin_s: float
    column: str

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that are read."""
        return (self.column, "FLAG", "FLAG_ROW", *_KEYS)

    def old(self, rows: Int) -> Float:
        """Return the original weights of rows; 1 where they are not usable."""
        weight = read_rows(self.saved, ["WEIGHT"], rows)["WEIGHT"].astype(np.float64)
        return np.where(np.isfinite(weight) & (weight > 0), weight, 1.0)

    def numbered(self, columns: Mapping[str, NDArray[Any]], ncorr: int) -> tuple[Int, Int]:
        """Return each correlation's bin, (nrow, ncorr), -1 for none, and one row of each bin."""
        one, two = columns["ANTENNA1"], columns["ANTENNA2"]
        slot = np.floor(columns["TIME"] / self.timebin_s).astype(np.int64)
        rows = np.flatnonzero(one != two)
        number, first = _groups(one[rows], two[rows], columns["SCAN_NUMBER"][rows], slot[rows])
        of_row = np.full((len(one), ncorr), -1, np.int64)
        of_row[rows] = number[:, None] + len(first) * np.arange(ncorr)
        return of_row, rows[first]

    def bins(self, chunk: Chunk) -> _Bins:
        """Return the bins of a chunk, correlation by correlation."""
        power, count = _second_differences(chunk, self.column, 1)
        old = self.old(chunk.rows)
        ncorr = old.shape[1]
        of_row, first = self.numbered(chunk.columns, ncorr)
        cross = of_row[:, 0] >= 0
        flat, size = of_row[cross].ravel(), len(first) * ncorr
        samples = np.bincount(flat, count[cross].ravel(), minlength=size)
        free = np.bincount(flat, _independent(count[cross]).ravel(), minlength=size)
        summed = np.bincount(flat, (power * old / 2)[cross].ravel(), minlength=size)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where((samples > 0) & (summed > 0), np.log(summed / samples), 0.0)
        effective = np.where(summed > 0, free + 1, 0.0)
        group = chunk.data_desc_id * ncorr + np.repeat(np.arange(ncorr), len(first))
        ant1, ant2 = (
            np.tile(chunk[name][first], ncorr).astype(np.int64) for name in ("ANTENNA1", "ANTENNA2")
        )
        return _Bins(of_row, group, ant1, ant2, value, effective)


def _filled(bins: _Bins, known: NDArray[np.bool_], value: Float) -> Float:
    """Return every bin's logarithm; bins without samples take their baseline's mean, or all's."""
    line, _ = _groups(bins.group, bins.ant1, bins.ant2)
    count = np.bincount(line[known], minlength=int(line.max()) + 1)
    total = np.bincount(line[known], value, minlength=len(count))
    mean = np.where(count > 0, total / np.maximum(count, 1), value.mean())
    filled = mean[line]
    filled[known] = value
    return filled


def _write(ms: Path, scan: _Scan, parts: Sequence[_Bins], value: Float) -> None:
    """Write the weights; where channels have weights of their own, they take the row's."""
    pieces = np.split(value, np.cumsum([len(part.group) for part in parts])[:-1])
    spectrum = "WEIGHT_SPECTRUM" in column_names(ms)
    with open_table(ms, write=True) as opened:
        # the same pieces as before, without reading the data again
        for (_, rows), piece in zip(row_pieces(opened, scan.names), pieces, strict=True):
            new = scan.old(rows)
            of_row, _ = scan.numbered(read_rows(opened, _KEYS, rows), new.shape[1])
            inside = of_row >= 0
            new[inside] *= np.exp(-piece[of_row[inside]])
            part = opened.selectrows(rows)
            if spectrum:
                channels = part.getcell("WEIGHT_SPECTRUM", 0).shape[0]
                part.putcol(
                    "WEIGHT_SPECTRUM", np.repeat(new[:, None, :], channels, 1).astype(np.float32)
                )
            part.putcol("WEIGHT", new.astype(np.float32))
            part.close()
