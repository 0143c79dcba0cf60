"""Two runs of a field set side by side: their global tables and what they left in the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.h5parm.global_table import list_entries
from libs.h5parm.reader import read_h5parm
from libs.ms.tables import open_table

__all__ = ["compare_runs"]

# data are float32: 7 digits are 1e-5 deg, of which sums over a solution's data lose some
_SAME_DEG = 1e-3


def compare_runs(one: Path, other: Path) -> dict[str, Any]:
    """Compare the global tables and the data left by two runs.

    Parameters
    ----------
    one, other : Path
        Work directories.

    Returns
    -------
    dict
        ``entries_alike``: the same directions and stations, of the same origins;
        ``flags_differ``: how many solutions only one of them has; the largest differences of
        phases (deg) and of amplitudes (relative) that both have, and of the phases by
        direction; ``sources_differ``: those of which anything on record differs (fluxes, SNR,
        decisions); the largest difference of the subtracted data over their rms; ``same``:
        entries, flags and phases are.

    Raises
    ------
    ValueError
        The tables are on other grids of time and frequency.
    """
    first, second = (_origins(work / "solutions.h5") for work in (one, other))
    found: dict[str, Any] = {"entries_alike": first == second}
    found |= _compare_tables(one / "solutions.h5", other / "solutions.h5")
    found |= {
        "sources_differ": _sources_differ(one, other),
        "largest_data_difference": _compare_data(one, other),
    }
    found["same"] = bool(
        found["entries_alike"]
        and found["flags_differ"] == 0
        and found["largest_phase_difference_deg"] < _SAME_DEG
    )
    return found


def _origins(table: Path) -> dict[tuple[str, str], tuple[str, str]]:
    return {
        item.entry.key: (item.entry.source, item.entry.refined_from) for item in list_entries(table)
    }


def _compare_tables(one: Path, other: Path) -> dict[str, Any]:
    first, second = read_h5parm(one), read_h5parm(other)
    antennas = [second.antenna.index(name) for name in first.antenna]
    directions = [second.direction.index(name) for name in first.direction]

    def ordered(values: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(values[:, :, antennas][:, :, :, directions])

    valid, amplitude = ordered(second.valid), ordered(second.amplitude)
    if valid.shape != first.shape:
        raise ValueError(f"tables on other grids: {first.shape} and {valid.shape}")
    both = first.valid & valid
    difference = np.where(both, first.total_phase_rad - ordered(second.total_phase_rad), 0.0)
    turned = np.rad2deg(np.abs(np.angle(np.exp(1j * difference))))
    scaled = np.where(both, first.amplitude / np.where(both, amplitude, 1.0), 1.0)
    return {
        "flags_differ": int((first.valid != valid).sum()),
        "largest_phase_difference_deg": float(turned.max()),
        "largest_amplitude_difference": float(np.abs(scaled - 1.0).max()),
        "phase_differences_deg": {
            name: float(turned[:, :, :, j].max()) for j, name in enumerate(first.direction)
        },
    }


def _sources_differ(one: Path, other: Path) -> list[str]:
    """Sources whose results (all but times and what is said) are not the same."""
    first, second = (
        {
            row["name"]: {k: v for k, v in row.items() if k not in ("fingerprint", "seconds")}
            for path in sorted((work / "tables").glob("layer_*.json"))
            for row in json.loads(path.read_text())
        }
        for work in (one, other)
    )
    return sorted(name for name in first.keys() | second if first.get(name) != second.get(name))


def _compare_data(one: Path, other: Path) -> float:
    """The largest difference of the subtracted data over their rms."""
    worst = 0.0
    for ms in sorted(one.glob("data/after_layer_*/*")):
        with open_table(ms) as a, open_table(other / ms.relative_to(one)) as b:
            left, right = a.getcol("DATA"), b.getcol("DATA")
        worst = max(worst, float(np.abs(left - right).max() / np.sqrt(np.mean(np.abs(left) ** 2))))
    return worst
