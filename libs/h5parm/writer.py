"""Writing of h5parm files; libs.h5parm.reader reads them and describes their contents."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.core.files import replacing
from libs.h5parm.combine import tec_to_phase
from libs.h5parm.solset import DIAGONAL, SCALAR, Solset

__all__ = [
    "AXES",
    "PART_OF",
    "REST",
    "SOLSET",
    "TEC",
    "WHOLE",
    "TableWriter",
    "as_written",
    "write_h5parm",
]

Array = NDArray[np.float64]

SOLSET = "sol000"
AXES = ("time", "freq", "ant", "dir", "pol")
PART_OF = "PART_OF"
"""Attribute of a soltab that is part of the named one and not a factor beside it."""

WHOLE, REST, TEC = "phase000", "phase001", "tec000"
"""Soltabs of the whole phase and of its parts."""

# Strings of h5py that fill their field end without NUL, and DP3 finds none of them.
_PIECE_BYTES = 2**20
_ANTENNA_WIDTH, _DIRECTION_WIDTH = 16, 128


def write_h5parm(
    path: Path, solset: Solset, datasets: Mapping[str, NDArray[Any]] | None = None
) -> None:
    """Write phase000 and amplitude000 with all five axes, and TEC, which has no frequencies.

    One gain for both feeds is written for XX and YY. With TECs and several frequencies phase000 is
    the whole phase, and its parts are beside it: tec000 and the remainder, phase001 (see
    `libs.h5parm.reader`). The file appears complete or not at all.

    Parameters
    ----------
    path : Path
    solset : Solset
    datasets : mapping of str to array, optional
        Further datasets of the solution set, which LoSoTo, DP3 and WSClean ignore.

    Raises
    ------
    InputError
        A name is too long for the format, or the folder cannot be written.
    """
    path = Path(path)
    solset = as_written(solset)
    try:
        with replacing(path) as temporary:
            writer = TableWriter(temporary, solset, _places(solset))
            writer.put(solset.select_directions([j]) for j in range(len(solset.direction)))
            writer.finish(datasets or {})
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error})", "check the folder and the space on the disk"
        ) from error


def as_written(solset: Solset) -> Solset:
    """Return the solutions as a file holds them and reading returns them."""
    constant = len(solset.frequency_hz) == 1
    if solset.polarization == SCALAR and not (constant and solset.tec_tecu is not None):
        solset = solset.with_polarization(DIAGONAL)
    if solset.full_jones and not constant:  # the phases of the elements have no common part
        solset = tec_to_phase(solset)
    if solset.tec_tecu is not None:
        known = solset.valid.any(axis=(1, 4))
        solset = replace(solset, tec_tecu=np.where(known, solset.tec_tecu, 0.0))
    weight = np.minimum(solset.weight, 1e30).astype(np.float32).astype(float)
    return replace(solset, weight=weight)


def _check_names(antennas: tuple[str, ...], directions: tuple[str, ...]) -> None:
    for kind, names, width in (
        ("antenna", antennas, _ANTENNA_WIDTH - 1),
        ("direction", directions, _DIRECTION_WIDTH - 3),
    ):
        long = [name for name in names if len(name.encode()) > width]
        if long:
            raise InputError(
                f"the {kind} name {long[0]} is longer than {width} characters",
                "an h5parm cannot hold it; rename it",
            )


def _places(solset: Solset) -> dict[str, Array]:
    return dict(zip(solset.direction, solset.direction_rad, strict=True))


def _write_tables(group: h5py.Group, solset: Solset, places: Mapping[str, Array]) -> None:
    antenna = np.zeros(
        len(solset.antenna), dtype=[("name", f"S{_ANTENNA_WIDTH}"), ("position", "<f4", (3,))]
    )
    antenna["name"] = [name.encode() for name in solset.antenna]
    antenna["position"] = solset.position_m
    source = np.zeros(len(places), dtype=[("name", f"S{_DIRECTION_WIDTH}"), ("dir", "<f8", (2,))])
    source["name"] = [f"[{name}]".encode() for name in places]
    source["dir"] = list(places.values())
    for name, rows, title in (
        ("antenna", antenna, b"Antenna names and positions"),
        ("source", source, b"Source names and directions"),
    ):
        group.create_dataset(name, data=rows).attrs["TITLE"] = np.bytes_(title)


def _soltabs(solset: Solset) -> dict[str, tuple[Array, bool]]:
    """Return the values of each soltab, NaN where there is no solution, and whether it is needed.

    Soltabs that are not needed are left out of the file.
    """
    missing = ~solset.valid
    tec = solset.tec_tecu
    several = len(solset.frequency_hz) > 1
    left = bool(solset.phase_rad.any())
    values: dict[str, tuple[Array, bool]] = {}
    if tec is None or several:
        values = {WHOLE: (solset.total_phase_rad, True), "amplitude000": (solset.amplitude, True)}
    else:
        loud = bool((solset.amplitude != 1).any())
        values = {WHOLE: (solset.phase_rad, left), "amplitude000": (solset.amplitude, loud)}
    tables = {
        name: (np.where(missing, np.nan, array), needed) for name, (array, needed) in values.items()
    }
    if tec is not None:
        tables[TEC] = (np.where(missing.all(axis=(1, 4)), np.nan, tec), True)
        if several:
            tables[REST] = (np.where(missing, np.nan, solset.phase_rad), left)
    return tables


def _weights(name: str, solset: Solset) -> NDArray[np.float32]:
    weight = np.minimum(solset.weight, 1e30)
    return (weight.max(axis=(1, 4)) if name == TEC else weight).astype(np.float32)


def _create_soltab(group: h5py.Group, name: str, solset: Solset, directions: list[bytes]) -> None:
    """Create a soltab without solutions, in pieces of one direction each."""
    kind = name.rstrip("0123456789")
    group.attrs["TITLE"] = np.bytes_(kind.encode())
    axes = ("time", "ant", "dir") if kind == "tec" else AXES
    values = {
        "time": solset.time_s,
        "freq": solset.frequency_hz,
        "ant": np.array([n.encode() for n in solset.antenna], dtype=f"S{_ANTENNA_WIDTH}"),
        "dir": np.array(directions, dtype=f"S{_DIRECTION_WIDTH}"),
        "pol": np.array([p.encode() for p in solset.polarization], dtype="S3"),
    }
    for axis in axes:
        group.create_dataset(axis, data=values[axis])
    shape = tuple(len(values[axis]) for axis in axes)
    piece = [1 if axis == "dir" else size for axis, size in zip(axes, shape, strict=True)]
    piece[0] = max(1, min(shape[0], _PIECE_BYTES * shape[0] // (8 * math.prod(piece))))
    for dataset, dtype, empty in (("val", "<f8", np.nan), ("weight", "<f4", 0.0)):
        made = group.create_dataset(dataset, shape, dtype, chunks=tuple(piece), fillvalue=empty)
        made.attrs["AXES"] = np.bytes_(",".join(axes).encode())


class TableWriter:
    """An h5parm that is written direction by direction; `write_h5parm` writes one at once.

    The file is complete only after `finish`: write it beside its place, then rename it.

    Parameters
    ----------
    path : Path
        File to create.
    like : Solset
        Table with the times, frequencies, stations and polarizations of all directions, and with
        TECs if there are any; its solutions are not used.
    places : mapping of str to (2,) float64
        Positions of all directions, rad, in the order of the file.
    """

    def __init__(self, path: Path, like: Solset, places: Mapping[str, Array]) -> None:
        self.path = path
        self.names = list(places)
        self.needed: set[str] = set()
        _check_names(like.antenna, tuple(places))
        with h5py.File(path, "w") as file:
            group = file.create_group(SOLSET)
            group.attrs["h5parm_version"] = np.bytes_(b"1.0")
            _write_tables(group, like, places)
            brackets = [f"[{name}]".encode() for name in places]
            for name in _soltabs(like):
                _create_soltab(group.create_group(name), name, like, brackets)
            if TEC in group and len(like.frequency_hz) > 1:
                for name in (TEC, REST):
                    group[name].attrs[PART_OF] = np.bytes_(WHOLE.encode())

    def put(self, solsets: Iterable[Solset]) -> None:
        """Write tables of one direction each on the grid of the file; they replace earlier ones."""
        with h5py.File(self.path, "r+") as file:
            for one in solsets:
                place = self.names.index(one.direction[0])
                for name, (values, needed) in _soltabs(one).items():
                    cells = (slice(None),) * (2 if name == TEC else 3) + (slice(place, place + 1),)
                    soltab = file[SOLSET][name]
                    soltab["val"][cells] = values
                    soltab["weight"][cells] = _weights(name, one)
                    self.needed |= {name} if needed else set()

    def finish(self, datasets: Mapping[str, NDArray[Any]]) -> None:
        """Remove soltabs that are not needed, and add datasets."""
        with h5py.File(self.path, "r+") as file:
            surplus = set(file[SOLSET]) - self.needed - {"antenna", "source"}
            for name in surplus:
                del file[SOLSET][name]
            for name, values in datasets.items():
                file[SOLSET].create_dataset(name, data=values)
        if surplus:  # a deletion leaves a hole
            packed = self.path.with_name(f"{self.path.name}.packed.tmp")
            with h5py.File(self.path, "r") as file, h5py.File(packed, "w") as new:
                file.copy(SOLSET, new)
            packed.replace(self.path)
