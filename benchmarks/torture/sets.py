"""Mutated measurement sets: bytes of files, whole files, and cells of columns."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from benchmarks.torture.observation import digest, small_config
from benchmarks.torture.outcomes import Attempt, attempt
from libs.ms.tables import open_table

__all__ = ["mutated_set"]

_COLUMNS = (
    "DATA", "UVW", "TIME", "INTERVAL", "EXPOSURE", "WEIGHT", "SIGMA", "SCAN_NUMBER", "FIELD_ID",
    "DATA_DESC_ID", "ANTENNA1", "ANTENNA2", "ARRAY_ID", "OBSERVATION_ID", "STATE_ID",
)  # fmt: skip
_CELLS = (
    ("SPECTRAL_WINDOW", "CHAN_FREQ"), ("SPECTRAL_WINDOW", "CHAN_WIDTH"),
    ("SPECTRAL_WINDOW", "NUM_CHAN"), ("ANTENNA", "POSITION"), ("ANTENNA", "DISH_DIAMETER"),
    ("FIELD", "PHASE_DIR"), ("FIELD", "REFERENCE_DIR"), ("FIELD", "NUM_POLY"),
    ("POLARIZATION", "CORR_TYPE"), ("POLARIZATION", "NUM_CORR"),
    ("DATA_DESCRIPTION", "SPECTRAL_WINDOW_ID"), ("DATA_DESCRIPTION", "POLARIZATION_ID"),
    ("OBSERVATION", "TIME_RANGE"),
)  # fmt: skip
_NUMBERS = (0.0, -1.0, 1.0, np.nan, np.inf, 1e30, -1e30, 1e-30, 2**31 - 1, 7.0)


def mutated_set(number: int, seed: int, origin: Path, folder: Path) -> tuple[Attempt, bool]:
    """Spoil a copy of a set and calibrate it; return how that ended, and whether it was changed."""
    rng = np.random.default_rng([seed, number])
    here = folder / f"set_{number}"
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir(parents=True)
    ms = here / "a.ms"
    shutil.copytree(origin, ms)
    what = _in_cells(rng, ms) if rng.random() < 0.6 else _in_files(rng, ms)
    before = digest(ms)
    config = here / "config.yaml"
    config.write_text(json.dumps(small_config(ms, here / "run", until="p0")))
    found = attempt(what, [config], here, harm={"no_report": number % 5 > 0})
    changed = digest(ms) != before
    if not found.fault and not changed:
        shutil.rmtree(here)
    return found, changed


def _in_cells(rng: np.random.Generator, ms: Path) -> str:
    """Put a number into some rows of a column, or into cells of a subtable."""
    value = _NUMBERS[int(rng.integers(len(_NUMBERS)))]
    if rng.random() < 0.6:
        column = str(rng.choice(_COLUMNS))
        place, part = f"{ms}", column
    else:
        table, part = _CELLS[int(rng.integers(len(_CELLS)))]
        place = f"{ms}::{table}"
    with open_table(place, write=True) as opened:
        rows = np.flatnonzero(rng.random(opened.nrows()) < rng.choice([0.01, 0.3, 1.0]))
        rows = rows if len(rows) else np.array([0])
        for row in rows.tolist():
            cell = np.array(opened.getcell(part, row))
            with np.errstate(all="ignore"):
                filled = np.full(cell.shape, value).astype(cell.dtype)
            opened.putcell(part, row, filled if filled.ndim else filled[()])
    return f"{len(rows)} cells of {place.removeprefix(str(ms))} {part} = {value}"


def _in_files(rng: np.random.Generator, ms: Path) -> str:
    """Spoil bytes of a file, cut it short or remove it, or remove a subtable."""
    files = sorted(path for path in ms.rglob("*") if path.is_file() and path.stat().st_size)
    path = files[int(rng.integers(len(files)))]
    name = path.relative_to(ms)
    kind = str(rng.choice(["bytes", "cut", "file", "folder"]))
    if kind == "folder" and path.parent != ms:
        shutil.rmtree(path.parent)
        return f"no {name.parent}"
    if kind in ("file", "folder"):
        path.unlink()
        return f"no {name}"
    content = bytearray(path.read_bytes())
    if kind == "cut":
        path.write_bytes(content[: int(rng.integers(len(content)))])
        return f"{name} cut short"
    for place in rng.integers(0, len(content), int(rng.choice([1, 4, 64]))):
        content[int(place)] = int(rng.integers(256))
    path.write_bytes(content)
    return f"bytes of {name}"
