"""The config key ``primary_beam``: fluxes off the axis of a run's corrected images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.imaging.interface import open_image
from libs.imaging.predict import fill_model_column
from libs.imaging.primary_beam import find_beam
from libs.ms.tables import open_table
from tests import odd_data
from tests.quiet_run import QuietRun, quiet_run

STEPS = ("startup", "save_init_flags", "test_image", "split_trial_1")
# flux in Jy, and offsets east and north in units of the half width at half power
SOURCES = ((0.5, 0.0, 0.0), (1.0, 0.7, 0.2), (0.8, -0.3, -1.0), (1.2, -0.8, 0.9))


@dataclass(frozen=True)
class Case:
    """A telescope, its band, and a grid whose pixels the sources lie on."""

    telescope: str
    windows: tuple[tuple[float, float, int], ...]
    dish_m: float
    cell_arcsec: float
    uvmax_m: float

    @property
    def middle_hz(self) -> float:
        return float(np.mean([centre for centre, _, _ in self.windows]))

    @property
    def half_pixels(self) -> float:
        """Half width of the beam at half power, about."""
        half = 0.55 * SPEED_OF_LIGHT_M_S / self.middle_hz / self.dish_m
        return math.degrees(half) * 3600 / self.cell_arcsec

    def pixels(self) -> list[tuple[float, int, int]]:
        """Flux, and offsets east and north in pixels."""
        return [
            (flux, round(east * self.half_pixels), round(north * self.half_pixels))
            for flux, east, north in SOURCES
        ]


CASES = {
    "vla": Case("EVLA", ((1.48e9, 6.4e7, 4),), 25.0, 10.0, 900.0),
    "vla wide": Case(
        "EVLA", tuple((1.1e9 + 1.0e8 * i, 1.0e8, 2) for i in range(9)), 25.0, 8.0, 900.0
    ),
    "alma": Case("ALMA", ((2.30e11, 2e9, 4),), 12.0, 0.2, 300.0),
    "meerkat": Case(
        "MeerKAT", tuple((0.95e9 + 0.9e8 * i, 0.9e8, 2) for i in range(8)), 13.5, 10.0, 900.0
    ),
}


def observe(path: Path, instrument: str, case: Case) -> Path:
    """Write data of sources seen through the beam at every channel."""
    ms = odd_data.plain(
        path, windows=case.windows, antennas=14, integrations=4, scans=8, noise_jy=1e-3
    )
    with open_table(f"{ms}::OBSERVATION", write=True) as opened:
        opened.putcell("TELESCOPE_NAME", 0, case.telescope)
    with open_table(f"{ms}::ANTENNA", write=True) as opened:
        opened.putcol("DISH_DIAMETER", np.full(opened.nrows(), case.dish_m))
    beam = find_beam(instrument, case.middle_hz, case.dish_m)
    assert beam is not None
    cell = math.radians(case.cell_arcsec / 3600)

    def seen(uvw_m: np.ndarray, frequency_hz: np.ndarray) -> np.ndarray:
        total = np.zeros((len(uvw_m), len(frequency_hz)), complex)
        for flux, east, north in case.pixels():
            l_rad, m_rad = east * cell, north * cell
            angle = np.array([math.asin(math.hypot(l_rad, m_rad))])
            power = np.array([float(beam.power(angle, f)[0]) for f in frequency_hz])
            place = np.array([l_rad, m_rad, math.sqrt(1 - l_rad**2 - m_rad**2) - 1])
            turns = np.outer(uvw_m @ place, frequency_hz / SPEED_OF_LIGHT_M_S)
            total += flux * power * np.exp(2j * np.pi * turns)
        return total

    fill_model_column([ms], seen)
    rng = np.random.default_rng(1)
    with open_table(ms, write=True) as opened:
        data = opened.getcol("MODEL_DATA")
        noise = rng.normal(0, 1e-3, (2, *data.shape))
        opened.putcol("DATA", data + noise[0] + 1j * noise[1])
        opened.removecols("MODEL_DATA")
    return ms


def peaks(run: QuietRun, product: str, case: Case) -> list[float]:
    """Pixels at the sources, Jy/beam."""
    plane, _ = open_image(run.workdir / run.result("split_trial_1").products[product])
    ny, nx = plane.shape
    return [float(plane[ny // 2 + north, nx // 2 - east]) for _, east, north in case.pixels()]


@pytest.mark.parametrize(
    "name",
    ["vla", "alma", *(pytest.param(n, marks=pytest.mark.tools) for n in ("vla wide", "meerkat"))],
)
def test_fluxes_off_the_axis(tmp_path: Path, name: str) -> None:
    instrument, case = name.split()[0], CASES[name]
    if instrument == "meerkat":
        pytest.importorskip("katbeam")
    ms = observe(tmp_path / "a.ms", instrument, case)
    run = quiet_run(
        tmp_path, [ms], steps=STEPS, imsize=int(2 * round(1.4 * case.half_pixels)),
        cell=f"{case.cell_arcsec}arcsec",
        init_parameters={
            # of the split as well; deeper than 1 % of the faintest source needs
            "test_image": {"uvmax": f"{case.uvmax_m}m", "niter": 3000},
            "split_trial_1": {"robust_values": ["0.0"]},
        },
    )  # fmt: skip
    assert "corrected for the primary beam" in run.result("split_trial_1").reason
    right = [flux for flux, _, _ in SOURCES]
    assert peaks(run, "pbcor_+0.0", case) == pytest.approx(right, rel=0.01)
    seen = peaks(run, "image_+0.0", case)
    assert seen[0] == pytest.approx(0.5, rel=0.01) and seen[3] < 0.75 * right[3]


def test_nothing_is_corrected_where_no_beam_is_known_or_wanted(tmp_path: Path) -> None:
    ms = odd_data.plain(tmp_path / "a.ms", integrations=2)
    none = quiet_run(tmp_path / "none", [ms], steps=STEPS, primary_beam="none")
    assert "primary beam" not in none.result("split_trial_1").reason
    other = quiet_run(tmp_path / "other", [ms], steps=STEPS, instrument="other")
    reason = other.result("split_trial_1").reason
    assert "not corrected for the primary beam: that of other is not known here" in reason
    with open_table(f"{ms}::ANTENNA", write=True) as opened:
        opened.putcell("DISH_DIAMETER", 0, 7.0)
    mixed = quiet_run(tmp_path / "mixed", [ms], steps=STEPS)
    assert "dishes of 7 to 25 m have no beam in common" in mixed.result("split_trial_1").reason
    for run in (none, other, mixed):
        assert not any("pb" in name for name in run.result("split_trial_1").products)
