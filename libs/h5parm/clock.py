"""Delays as an h5parm: soltab ``clock`` and the constant phases that belong to it.

A clock turns the phase by 2 pi nu t at all frequencies; a delay of a K Jones table turns none at
the table's reference frequency. So the h5parm has the phase -2 pi nu0 t beside the clock.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from libs.core.angles import wrap_rad
from libs.core.errors import InputError
from libs.core.files import replacing
from libs.gains.caltable import read_caltable
from libs.h5parm.writer import SOLSET

__all__ = ["write_clock_h5parm"]

_ANTENNA, _DIRECTION = "S16", "S128"


def write_clock_h5parm(table: Path, target: Path, direction_rad: tuple[float, float]) -> None:
    """Write the delays of a K Jones table as clock000 (s) and phase000 (rad).

    Parameters
    ----------
    table : Path
        Delays of one spectral window, or of the whole band together.
    target : Path
        The h5parm; it appears complete or not at all.
    direction_rad : (float, float)
        RA and Dec, J2000, of the calibrator, for the table of sources.

    Raises
    ------
    InputError
        It is no table of delays, or windows have delays of their own: a clock has one for all
        frequencies.
    """
    found = read_caltable(table)
    if found.kind != "K Jones":
        raise InputError(f"{table.name} holds no delays", "name a K table")
    if len(found.spws) != 1:
        raise InputError(
            f"{table.name} has delays of {len(found.spws)} spectral windows, a clock has one",
            'solve with combine = ["scan", "spw"]',
        )
    (part,) = found.spws.values()
    assert part.delay_ns is not None
    flag = part.flag[:, 0]
    clock = np.where(flag, np.nan, 1e-9 * part.delay_ns)
    turn = np.where(flag, np.nan, wrap_rad(-2 * np.pi * part.frequency_hz[0] * clock))
    axes: dict[str, NDArray[np.generic]] = {
        "time": part.time_s,
        "ant": np.array([name.encode() for name in found.antenna], _ANTENNA),
        "pol": np.array([b"XX", b"YY"], "S3"),
    }
    with replacing(target) as beside, h5py.File(beside, "w") as opened:
        solset = opened.create_group(SOLSET)
        solset.attrs["h5parm_version"] = np.bytes_(b"1.0")
        antenna = np.zeros(len(found.antenna), [("name", _ANTENNA), ("position", "<f4", (3,))])
        antenna["name"], antenna["position"] = axes["ant"], found.position_m
        source = np.zeros(1, [("name", _DIRECTION), ("dir", "<f8", (2,))])
        source["name"], source["dir"] = b"[calibrator]", direction_rad
        for name, rows in (("antenna", antenna), ("source", source)):
            solset.create_dataset(name, data=rows)
        for name, values in (("clock", clock), ("phase", turn)):
            group = solset.create_group(f"{name}000")
            group.attrs["TITLE"] = np.bytes_(name.encode())
            for axis, own in axes.items():
                group.create_dataset(axis, data=own)
            for dataset, cells in (("val", values), ("weight", np.where(flag, 0, 1))):
                kind = "<f8" if dataset == "val" else "<f4"
                made = group.create_dataset(dataset, data=cells.astype(kind))
                made.attrs["AXES"] = np.bytes_(b"time,ant,pol")
