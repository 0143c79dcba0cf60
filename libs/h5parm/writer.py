"""h5parm files written; libs.h5parm.reader reads them and says what they are."""

from __future__ import annotations

from collections.abc import Mapping
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

__all__ = ["AXES", "PART_OF", "REST", "SOLSET", "TEC", "WHOLE", "as_written", "write_h5parm"]

Array = NDArray[np.float64]

SOLSET = "sol000"
AXES = ("time", "freq", "ant", "dir", "pol")
PART_OF = "PART_OF"
"""Attribute of a soltab that is a part of the one it names, not a factor beside it."""

WHOLE, REST, TEC = "phase000", "phase001", "tec000"
"""Soltabs of the whole phase and of its parts."""

# h5py's strings that fill their field end without NUL, and DP3 finds none of them.
_ANTENNA_WIDTH, _DIRECTION_WIDTH = 16, 128


def write_h5parm(
    path: Path, solset: Solset, datasets: Mapping[str, NDArray[Any]] | None = None
) -> None:
    """Write phase000 and amplitude000 with all five axes, and TEC, which has no frequencies.

    One gain for both feeds is written for XX and YY. With TECs and several frequencies
    phase000 is the whole phase, and its parts are beside it: tec000 and what is left, phase001
    (see `libs.h5parm.reader`). The file appears whole or not at all.

    Parameters
    ----------
    path : Path
    solset : Solset
    datasets : mapping of str to array, optional
        Further datasets of the solution set, which LoSoTo, DP3 and WSClean ignore.

    Raises
    ------
    InputError
        A name too long for the format, or a folder that cannot be written.
    """
    path = Path(path)
    solset = as_written(solset)
    _check_names(solset)
    try:
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            group = file.create_group(SOLSET)
            group.attrs["h5parm_version"] = np.bytes_(b"1.0")
            _write_tables(group, solset)
            for name, soltab in _soltabs(solset).items():
                _write_soltab(group.create_group(name), name.rstrip("0123456789"), soltab, solset)
            if solset.tec_tecu is not None and len(solset.frequency_hz) > 1:
                for name in {TEC, REST} & set(group):
                    group[name].attrs[PART_OF] = np.bytes_(WHOLE.encode())
            for name, values in (datasets or {}).items():
                group.create_dataset(name, data=values)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error})", "check the folder and the space on the disk"
        ) from error


def as_written(solset: Solset) -> Solset:
    """Return the solutions in the form in which a file holds them and reading gives them back."""
    constant = len(solset.frequency_hz) == 1
    if solset.polarization == SCALAR and not (constant and solset.tec_tecu is not None):
        solset = solset.with_polarization(DIAGONAL)
    if solset.full_jones and not constant:  # the phases of its elements have no common part
        solset = tec_to_phase(solset)
    if solset.tec_tecu is not None:
        known = solset.valid.any(axis=(1, 4))
        solset = replace(solset, tec_tecu=np.where(known, solset.tec_tecu, 0.0))
    weight = np.minimum(solset.weight, 1e30).astype(np.float32).astype(float)
    return replace(solset, weight=weight)


def _check_names(solset: Solset) -> None:
    for kind, names, width in (
        ("antenna", solset.antenna, _ANTENNA_WIDTH - 1),
        ("direction", solset.direction, _DIRECTION_WIDTH - 3),
    ):
        long = [name for name in names if len(name.encode()) > width]
        if long:
            raise InputError(
                f"the {kind} name {long[0]} is longer than {width} characters",
                "an h5parm cannot hold it; rename it",
            )


def _bracketed(solset: Solset) -> list[bytes]:
    return [f"[{name}]".encode() for name in solset.direction]


def _write_tables(group: h5py.Group, solset: Solset) -> None:
    antenna = np.zeros(
        len(solset.antenna), dtype=[("name", f"S{_ANTENNA_WIDTH}"), ("position", "<f4", (3,))]
    )
    antenna["name"] = [name.encode() for name in solset.antenna]
    antenna["position"] = solset.position_m
    source = np.zeros(
        len(solset.direction), dtype=[("name", f"S{_DIRECTION_WIDTH}"), ("dir", "<f8", (2,))]
    )
    source["name"] = _bracketed(solset)
    source["dir"] = solset.direction_rad
    for name, rows, title in (
        ("antenna", antenna, b"Antenna names and positions"),
        ("source", source, b"Source names and directions"),
    ):
        group.create_dataset(name, data=rows).attrs["TITLE"] = np.bytes_(title)


def _soltabs(solset: Solset) -> dict[str, Array]:
    """Return soltab name -> values, NaN where there is no solution."""
    missing = ~solset.valid
    tec = solset.tec_tecu
    several = len(solset.frequency_hz) > 1
    values: dict[str, Array] = {}
    if tec is None or several:
        values = {WHOLE: solset.total_phase_rad, "amplitude000": solset.amplitude}
    elif solset.phase_rad.any():
        values = {WHOLE: solset.phase_rad}
    if tec is not None and not several and (solset.amplitude != 1).any():
        values["amplitude000"] = solset.amplitude
    tables = {name: np.where(missing, np.nan, array) for name, array in values.items()}
    if tec is not None:
        tables[TEC] = np.where(missing.all(axis=(1, 4)), np.nan, tec)
        if several and solset.phase_rad.any():
            tables[REST] = np.where(missing, np.nan, solset.phase_rad)
    return tables


def _write_soltab(group: h5py.Group, kind: str, val: Array, solset: Solset) -> None:
    group.attrs["TITLE"] = np.bytes_(kind.encode())
    axes = ("time", "ant", "dir") if kind == "tec" else AXES
    weight = np.minimum(solset.weight, 1e30)
    if kind == "tec":
        weight = weight.max(axis=(1, 4))
    values = {
        "time": solset.time_s,
        "freq": solset.frequency_hz,
        "ant": np.array([n.encode() for n in solset.antenna], dtype=f"S{_ANTENNA_WIDTH}"),
        "dir": np.array(_bracketed(solset), dtype=f"S{_DIRECTION_WIDTH}"),
        "pol": np.array([p.encode() for p in solset.polarization], dtype="S3"),
    }
    for axis in axes:
        group.create_dataset(axis, data=values[axis])
    for name, array in (("val", val), ("weight", weight.astype(np.float32))):
        dataset = group.create_dataset(name, data=array)
        dataset.attrs["AXES"] = np.bytes_(",".join(axes).encode())
