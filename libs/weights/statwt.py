"""Weights from the scatter of the data (CASA ``statwt``), where that scatter is noise.

``statwt`` sets the weight of a visibility from the variance in a bin of channels and
integrations of its baseline. With few samples in a bin the weights are noisy themselves. Where
the visibilities change within a bin (bandpass, uncalibrated phases, source structure), the
weights measure that change. Both make the data worse, so ``statwt`` is skipped then. It is the
second choice: where there are three channels or more and their noise is independent, the
differences of neighbours contain the noise alone, and pooling leaves little scatter in the
weights (`libs.weights.pooled_weights`).
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.casa.session import CasaSession
from libs.core.numbers import format_number
from libs.ms import flag_versions
from libs.ms.integration import integration_time_s, integrations_per_scan
from libs.ms.rows import chunks, sample_baselines
from libs.ms.sanitise import match_sigma
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from libs.weights.pooled_weights import pool_weights

__all__ = [
    "StatwtOptions",
    "StatwtPlan",
    "StatwtResult",
    "bin_excess",
    "plan_statwt",
    "run_statwt",
    "statwt_kwargs",
    "weigh",
]

logger = logging.getLogger(__name__)

VERSION = "before_statwt"
_MOST_WEIGHTS = 2**20  # weights in the sample that is checked


@dataclass(frozen=True)
class StatwtOptions:
    """Conditions and settings of ``statwt``.

    Attributes
    ----------
    min_samples : int
        Least number of unflagged channels x integrations in a bin. Weights from n complex samples
        have a relative scatter of 1/sqrt(n - 1), which for 32 costs 2 per cent of the sensitivity.
    max_timebin_s : float
        Longest bin, s, because the sky and the phases change meanwhile.
    max_excess : float
        Largest ratio of the variance in a bin to that of differences between neighbouring
        samples, which contain only noise, for which a bin counts as noise.
    datacolumn : str
        Column: ``"corrected"``, equal to DATA before any calibration, or ``"residual"``
        (corrected - model). From ``"data"`` CASA sets SIGMA only, but imaging uses WEIGHT.
    max_spread : float
        Largest credible ratio of a weight to the median weight.
    max_flagged : float
        Largest fraction of the visibilities that ``statwt`` may flag.
    """

    min_samples: int = 32
    max_timebin_s: float = 120.0
    max_excess: float = 1.5
    datacolumn: str = "corrected"
    max_spread: float = 100.0
    max_flagged: float = 0.1


@dataclass(frozen=True)
class StatwtPlan:
    """Decision to run ``statwt`` or not, with its bins and the reason.

    Attributes
    ----------
    run : bool
    timebin_s : float
        Length of a bin, s.
    samples : float
        Typical number of unflagged samples in a bin.
    excess : float
        Ratio from :func:`bin_excess`; NaN when it was not measured.
    reason : str
        Reason of the decision.
    """

    run: bool
    timebin_s: float
    samples: float
    excess: float
    reason: str


@dataclass(frozen=True)
class StatwtResult:
    """Result of ``statwt``.

    Attributes
    ----------
    applied : bool
        False when it was skipped or undone.
    plan : StatwtPlan
    reason : str
        Reason why it was skipped or undone, or the properties of the bins.
    flagged_before, flagged_after : float
        Fraction of visibilities flagged before and after.
    weight_median : float
        Median weight of the first correlation in unflagged rows, afterwards.
    """

    applied: bool
    plan: StatwtPlan
    reason: str
    flagged_before: float
    flagged_after: float
    weight_median: float


@dataclass(frozen=True)
class _Sampling:
    """Rows and channels of one data description as ``statwt`` bins them."""

    channels: float  # mean number of unflagged channels of rows that have any
    interval_s: float
    scan_times: float  # median number of integrations of a scan


def _sampling(ms: Path) -> list[_Sampling]:
    """Return the sampling of each data description, from the times of its baselines."""
    channels: dict[int, list[float]] = {}
    for chunk in chunks(ms, ("FLAG", "FLAG_ROW")):
        good = ~(chunk["FLAG"] | chunk["FLAG_ROW"][:, None, None])
        counts = good.sum(axis=1)
        if (counts > 0).any():
            channels.setdefault(chunk.data_desc_id, []).append(float(counts[counts > 0].mean()))
    found = []
    with open_table(ms) as opened:
        names = ("DATA_DESC_ID", "SCAN_NUMBER", "ANTENNA1", "ANTENNA2", "TIME")
        ddid, scan, one, two, time = sample_baselines(opened, names).values()
    for number, means in channels.items():
        rows = np.flatnonzero(ddid == number)
        keys = (one[rows], two[rows], scan[rows])
        found.append(
            _Sampling(
                channels=float(np.mean(means)),
                interval_s=integration_time_s(time[rows], *keys),
                scan_times=float(np.mean(integrations_per_scan(time[rows], *keys))),
            )
        )
    return found


def choose_timebin(
    channels: float, interval_s: float, scan_times: float, options: StatwtOptions
) -> tuple[float, float]:
    """Return the shortest bin with enough samples.

    Parameters
    ----------
    channels : float
        Number of unflagged channels of a row.
    interval_s : float
        Spacing of the integrations, s.
    scan_times : float
        Number of integrations of a scan; bins do not cross scans.
    options : StatwtOptions

    Returns
    -------
    timebin_s, samples : float
        Length of the bin and its samples; fewer than ``min_samples`` when no bin is sufficient.
    """
    interval_s = max(interval_s, 1e-3)
    wanted = math.ceil(options.min_samples / max(channels, 1e-3))
    allowed = max(1, math.floor(options.max_timebin_s / interval_s + 1e-6))
    integrations = max(1, min(wanted, allowed, math.floor(scan_times)))
    return integrations * interval_s, integrations * channels


def _timebins(ms: Path, options: StatwtOptions) -> list[tuple[float, float]]:
    """Return the bin, s, and its samples for each data description with unflagged data."""
    return [
        choose_timebin(one.channels, one.interval_s, one.scan_times, options)
        for one in _sampling(ms)
    ]


def bin_excess(values: NDArray[np.complexfloating[Any, Any]], good: NDArray[np.bool_]) -> float:
    """Return the variance in a bin over the variance of differences of neighbouring samples.

    Parameters
    ----------
    values : (nbin, nsample) complex
        Samples of each bin in order of channel (or time).
    good : (nbin, nsample) bool
        Mask of unflagged samples.

    Returns
    -------
    float
        Median over the bins of var(V) / (mean |V_k+1 - V_k|^2 / 2): 1 for noise, more when the
        visibilities drift within bins; NaN without bins of four samples or more.
    """
    number = good.sum(axis=1)
    kept = np.where(good, values, 0)
    mean = kept.sum(axis=1) / np.maximum(number, 1)
    scatter = (np.abs(np.where(good, values - mean[:, None], 0)) ** 2).sum(axis=1)
    pairs = good[:, 1:] & good[:, :-1]
    steps = np.where(pairs, np.abs(kept[:, 1:] - kept[:, :-1]) ** 2, 0).sum(axis=1)
    enough = (number >= 4) & (pairs.sum(axis=1) >= 3) & (steps > 0)
    if not enough.any():
        return float("nan")
    variance = scatter[enough] / (number[enough] - 1)
    noise = 0.5 * steps[enough] / pairs[enough].sum(axis=1)
    return float(np.median(variance / noise))


def _measured_excess(ms: Path, timebin_s: float, options: StatwtOptions) -> float:
    """Return the largest excess over the spws, from the baselines of a few antennas."""
    column = "CORRECTED_DATA"
    names = [column, "FLAG", "FLAG_ROW", "TIME", "SCAN_NUMBER", "ANTENNA1", "ANTENNA2"]
    subtract = options.datacolumn == "residual"
    names += ["MODEL_DATA"] if subtract else []
    found: dict[int, list[float]] = {}
    for chunk in chunks(ms, names, max_bytes=32 * 1024**2):
        if len(found.get(chunk.data_desc_id, ())) >= 4:
            continue  # a few stretches of data are enough
        data = chunk[column] - chunk["MODEL_DATA"] if subtract else chunk[column]
        good = ~(chunk["FLAG"] | chunk["FLAG_ROW"][:, None, None])
        excess = _excess_of_rows(data, good, chunk.columns, timebin_s)
        if np.isfinite(excess):
            found.setdefault(chunk.data_desc_id, []).append(excess)
    return max((float(np.median(values)) for values in found.values()), default=float("nan"))


def _excess_of_rows(
    data: NDArray[Any], good: NDArray[np.bool_], columns: dict[str, Any], timebin_s: float
) -> float:
    """Put the rows of one chunk into bins as ``statwt`` does, one correlation per bin."""
    time = columns["TIME"]
    slot = np.floor((time - time.min()) / timebin_s + 1e-3).astype(np.int64)
    keys = (columns["ANTENNA1"], columns["ANTENNA2"], columns["SCAN_NUMBER"], slot)
    order = np.lexsort((time, *keys[::-1]))
    new = np.any([np.diff(key[order], prepend=key[order][0] - 1) != 0 for key in keys], axis=0)
    number = np.cumsum(new) - 1
    place = np.arange(len(order)) - np.flatnonzero(new)[number]
    nbin, ntime, nchan, ncorr = number[-1] + 1, int(place.max()) + 1, *data.shape[1:]
    if nbin * ntime > 4 * len(order):  # unequal bins: keep the first integrations of each
        ntime = max(1, 4 * len(order) // nbin)
        order, number, place = (array[place < ntime] for array in (order, number, place))
    values = np.zeros((nbin, ntime, nchan, ncorr), dtype=np.complex64)
    usable = np.zeros(values.shape, dtype=bool)
    values[number, place], usable[number, place] = data[order], good[order]
    shape = (nbin * ncorr, ntime * nchan)
    return bin_excess(
        values.transpose(0, 3, 1, 2).reshape(shape), usable.transpose(0, 3, 1, 2).reshape(shape)
    )


def plan_statwt(ms: str | Path, options: StatwtOptions | None = None) -> StatwtPlan:
    """Decide whether ``statwt`` can be run on a measurement set, and with which bins.

    Parameters
    ----------
    ms : path
    options : StatwtOptions, optional

    Returns
    -------
    StatwtPlan
    """
    ms, options = Path(ms), options or StatwtOptions()
    bins = _timebins(ms, options)
    if not bins:
        return StatwtPlan(False, 0.0, 0.0, float("nan"), "skipped: all data are flagged")
    timebin_s = max(one[0] for one in bins)
    samples = min(one[1] for one in bins)
    if samples < options.min_samples:
        reason = (
            f"skipped: bins of {timebin_s:.3g} s hold {samples:.3g} samples of a baseline and "
            f"correlation, but {options.min_samples} are needed"
        )
        return StatwtPlan(False, timebin_s, samples, float("nan"), reason)
    excess = _measured_excess(ms, timebin_s, options)
    if not excess <= options.max_excess:
        reason = (
            f"skipped: within bins of {timebin_s:.3g} s the data vary {excess:.3g} times as much "
            "as noise does, so their scatter does not measure the noise"
        )
        return StatwtPlan(False, timebin_s, samples, excess, reason)
    reason = f"bins of {timebin_s:.3g} s hold {samples:.3g} samples, {excess:.3g} times noise"
    return StatwtPlan(True, timebin_s, samples, excess, reason)


def statwt_kwargs(ms: str | Path, plan: StatwtPlan, options: StatwtOptions) -> dict[str, Any]:
    """Return the arguments of ``statwt``; times are in seconds, because INTERVAL may be wrong."""
    return {
        "vis": str(ms),
        # slightly longer than the integrations, so that rounding does not leave out the last one
        "timebin": f"{plan.timebin_s * 1.001:.6g}s",
        "chanbin": "spw",
        "minsamp": max(2, options.min_samples // 4),
        "datacolumn": options.datacolumn,
        "flagbackup": False,
    }


def run_statwt(
    ms: str | Path,
    session: CasaSession,
    *,
    options: StatwtOptions | None = None,
    log: Path | None = None,
) -> StatwtResult:
    """Set weights with ``statwt`` where it improves them; undo it where they are not credible.

    Flags and weights are first saved under ``before_statwt``. If they were saved already, an
    earlier run was interrupted or is repeated, and they are restored before anything else.

    Parameters
    ----------
    ms : path
        Working copy.
    session : CasaSession
    options : StatwtOptions, optional
    log : Path, optional

    Raises
    ------
    ToolError
        ``statwt`` failed; the weights are unchanged.
    """
    ms, options = Path(ms), options or StatwtOptions()
    if flag_versions.has_weights(ms, VERSION) and flag_versions.has_version(ms, VERSION):
        flag_versions.restore_weights(ms, VERSION)
        flag_versions.restore_version(ms, VERSION)
    before = flag_versions.count(ms).fraction
    plan = plan_statwt(ms, options)
    if not plan.run:
        logger.info("%s: statwt %s", ms.name, plan.reason)
        return StatwtResult(False, plan, plan.reason, before, before, _weights(ms)[1])
    flag_versions.save_version(ms, VERSION, "flags before statwt")
    flag_versions.save_weights(ms, VERSION)
    try:
        session.run("statwt", log=log, **statwt_kwargs(ms, plan, options))
        match_sigma(ms)
        after = flag_versions.count(ms).fraction
        wrong, median = _weights(ms, options.max_spread)
        if after - before > options.max_flagged:
            wrong = f"it flagged {100 * (after - before):.1f} % more of the data"
    except BaseException:
        flag_versions.restore_weights(ms, VERSION)
        flag_versions.restore_version(ms, VERSION)
        raise
    if wrong:
        flag_versions.restore_weights(ms, VERSION)
        flag_versions.restore_version(ms, VERSION)
        logger.warning("%s: statwt undone: %s", ms.name, wrong)
        return StatwtResult(
            False, plan, f"the new weights were undone: {wrong}", before, before, _weights(ms)[1]
        )
    return StatwtResult(True, plan, plan.reason, before, after, median)


def weigh(
    ms: str | Path,
    session: CasaSession,
    *,
    options: StatwtOptions | None = None,
    log: Path | None = None,
) -> str:
    """Set weights from the noise of the data by the best method they allow; return it in words.

    The methods are pooled differences of neighbouring channels (`libs.weights.pooled_weights`),
    then ``statwt``; otherwise the original weights stay. These are kept under ``before_statwt``
    and restored first when they were saved already.

    Parameters
    ----------
    ms : path
        Working copy.
    session : CasaSession
    options : StatwtOptions, optional
    log : Path, optional

    Raises
    ------
    ToolError
        ``statwt`` failed; the weights are unchanged.
    """
    ms, options = Path(ms), options or StatwtOptions()
    if flag_versions.has_weights(ms, VERSION):
        flag_versions.restore_weights(ms, VERSION)
    else:
        flag_versions.save_weights(ms, VERSION)
    bins = _timebins(ms, options)
    if bins:
        timebin_s = max(one[0] for one in bins)
        pooled = pool_weights(ms, VERSION, timebin_s, column="DATA")
        if pooled.changed:
            wrong, _ = _weights(ms, options.max_spread)
            if not wrong:
                return (
                    f"weights come from differences of channels in bins of {timebin_s:.3g} s;"
                    f" beyond chance, noise differs by {100 * pooled.bin_spread:.0f} % between bins"
                    f" and by {100 * pooled.baseline_spread:.0f} % between baselines"
                )
            flag_versions.restore_weights(ms, VERSION)
            logger.warning("%s: weights from differences undone: %s", ms.name, wrong)
    result = run_statwt(ms, session, options=options, log=log)
    reason = result.reason.removeprefix("skipped: ")
    return f"statwt {'done' if result.applied else 'skipped'}: {reason}"


def _hand(ms: Path, corr: int) -> str:
    """Return the name of a correlation."""
    names = Subtables(ms).setup_of[0].correlations
    return names[corr] if corr < len(names) else f"correlation {corr}"


def _weights(ms: Path, max_spread: float = math.inf) -> tuple[str, float]:
    """Return the fault of unflagged data's weights (or ""), and the first hand's median weight."""
    kept: dict[int, list[NDArray[np.float32]]] = {}
    with open_table(ms) as opened:
        stride = 1 + opened.nrows() // _MOST_WEIGHTS
    finite, negative = True, False
    for chunk in chunks(ms, ("WEIGHT", "FLAG", "FLAG_ROW")):
        good = ~(chunk["FLAG"] | chunk["FLAG_ROW"][:, None, None]).all(axis=1)
        for corr in range(good.shape[1]):
            weight = chunk["WEIGHT"][good[:, corr], corr]
            finite &= bool(np.isfinite(weight).all())
            negative |= bool((weight < 0).any())
            kept.setdefault(corr, []).append(weight[::stride].copy())
    medians = []
    for corr, parts in kept.items():
        weight = np.concatenate(parts)
        if not weight.size:
            continue
        if not finite:
            return "some weights are not finite", 0.0
        median = float(np.median(weight))
        medians.append(median)
        if negative or median <= 0:
            return "weights are not positive", median
        # the highest one in a thousand, because bins with too little scatter would dominate images
        high = float(np.percentile(weight, 99.9))
        if high > max_spread * median:
            return (
                f"weights of {_hand(ms, corr)} reach {format_number(high / median)} times their"
                " median",
                median,
            )
    if not medians:
        return "no unflagged data are left", 0.0
    return "", medians[0]
