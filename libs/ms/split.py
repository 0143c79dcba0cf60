"""Splitting calibrated data off a working copy; the output is checked, then renamed."""

from __future__ import annotations

import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from libs.casa.session import CasaSession
from libs.core.errors import ConfigError, InputError, ToolError
from libs.core.files import fsync_tree, tree_bytes
from libs.core.geometry import smearing_limits
from libs.ms import flag_versions
from libs.ms.rows import chunks
from libs.ms.subset import NotUnderstoodError, choose_subset
from libs.ms.subset_copy import copy_subset
from libs.ms.summary import MsSummary
from libs.ms.tables import column_names, open_table
from libs.ms.view import own_every_file

__all__ = ["SplitOptions", "SplitResult", "averaging", "split_calibrated", "split_kwargs"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitOptions:
    """Choices for the data set that is split off.

    Attributes
    ----------
    datacolumn : str
        Column that becomes DATA: ``"corrected"``, ``"data"`` or ``"model"``.
    keepflags : bool
        True keeps rows that are flagged throughout.
    timebin_s : float
        Averaging in time, s; 0 for none.
    width : int
        Channels averaged into one; 1 for none.
    """

    datacolumn: str = "corrected"
    keepflags: bool = True
    timebin_s: float = 0.0
    width: int = 1

    def __post_init__(self) -> None:
        if self.datacolumn not in ("corrected", "data", "model"):
            raise ConfigError(
                f"datacolumn = {self.datacolumn!r}", "use 'corrected', 'data' or 'model'"
            )
        if self.timebin_s < 0 or self.width < 1:
            raise ConfigError(
                f"timebin_s = {self.timebin_s}, width = {self.width}",
                "use a time of 0 or more and a width of 1 or more",
            )

    @property
    def averages(self) -> bool:
        """True when time or channels are averaged."""
        return self.timebin_s > 0 or self.width > 1


@dataclass(frozen=True)
class SplitResult:
    """The data set that was split off.

    Attributes
    ----------
    ms : Path
    rows : int
    unflagged : int
        Visibilities that are not flagged.
    flagged_fraction : float
        Fraction of the visibilities that is flagged.
    size_bytes : int
    """

    ms: Path
    rows: int
    unflagged: int
    flagged_fraction: float
    size_bytes: int


def averaging(
    summary: MsSummary,
    time_s: float | str,
    channels: int | str,
    radius_rad: float,
    loss: float = 0.02,
) -> tuple[float, int]:
    """Return averaging times and channels that are whole integrations and divide the windows.

    Parameters
    ----------
    summary : MsSummary
    time_s : float or str
        Longest integration, s; 0 for none. ``"auto"`` takes the longest that loses at most
        ``loss``.
    channels : int or str
        Channels averaged into one; 1 for none. ``"auto"`` takes the most that lose at most
        ``loss`` and divide every spectral window.
    radius_rad : float
        Distance of the edge of the map from the phase centre, rad.
    loss : float
        Fraction of the amplitude lost there on the longest baseline; see
        `libs.core.geometry.smearing_limits`.

    Returns
    -------
    time_s : float
        Averaging time, s: a multiple of the integration, or 0 for none.
    channels : int
        Channels averaged into one.

    Raises
    ------
    ConfigError
        More channels are to be averaged than a spectral window has.
    """
    seconds, hertz = smearing_limits(
        summary.longest_baseline_m, summary.max_frequency_hz, radius_rad, loss
    )
    windows = [np.asarray(summary.frequency_hz[spw]) for spw in summary.spws_used]
    counts = [len(channel_hz) for channel_hz in windows]
    if isinstance(channels, str):
        steps = [float(np.abs(np.diff(hz)).mean()) for hz in windows if len(hz) > 1]
        most = min([math.gcd(*counts), *(hertz / step + 1e-3 for step in steps)])
        width = max(n for n in range(1, max(1, int(most)) + 1) if math.gcd(*counts) % n == 0)
    else:
        width = channels
    if width > min(counts):
        raise ConfigError(
            f"{width} channels are to be averaged, but a spectral window has {min(counts)}",
            "average fewer",
        )
    if not summary.integration_s > 0:  # one integration a scan: there is nothing to average
        return 0.0, width
    limit = seconds if isinstance(time_s, str) else time_s
    span = summary.time_range_s[1] - summary.time_range_s[0] + summary.integration_s
    number = math.floor(min(limit, span) / summary.integration_s + 1e-3)
    return (number * summary.integration_s if number > 1 else 0.0), width


def split_kwargs(ms: str | Path, outputvis: str | Path, options: SplitOptions) -> dict[str, Any]:
    """Return the arguments of the CASA task ``split``."""
    return {
        "vis": str(ms),
        "outputvis": str(outputvis),
        "datacolumn": options.datacolumn,
        "keepflags": options.keepflags,
        "timebin": f"{options.timebin_s:.6g}s",
        "width": options.width,
    }


def split_calibrated(
    ms: str | Path,
    target: str | Path,
    session: CasaSession,
    *,
    options: SplitOptions | None = None,
    log: Path | None = None,
) -> SplitResult:
    """Split a column of a working copy into a new measurement set.

    CASA's ``split`` runs only when something is averaged; otherwise the column is copied.

    Parameters
    ----------
    ms, target : path
        An older ``target`` is replaced once the new one is complete and checked.
    session : CasaSession
    options : SplitOptions, optional
    log : Path, optional

    Raises
    ------
    InputError
        The column is missing or all data are flagged.
    ToolError
        ``split`` failed, or its output is not as requested.
    """
    ms, target, options = Path(ms), Path(target).absolute(), options or SplitOptions()
    column = {"corrected": "CORRECTED_DATA", "data": "DATA", "model": "MODEL_DATA"}
    source = column[options.datacolumn]
    if source not in column_names(ms):
        raise InputError(f"{ms.name} has no column {source}", "apply the calibration first")
    before = flag_versions.count(ms)
    if before.flagged == before.total:
        raise InputError(f"all data of {ms.name} are flagged", "restore earlier flags")
    part = target.with_name(target.name + ".part")
    _remove(part)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if options.averages or not options.keepflags or not _copy(ms, part, source):
            session.run("split", log=log, **split_kwargs(ms, part, options))
            own_every_file(part)
        result = _check(ms, source, part, before.total - before.flagged, options)
        fsync_tree(part)
        _remove(target)
        part.rename(target)
    finally:
        _remove(part)
    return SplitResult(target, *result)


def _copy(ms: Path, part: Path, column: str) -> bool:
    """Copy a column without averaging; return False where CASA must do it."""
    try:
        copy_subset(ms, part, choose_subset(ms, column=column, autocorrelations=True))
    except NotUnderstoodError as why:
        logger.info("%s is split by CASA, because this is not understood: %s", ms.name, why)
        shutil.rmtree(part, ignore_errors=True)
        return False
    return True


def _remove(ms: Path) -> None:
    """Remove a measurement set with its flag versions and saved weights."""
    for path in (ms, Path(f"{ms}.flagversions"), Path(f"{ms}.weightversions")):
        shutil.rmtree(path, ignore_errors=True)


def _check(
    ms: Path, source: str, part: Path, unflagged: int, options: SplitOptions
) -> tuple[int, int, float, int]:
    """Check the output against the input; return rows, unflagged, fraction flagged and bytes."""
    if not (part / "table.dat").exists():
        raise ToolError(f"split wrote no output for {ms.name}", "see its log")
    counted = flag_versions.count(part)
    kept = counted.total - counted.flagged
    with open_table(part) as opened:
        rows = opened.nrows()
    if not kept:
        raise ToolError(f"split of {ms.name} left no unflagged data", "see its log")
    if not options.averages and kept != unflagged:
        raise ToolError(
            f"split of {ms.name} kept {kept} unflagged visibilities of {unflagged}", "see its log"
        )
    got, want = _level(part, "DATA"), _level(ms, source)
    # averaging of varying phases lowers the level and never raises it
    agree = got <= want * 1.001 if options.averages else np.isclose(got, want, rtol=1e-4)
    if not (np.isfinite(got) and agree):
        raise ToolError(
            f"DATA split off {ms.name} have a mean amplitude of {got:.6g}, {source} of {want:.6g}",
            "see its log",
        )
    return rows, kept, counted.fraction, tree_bytes(part)


def _level(ms: Path, column: str) -> float:
    """Return the mean amplitude of the unflagged visibilities of a column."""
    total, number = 0.0, 0
    for chunk in chunks(ms, (column, "FLAG", "FLAG_ROW")):
        good = ~(chunk["FLAG"] | chunk["FLAG_ROW"][:, None, None])
        total += float(np.abs(chunk[column][good]).sum(dtype=np.float64))
        number += int(good.sum())
    return total / max(number, 1)
