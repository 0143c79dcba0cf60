"""Summary of what a measurement set holds, from its subtables and one pass over its rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.coordinates import to_j2000
from libs.core.errors import InputError
from libs.core.files import tree_bytes
from libs.ms.integration import read_integration_time_s
from libs.ms.rows import chunks, distinct
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

__all__ = ["MsSummary", "flagged_fraction", "summarise"]


@dataclass(frozen=True)
class MsSummary:
    """What a measurement set holds, from its subtables and unflagged rows.

    Attributes
    ----------
    path : Path
    rows, channels : int
        Rows; channels summed over the spectral windows present.
    antenna : tuple of str
        Names by id; blank names become ``ANT<id>``.
    position_m : (nant, 3) float64
        ITRF, m.
    dish_diameter_m : float
        Median over the antennas used; 0 when unknown.
    field : tuple of str
        Names by id.
    fields_used, spws_used : tuple of int
        Ids that occur in the rows.
    direction_rad : (2,) float64
        Phase centre of the first field used, RA and Dec, J2000.
    frequency_hz : tuple of (nchan,) arrays
        Channel centres of each spw.
    correlation : tuple of str
        Of the first polarization setup used, e.g. ``("RR", "LL")``.
    telescope : str
    time_range_s : tuple of float
        First and last TIME, MJD seconds.
    integration_s : float
        Median spacing of TIME within scans (INTERVAL may lie).
    scans : int
        Number of scans.
    longest_baseline_m, shortest_baseline_m : float
        Over unflagged rows.
    antennas_used : tuple of int
        Antennas on unflagged cross-correlations.
    flagged_fraction : float
        Of all visibilities.
    weights_positive : bool
        Whether any unflagged visibility has a finite positive weight.
    columns : tuple of str
    size_bytes : int
        On disk.
    """

    path: Path
    rows: int
    channels: int
    antenna: tuple[str, ...]
    position_m: NDArray[np.float64]
    dish_diameter_m: float
    field: tuple[str, ...]
    fields_used: tuple[int, ...]
    spws_used: tuple[int, ...]
    direction_rad: NDArray[np.float64]
    frequency_hz: tuple[NDArray[np.float64], ...]
    correlation: tuple[str, ...]
    telescope: str
    time_range_s: tuple[float, float]
    integration_s: float
    scans: int
    longest_baseline_m: float
    shortest_baseline_m: float
    antennas_used: tuple[int, ...]
    flagged_fraction: float
    weights_positive: bool
    columns: tuple[str, ...]
    size_bytes: int

    @property
    def max_frequency_hz(self) -> float:
        """Highest channel centre of the spws used."""
        return max(float(self.frequency_hz[spw].max()) for spw in self.spws_used)

    @property
    def min_frequency_hz(self) -> float:
        """Lowest channel centre of the spws used."""
        return min(float(self.frequency_hz[spw].min()) for spw in self.spws_used)

    @property
    def mean_frequency_hz(self) -> float:
        """Mean channel centre of the spws used."""
        return float(np.mean(np.concatenate([self.frequency_hz[spw] for spw in self.spws_used])))


def summarise(path: str | Path) -> MsSummary:
    """Read what a measurement set holds.

    Raises
    ------
    InputError
        It does not exist, is no measurement set or has no rows.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist", "correct vis")
    if not (path / "table.dat").exists() or not (path / "ANTENNA").exists():
        raise InputError(f"{path} is not a measurement set", "name a .ms folder or a UVFITS file")
    found = Subtables(path)
    with open_table(path) as opened:
        if opened.nrows() == 0:
            raise InputError(f"{path} has no rows", "check the selection that made it")
        times, scans = distinct(opened, "TIME"), distinct(opened, "SCAN_NUMBER")
        ddids, fields = distinct(opened, "DATA_DESC_ID"), distinct(opened, "FIELD_ID")
        integration_s = read_integration_time_s(opened, ("SCAN_NUMBER", "ANTENNA1", "ANTENNA2"))
        columns = tuple(opened.colnames())
        rows = opened.nrows()
    survey = _survey_visibilities(path)
    used = sorted(survey["antennas"])
    centre = found.fields[fields[0]]
    spws = tuple(sorted({found.descriptions[ddid].spw for ddid in ddids}))
    antennas = [found.antennas[number] for number in used] or found.antennas
    diameters = [antenna.diameter_m for antenna in antennas if antenna.diameter_m > 0]
    return MsSummary(
        path=path,
        rows=rows,
        channels=sum(found.windows[spw].channels for spw in spws),
        antenna=found.antenna_names,
        position_m=found.position_m,
        dish_diameter_m=float(np.median(diameters)) if diameters else 0.0,
        field=tuple(field.name for field in found.fields),
        fields_used=tuple(int(field) for field in fields),
        spws_used=spws,
        direction_rad=np.array(to_j2000(centre.direction_rad, centre.frame)),
        frequency_hz=found.channel_hz,
        correlation=found.setup_of[ddids[0]].correlations,
        telescope=found.telescope,
        time_range_s=(float(times[0]), float(times[-1])),
        integration_s=integration_s,
        scans=len(scans),
        longest_baseline_m=survey["longest"],
        shortest_baseline_m=survey["shortest"],
        antennas_used=tuple(used),
        flagged_fraction=survey["flagged"],
        weights_positive=survey["weights"],
        columns=columns,
        size_bytes=tree_bytes(path),
    )


def _survey_visibilities(path: Path) -> dict[str, Any]:
    """One pass over flags, weights and UVW of all rows."""
    flagged = total = 0
    longest, shortest = 0.0, np.inf
    antennas: set[int] = set()
    weights = False
    names = ("FLAG", "FLAG_ROW", "WEIGHT", "UVW", "ANTENNA1", "ANTENNA2")
    for chunk in chunks(path, names):
        flag = chunk["FLAG"] | chunk["FLAG_ROW"][:, None, None]
        flagged += int(flag.sum())
        total += flag.size
        good_corr = ~flag.all(axis=1) & np.isfinite(chunk["WEIGHT"]) & (chunk["WEIGHT"] > 0)
        weights |= bool(good_corr.any())
        good = ~flag.all(axis=(1, 2)) & (chunk["ANTENNA1"] != chunk["ANTENNA2"])
        if good.any():
            length = np.hypot(chunk["UVW"][good, 0], chunk["UVW"][good, 1])
            longest = max(longest, float(length.max()))
            shortest = min(shortest, float(length[length > 0].min(initial=np.inf)))
            antennas.update(map(int, np.unique(chunk["ANTENNA1"][good])))
            antennas.update(map(int, np.unique(chunk["ANTENNA2"][good])))
    return {
        "flagged": flagged / total if total else 1.0,
        "longest": longest,
        "shortest": shortest if np.isfinite(shortest) else 0.0,
        "antennas": antennas,
        "weights": weights,
    }


def flagged_fraction(path: str | Path, *, without: Collection[int] = ()) -> float:
    """Return the fraction of the visibilities that is flagged, 0 to 1.

    Baselines with an antenna of ``without`` are not counted.
    """
    flagged = total = 0
    names = ("FLAG", "FLAG_ROW", *(("ANTENNA1", "ANTENNA2") if without else ()))
    for chunk in chunks(path, names):
        flag = chunk["FLAG"] | chunk["FLAG_ROW"][:, None, None]
        if without:
            left_out = np.isin(chunk["ANTENNA1"], list(without))
            left_out |= np.isin(chunk["ANTENNA2"], list(without))
            flag = flag[~left_out]
        flagged += int(flag.sum())
        total += flag.size
    return flagged / total if total else 1.0
