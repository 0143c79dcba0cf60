"""Conversion of a UVFITS file to a measurement set, a block of groups at a time.

Baselines, phases and UVW have the same sense in UVFITS as in measurement sets. They are copied as
they are, except that UVW change from light seconds to metres.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.inputs.uvfits_header import UvfitsHeader, read_uvfits_header
from libs.ms.antennas import AntennaArray
from libs.ms.create import SpectralWindow, create_ms
from libs.ms.fill_subtables import fill_subtables, set_frames
from libs.ms.sanitise import sigma_of, spread_weight
from libs.ms.subset import NotUnderstoodError
from libs.ms.subtables import CORR_NAMES
from libs.ms.tables import open_table

__all__ = ["import_uvfits"]

BLOCK_BYTES = (
    32 * 1024**2
)  # of the file read at once; the derived arrays take several times as much
_LIGHT_M_S = 299792458.0
_DAY_S = 86400.0
_MJD_0 = 2400000.5
_NEW_SCAN_S = 300.0  # a gap this long starts a new scan
_OLD_BASELINES = 65536  # numbers below are 256 ant1 + ant2; above, 2048 ant1 + ant2 + 65536


def import_uvfits(path: Path, target: Path) -> None:
    """Write the visibilities of a UVFITS file into a measurement set.

    Every IF of a frequency selection becomes a spectral window, every source a field. A scan
    ends where the source or the frequency changes, or where nothing was recorded for 300 s.
    Weights that are not positive become flags and keep their absolute value.

    Parameters
    ----------
    path : Path
    target : Path
        Measurement set to write; an existing one is replaced.

    Raises
    ------
    NotUnderstoodError
        The file has something that this reader does not know.
    InputError
        The file holds Stokes parameters or is cut off.
    """
    header = read_uvfits_header(path)
    names = tuple(CORR_NAMES[int(code)] for code in header.corr_type)
    windows, antennas, sources = header.windows, header.antennas, header.sources
    spws = [
        SpectralWindow(float(f.mean()), float(w.sum()), len(f))
        for f, w in zip(windows.frequency_hz, windows.width_hz, strict=True)
    ]
    array = AntennaArray(
        header.telescope, _distinct(antennas.name), antennas.station, antennas.position_m,
        antennas.diameter_m,
    )  # fmt: skip
    first = (float(sources.direction_rad[0, 0]), float(sources.direction_rad[0, 1]))
    create_ms(target, array, spws, names, sources.name[0], first, (0.0, 0.0))
    rows = _Rows(header)
    with open_table(target, write=True) as opened:
        _add_spectrum(opened, header.shape)
        set_frames(opened, antennas.time_system, sources.frame)
        for block in rows.blocks():
            start, count = opened.nrows(), len(block["TIME"])
            opened.addrows(count)
            for name, value in block.items():
                opened.putcol(name, value, start, count)
        if not header.parameter("INTTIM"):
            _fill_interval(opened, rows.shortest_step_s)
    fill_subtables(target, header, rows.span_s)


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name if names.index(name) == i else f"{name}_{i}" for i, name in enumerate(names))


def _add_spectrum(opened: Any, shape: tuple[int, ...]) -> None:
    from casacore.tables import makearrcoldesc, maketabdesc

    _, nchan, ncorr, _ = shape
    column = makearrcoldesc("WEIGHT_SPECTRUM", 0.0, ndim=2, valuetype="float", comment="weights")
    tile = np.array([ncorr, nchan, max(64, 65536 // (ncorr * nchan))], np.int32)
    opened.addcols(
        maketabdesc([column]),
        {
            "TYPE": "TiledShapeStMan", "NAME": "TiledWeightSpectrum",
            "SPEC": {"DEFAULTTILESHAPE": tile},
        },
    )  # fmt: skip


@dataclass
class _Rows:
    """The rows of a file in blocks; scans and time steps continue from block to block.

    Attributes
    ----------
    header : UvfitsHeader
    span_s : (float, float)
        First and last time stamp seen so far, MJD s.
    shortest_step_s : float
        Shortest time step seen so far that is not a rounding error, s.
    """

    header: UvfitsHeader
    span_s: tuple[float, float] = (np.inf, -np.inf)
    shortest_step_s: float = np.inf
    _last_time_s: float = -np.inf
    _scans: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    def blocks(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield columns of the main table, block by block."""
        header = self.header
        width = len(header.parameters) + int(np.prod(header.file_shape))
        size = width * np.dtype(header.number).itemsize
        step = max(1, BLOCK_BYTES // size)
        with header.path.open("rb") as stream:
            stream.seek(header.data_offset)
            for low in range(0, header.groups, step):
                count = min(step, header.groups - low)
                raw = np.frombuffer(stream.read(size * count), header.number)
                yield self._columns(raw.reshape(count, width))

    def _columns(self, raw: NDArray[Any]) -> dict[str, NDArray[Any]]:
        header = self.header
        held = len(header.parameters)
        labels = self._labels(raw[:, :held])
        nif, nchan, ncorr, _ = header.shape
        cube = raw[:, held:].reshape(len(raw), *header.file_shape)
        order = [axis + 1 for axis in header.axes]
        rest = [axis for axis in range(1, cube.ndim) if axis not in order]
        cube = cube.transpose(0, *order, *rest).reshape(len(raw) * nif, nchan, ncorr, 3)
        cube = np.ascontiguousarray(cube[:, :, header.corr_order], dtype=np.float32)
        weight = cube[..., 2]
        flag = ~(weight > 0)
        spectrum = np.abs(weight)
        row_weight = spread_weight(np.where(np.isfinite(spectrum), spectrum, np.float32(0)))
        return {
            **{name: np.repeat(value, nif, axis=0) for name, value in labels.items()},
            "DATA_DESC_ID": self._windows(raw[:, :held], nif),
            "DATA": np.ascontiguousarray(cube[..., :2]).view(np.complex64)[..., 0],
            "FLAG": flag,
            "FLAG_ROW": flag.all(axis=(1, 2)),
            "WEIGHT_SPECTRUM": spectrum,
            "WEIGHT": row_weight,
            "SIGMA": sigma_of(row_weight),
        }

    def _value(self, raw: NDArray[Any], place: int) -> NDArray[np.float64]:
        _, scale, zero = self.header.parameters[place]
        return np.asarray(raw[:, place].astype(np.float64) * scale + zero)

    def _labels(self, raw: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the columns that are the same for every IF of a group."""
        header = self.header
        dates = [self._value(raw, place) for place in header.parameter("DATE")]
        # the large whole number first, so that the fraction is not lost to rounding
        time_s = ((dates[0] - _MJD_0) + sum(dates[1:], np.zeros(len(raw)))) * _DAY_S
        places = [header.parameter(name)[0] for name in ("UU", "VV", "WW")]
        uvw = np.stack([self._value(raw, place) for place in places], axis=1) * _LIGHT_M_S
        one, two, array = self._baselines(raw)
        source = self._whole(raw, "SOURCE", 1) - 1
        sources = header.sources
        if len(sources.name) == 1 and sources.present[0]:
            source = np.zeros_like(source)  # numbers mean nothing without a table of sources
        elif source.min() < 0 or not sources.present[source[source < len(sources.name)]].all():
            raise NotUnderstoodError("its groups name a source that is not in AIPS SU")
        if source.max() >= len(sources.name):
            raise NotUnderstoodError("its groups name a source that is not in AIPS SU")
        scan = self._scan(time_s, source, self._whole(raw, "FREQSEL", 1), array)
        self._see_times(time_s)
        made: dict[str, NDArray[Any]] = {
            "TIME": time_s,
            "TIME_CENTROID": time_s,
            "UVW": uvw,
            "ANTENNA1": one,
            "ANTENNA2": two,
            "ARRAY_ID": array,
            "FIELD_ID": source,
            "SCAN_NUMBER": scan,
        }
        if header.parameter("INTTIM"):
            length_s = self._value(raw, header.parameter("INTTIM")[0])
            made |= {"INTERVAL": length_s, "EXPOSURE": length_s}
        zero = np.zeros(len(raw), np.int32)
        made |= dict.fromkeys(("FEED1", "FEED2", "OBSERVATION_ID"), zero)
        return made | dict.fromkeys(("PROCESSOR_ID", "STATE_ID"), zero)

    def _whole(self, raw: NDArray[Any], name: str, default: int) -> NDArray[np.int32]:
        """Return an integer parameter, or ``default`` where the file has none."""
        places = self.header.parameter(name)
        if not places:
            return np.full(len(raw), default, np.int32)
        return np.asarray(np.rint(self._value(raw, places[0])), np.int32)

    def _baselines(
        self, raw: NDArray[Any]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """Return the antennas of each baseline, as rows of ANTENNA, and the subarray."""
        places = self.header.parameter("BASELINE")
        if places:
            number = self._value(raw, places[0])
            whole = np.floor(number + 1e-4)
            array = np.rint(100 * (number - whole)).astype(np.int32)
            large = whole >= _OLD_BASELINES
            factor = np.where(large, 2048, 256)
            code = whole - np.where(large, _OLD_BASELINES, 0)
            one = (code // factor).astype(np.int64)
            two = (code - one * factor).astype(np.int64)
        else:
            one, two = (self._whole(raw, f"ANTENNA{n}", 0).astype(np.int64) for n in (1, 2))
            array = self._whole(raw, "SUBARRAY", 1) - 1
        known = self.header.antennas.number
        found = []
        for number in (one, two):
            row = np.minimum(np.searchsorted(known, number), len(known) - 1)
            if not np.array_equal(known[row], number):
                raise NotUnderstoodError("its baselines name an antenna that is not in AIPS AN")
            found.append(row.astype(np.int32))
        return found[0], found[1], array.astype(np.int32)

    def _windows(self, raw: NDArray[Any], nif: int) -> NDArray[np.int32]:
        selection = self._whole(raw, "FREQSEL", 1) - 1
        window = (selection[:, None] * nif + np.arange(nif)).ravel()
        if window.min() < 0 or window.max() >= len(self.header.windows.reference_hz):
            raise NotUnderstoodError("its groups name a frequency selection that is not in AIPS FQ")
        return np.asarray(window, np.int32)

    def _scan(
        self,
        time_s: NDArray[np.float64],
        source: NDArray[np.int32],
        selection: NDArray[np.int32],
        array: NDArray[np.int32],
    ) -> NDArray[np.int32]:
        """Number the scans of each subarray, from 1."""
        pause = np.diff(time_s, prepend=self._last_time_s) > _NEW_SCAN_S
        scan = np.empty(len(time_s), np.int32)
        for one in np.unique(array).tolist():
            mine = np.flatnonzero(array == one)
            number, last_source, last_selection = self._scans.get(one, (0, -1, -1))
            new = np.diff(source[mine], prepend=last_source) != 0
            new |= np.diff(selection[mine], prepend=last_selection) != 0
            scan[mine] = number + np.cumsum(new | pause[mine])
            end = mine[-1]
            self._scans[one] = int(scan[end]), int(source[end]), int(selection[end])
        return scan

    def _see_times(self, time_s: NDArray[np.float64]) -> None:
        steps = np.diff(time_s, prepend=self._last_time_s)
        steps = steps[np.isfinite(steps) & (steps > 0.01)]
        self.shortest_step_s = min(self.shortest_step_s, float(steps.min(initial=np.inf)))
        self.span_s = (
            min(self.span_s[0], float(time_s.min())),
            max(self.span_s[1], float(time_s.max())),
        )
        self._last_time_s = float(time_s[-1])


def _fill_interval(opened: Any, step_s: float) -> None:
    """Use the shortest step between time stamps as INTERVAL if the file has none."""
    length_s = round(step_s, 2) if np.isfinite(step_s) else 0.0
    for low in range(0, opened.nrows(), 2**20):
        count = min(2**20, opened.nrows() - low)
        for name in ("INTERVAL", "EXPOSURE"):
            opened.putcol(name, np.full(count, length_s), low, count)
