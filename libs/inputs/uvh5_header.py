"""Headers of uvh5 files: the contents of each file, and which files form one observation.

The format is described in La Plante et al., "Memo: UVH5 file format" (pyuvdata). Visibilities are
read with pyuvdata (:mod:`libs.inputs.uvh5_to_ms`); headers need h5py only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ConfigError, InputError
from libs.core.geometry import DAY_S, MJD_ZERO_JD

__all__ = ["HDF5_DAMAGE", "Uvh5Header", "group_parts", "is_uvh5", "read_header", "text_of"]

# What h5py and pyuvdata raise where bytes of a file are wrong, by the place of the damage
HDF5_DAMAGE = (
    OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError, IndexError,
)  # fmt: skip

# After a longer gap another observation began: no dish sees a source above its horizon for longer
_LONGEST_GAP_S = 12 * 3600.0


@dataclass(frozen=True, eq=False)
class Uvh5Header:
    """Properties that tell uvh5 files apart.

    Attributes
    ----------
    path : Path
    telescope : str
    antennas : tuple of (int, str, (float, float, float))
        Number, name and position relative to the array's centre (m, to 0.1 m) of each antenna.
    polarizations : tuple of int
        Sorted codes, -5 to -8 for XX, YY, XY, YX.
    rows : int
        Baselines times integrations, including autocorrelations.
    time_range_s : (float, float)
        First and last time stamp, UTC, MJD s.
    frequency_hz : (nchan,) float64
    """

    path: Path
    telescope: str
    antennas: tuple[tuple[int, str, tuple[float, ...]], ...]
    polarizations: tuple[int, ...]
    rows: int
    time_range_s: tuple[float, float]
    frequency_hz: NDArray[np.float64]

    @property
    def visibilities(self) -> int:
        """Number of visibilities, rows x channels x polarizations."""
        return self.rows * len(self.frequency_hz) * len(self.polarizations)

    def belongs_with(self, other: Uvh5Header) -> bool:
        """Return whether both files have the same antennas, polarizations and day."""
        gap_s = max(
            self.time_range_s[0] - other.time_range_s[1],
            other.time_range_s[0] - self.time_range_s[1],
        )
        return (
            self.telescope == other.telescope
            and self.antennas == other.antennas
            and self.polarizations == other.polarizations
            and gap_s < _LONGEST_GAP_S
        )

    def repeats(self, other: Uvh5Header) -> bool:
        """Return whether both files hold the same channels at the same time."""
        together = (
            self.time_range_s[0] <= other.time_range_s[1]
            and other.time_range_s[0] <= self.time_range_s[1]
        )
        return together and bool(np.isin(self.frequency_hz, other.frequency_hz).any())


def is_uvh5(path: Path) -> bool:
    """Return whether an HDF5 file is uvh5: it has the groups ``Header`` and ``Data``."""
    try:
        with h5py.File(path, "r") as opened:
            return "Header" in opened and "Data" in opened
    except HDF5_DAMAGE:
        return False


def read_header(path: Path) -> Uvh5Header:
    """Read the header of a uvh5 file.

    Raises
    ------
    InputError
        The file is broken or holds no visibilities.
    """
    with contextlib.suppress(ImportError):
        # importing it registers compressions that some correlators use; the error below asks for it
        import hdf5plugin  # noqa: F401
    try:
        with h5py.File(path, "r") as opened:
            header, data = opened["Header"], opened["Data"]["visdata"]
            found = _read(path, header)
            shape = data.shape
            # a truncated copy has a header but too few bytes: read the last value
            if data.size:
                data[tuple(size - 1 for size in shape)]
    except HDF5_DAMAGE as error:
        raise _broken(path, error) from error
    if not found.visibilities:
        raise InputError(f"{path.name} holds no visibilities", "name another uvh5 file")
    if int(np.prod(shape)) != found.visibilities:
        raise _broken(path, f"visibilities of shape {shape}, the header says {found.rows} rows")
    return found


def _broken(path: Path, why: object) -> InputError:
    if "plugin" in str(why):
        return InputError(
            f"{path.name} is compressed in a way h5py does not know ({why})",
            "pip install hdf5plugin",
        )
    return InputError(
        f"{path.name} is a broken uvh5 file ({why})",
        "copy it again, or see whether pyuvdata reads it",
    )


def _read(path: Path, header: h5py.Group) -> Uvh5Header:
    numbers = header["antenna_numbers"][()]
    names = [text_of(name) for name in header["antenna_names"][()]]
    place = np.round(np.asarray(header["antenna_positions"][()], dtype=float), 1) + 0.0
    time_s = (np.asarray(header["time_array"][()]) - MJD_ZERO_JD) * DAY_S
    span = (float(time_s.min()), float(time_s.max())) if time_s.size else (0.0, 0.0)
    return Uvh5Header(
        path=path,
        telescope=text_of(header["telescope_name"][()]),
        antennas=tuple(
            sorted(
                (int(number), name, tuple(map(float, where)))
                for number, name, where in zip(numbers, names, place, strict=True)
            )
        ),
        polarizations=tuple(sorted(int(code) for code in header["polarization_array"][()])),
        rows=int(time_s.size),
        time_range_s=span,
        frequency_hz=np.asarray(header["freq_array"][()], dtype=np.float64).ravel(),
    )


def text_of(value: object) -> str:
    """Return text, which HDF5 gives as bytes where the file holds it in cells of its own length."""
    return value.decode() if isinstance(value, bytes) else str(value)


def group_parts(paths: Sequence[Path]) -> list[list[Path]]:
    """Group files that are parts of one observation: windows of a band, tunings, scans.

    Correlators write a file for each part of the band and each scan. Files with the same antennas
    and polarizations less than 12 h apart belong together, in order of time and frequency; the
    groups are in the order of the files named first.

    Raises
    ------
    ConfigError
        Two files hold the same channels at the same time.
    InputError
        A file is broken.
    """
    groups: list[list[Uvh5Header]] = []
    headers = {path: read_header(path) for path in paths}
    for header in sorted(headers.values(), key=_order):
        home = next((g for g in groups if any(header.belongs_with(one) for one in g)), None)
        if home is None:
            groups.append([header])
            continue
        for other in home:
            if header.repeats(other):
                raise ConfigError(
                    f"{header.path.name} and {other.path.name} hold the same channels at the "
                    "same time",
                    "name one of them in vis",
                )
        home.append(header)
    place = {path: number for number, path in enumerate(paths)}
    groups.sort(key=lambda group: min(place[one.path] for one in group))
    return [[one.path for one in group] for group in groups]


def _order(header: Uvh5Header) -> tuple[float, float]:
    return header.time_range_s[0], float(header.frequency_hz.min())
