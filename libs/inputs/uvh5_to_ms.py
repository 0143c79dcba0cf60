"""Conversion of uvh5 files to a measurement set, with pyuvdata, a few integrations at a time.

pyuvdata's baselines run from antenna 1 to antenna 2, and its phases have the corresponding sign.
Measurement sets have both the other way round, so visibilities are conjugated and UVW negated, as
pyuvdata's own writer does. Autocorrelations are left out.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ConfigError, InputError
from libs.core.geometry import DAY_S, MJD_ZERO_JD
from libs.inputs.uvh5_header import HDF5_DAMAGE, text_of
from libs.ms.antennas import AntennaArray
from libs.ms.create import SpectralWindow, create_ms
from libs.ms.sanitise import sigma_of, spread_weight
from libs.ms.subtables import add_fields, put_channels, put_observer
from libs.ms.tables import open_table

__all__ = ["convert"]

log = logging.getLogger(__name__)

INSTALL = "pip install '.[ata]', or pip install pyuvdata"
BLOCK_BYTES = 64 * 1024**2  # of visibilities, weights and flags read at once
_BYTES = 8 + 4 + 1
# AIPS memo 117, table 10: codes of the STOKES axis, which uvh5 shares
_HANDS = {-1: "RR", -2: "LL", -3: "RL", -4: "LR", -5: "XX", -6: "YY", -7: "XY", -8: "YX"}
_ORDERS = (("XX", "XY", "YX", "YY"), ("RR", "RL", "LR", "LL"), ("XX", "YY"), ("RR", "LL"))
_NAMELESS = ("", "unprojected", "zenith", "unknown")


@dataclass(frozen=True)
class _Field:
    """A field: name and J2000 centre, rad."""

    name: str
    direction_rad: tuple[float, float]


@dataclass
class _Part:
    """A file: pyuvdata's metadata, and the rows of its fields and windows.

    ``field_of`` maps its phase centres to rows of FIELD, ``phased`` those that must be phased
    first to their new centre, ``windows`` channels to rows of SPECTRAL_WINDOW. ``counted`` is True
    when its numbers of samples are usable, ``flipped`` when its baselines run the wrong way.
    """

    path: Path
    uv: Any
    counted: bool
    flipped: bool
    field_of: dict[int, int] = field(default_factory=dict)
    phased: dict[int, tuple[float, float]] = field(default_factory=dict)
    windows: list[tuple[int, NDArray[np.int64]]] = field(default_factory=list)


def convert(
    paths: Sequence[Path],
    target: Path,
    *,
    centre_rad: tuple[float, float] | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[str]:
    """Write the visibilities of uvh5 files of one observation into a measurement set.

    Each distinct set of channels becomes a spectral window, each phase centre a field. A scan
    ends where the field changes or nothing was recorded for five integrations.

    Parameters
    ----------
    paths : sequence of Path
        Files from :func:`libs.inputs.uvh5_header.group_parts`.
    target : Path
        Measurement set to write; an existing one is replaced.
    centre_rad : (float, float), optional
        ICRS right ascension and declination, rad, to which data without a phase centre are phased.
    progress : callable, optional
        Function that receives the progress in a few words.

    Returns
    -------
    list of str
        Remarks on the data for the user.

    Raises
    ------
    ConfigError
        pyuvdata is missing, or the data have no phase centre and none is given.
    InputError
        A file is broken, its source is moving or near-field, or its polarizations are not usable.
    """
    tell = progress or (lambda text: log.info("%s", text))
    notes: list[str] = []
    with _listening(notes):
        parts = [_open(path) for path in paths]
        hands = _hands(parts[0])
        fields = _find_fields(parts, centre_rad)
        windows = _find_windows(parts)
        array, index = _antennas(parts)
        scans = _find_scans(parts)
        span = (float(scans[0][0]), float(scans[-1][0]))
        kinds = [SpectralWindow(float(f.mean()), float(w.sum()), len(f)) for f, w in windows]
        create_ms(target, array, kinds, hands, fields[0].name, fields[0].direction_rad, span)
        _complete(target, fields, windows, parts)
        for number, part in enumerate(parts):
            which = f", file {number + 1} of {len(parts)}" if len(parts) > 1 else ""
            tell(f"reading {part.path.name}{which}")
            _fill(target, part, hands, index, scans, tell)
    return [*_remarks(parts, len(windows), fields), *dict.fromkeys(notes)]


@contextmanager
def _listening(notes: list[str]) -> Iterator[None]:
    """Keep pyuvdata's warnings off the terminal, and note those about UVW."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for warning in caught:
                text = " ".join(str(warning.message).split())
                log.info("pyuvdata: %s", text)
                if "uvw_array does not match" in text:
                    notes.append(f"UVW and antenna positions disagree: {text}")


def _read(path: Path, **options: Any) -> Any:
    """Read a uvh5 file or a part of it."""
    try:
        from pyuvdata import UVData
    except ImportError as error:
        raise ConfigError(f"reading {path.name} needs pyuvdata ({error})", INSTALL) from error
    made = UVData()
    try:
        made.read_uvh5(str(path), **options)
    except HDF5_DAMAGE as error:
        raise InputError(
            f"pyuvdata cannot read {path.name} ({str(error).strip() or type(error).__name__})",
            "copy it again, or look at it with pyuvdata",
        ) from error
    return made


def _open(path: Path) -> _Part:
    # its check would conjugate visibilities, which are not read yet
    uv = _read(path, read_data=False, run_check=False)
    try:
        uv.check(check_extra=True, run_check_acceptability=True, allow_flip_conj=False)
    except ValueError as error:
        raise InputError(
            f"{path.name} contradicts itself ({error})", "look at it with pyuvdata"
        ) from error
    if not np.any(uv.ant_1_array != uv.ant_2_array):
        raise InputError(f"{path.name} holds autocorrelations only", "name another uvh5 file")
    return _Part(path, uv, _has_counts(path), _is_flipped(uv))


def _is_flipped(uv: Any) -> bool:
    """Return whether UVW run from antenna 2 to antenna 1, opposite to the format's definition.

    The visibilities of such files are conjugated as well; pyuvdata flips both, and so does this.
    """
    some = uv.select(times=uv.time_array[0], inplace=False, run_check=False)
    computed = some.copy()
    computed.set_uvws_from_antenna_positions(update_vis=False)
    right, wrong = (
        float(np.max(np.abs(computed.uvw_array - sign * some.uvw_array))) for sign in (1, -1)
    )
    return wrong < 1.0 <= right  # m: pyuvdata's own tolerance


def _has_counts(path: Path) -> bool:
    """Return whether any number of samples can be a weight; some writers leave them undefined."""
    import h5py

    try:
        with h5py.File(path, "r") as opened:
            counts = opened["Data"]["nsamples"]
            step = max(1, BLOCK_BYTES // max(1, 4 * int(np.prod(counts.shape[1:]))))
            for first in range(0, counts.shape[0], step):
                block = counts[first : first + step]
                if np.any(np.isfinite(block) & (block > 0)):
                    return True
    except HDF5_DAMAGE as error:
        raise InputError(
            f"{path.name} has no readable numbers of samples ({error})", "copy it again"
        ) from error
    return False


def _hands(part: _Part) -> tuple[str, ...]:
    """Return the correlations to write, in CASA's order."""
    held = {_HANDS.get(int(code), f"code {code}") for code in part.uv.polarization_array}
    for order in _ORDERS:
        if set(order) <= held:
            return order
    raise InputError(
        f"{part.path.name} holds {', '.join(sorted(held))}",
        "use data with both parallel hands (XX and YY, or RR and LL)",
    )


def _find_fields(parts: list[_Part], centre_rad: tuple[float, float] | None) -> list[_Field]:
    """Find the fields of all files, and record in each part which field its phase centres are."""
    fields: list[_Field] = []
    for part in parts:
        for number in np.unique(part.uv.phase_center_id_array):
            entry = part.uv.phase_center_catalog[int(number)]
            kind, name = entry["cat_type"], text_of(entry["cat_name"]).strip()
            if kind in ("unprojected", "driftscan"):
                if centre_rad is None:
                    raise ConfigError(
                        f"{part.path.name} has no phase centre ({kind})",
                        "say where to phase it to: init_parameters = "
                        '{"startup": {"phase_centre": "13h31m08.29s +30d30m33.0s"}}',
                    )
                part.phased[int(number)] = centre_rad
                direction = _j2000(*centre_rad, "icrs")
                name = "target" if name.lower() in _NAMELESS else name
            elif kind == "sidereal":
                frame = str(entry.get("cat_frame") or "icrs")
                lon, lat = float(entry["cat_lon"]), float(entry["cat_lat"])
                epoch = float(entry.get("cat_epoch") or 2000.0)
                direction = _j2000(lon, lat, frame, epoch)
                if frame not in ("icrs", "fk5") or epoch != 2000.0:
                    part.phased[int(number)] = _icrs(lon, lat, frame, epoch)
            else:
                raise InputError(
                    f"{part.path.name} follows {name}, a moving or near source ({kind})",
                    "phase it to fixed coordinates with pyuvdata first",
                )
            made = _Field(name, direction)
            same = [i for i, one in enumerate(fields) if _same(one, made)]
            part.field_of[int(number)] = same[0] if same else len(fields)
            fields += [] if same else [made]
    return fields


def _same(one: _Field, other: _Field) -> bool:
    near = np.allclose(one.direction_rad, other.direction_rad, rtol=0, atol=5e-8)  # 10 mas
    return one.name == other.name and bool(near)


def _coordinate(lon_rad: float, lat_rad: float, frame: str, epoch: float = 2000.0) -> Any:
    from astropy.coordinates import SkyCoord

    words = {"equinox": f"J{epoch}"} if frame == "fk5" else {}
    return SkyCoord(lon_rad, lat_rad, unit="rad", frame=frame, **words)


def _j2000(lon: float, lat: float, frame: str, epoch: float = 2000.0) -> tuple[float, float]:
    if frame == "fk5" and epoch == 2000.0:
        return lon, lat
    made = _coordinate(lon, lat, frame, epoch).transform_to("fk5")
    return float(made.ra.rad), float(made.dec.rad)


def _icrs(lon: float, lat: float, frame: str, epoch: float) -> tuple[float, float]:
    made = _coordinate(lon, lat, frame, epoch).icrs
    return float(made.ra.rad), float(made.dec.rad)


def _find_windows(parts: list[_Part]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Find the distinct windows by frequency, (channel centres, widths) in Hz, ascending."""
    found: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    held: list[list[tuple[int, NDArray[np.int64]]]] = []
    for part in parts:
        uv = part.uv
        number = uv.flex_spw_id_array
        number = np.zeros(uv.Nfreqs, int) if number is None else number
        widths = np.broadcast_to(np.abs(uv.channel_width), uv.Nfreqs)
        mine = []
        for one in np.unique(number):
            channel = np.flatnonzero(number == one)
            channel = channel[np.argsort(uv.freq_array[channel])]
            made = uv.freq_array[channel], np.asarray(widths[channel], dtype=np.float64)
            same = [i for i, other in enumerate(found) if _same_window(made, other)]
            mine.append((same[0] if same else len(found), channel))
            found += [] if same else [made]
        held.append(mine)
    order = sorted(range(len(found)), key=lambda i: float(found[i][0][0]))
    rank = {old: new for new, old in enumerate(order)}
    for part, mine in zip(parts, held, strict=True):
        part.windows = [(rank[old], channel) for old, channel in mine]
    return [found[i] for i in order]


def _same_window(
    one: tuple[NDArray[np.float64], NDArray[np.float64]],
    other: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> bool:
    if len(one[0]) != len(other[0]):
        return False
    return bool(np.all(np.abs(one[0] - other[0]) < 0.01 * other[1]))


def _antennas(parts: list[_Part]) -> tuple[AntennaArray, dict[int, int]]:
    """Return the antennas with data, and the row of each antenna number."""
    used = {
        int(number)
        for part in parts
        for number in np.unique(np.concatenate([part.uv.ant_1_array, part.uv.ant_2_array]))
    }
    telescope = parts[0].uv.telescope
    numbers = list(telescope.antenna_numbers)
    rows = [numbers.index(number) for number in sorted(used)]
    names = [str(telescope.antenna_names[row]).strip() for row in rows]
    # tools take bare numbers for ids
    names = [f"ANT{name}" if re.fullmatch(r"\d*", name) else name for name in names]
    if len(set(names)) != len(names):
        names = [f"{name}_{numbers[row]}" for name, row in zip(names, rows, strict=True)]
    centre = np.array([q.to_value("m") for q in telescope.location.geocentric])
    diameters = telescope.antenna_diameters
    sizes = np.zeros(len(numbers)) if diameters is None else np.asarray(diameters, dtype=float)
    array = AntennaArray(
        str(telescope.name), tuple(names), tuple(names),
        np.asarray(telescope.antenna_positions, dtype=float)[rows] + centre, sizes[rows],
    )  # fmt: skip
    return array, {number: place for place, number in enumerate(sorted(used))}


def _look_up(table: dict[int, int], numbers: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Return ``table[number]`` for each number."""
    kinds, which = np.unique(numbers, return_inverse=True)
    return np.array([table[int(kind)] for kind in kinds], dtype=np.int64)[which.ravel()]


def _mjd_s(jd: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((jd - MJD_ZERO_JD) * DAY_S, dtype=np.float64)


def _find_scans(parts: list[_Part]) -> NDArray[np.float64]:
    """Return time stamps (MJD s), rows of FIELD and scan numbers, (nstamp, 3), by time."""
    stamps = []
    for part in parts:
        uv = part.uv
        rows = _look_up(part.field_of, uv.phase_center_id_array)
        stamps.append(np.column_stack([_mjd_s(uv.time_array), rows, uv.integration_time]))
    time_s, rows, length_s = np.unique(np.concatenate(stamps), axis=0).T
    new = (np.diff(rows) != 0) | (np.diff(time_s) > 5 * np.maximum(length_s[1:], length_s[:-1]))
    return np.column_stack([time_s, rows, 1 + np.concatenate([[0], np.cumsum(new)])])


def _complete(
    target: Path,
    fields: list[_Field],
    windows: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
    parts: list[_Part],
) -> None:
    """Fill in what the empty measurement set lacks: fields, channels as they are, observer."""
    from casacore.tables import makearrcoldesc, maketabdesc

    add_fields(target, [(one.name, one.direction_rad) for one in fields[1:]])
    put_channels(target, windows)
    keywords = parts[0].uv.extra_keywords
    put_observer(target, str(keywords.get("OBSERVER", "")), str(keywords.get("PROJECT", "")))
    column = makearrcoldesc("WEIGHT_SPECTRUM", 0.0, ndim=2, valuetype="float", comment="weights")
    with open_table(target, write=True) as table:
        table.addcols(
            maketabdesc([column]), {"TYPE": "TiledShapeStMan", "NAME": "TiledWeightSpectrum"}
        )


def _fill(
    target: Path,
    part: _Part,
    hands: tuple[str, ...],
    index: dict[int, int],
    scans: NDArray[np.float64],
    tell: Callable[[str], None],
) -> None:
    """Write the rows of one file, whole integrations at a time."""
    uv = part.uv
    cross = uv.ant_1_array != uv.ant_2_array
    stamps = np.unique(uv.time_array[cross])
    for first, past in _blocks(uv, stamps):
        if first:
            tell(f"reading {part.path.name}: integration {first + 1} of {len(stamps)}")
        inside = (uv.time_array >= stamps[first]) & (uv.time_array <= stamps[past - 1])
        rows = np.flatnonzero(cross & inside)
        block = _read(part.path, blt_inds=rows, run_check=False)
        if part.flipped:
            block.flip_conjugation()
        field_row = _look_up(part.field_of, block.phase_center_id_array)
        for number, (ra_rad, dec_rad) in part.phased.items():
            mask = uv.phase_center_id_array[rows] == number
            if mask.any():
                block.phase(
                    lon=ra_rad, lat=dec_rad, epoch=2000.0, phase_frame="icrs",
                    cat_name=f"centre{number}", select_mask=mask,
                )  # fmt: skip
        if np.any(block.ant_1_array > block.ant_2_array):
            block.conjugate_bls("ant1<ant2")
        with open_table(target, write=True) as opened:
            for window, channel in part.windows:
                cells = _cells(block, channel, hands, index, part.counted)
                cells |= _labels(block, field_row, scans, window)
                start, count = opened.nrows(), len(rows)
                opened.addrows(count)
                order = np.argsort(block.time_array, kind="stable")
                for name, value in cells.items():
                    opened.putcol(name, value[order], start, count)


def _blocks(uv: Any, stamps: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Yield first and one past the last of runs of integrations that fit in memory."""
    per_stamp = max(1, uv.Nblts // len(stamps)) * uv.Nfreqs * uv.Npols * _BYTES
    step = max(1, BLOCK_BYTES // per_stamp)
    for first in range(0, len(stamps), step):
        yield first, min(first + step, len(stamps))


def _cells(
    block: Any,
    channel: NDArray[np.int64],
    hands: tuple[str, ...],
    index: dict[int, int],
    counted: bool,
) -> dict[str, NDArray[Any]]:
    """Return the measured columns of one window of a block."""
    codes = [_HANDS.get(int(code)) for code in block.polarization_array]
    place = np.array([codes.index(hand) for hand in hands])
    pick = np.ix_(np.arange(block.Nblts), channel, place)
    flag = block.flag_array[pick]
    if counted:
        spectrum = np.asarray(block.nsample_array[pick], dtype=np.float32)
        good = np.where(np.isfinite(spectrum) & (spectrum > 0), spectrum, 0).astype(np.float32)
    else:
        spectrum = good = np.ones(flag.shape, dtype=np.float32)
    weight = spread_weight(good)
    return {
        "DATA": np.conj(block.data_array[pick]).astype(np.complex64),
        "FLAG": flag,
        "WEIGHT_SPECTRUM": spectrum,
        "WEIGHT": weight,
        "SIGMA": sigma_of(weight),
        "UVW": -np.asarray(block.uvw_array, dtype=np.float64),
        "ANTENNA1": _look_up(index, block.ant_1_array).astype(np.int32),
        "ANTENNA2": _look_up(index, block.ant_2_array).astype(np.int32),
    }


def _labels(
    block: Any, field_row: NDArray[np.int64], scans: NDArray[np.float64], window: int
) -> dict[str, NDArray[Any]]:
    """Return the columns that give time, field and antennas of a block."""
    time_s = _mjd_s(block.time_array)
    length_s = np.asarray(block.integration_time, dtype=np.float64)
    scan = np.empty(len(time_s), dtype=np.int32)
    for row in np.unique(field_row):
        mine, known = field_row == row, scans[scans[:, 1] == row]
        scan[mine] = known[np.searchsorted(known[:, 0], time_s[mine]), 2]
    number = np.zeros(len(time_s), dtype=np.int32)
    zeros = ("ARRAY_ID", "FEED1", "FEED2", "OBSERVATION_ID", "PROCESSOR_ID", "STATE_ID")
    return {
        "TIME": time_s,
        "TIME_CENTROID": time_s,
        "INTERVAL": length_s,
        "EXPOSURE": length_s,
        "FIELD_ID": field_row.astype(np.int32),
        "DATA_DESC_ID": number + window,
        "SCAN_NUMBER": scan,
        "FLAG_ROW": np.zeros(len(time_s), dtype=bool),
        **dict.fromkeys(zeros, number),
    }


def _remarks(parts: list[_Part], windows: int, fields: list[_Field]) -> list[str]:
    """Return remarks on the files for the user."""
    said = []
    if len(parts) > 1:
        said.append(f"{len(parts)} uvh5 files joined, spectral windows: {windows}")
    unit = str(parts[0].uv.vis_units)
    if unit.lower() != "jy":
        said.append(f"visibilities are in units of {unit!r}, taken as Jy")
    phased = {part.field_of[number] for part in parts for number in part.phased}
    said += [f"{fields[row].name} phased to its centre" for row in sorted(phased)]
    wrong = [part.path.name for part in parts if part.flipped]
    if wrong:
        said.append(f"baselines of {', '.join(wrong)} ran the wrong way and were conjugated")
    bad = [part.path.name for part in parts if not part.counted]
    if bad:
        said.append(f"{', '.join(bad)} have no positive numbers of samples: weights are 1")
    return said
