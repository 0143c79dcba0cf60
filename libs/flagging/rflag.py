"""Automatic flagging: tfcrop, rflag, clipping by robust statistics, extension of flags.

Each method runs only where the data are sufficient for it. A run that flags more than a given
fraction of the data is undone, because it has flagged the source rather than interference.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.casa.session import CasaSession
from libs.core.errors import ConfigError
from libs.ms import flag_versions
from libs.ms.integration import integrations_per_scan
from libs.ms.rows import chunks, distinct, sample_baselines
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

__all__ = [
    "RflagOptions",
    "RflagResult",
    "Sampling",
    "clip_outliers",
    "flagdata_kwargs",
    "measure_sampling",
    "robust_outliers",
    "run_rflag",
    "why_unfit",
]

logger = logging.getLogger(__name__)

METHODS = ("tfcrop", "rflag", "clip", "extend")
COLUMNS = ("DATA", "CORRECTED", "RESIDUAL", "RESIDUAL_DATA")
# Medians of fewer values are unreliable, and clipping by them flags noise.
_MIN_CLIP_SAMPLES = 20


@dataclass(frozen=True)
class RflagOptions:
    """Choice of flagging methods and their limits.

    Attributes
    ----------
    column : str
        Column to flag on: ``"DATA"``, ``"CORRECTED"``, ``"RESIDUAL"`` (corrected - model) or
        ``"RESIDUAL_DATA"`` (data - model). Interference stands out best in residuals.
    methods : tuple of str
        Methods in order, from ``tfcrop``, ``rflag``, ``clip`` and ``extend``.
    timecutoff, freqcutoff : float
        Deviations, in standard deviations, above which tfcrop flags along time and frequency.
    timedevscale, freqdevscale : float
        Limits of rflag, in the same units.
    winsize : int
        Integrations in rflag's sliding window.
    clip_sigma, clip_factor : float
        Amplitudes beyond median + this many robust standard deviations *and* this many medians
        of their baseline and correlation are clipped. The factor protects bright sources, whose
        changes along a track exceed many standard deviations when there is little noise.
    growtime, growfreq : float
        Percentage of flagged times (channels) above which the rest is flagged too.
    min_channels, min_times : int
        Channels of a window and integrations of a scan that tfcrop and rflag need.
    max_new_fraction : float
        Largest fraction of the unflagged visibilities that a run may flag; otherwise it is undone.
    """

    column: str = "DATA"
    methods: tuple[str, ...] = ("tfcrop", "clip", "extend")
    timecutoff: float = 4.0
    freqcutoff: float = 4.0
    timedevscale: float = 5.0
    freqdevscale: float = 5.0
    winsize: int = 3
    clip_sigma: float = 10.0
    clip_factor: float = 3.0
    growtime: float = 80.0
    growfreq: float = 80.0
    min_channels: int = 8
    min_times: int = 5
    max_new_fraction: float = 0.2

    def __post_init__(self) -> None:
        if self.column not in COLUMNS:
            raise ConfigError(f"flagging column {self.column!r}", f"use one of {COLUMNS}")
        unknown = [method for method in self.methods if method not in METHODS]
        if unknown or not self.methods:
            raise ConfigError(f"flagging methods {self.methods}", f"use some of {METHODS}")
        if not 0 < self.max_new_fraction <= 1:
            raise ConfigError(
                f"max_new_fraction = {self.max_new_fraction}", "use a fraction above 0, up to 1"
            )


@dataclass(frozen=True)
class Sampling:
    """Sampling of the data in frequency and time, which decides whether tfcrop and rflag can run.

    Attributes
    ----------
    channels : int
        Channels of the narrowest spectral window.
    times : int
        Integrations of a scan, median over scans.
    """

    channels: int
    times: int


@dataclass(frozen=True)
class RflagResult:
    """Result of a flagging run.

    Attributes
    ----------
    applied : bool
        False when nothing could be run or the run was undone.
    reason : str
        Result in words.
    methods : tuple of str
        Methods that were run.
    skipped : dict of str to str
        Methods left out, with the reason.
    fraction_before, fraction_after : float
        Fraction of all visibilities flagged; equal when the run was undone.
    fraction_tried : float
        Fraction that was flagged before the run was undone.
    """

    applied: bool
    reason: str
    methods: tuple[str, ...]
    skipped: dict[str, str]
    fraction_before: float
    fraction_after: float
    fraction_tried: float


def measure_sampling(ms: str | Path) -> Sampling:
    """Return the number of channels and integrations that automatic flagging can use."""
    with open_table(ms) as opened:
        ddids = distinct(opened, "DATA_DESC_ID")
        rows = sample_baselines(opened, ("SCAN_NUMBER", "ANTENNA1", "ANTENNA2", "TIME"))
    found = Subtables(ms)
    channels = min(found.windows[spw].channels for spw in found.spw_of[ddids])
    # per baseline, because the time stamps of different baselines may differ
    keys = [rows[name] for name in ("ANTENNA2", "ANTENNA1", "SCAN_NUMBER")]
    return Sampling(channels, int(np.median(integrations_per_scan(rows["TIME"], *keys))))


def why_unfit(method: str, sampling: Sampling, options: RflagOptions) -> str:
    """Return why a method cannot be run on data of this sampling, or ""."""
    if method not in ("tfcrop", "rflag"):
        return ""
    needs = []
    if sampling.channels < options.min_channels:
        needs.append(f"{options.min_channels} channels, there are {sampling.channels}")
    times = max(options.min_times, options.winsize if method == "rflag" else 0)
    if sampling.times < times:
        needs.append(f"{times} integrations in a scan, there are {sampling.times}")
    return f"{method} needs " + " and ".join(needs) if needs else ""


def flagdata_kwargs(ms: str | Path, method: str, options: RflagOptions) -> dict[str, Any]:
    """Return the arguments of the CASA task ``flagdata`` for one method.

    Flags never spread to other polarizations (``extendpols``, and ``extendflags``, which implies
    it): where cross hands are completely flagged, everything would be flagged.

    Parameters
    ----------
    ms : path
    method : str
        Method, ``"tfcrop"``, ``"rflag"`` or ``"extend"``; ``flagdata`` does not do the clipping.
    options : RflagOptions
    """
    common: dict[str, Any] = {"vis": str(ms), "mode": method, "action": "apply"}
    common |= {"flagbackup": False, "display": ""}
    if method == "extend":
        return common | {
            "growtime": options.growtime,
            "growfreq": options.growfreq,
            "extendpols": False,
            "growaround": False,
            "ntime": "scan",
        }
    common |= {"datacolumn": options.column, "ntime": "scan", "extendflags": False}
    if method == "tfcrop":
        return common | {
            "timecutoff": options.timecutoff,
            "freqcutoff": options.freqcutoff,
            "timefit": "line",
            "freqfit": "poly",
            "maxnpieces": 5,
            "flagdimension": "freqtime",
        }
    if method == "rflag":
        return common | {
            "winsize": options.winsize,
            "timedevscale": options.timedevscale,
            "freqdevscale": options.freqdevscale,
        }
    raise ConfigError(f"flagdata mode {method!r}", "use tfcrop, rflag or extend")


def robust_outliers(
    amplitude: NDArray[np.floating[Any]], good: NDArray[np.bool_], sigma: float, factor: float
) -> NDArray[np.bool_]:
    """Find amplitudes far above the others of one baseline and correlation.

    Parameters
    ----------
    amplitude : (n,) float
        Amplitudes of one baseline and correlation.
    good : (n,) bool
        Mask of unflagged values.
    sigma : float
        Limit above the median in robust standard deviations, 1.4826 x the median absolute
        deviation.
    factor : float
        Limit in medians; both must be exceeded.

    Returns
    -------
    (n,) bool
        Mask of outliers; all False with fewer than 20 unflagged values or without scatter.
    """
    values = amplitude[good]
    if values.size < _MIN_CLIP_SAMPLES:
        return np.zeros(amplitude.shape, dtype=bool)
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    if not spread > 0:
        return np.zeros(amplitude.shape, dtype=bool)
    return good & (amplitude > max(middle + sigma * spread, factor * middle))


def clip_outliers(ms: str | Path, options: RflagOptions) -> int:
    """Flag amplitudes that stand out from their baseline and correlation, in place.

    Each baseline is judged by itself, so that extended sources, bright on short baselines
    only, are not clipped. Large data are judged in pieces.

    Returns
    -------
    int
        Number of visibilities newly flagged.
    """
    column = options.column
    corrected = column in ("CORRECTED", "RESIDUAL")
    source = "CORRECTED_DATA" if corrected else "DATA"
    names = [source, "FLAG", "FLAG_ROW", "ANTENNA1", "ANTENNA2"]
    names += ["MODEL_DATA"] if column.startswith("RESIDUAL") else []
    clipped = 0
    with open_table(ms, write=True) as opened:
        for chunk in chunks(ms, names):
            data = chunk[source]
            if "MODEL_DATA" in chunk.columns:
                data = data - chunk["MODEL_DATA"]
            flag = chunk["FLAG"] | chunk["FLAG_ROW"][:, None, None]
            found = _clip_rows(np.abs(data), ~flag, chunk["ANTENNA1"], chunk["ANTENNA2"], options)
            if not found.any():
                continue
            clipped += int(found.sum())
            part = opened.selectrows(chunk.rows)
            part.putcol("FLAG", flag | found)
            part.putcol("FLAG_ROW", (flag | found).all(axis=(1, 2)))
            part.close()
    return clipped


def _clip_rows(
    amplitude: NDArray[Any],
    good: NDArray[np.bool_],
    one: NDArray[Any],
    two: NDArray[Any],
    options: RflagOptions,
) -> NDArray[np.bool_]:
    """Apply :func:`robust_outliers` to each baseline and correlation of a chunk."""
    found = np.zeros(amplitude.shape, dtype=bool)
    order = np.lexsort((two, one))
    edges = np.flatnonzero((np.diff(one[order]) != 0) | (np.diff(two[order]) != 0)) + 1
    for rows in np.split(order, edges):
        for corr in range(amplitude.shape[2]):
            values, usable = amplitude[rows, :, corr], good[rows, :, corr]
            hits = robust_outliers(
                values.ravel(), usable.ravel(), options.clip_sigma, options.clip_factor
            )
            found[rows, :, corr] = hits.reshape(values.shape)
    return found


def run_rflag(
    ms: str | Path,
    session: CasaSession,
    *,
    options: RflagOptions | None = None,
    version: str,
    log: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> RflagResult:
    """Flag a working copy; undo the flagging if it flags too much.

    Parameters
    ----------
    ms : path
    session : CasaSession
    options : RflagOptions, optional
    version : str
        Flag version with the flags from before the run. If it exists, an earlier run was
        interrupted or is repeated, and this version is restored first.
    log : Path, optional
    progress : callable, optional

    Raises
    ------
    ToolError
        ``flagdata`` failed; the flags are unchanged.
    """
    ms, options = Path(ms), options or RflagOptions()
    tell = progress or (lambda text: logger.info("%s", text))
    if flag_versions.has_version(ms, version):
        flag_versions.restore_version(ms, version)
    else:
        flag_versions.save_version(ms, version, "flags before automatic flagging")
    before = flag_versions.count(ms)
    sampling = measure_sampling(ms)
    skipped = {m: why for m in options.methods if (why := why_unfit(m, sampling, options))}
    methods = tuple(method for method in options.methods if method not in skipped)
    if not set(methods) - {"extend"}:
        reason = "skipped: " + "; ".join(skipped.values())
        return RflagResult(False, reason, (), skipped, *[before.fraction] * 3)
    try:
        for method in methods:
            tell(f"{method} on {options.column}")
            if method == "clip":
                clip_outliers(ms, options)
            else:
                session.run("flagdata", log=log, **flagdata_kwargs(ms, method, options))
        after = flag_versions.count(ms)
    except BaseException:
        flag_versions.restore_version(ms, version)
        raise
    new = (after.flagged - before.flagged) / max(before.total - before.flagged, 1)
    text = f"{100 * new:.2f} % of the unflagged data flagged by {', '.join(methods)}"
    if new > options.max_new_fraction:
        flag_versions.restore_version(ms, version)
        reason = f"undone, above the limit of {100 * options.max_new_fraction:.0f} %: {text}"
        logger.warning("%s: automatic flagging %s", ms.name, reason)
        return RflagResult(
            False, reason, methods, skipped, before.fraction, before.fraction, after.fraction
        )
    if skipped:
        text += " (" + "; ".join(skipped.values()) + ")"
    return RflagResult(
        True, text, methods, skipped, before.fraction, after.fraction, after.fraction
    )
