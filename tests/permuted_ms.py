"""Another import of one measurement set: the same visibilities under other ids."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from libs.ms.tables import open_table

_CELLS = ("DATA", "CORRECTED_DATA", "MODEL_DATA")


def permuted(ms: Path, target: Path, seed: int = 1) -> np.ndarray:
    """Copy a set with the ids of antennas, fields, windows and data descriptions permuted.

    Rows keep their order; those whose antennas changed places are conjugated. Returns which,
    (nrow,) bool.
    """
    rng = np.random.default_rng(seed)
    shutil.copytree(ms, target, symlinks=False)
    antenna = _reorder(target, "ANTENNA", rng)
    field = _reorder(target, "FIELD", rng)
    window = _reorder(target, "SPECTRAL_WINDOW", rng)
    with open_table(f"{target}::DATA_DESCRIPTION", write=True) as opened:
        opened.putcol("SPECTRAL_WINDOW_ID", window[opened.getcol("SPECTRAL_WINDOW_ID")])
    description = _reorder(target, "DATA_DESCRIPTION", rng)
    for name in ("FEED", "POINTING"):
        with open_table(f"{target}::{name}", write=True) as opened:
            if opened.nrows():
                opened.putcol("ANTENNA_ID", antenna[opened.getcol("ANTENNA_ID")])
            if opened.nrows() and "SPECTRAL_WINDOW_ID" in opened.colnames():
                spw = opened.getcol("SPECTRAL_WINDOW_ID")
                opened.putcol("SPECTRAL_WINDOW_ID", np.where(spw < 0, spw, window[spw]))
    with open_table(target, write=True) as opened:
        opened.putcol("FIELD_ID", field[opened.getcol("FIELD_ID")])
        opened.putcol("DATA_DESC_ID", description[opened.getcol("DATA_DESC_ID")])
        one, two = (antenna[opened.getcol(name)] for name in ("ANTENNA1", "ANTENNA2"))
        swapped = one > two
        opened.putcol("ANTENNA1", np.where(swapped, two, one).astype(np.int32))
        opened.putcol("ANTENNA2", np.where(swapped, one, two).astype(np.int32))
        uvw = opened.getcol("UVW")
        uvw[swapped] *= -1
        opened.putcol("UVW", uvw)
        for name in [column for column in _CELLS if column in opened.colnames()]:
            for row in np.flatnonzero(swapped):
                opened.putcell(name, int(row), opened.getcell(name, int(row)).conj())
    return np.asarray(swapped)


def _reorder(ms: Path, name: str, rng: np.random.Generator) -> np.ndarray:
    """Permute the rows of a subtable; the new id of each old one."""
    with open_table(f"{ms}::{name}", write=True) as opened:
        count = opened.nrows()
        order = rng.permutation(count)
        while count > 1 and (order == np.arange(count)).any() and count < 4:
            order = rng.permutation(count)
        rows: list[dict[str, Any]] = [opened[int(i)] for i in order]
        for place, values in enumerate(rows):
            for column, value in values.items():
                if opened.iscelldefined(column, place) or np.size(value):
                    opened.putcell(column, place, value)
    new = np.empty(count, np.int32)
    new[order] = np.arange(count)
    return new
