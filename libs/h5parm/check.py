"""Checks of an h5parm against the requirements of LoSoTo, DP3 and WSClean; each fault is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from libs.core.angles import TEC_PHASE_HZ, wrap_rad
from libs.h5parm.provenance import DATASET
from libs.h5parm.reader import (
    AXES,
    PHASE_TOLERANCE_RAD,
    open_h5,
    parts_of_phase,
    solset_name,
    soltab_names,
)

__all__ = ["Finding", "check"]

_KNOWN_POLARIZATIONS = {"XX", "XY", "YX", "YY", "RR", "RL", "LR", "LL", "X", "Y", "R", "L", "I"}
_APPLICABLE = {"phase", "amplitude", "tec", "clock", "rotation", "rotationmeasure"}


@dataclass(frozen=True)
class Finding:
    """A fault in a file.

    Attributes
    ----------
    level : str
        Severity: with ``error`` a program refuses or misreads the file; with ``warning`` the file
        may not mean what its writer intended.
    where : str
        Path inside the file.
    text : str
        Fault in words.
    """

    level: Literal["error", "warning"]
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.level}: {self.where}: {self.text}"


def check(path: Path) -> list[Finding]:
    """Return the faults of a file; an empty list when it conforms.

    Raises
    ------
    InputError
        The file does not exist, is not HDF5, or has no solution set.
    """
    path = Path(path)
    with open_h5(path) as file:
        solset = file[solset_name(file, path)]
        return [
            *_root(file),
            *_solset(solset),
            *(f for name in soltab_names(solset) for f in _soltab(solset, solset[name])),
            *_grids(solset),
            *_parts(solset),
            *_provenance(solset),
        ]


def _texts(node: Any) -> list[str]:
    return [bytes(v).split(b"\0")[0].decode(errors="replace") for v in np.ravel(node)]


def _root(file: h5py.File) -> Iterator[Finding]:
    if len(file) != 1:
        yield Finding(
            "warning",
            "/",
            f"holds {', '.join(file)}: DP3 wants the solution set named, WSClean refuses",
        )


def _solset(solset: h5py.Group) -> Iterator[Finding]:
    if "h5parm_version" not in solset.attrs:
        yield Finding("error", solset.name, "no attribute h5parm_version")
    if not soltab_names(solset):
        yield Finding("error", solset.name, "no soltab")
    for table, column, length in (("antenna", "position", 3), ("source", "dir", 2)):
        where = f"{solset.name}/{table}"
        node = solset.get(table)
        if not isinstance(node, h5py.Dataset) or node.dtype.names != ("name", column):
            yield Finding("error", where, f"no table of name and {column}")
            continue
        rows = node[()]
        if rows[column].shape != (len(rows), length):
            yield Finding("error", where, f"{column} is not {length} numbers a row")
        elif not np.isfinite(rows[column]).all():
            yield Finding("error", where, f"{column} is not finite")
        names = _texts(rows["name"])
        if len(set(names)) != len(names):
            yield Finding("error", where, "a name appears twice")
        yield from _width(where, node.id.get_type().get_member_type(0), names)
        if table == "source" and len(names) > 1:
            bare = [n for n in names if not (n.startswith("[") and n.endswith("]"))]
            if bare:
                yield Finding("warning", where, f"{bare[0]} is not written as [{bare[0]}]")


def _width(where: str, kind: h5py.h5t.TypeID, names: list[str]) -> Iterator[Finding]:
    """Yield a fault where names have no final NUL and the type does not end them at its length."""
    padded = isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
    if not padded or kind.get_strpad() != h5py.h5t.STR_NULLPAD:
        return
    full = [name for name in names if len(name.encode()) >= kind.get_size()]
    if full:
        yield Finding(
            "error", where, f"{full[0]} fills its {kind.get_size()} bytes: DP3 does not find it"
        )


def _soltab(solset: h5py.Group, soltab: h5py.Group) -> Iterator[Finding]:
    where = soltab.name
    kind = soltab_names(solset)[where.rsplit("/", 1)[1]]
    if "TITLE" not in soltab.attrs or not kind:
        yield Finding("error", where, "no attribute TITLE: DP3 does not know its type")
    elif kind not in _APPLICABLE:
        yield Finding("warning", where, f"of type {kind}, which DP3 does not apply")
    missing = [name for name in ("val", "weight") if name not in soltab]
    if missing:
        yield Finding("error", where, f"no dataset {' and '.join(missing)}")
        return
    axes = [_axes(soltab[name]) for name in ("val", "weight")]
    if axes[0] is None or axes[1] is None:
        yield Finding("error", where, "val or weight without attribute AXES: DP3 refuses")
    names = axes[0] or axes[1]
    if names is None:
        return
    if axes[1] is not None and axes[1] != names:
        yield Finding("error", where, f"val has axes {names}, weight {axes[1]}")
    if "time" in names and "freq" in names and names.index("freq") < names.index("time"):
        yield Finding("error", where, "freq does not vary faster than time: DP3 refuses")
    yield from _shapes(soltab, names)
    yield from _axis_values(solset, soltab, names)
    yield from _values(soltab, kind)


def _axes(dataset: h5py.Dataset) -> list[str] | None:
    text = dataset.attrs.get("AXES")
    if text is None:
        return None
    return (text.decode() if isinstance(text, bytes) else str(text)).split(",")


def _shapes(soltab: h5py.Group, names: list[str]) -> Iterator[Finding]:
    where = soltab.name
    for name in names:
        if name not in AXES:
            yield Finding("warning", where, f"axis {name} is none of {', '.join(AXES)}")
        if name not in soltab:
            yield Finding("error", where, f"no values for axis {name}")
            return
    lengths = tuple(len(soltab[name]) for name in names)
    for name in ("val", "weight"):
        if soltab[name].shape != lengths:
            yield Finding("error", where, f"{name} is {soltab[name].shape}, the axes {lengths}")


def _axis_values(solset: h5py.Group, soltab: h5py.Group, names: list[str]) -> Iterator[Finding]:
    where = soltab.name
    for name in (n for n in names if n in soltab):
        node = soltab[name]
        if name in ("time", "freq"):
            values = np.asarray(node[()], dtype=float)
            if not np.isfinite(values).all() or (np.diff(values) <= 0).any():
                yield Finding("error", f"{where}/{name}", "values do not increase")
            continue
        texts = _texts(node[()])
        if name == "pol":
            unknown = [t for t in texts if t not in _KNOWN_POLARIZATIONS]
            if unknown:
                yield Finding("error", f"{where}/pol", f"unknown polarization {unknown[0]}")
            continue
        yield from _width(f"{where}/{name}", node.id.get_type(), texts)
        table = solset.get({"ant": "antenna", "dir": "source"}.get(name, ""))
        if isinstance(table, h5py.Dataset) and "name" in (table.dtype.names or ()):
            known = set(_texts(table["name"]))
            lost = [t for t in texts if t not in known]
            if lost:
                yield Finding(
                    "error", f"{where}/{name}", f"{lost[0]} is not in the table {table.name}"
                )


def _values(soltab: h5py.Group, kind: str) -> Iterator[Finding]:
    where = soltab.name
    val, weight = soltab["val"][()], soltab["weight"][()]
    if val.shape != weight.shape:
        return
    used = np.nan_to_num(weight, nan=0.0) != 0
    for bad, text in (
        (used & ~np.isfinite(val), "solutions that are NaN have a weight: they flag data"),
        (~used & np.isfinite(val), "solutions of weight 0 have a value: LoSoTo may use them"),
        (np.nan_to_num(weight) < 0, "negative weights"),
    ):
        if bad.any():
            yield Finding("warning", where, f"{int(bad.sum())} {text}")
    if kind == "amplitude" and (np.isfinite(val) & used & (val < 0)).any():
        yield Finding("error", where, "negative amplitudes")
    if not used.any():
        yield Finding("warning", where, "every solution is flagged")


def _grids(solset: h5py.Group) -> Iterator[Finding]:
    tabs = [solset[n] for n, kind in soltab_names(solset).items() if kind in ("phase", "amplitude")]
    for name in ("time", "freq"):
        axes = [tab[name][()] for tab in tabs if name in tab]
        if any(not np.array_equal(axes[0], other) for other in axes[1:]):
            yield Finding(
                "warning", solset.name, f"phase and amplitude differ in {name}: WSClean may refuse"
            )


def _parts(solset: h5py.Group) -> Iterator[Finding]:
    """Yield faults of TECs beside phases of several frequencies that are not marked as parts."""
    kinds, parts = soltab_names(solset), parts_of_phase(solset)
    phases = [name for name, kind in kinds.items() if kind == "phase" and name not in parts]
    tecs = [name for name, kind in kinds.items() if kind == "tec"]
    if not parts:
        several = any("freq" in solset[n] and len(solset[n]["freq"]) > 1 for n in phases)
        if tecs and several:
            yield Finding(
                "warning",
                solset[tecs[0]].name,
                f"beside {phases[0]}: the file does not say whether it is a part of it",
            )
        return
    whole = solset["phase000"]
    if "freq" not in whole or any("val" not in solset[name] for name in ("phase000", *parts)):
        return  # reported elsewhere
    total = np.zeros(whole["val"].shape)
    for name in parts:
        val = solset[name]["val"][()]
        if kinds[name] == "tec":  # time, ant, dir
            hertz = whole["freq"][()][:, None, None, None]
            val = TEC_PHASE_HZ * val[:, None, :, :, None] / hertz
        if val.ndim != total.ndim or not {*val.shape} <= {1, *total.shape}:
            yield Finding("error", solset[name].name, "of other axes than phase000")
            return
        total = total + val
    apart = np.abs(wrap_rad(whole["val"][()] - total))
    if (apart[np.isfinite(apart)] > PHASE_TOLERANCE_RAD).any():
        yield Finding(
            "warning", whole.name, f"is not the sum of {' and '.join(parts)} any more: it counts"
        )


def _provenance(solset: h5py.Group) -> Iterator[Finding]:
    node = solset.get(DATASET)
    if not isinstance(node, h5py.Dataset) or "source" not in solset or "antenna" not in solset:
        return
    rows = node[()]
    directions = {t.strip("[]") for t in _texts(solset["source"]["name"])}
    stations = set(_texts(solset["antenna"]["name"]))
    for row in rows:
        if row["direction"].decode() not in directions or row["station"].decode() not in stations:
            yield Finding(
                "warning",
                node.name,
                f"names {row['station'].decode()} in {row['direction'].decode()}, "
                "which are not in the file",
            )
