"""Summary of a measurement set, from its subtables and one pass over its rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.coordinates import to_j2000
from libs.core.errors import InputError
from libs.core.files import tree_bytes
from libs.ms.integration import read_integration_time_s
from libs.ms.kept_subtables import kept_subtables
from libs.ms.rows import chunks, distinct
from libs.ms.tables import open_table
from libs.ms.unchanged import FilesState, ValueKeeper, columns_state, subtables_state

__all__ = ["MsDescription", "MsSummary", "describe_ms", "flagged_fraction", "summarise"]


_ID_COLUMNS = ("TIME", "SCAN_NUMBER", "DATA_DESC_ID", "FIELD_ID", "ANTENNA1", "ANTENNA2")
_FLAG_COLUMNS = ("FLAG", "FLAG_ROW", "WEIGHT", "UVW", "ANTENNA1", "ANTENNA2")
_SUBTABLES = (
    "ANTENNA", "FIELD", "SPECTRAL_WINDOW", "DATA_DESCRIPTION", "POLARIZATION", "OBSERVATION",
)  # fmt: skip


@dataclass(frozen=True)
class MsDescription:
    """Properties of a measurement set that do not depend on flags.

    Attributes
    ----------
    path : Path
    rows, channels : int
        Number of rows; number of channels summed over the spectral windows present.
    antenna : tuple of str
        Names by id; blank names become ``ANT<id>``.
    position_m : (nant, 3) float64
        Positions, ITRF, m.
    field : tuple of str
        Names by id.
    fields_used, spws_used : tuple of int
        Ids that occur in the rows.
    direction_rad : (2,) float64
        Phase centre of the first field used, J2000 RA and Dec, rad.
    frequency_hz : tuple of (nchan,) arrays
        Channel centres of each spectral window, Hz.
    correlation : tuple of str
        Names in the first polarization setup used, e.g. ``("RR", "LL")``.
    telescope : str
    time_range_s : tuple of float
        First and last TIME, MJD seconds.
    integration_s : float
        Median spacing of TIME within scans, s (INTERVAL may be wrong).
    scans : int
        Number of scans.
    columns : tuple of str
    """

    path: Path
    rows: int
    channels: int
    antenna: tuple[str, ...]
    position_m: NDArray[np.float64]
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
    columns: tuple[str, ...]

    @property
    def max_frequency_hz(self) -> float:
        """Highest channel centre of the spectral windows used, Hz."""
        return max(float(self._channels_hz(spw).max()) for spw in self.spws_used)

    @property
    def min_frequency_hz(self) -> float:
        """Lowest channel centre of the spectral windows used, Hz."""
        return min(float(self._channels_hz(spw).min()) for spw in self.spws_used)

    @property
    def channels_hz(self) -> NDArray[np.float64]:
        """Channel centres of the spectral windows used, (n,) Hz."""
        return np.concatenate([self._channels_hz(spw) for spw in self.spws_used])

    @property
    def mean_frequency_hz(self) -> float:
        """Mean channel centre of the spectral windows used, Hz."""
        return float(np.mean(self.channels_hz))

    def _channels_hz(self, spw: int) -> NDArray[np.float64]:
        """Return the centres of a window's channels that count, Hz."""
        return self.frequency_hz[spw]


@dataclass(frozen=True)
class MsSummary(MsDescription):
    """Properties of a measurement set and of its unflagged visibilities.

    Where any visibility is unflagged, ``channels``, ``spws_used`` and the frequencies are those
    of channels with unflagged visibilities, so that what is flagged throughout counts as little
    as what is not there.

    Attributes
    ----------
    channels_used : tuple of (nchan,) bool arrays
        Channels with unflagged visibilities, for each spectral window; all, where none has any.
    dish_diameter_m : float
        Median dish diameter of the antennas used, m; 0 when unknown.
    longest_baseline_m, shortest_baseline_m : float
        Longest and shortest unflagged baseline, m.
    antennas_used : tuple of int
        Antennas with unflagged cross-correlations.
    flagged_fraction : float
        Fraction of all visibilities.
    weights_positive : bool
        True when any unflagged visibility has a finite positive weight.
    size_bytes : int
        Size on disk, bytes.
    """

    channels_used: tuple[NDArray[np.bool_], ...]
    dish_diameter_m: float
    longest_baseline_m: float
    shortest_baseline_m: float
    antennas_used: tuple[int, ...]
    flagged_fraction: float
    weights_positive: bool
    size_bytes: int

    def _channels_hz(self, spw: int) -> NDArray[np.float64]:
        return np.asarray(self.frequency_hz[spw][self.channels_used[spw]])


@dataclass(frozen=True)
class _Unflagged:
    """Results of a pass over flags, weights and UVW; see `MsSummary`."""

    longest_m: float
    shortest_m: float
    antennas: tuple[int, ...]
    flagged: float
    weights: bool
    channels: dict[int, NDArray[np.bool_]]


_descriptions: ValueKeeper[MsDescription] = ValueKeeper()
_unflagged: ValueKeeper[_Unflagged] = ValueKeeper()


def describe_ms(path: str | Path) -> MsDescription:
    """Return the properties of a measurement set that do not depend on flags.

    It is read again only after its files have changed.

    Raises
    ------
    InputError
        The path does not exist, is not a measurement set, or has no rows.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist", "correct vis")
    if not (path / "table.dat").exists() or not (path / "ANTENNA").exists():
        raise InputError(f"{path} is not a measurement set", "name a .ms folder or a UVFITS file")

    def state() -> FilesState | None:
        main = columns_state(path, _ID_COLUMNS)
        return None if main is None else main + subtables_state(path, _SUBTABLES)

    kept = _descriptions.get(path, state, lambda: _describe(path))
    return replace(kept, path=path)


def _describe(path: Path) -> MsDescription:
    found = kept_subtables(path)
    with open_table(path) as opened:
        if opened.nrows() == 0:
            raise InputError(f"{path} has no rows", "check the selection that made it")
        times, scans = distinct(opened, "TIME"), distinct(opened, "SCAN_NUMBER")
        ddids, field_ids = distinct(opened, "DATA_DESC_ID"), distinct(opened, "FIELD_ID")
        integration_s = read_integration_time_s(opened, ("SCAN_NUMBER", "ANTENNA1", "ANTENNA2"))
        columns = tuple(opened.colnames())
        rows = opened.nrows()
    centre = found.fields[int(field_ids[0])]
    spws = tuple(sorted({found.descriptions[ddid].spw for ddid in ddids}))
    description = MsDescription(
        path=path,
        rows=rows,
        channels=sum(found.windows[spw].channels for spw in spws),
        antenna=found.antenna_names,
        position_m=found.position_m,
        field=tuple(field.name for field in found.fields),
        fields_used=tuple(int(field) for field in field_ids),
        spws_used=spws,
        direction_rad=np.array(to_j2000(centre.direction_rad, centre.frame)),
        frequency_hz=found.channel_hz,
        correlation=found.setup_of[ddids[0]].correlations,
        telescope=found.telescope,
        time_range_s=(float(times[0]), float(times[-1])),
        integration_s=integration_s,
        scans=len(scans),
        columns=columns,
    )
    # several callers share the arrays
    for array in (description.position_m, description.direction_rad, *description.frequency_hz):
        array.flags.writeable = False
    return description


def summarise(path: str | Path) -> MsSummary:
    """Return the properties of a measurement set and of its unflagged visibilities.

    Flags, weights and UVW are read again only after their files have changed.

    Raises
    ------
    InputError
        The path does not exist, is not a measurement set, or has no rows.
    """
    path = Path(path)
    description = describe_ms(path)
    survey = _unflagged.get(
        path, lambda: columns_state(path, _FLAG_COLUMNS), lambda: _survey_visibilities(path)
    )
    antennas = kept_subtables(path).antennas
    used = [antennas[number] for number in survey.antennas] or antennas
    diameters = [antenna.diameter_m for antenna in used if antenna.diameter_m > 0]
    own = {each.name: getattr(description, each.name) for each in fields(description)}
    seen = survey.channels
    if seen:
        own["spws_used"] = tuple(sorted(seen))
        own["channels"] = sum(int(good.sum()) for good in seen.values())
    return MsSummary(
        **own,
        channels_used=tuple(
            seen.get(spw, np.full(len(hz), not seen))
            for spw, hz in enumerate(description.frequency_hz)
        ),
        dish_diameter_m=float(np.median(diameters)) if diameters else 0.0,
        longest_baseline_m=survey.longest_m,
        shortest_baseline_m=survey.shortest_m,
        antennas_used=survey.antennas,
        flagged_fraction=survey.flagged,
        weights_positive=survey.weights,
        size_bytes=tree_bytes(path),
    )


def _survey_visibilities(path: Path) -> _Unflagged:
    """Read flags, weights and UVW of all rows in one pass."""
    flagged = total = 0
    longest, shortest = 0.0, np.inf
    antennas: set[int] = set()
    weights = False
    channels: dict[int, NDArray[np.bool_]] = {}
    for chunk in chunks(path, _FLAG_COLUMNS):
        flag = chunk["FLAG"] | chunk["FLAG_ROW"][:, None, None]
        flagged += int(flag.sum())
        total += flag.size
        good_corr = ~flag.all(axis=1) & np.isfinite(chunk["WEIGHT"]) & (chunk["WEIGHT"] > 0)
        weights |= bool(good_corr.any())
        good = ~flag.all(axis=(1, 2)) & (chunk["ANTENNA1"] != chunk["ANTENNA2"])
        if good.any():
            seen = ~flag[good].all(axis=(0, 2))
            channels[chunk.spw] = seen | channels.get(chunk.spw, np.zeros(len(seen), bool))
            length = np.hypot(chunk["UVW"][good, 0], chunk["UVW"][good, 1])
            longest = max(longest, float(length.max()))
            shortest = min(shortest, float(length[length > 0].min(initial=np.inf)))
            antennas.update(map(int, np.unique(chunk["ANTENNA1"][good])))
            antennas.update(map(int, np.unique(chunk["ANTENNA2"][good])))
    return _Unflagged(
        longest_m=longest,
        shortest_m=shortest if np.isfinite(shortest) else 0.0,
        antennas=tuple(sorted(antennas)),
        flagged=flagged / total if total else 1.0,
        weights=weights,
        channels=channels,
    )


def flagged_fraction(path: str | Path, *, without: Collection[int] = ()) -> float:
    """Return the fraction of the visibilities that is flagged, 0 to 1.

    Baselines with an antenna of ``without`` do not count.
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
