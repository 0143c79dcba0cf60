"""A measurement set of several fields and bands, small, with known gains."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from libs.ms.create import create_ms
from libs.ms.tables import open_table
from libs.simulation.array_configurations import load_configuration
from libs.simulation.observation import Observation, Source, SpectralWindow, StationErrors, simulate

ARRAY = load_configuration("vla.a").thinned(20)
WINDOWS = (SpectralWindow(5.0e9, 64e6, 4), SpectralWindow(9.0e9, 64e6, 4))  # C and X
START_S = 5.07e9
INTEGRATION_S = 10.0


@dataclass(frozen=True)
class FieldMade:
    """A field: name, intent of its rows, windows it was observed in, flux (0: noise only)."""

    name: str
    direction_deg: tuple[float, float]
    flux_jy: float
    windows: tuple[int, ...] = (0, 1)
    intent: str = "OBSERVE_TARGET#UNSPECIFIED"


FIELDS = (
    FieldMade("phasecal", (187.0, 2.5), 1.0, (0, 1), "CALIBRATE_PHASE#UNSPECIFIED"),
    FieldMade("NGC 1", (188.0, 2.0), 0.5),
    FieldMade("J1230+03", (187.5, 3.0), 0.3, (1,)),
)


def make_fields_ms(
    path: Path, fields: tuple[FieldMade, ...] = FIELDS, *, integrations: int = 18, seed: int = 1,
    phase_deg: float = 30.0, alike: bool = False,
) -> Path:  # fmt: skip
    """Make it: one scan of each field after the other, each with phases off by ``phase_deg`` rms.

    ``alike``: the stations' phases are those of the first field in all of them.
    """
    span_s = integrations * INTEGRATION_S
    create_ms(
        path, ARRAY, WINDOWS, ("RR", "LL"), fields[0].name, _radians(fields[0]),
        (START_S, START_S + 2 * span_s * len(fields)),
    )  # fmt: skip
    for number, made in enumerate(fields):
        part = path.with_name(f"{path.stem}.part.ms")
        own = seed if alike else seed + number
        _simulate(part, made, START_S + 2 * span_s * number, span_s, own, phase_deg)
        _append(path, part, made, number)
        shutil.rmtree(part)
    return path


def _radians(made: FieldMade) -> tuple[float, float]:
    ra, dec = np.deg2rad(made.direction_deg)
    return float(ra), float(dec)


def _simulate(
    part: Path, made: FieldMade, start_s: float, span_s: float, seed: int, phase_deg: float
) -> None:
    observation = Observation(
        array=ARRAY, direction_deg=made.direction_deg, start_s=start_s,
        integration_s=INTEGRATION_S, scan_s=span_s, spws=tuple(WINDOWS[i] for i in made.windows),
        noise_jy=0.02, field=made.name,
    )  # fmt: skip
    sky = [Source(made.flux_jy)] if made.flux_jy else []
    errors = StationErrors(phase_offset_deg=phase_deg)
    simulate(part, observation, sky, errors, seed=seed, perfect=False)


def _append(path: Path, part: Path, made: FieldMade, number: int) -> None:
    """Add the rows of a simulated field, and what they refer to."""
    with open_table(part) as origin:
        columns: dict[str, Any] = {name: origin.getcol(name) for name in _columns(origin)}
    columns["DATA_DESC_ID"] = np.array(made.windows)[columns["DATA_DESC_ID"]]
    columns["FIELD_ID"] = columns["STATE_ID"] = np.full(len(columns["TIME"]), number, np.int32)
    columns["SCAN_NUMBER"] = columns["SCAN_NUMBER"] + number
    with open_table(path, write=True) as opened:
        start = opened.nrows()
        opened.addrows(len(columns["TIME"]))
        for name, values in columns.items():
            opened.putcol(name, values, start, len(values))
    with open_table(f"{part}::FIELD") as origin, open_table(f"{path}::FIELD", write=True) as fields:
        if number:
            origin.copyrows(fields)
    with open_table(f"{path}::STATE", write=True) as states:
        if number:
            states.copyrows(states, 0, number, 1)
        states.putcell("OBS_MODE", number, made.intent)


def _columns(opened: Any) -> list[str]:
    return [name for name in opened.colnames() if opened.iscelldefined(name, 0)]
