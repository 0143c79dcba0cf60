"""Flag versions and saved weights of a measurement set, written aside and renamed.

Flag versions have the layout of CASA's ``flagmanager`` (``NAME.ms.flagversions/flags.VERSION``
and ``FLAG_VERSION_LIST``), so each tool can list and restore versions that the other saved.
Weights have no such convention; they are kept in ``NAME.ms.weightversions/weights.VERSION``.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.errors import InputError
from libs.core.files import fsync_tree
from libs.ms.rows import RowFilter, chunks, read_rows, row_pieces, write_rows
from libs.ms.tables import column_names, open_table

__all__ = [
    "FlagCount",
    "adopt_version",
    "count",
    "delete_version",
    "flag_table",
    "has_version",
    "has_weights",
    "restore_version",
    "restore_weights",
    "save_version",
    "save_weights",
    "saved_weights",
    "versions",
]

log = logging.getLogger(__name__)

FLAG_COLUMNS = ("FLAG", "FLAG_ROW")
WEIGHT_COLUMNS = ("WEIGHT", "SIGMA", "WEIGHT_SPECTRUM", "SIGMA_SPECTRUM")
_TILE_VALUES = 256 * 1024


def _flag_folder(ms: str | Path) -> Path:
    return Path(f"{Path(ms)}.flagversions")


def _weight_folder(ms: str | Path) -> Path:
    return Path(f"{Path(ms)}.weightversions")


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", name):
        raise InputError(f"{name!r} cannot name a version", "use letters, digits, '_', '-' and '.'")


def _settle(final: Path) -> None:
    """Finish or undo the replacement of ``final`` that a kill interrupted."""
    old = final.with_name(final.name + ".old")
    if not old.exists():
        return
    if final.exists():
        shutil.rmtree(old)
    else:
        old.rename(final)


def _put_in_place(part: Path, final: Path) -> None:
    """Rename ``part`` to ``final``; the old ``final`` is kept until the new one is in place."""
    fsync_tree(part)
    _settle(final)
    old = final.with_name(final.name + ".old")
    if final.exists():
        final.rename(old)
    part.rename(final)
    if old.exists():
        shutil.rmtree(old)


def _copy_values(
    source: Path, target: Path, names: Sequence[str], ms: Path, where: str | RowFilter = ""
) -> None:
    """Copy columns in chunks of rows between two tables with the same rows.

    The rows are taken by the data descriptions of ``ms``, within which a column has one shape.
    """
    with (
        open_table(source) as origin,
        open_table(target, write=True) as goal,
        open_table(ms) as opened,
    ):
        for _, rows in row_pieces(opened, names, where=where):
            defined = [name for name in names if origin.iscelldefined(name, int(rows[0]))]
            write_rows(goal, rows, read_rows(origin, defined, rows))


def _create(path: Path, ms: Path, names: Sequence[str]) -> None:
    """Create a table with the named columns of a measurement set, without values."""
    from casacore.tables import makearrcoldesc, makescacoldesc, maketabdesc, table

    descriptions: list[Any] = []
    managers: dict[str, Any] = {}
    with open_table(ms) as opened:
        rows = opened.nrows()
        for name in names:
            value = opened.getcoldesc(name)["valueType"]
            sample = {"boolean": False, "float": 0.0, "double": 0.0}[value]
            if "ndim" not in opened.getcoldesc(name):
                descriptions.append(makescacoldesc(name, sample, valuetype=value))
                continue
            shape = np.shape(opened.getcell(name, 0)) if rows else (1,)
            descriptions.append(
                makearrcoldesc(name, sample, ndim=len(shape), valuetype=value,
                               datamanagertype="TiledShapeStMan", datamanagergroup=f"T{name}")
            )  # fmt: skip
            # casacore counts tile axes in Fortran order: correlations first, rows last
            tile = [*shape[::-1], max(1, _TILE_VALUES // max(1, int(np.prod(shape))))]
            managers[f"*{len(managers) + 1}"] = {
                "TYPE": "TiledShapeStMan", "NAME": f"T{name}", "COLUMNS": [name],
                "SPEC": {"DEFAULTTILESHAPE": np.array(tile, dtype=np.int32)},
            }  # fmt: skip
    made: Any = table(str(path), maketabdesc(descriptions), nrow=rows, dminfo=managers, ack=False)
    made.close()


def _save(ms: Path, names: Sequence[str], final: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(final.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    _create(part, ms, names)
    _copy_values(ms, part, names, ms)
    _put_in_place(part, final)


def _restore(ms: Path, saved: Path, what: str, where: str | RowFilter = "") -> None:
    _settle(saved)
    if not (saved / "table.dat").exists():
        raise InputError(f"{ms} has no saved {what}", "run save_init_flags again (--restart)")
    with open_table(saved) as origin, open_table(ms) as opened:
        if origin.nrows() != opened.nrows():
            raise InputError(
                f"{what} of {ms} has {origin.nrows()} rows, the data {opened.nrows()}",
                "the data were replaced since: start over with --restart",
            )
        names = [name for name in origin.colnames() if name in opened.colnames()]
    _copy_values(saved, ms, names, ms, where)


def versions(ms: str | Path) -> dict[str, str]:
    """Return the flag versions listed for a measurement set: name to comment."""
    listing = _flag_folder(ms) / "FLAG_VERSION_LIST"
    if not listing.exists():
        return {}
    found = {}
    for line in listing.read_text().splitlines():
        name, _, comment = line.partition(" : ")
        if name.strip():
            found[name.strip()] = comment.strip()
    return found


def _write_list(ms: str | Path, listed: dict[str, str]) -> None:
    listing = _flag_folder(ms) / "FLAG_VERSION_LIST"
    part = listing.with_name(listing.name + ".part")
    with part.open("w") as stream:
        stream.writelines(f"{name} : {comment}\n" for name, comment in listed.items())
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(listing)


def save_version(ms: str | Path, name: str, comment: str = "") -> None:
    """Save FLAG and FLAG_ROW as a flag version; one of the same name is replaced.

    Parameters
    ----------
    ms : path
        Measurement set; it is only read.
    name : str
        Name of the version: letters, digits, ``_``, ``-`` and ``.``.
    comment : str
        Comment shown by ``flagmanager(mode='list')``.

    Raises
    ------
    InputError
        The name has other characters, or ``ms`` is not a table.
    """
    _check_name(name)
    _save(Path(ms), FLAG_COLUMNS, _flag_folder(ms) / f"flags.{name}")
    listed = versions(ms)
    listed[name] = " ".join(comment.split())
    _write_list(ms, listed)


def adopt_version(ms: str | Path, table: Path, name: str, comment: str = "") -> None:
    """Copy a flag version of the same rows, saved elsewhere, beside a measurement set.

    Parameters
    ----------
    ms : path
        Measurement set; it is not opened.
    table : Path
        Table with FLAG and FLAG_ROW; it is only read.
    name, comment : str
        As in `save_version`.
    """
    _check_name(name)
    final = _flag_folder(ms) / f"flags.{name}"
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(final.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(table, part)
    _put_in_place(part, final)
    listed = versions(ms)
    listed[name] = " ".join(comment.split())
    _write_list(ms, listed)


def restore_version(ms: str | Path, name: str, *, where: str | RowFilter = "") -> None:
    """Set FLAG and FLAG_ROW to a saved version.

    If the process is killed half way, the same call finishes the work.

    Parameters
    ----------
    ms : path
    name : str
        Name of the version.
    where : str or callable
        Rows that are set, as in `libs.ms.rows.chunks`; default all.

    Raises
    ------
    InputError
        There is no such version, or it has another number of rows.
    """
    _restore(Path(ms), _flag_folder(ms) / f"flags.{name}", f"flag version {name!r}", where)


def has_version(ms: str | Path, name: str) -> bool:
    """Return whether a complete flag version of this name exists."""
    saved = _flag_folder(ms) / f"flags.{name}"
    _settle(saved)
    return (saved / "table.dat").exists()


def flag_table(ms: str | Path, name: str) -> Path:
    """Return the table of a flag version; its rows are those of the measurement set.

    Raises
    ------
    InputError
        There is no such version.
    """
    if not has_version(ms, name):
        raise InputError(f"{ms} has no flag version {name!r}", "save it first")
    return _flag_folder(ms) / f"flags.{name}"


def delete_version(ms: str | Path, name: str) -> None:
    """Remove a flag version; it is no error if none has this name."""
    _check_name(name)
    listed = versions(ms)
    if listed.pop(name, None) is not None:
        _write_list(ms, listed)
    shutil.rmtree(_flag_folder(ms) / f"flags.{name}", ignore_errors=True)


def save_weights(ms: str | Path, name: str) -> None:
    """Save WEIGHT, SIGMA and, where present, WEIGHT_SPECTRUM and SIGMA_SPECTRUM.

    Raises
    ------
    InputError
        The name has characters other than letters, digits, ``_``, ``-`` and ``.``.
    """
    _check_name(name)
    present = column_names(ms)
    names = [column for column in WEIGHT_COLUMNS if column in present]
    _save(Path(ms), names, _weight_folder(ms) / f"weights.{name}")


def restore_weights(ms: str | Path, name: str) -> None:
    """Set the weight columns to saved values; a spectrum column made since is removed.

    Raises
    ------
    InputError
        There are no such weights, or they have another number of rows.
    """
    saved = _weight_folder(ms) / f"weights.{name}"
    _restore(Path(ms), saved, f"weights {name!r}")
    kept = column_names(saved)
    extra = [c for c in WEIGHT_COLUMNS if c in column_names(ms) and c not in kept]
    if extra:
        with open_table(ms, write=True) as opened:
            opened.removecols(extra)


def saved_weights(ms: str | Path, name: str) -> Path:
    """Return the table of weights saved under a name; its rows are those of the measurement set.

    Raises
    ------
    InputError
        There are no such weights.
    """
    if not has_weights(ms, name):
        raise InputError(f"no weights {name!r} are saved of {ms}", "save them first")
    return _weight_folder(Path(ms)) / f"weights.{name}"


def has_weights(ms: str | Path, name: str) -> bool:
    """Return whether complete saved weights of this name exist."""
    saved = _weight_folder(ms) / f"weights.{name}"
    _settle(saved)
    return (saved / "table.dat").exists()


@dataclass(frozen=True)
class FlagCount:
    """Amount of flagged data in a measurement set.

    Attributes
    ----------
    flagged, total : int
        Flagged and all visibilities (row x channel x correlation).
    by_antenna, by_spw : dict of int to float
        Fraction flagged, 0 to 1, of the visibilities of each antenna and spectral window that
        occurs in the rows.
    """

    flagged: int
    total: int
    by_antenna: dict[int, float]
    by_spw: dict[int, float]

    @property
    def fraction(self) -> float:
        """Fraction of all visibilities that is flagged, 0 to 1; 1 when there are none."""
        return self.flagged / self.total if self.total else 1.0


def count(ms: str | Path) -> FlagCount:
    """Count flagged visibilities in one pass over FLAG and FLAG_ROW."""
    antenna: dict[int, np.ndarray[Any, Any]] = {}
    spw: dict[int, np.ndarray[Any, Any]] = {}
    for chunk in chunks(ms, ("FLAG", "FLAG_ROW", "ANTENNA1", "ANTENNA2")):
        flag = chunk["FLAG"] | chunk["FLAG_ROW"][:, None, None]
        in_row, size = flag.sum(axis=(1, 2)), flag[0].size
        pair = np.array([in_row.sum(), flag.size])
        spw[chunk.spw] = spw.get(chunk.spw, np.zeros(2, dtype=np.int64)) + pair
        ends = np.concatenate([chunk["ANTENNA1"], chunk["ANTENNA2"]])
        for ant in np.unique(ends):
            of_ant = (chunk["ANTENNA1"] == ant) | (chunk["ANTENNA2"] == ant)
            pair = np.array([in_row[of_ant].sum(), of_ant.sum() * size])
            antenna[int(ant)] = antenna.get(int(ant), np.zeros(2, dtype=np.int64)) + pair
    sums = np.sum(list(spw.values()), axis=0) if spw else np.zeros(2, dtype=np.int64)
    return FlagCount(
        flagged=int(sums[0]),
        total=int(sums[1]),
        by_antenna={key: float(pair[0] / pair[1]) for key, pair in sorted(antenna.items())},
        by_spw={key: float(pair[0] / pair[1]) for key, pair in sorted(spw.items())},
    )
