"""Reading of h5parm files in the form that LoSoTo, DP3 and WSClean use.

The format is that of the LoSoTo documentation (https://revoltek.github.io/losoto/losoto.html).
Beyond it, DP3 and WSClean assume several solution sets when the root of a file holds anything but
one group, and take every group in that for a soltab. Additional contents of a file are therefore
datasets inside the solution set, which all three ignore.

TECs beside phases of several frequencies are in the file twice, for programs of either kind:
``phase000`` is the whole phase, ``tec000`` and ``phase001`` (left out where it is zero) are its
parts. So phase000 with amplitude000 is the calibration, and so is tec000 with phase001 and
amplitude000; phase000 and tec000 together would count the TEC twice. The attribute `PART_OF` of
the parts says so. A table of one frequency, which stands for all, has no such whole phase: tec000
and phase000 are factors there.

The function that writes, `write_h5parm`, is in libs.h5parm.writer and may be imported from here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from libs.core.angles import tec_phase_rad, wrap_rad
from libs.core.errors import InputError
from libs.h5parm.combine import on_axes
from libs.h5parm.regrid import regrid, union_grid
from libs.h5parm.solset import (
    DIAGONAL,
    FULL_JONES,
    SCALAR,
    TIME_TOLERANCE_S,
    Solset,
    neutral_amplitude,
)
from libs.h5parm.writer import (
    AXES,
    PART_OF,
    REST,
    SOLSET,
    TEC,
    WHOLE,
    as_written,
    write_h5parm,
)

__all__ = [
    "AXES",
    "CONSTANT_FREQUENCY_HZ",
    "PART_OF",
    "PHASE_TOLERANCE_RAD",
    "SOLSET",
    "as_written",
    "direction_places",
    "open_h5",
    "parts_of_phase",
    "read_h5parm",
    "solset_name",
    "soltab_names",
    "write_h5parm",
]

log = logging.getLogger(__name__)
Array = NDArray[np.float64]

CONSTANT_FREQUENCY_HZ = 1e8
"""Frequency of a solution without a frequency axis."""

PHASE_TOLERANCE_RAD = 1e-5
"""Phases that differ by less from the sum of their parts are equal to it."""

_NOWHERE = "POINTING"  # direction of a table that names none
_TYPES = ("phase", "amplitude", "tec")
_CIRCULAR = {"RR": "XX", "LL": "YY", "RL": "XY", "LR": "YX"}
_FEEDS = {"X": "XX", "Y": "YY", "R": "XX", "L": "YY"}


@dataclass(frozen=True)
class _Soltab:
    """One soltab on the axes time, freq, ant, dir, pol; names of absent axes are empty."""

    val: Array
    weight: Array
    time_s: Array
    frequency_hz: Array
    antenna: tuple[str, ...]
    direction: tuple[str, ...]
    polarization: tuple[str, ...]


def open_h5(path: Path) -> h5py.File:
    """Open a file for reading.

    Raises
    ------
    InputError
        The file does not exist or is not HDF5.
    """
    if not path.is_file():
        raise InputError(f"there is no h5parm {path}", "check the path")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is not an HDF5 file ({error})", "give an h5parm") from error


def solset_name(file: h5py.File, path: Path) -> str:
    """Return the solution set to use: sol000, or the only one.

    Raises
    ------
    InputError
        There is no solution set, or there are several and none is sol000.
    """
    groups = [name for name in file if isinstance(file[name], h5py.Group)]
    if SOLSET in groups:
        return SOLSET
    if len(groups) != 1:
        raise InputError(
            f"{path} has {len(groups)} solution sets and no {SOLSET}", "give an h5parm"
        )
    return str(groups[0])


def soltab_names(solset: h5py.Group) -> dict[str, str]:
    """Return name -> type (the TITLE attribute, or the name without its number)."""
    found = {}
    for name, group in solset.items():
        if isinstance(group, h5py.Group):
            title = _text(group.attrs.get("TITLE", b""))
            found[name] = title or name.rstrip("0123456789")
    return found


def parts_of_phase(solset: h5py.Group) -> tuple[str, ...]:
    """Return the soltabs that are parts of phase000 and not factors beside it."""
    if WHOLE not in solset:
        return ()
    return tuple(
        name
        for name, group in solset.items()
        if isinstance(group, h5py.Group) and _text(group.attrs.get(PART_OF, b"")) == WHOLE
    )


def direction_places(path: Path, soltabs: Sequence[str] | None = None) -> dict[str, Array]:
    """Return the directions of a table with their positions, without reading its solutions.

    Parameters
    ----------
    path, soltabs
        Arguments as in `read_h5parm`.

    Returns
    -------
    dict of str to (2,) float64
        Right ascension and declination (J2000), rad.
    """
    with open_h5(path) as file:
        solset = file[solset_name(file, path)]
        group = solset[next(iter(_choose(solset, path, soltabs).values()))]
        places = _table(solset, "source", "dir", path)
        if "dir" in group:
            names = tuple(_bare(text) for text in _strings(group["dir"][()]))
        else:
            names = tuple(places) if len(places) == 1 else (_NOWHERE,)
    return {name: places.get(name, np.zeros(2)) for name in names}


def read_h5parm(
    path: Path, soltabs: Sequence[str] | None = None, *, direction: str | None = None
) -> Solset:
    """Read phases, amplitudes and TEC.

    Parameters
    ----------
    path : Path
    soltabs : sequence of str, optional
        Soltabs to use, at most one of each type; default: the first phase, amplitude and TEC
        soltab.
    direction : str, optional
        Name of the only direction to read; default: all. Phases are then compared with the sum of
        their parts in this direction only.

    Returns
    -------
    Solset
        Solutions, on the union of the grids of phases and amplitudes. A solution that is NaN or
        of weight 0 in one soltab is missing; so are all four elements of a Jones matrix that
        lacks one. Phases whose TEC is in the file as their part are returned as TEC and
        remainder; if another program has changed them since, they are read as they are.

    Raises
    ------
    InputError
        The file is not an h5parm, has none of these soltabs, has soltabs that do not fit together
        (such as phases and a part of them), or has both TEC and phases per frequency without
        saying whether they are factors.
    """
    path = Path(path)
    with open_h5(path) as file:
        solset = file[solset_name(file, path)]
        chosen = _choose(solset, path, soltabs)
        tables = {
            kind: _read_soltab(solset[name], path, direction) for kind, name in chosen.items()
        }
        positions = _table(solset, "antenna", "position", path)
        directions = _table(solset, "source", "dir", path)
        parts = parts_of_phase(solset) if soltabs is None else ()
        of_phase = {name: _read_soltab(solset[name], path, direction) for name in parts}
    both = "tec" in tables and "phase" in tables and len(tables["phase"].frequency_hz) > 1
    if both and soltabs is None:
        raise InputError(f"{path} has both TEC and phases per frequency", "name the soltabs to use")
    try:
        made = {k: _as_solset(k, tab, positions, directions) for k, tab in tables.items()}
        whole = _with_parts(_joined(made), of_phase, path)
        return whole if direction is None else whole.in_direction(direction)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path} is inconsistent ({error})", "run solutions check to see what is wrong"
        ) from error


# ---------------------------------------------------------------------------------- reading


def _text(value: Any) -> str:
    if isinstance(value, h5py.Empty):
        return ""
    if isinstance(value, bytes | np.bytes_):
        return value.split(b"\0")[0].decode()
    return str(value)


def _strings(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(_text(value).strip() for value in values)


def _bare(name: str) -> str:
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name


def _choose(solset: h5py.Group, path: Path, soltabs: Sequence[str] | None) -> dict[str, str]:
    """Return the soltab to read for each type."""
    present = soltab_names(solset)
    parts = parts_of_phase(solset)
    both = set(parts) & set(soltabs or ())
    if WHOLE in (soltabs or ()) and both:
        raise InputError(
            f"{both.pop()} is a part of {WHOLE}: together they would count it twice",
            f"take {WHOLE}, or {' and '.join(parts)}",
        )
    unknown = [name for name in soltabs or () if name not in present]
    if unknown:
        raise InputError(f"{path} has no soltab {unknown[0]}", f"it has {', '.join(present)}")
    chosen: dict[str, str] = {}
    for name in soltabs or sorted(set(present) - set(parts)):
        kind = present[name]
        if kind in _TYPES and kind not in chosen:
            chosen[kind] = name
        elif soltabs is not None:
            raise InputError(
                f"soltab {name} ({kind}) cannot be used", "name one soltab of each type"
            )
        else:
            log.warning("%s: soltab %s (%s) is not used", path.name, name, kind)
    if not chosen:
        raise InputError(
            f"{path} has no phase, amplitude or TEC", f"it has {', '.join(present) or 'nothing'}"
        )
    return chosen


def _read_soltab(group: h5py.Group, path: Path, direction: str | None = None) -> _Soltab:
    name = f"{path} {group.name}"
    try:
        axes = _text(group["val"].attrs["AXES"]).split(",")
        values = {axis: group[axis][()] for axis in axes}
        cells = _cells(axes, values, direction)
        val, weight = group["val"][cells], group["weight"][cells]
        if len(cells) > 0:
            place = axes.index("dir")
            values["dir"] = values["dir"][cells[place]]
    except KeyError as error:
        raise InputError(f"{name} is not a soltab ({error})", "run solutions check") from error
    if set(axes) - set(AXES) or val.ndim != len(axes) or val.shape != weight.shape:
        raise InputError(f"{name} has axes {axes} and shape {val.shape}", "give another soltab")
    # Move the axes to their places, and add those that are absent with a length of 1.
    order = [axes.index(axis) for axis in AXES if axis in axes]
    shape = [len(values[axis]) if axis in axes else 1 for axis in AXES]
    arrays = [np.asarray(a, dtype=float).transpose(order).reshape(shape) for a in (val, weight)]
    tab = _Soltab(
        val=arrays[0],
        weight=np.where(np.isfinite(arrays[1]), np.maximum(arrays[1], 0), 0.0),
        time_s=np.asarray(values.get("time", [0.0]), dtype=float),
        frequency_hz=np.asarray(values.get("freq", [CONSTANT_FREQUENCY_HZ]), dtype=float),
        antenna=_strings(values.get("ant", [])),
        direction=tuple(_bare(text) for text in _strings(values.get("dir", []))),
        polarization=_strings(values.get("pol", [])),
    )
    return _ordered(_standard_polarization(tab, name))


def _cells(
    axes: Sequence[str], values: Mapping[str, Any], direction: str | None
) -> tuple[slice, ...]:
    """Return the part of a soltab that belongs to one direction; empty for all of it."""
    if direction is None or "dir" not in axes:
        return ()
    names = [_bare(text) for text in _strings(values["dir"])]
    if direction not in names:
        raise InputError(f"there is no direction {direction}", f"there are {', '.join(names)}")
    j = names.index(direction)
    return tuple(slice(j, j + 1) if axis == "dir" else slice(None) for axis in axes)


def _standard_polarization(tab: _Soltab, name: str) -> _Soltab:
    """Put the polarizations in the order of this program's axes."""
    if len(tab.polarization) <= 1:
        return replace(tab, polarization=SCALAR)
    names = [_CIRCULAR.get(p, _FEEDS.get(p, p)) for p in tab.polarization]
    wanted = DIAGONAL if len(names) == 2 else FULL_JONES
    if sorted(names) != sorted(wanted):
        raise InputError(f"{name} has polarizations {tab.polarization}", "give another soltab")
    order = [names.index(p) for p in wanted]
    return replace(tab, val=tab.val[..., order], weight=tab.weight[..., order], polarization=wanted)


def _ordered(tab: _Soltab) -> _Soltab:
    """Sort by time and frequency."""
    if (np.diff(tab.time_s) > 0).all() and (np.diff(tab.frequency_hz) > 0).all():
        return tab
    time, frequency = np.argsort(tab.time_s), np.argsort(tab.frequency_hz)
    return replace(
        tab,
        val=tab.val[time][:, frequency],
        weight=tab.weight[time][:, frequency],
        time_s=tab.time_s[time],
        frequency_hz=tab.frequency_hz[frequency],
    )


def _table(solset: h5py.Group, table: str, column: str, path: Path) -> dict[str, Array]:
    """Return name -> coordinates of the antenna or source table."""
    try:
        rows = solset[table][()]
        names = [_bare(text) for text in _strings(rows["name"])]
        return dict(zip(names, np.asarray(rows[column], dtype=float), strict=True))
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} has no {table} table ({error})", "give an h5parm") from error


def _as_solset(
    kind: str, tab: _Soltab, positions: dict[str, Array], directions: dict[str, Array]
) -> Solset:
    """Convert the solutions of one soltab to a Solset; the other quantities are neutral."""
    if not tab.antenna:
        raise ValueError("the soltab has no antennas")
    names = tab.direction
    if not names:
        names = tuple(directions) if len(directions) == 1 else (_NOWHERE,)
    good = np.isfinite(tab.val) & (tab.weight > 0)
    if kind == "amplitude":
        diagonal = [0, 3] if tab.polarization == FULL_JONES else slice(None)
        good[..., diagonal] &= tab.val[..., diagonal] > 0
    if tab.polarization == FULL_JONES:
        good = np.broadcast_to(good.all(axis=-1, keepdims=True), good.shape)
    neutral = neutral_amplitude(tab.val.shape)
    tec = None
    if kind == "tec":
        tec = np.where(good, tab.val, 0.0).mean(axis=(1, 4))
    return Solset(
        time_s=tab.time_s,
        frequency_hz=tab.frequency_hz,
        antenna=tab.antenna,
        position_m=np.array([positions[name] for name in tab.antenna]),
        direction=names,
        direction_rad=np.array([directions.get(n, np.zeros(2)) for n in names]),
        polarization=tab.polarization,
        phase_rad=np.where(good, tab.val, 0.0) if kind == "phase" else np.zeros(tab.val.shape),
        amplitude=np.where(good, tab.val, neutral) if kind == "amplitude" else neutral,
        weight=np.where(good, tab.weight, 0.0),
        tec_tecu=tec,
    )


def _joined(parts: dict[str, Solset]) -> Solset:
    """Join the soltabs of one file: a solution must be present in all of them."""
    first = next(iter(parts.values()))
    if len(parts) == 1:
        return first
    time_s, frequency_hz = union_grid(list(parts.values()))
    polarization = max((p.polarization for p in parts.values()), key=len)
    fitted = {}
    for kind, part in parts.items():
        if set(part.antenna) != set(first.antenna) or set(part.direction) != set(first.direction):
            raise ValueError("soltabs of different antennas or directions")
        part = regrid(part, time_s, frequency_hz)
        part = on_axes(part, first.antenna, first.position_m)
        if part.direction != first.direction:
            part = part.select_directions([part.direction.index(d) for d in first.direction])
        fitted[kind] = part.with_polarization(polarization)
    weight = np.min([p.weight for p in fitted.values()], axis=0)
    phase = np.sum([p.phase_rad for p in fitted.values()], axis=0)
    neutral = neutral_amplitude(weight.shape)
    amplitude = fitted["amplitude"].amplitude if "amplitude" in fitted else neutral
    return replace(
        next(iter(fitted.values())),
        phase_rad=np.where(weight > 0, phase, 0.0),
        amplitude=np.where(weight > 0, amplitude, neutral),
        weight=weight,
        tec_tecu=fitted["tec"].tec_tecu if "tec" in fitted else None,
    )


def _with_parts(solset: Solset, parts: Mapping[str, _Soltab], path: Path) -> Solset:
    """Split phases into TEC and remainder, where the file has these parts of them."""
    if TEC not in parts:
        return solset
    tec, rest = parts[TEC], parts.get(REST)
    fits = all(
        len(tab.time_s) == len(solset.time_s)
        and (np.abs(tab.time_s - solset.time_s) <= TIME_TOLERANCE_S).all()
        and (tab.antenna, tab.direction) == (solset.antenna, solset.direction)
        for tab in parts.values()
    ) and (rest is None or rest.val.shape == solset.shape)
    if fits:
        tec_tecu = np.where(np.isfinite(tec.val), tec.val, 0.0).mean(axis=(1, 4))
        left = np.zeros(solset.shape) if rest is None else np.nan_to_num(rest.val)
        left = np.where(solset.valid, left, 0.0)
        whole = left + tec_phase_rad(tec_tecu, solset.frequency_hz)[..., np.newaxis]
        apart = np.abs(wrap_rad(solset.phase_rad - whole))[solset.valid]
        if not apart.size or apart.max() < PHASE_TOLERANCE_RAD:
            return replace(solset, phase_rad=left, tec_tecu=tec_tecu)
    log.warning("%s: %s is no longer the sum of its parts, so these are ignored", path.name, WHOLE)
    return solset
