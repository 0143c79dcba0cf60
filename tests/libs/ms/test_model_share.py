"""The share of a model in the flux of data: known answers, whatever the antennas' phases are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from libs.ms.columns import ensure_data_column
from libs.ms.model_share import model_share
from libs.ms.tables import open_table
from tests.libs.small_ms import make_ms


def with_model(path: Path, model_jy: float, *, phases: bool, channels: int = 8, noise: float = 0.5,
               flux_jy: float = 2.0) -> Path:  # fmt: skip
    """Data with a fraction of noise, antenna phases over all of the circle, and a point's model."""
    ms = make_ms(path, times=60, channels=channels, noise_jy=noise, flux_jy=flux_jy)
    ensure_data_column(ms, "MODEL_DATA")
    rng = np.random.default_rng(3)
    with open_table(ms, write=True) as opened:
        one, two = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
        phase = rng.uniform(-np.pi, np.pi, 5) if phases else np.zeros(5)
        data = opened.getcol("DATA")
        opened.putcol("DATA", data * np.exp(1j * (phase[one] - phase[two]))[:, None, None])
        opened.putcol("MODEL_DATA", np.full(data.shape, model_jy, np.complex64))
    return ms


@pytest.mark.parametrize("phases", [False, True])
@pytest.mark.parametrize("channels", [8, 1])
def test_the_share_is_the_ratio_of_fluxes(tmp_path: Path, phases: bool, channels: int) -> None:
    ms = with_model(tmp_path / "a.ms", 1.2, phases=phases, channels=channels)
    found = model_share([ms], 0)
    assert abs(found.share - 0.6) < 4 * found.error
    assert found.error < 0.02


def test_two_sets_count_together(tmp_path: Path) -> None:
    sets = [with_model(tmp_path / f"{n}.ms", jy, phases=True) for n, jy in ((1, 2.0), (2, 0.0))]
    assert model_share(sets, 0).share == pytest.approx(np.sqrt(0.5), abs=0.02)


def test_noise_says_nothing(tmp_path: Path) -> None:
    ms = with_model(tmp_path / "a.ms", 0.001, phases=False, flux_jy=0.0)
    found = model_share([ms], 0)
    assert not found.share + found.error < 0.75, "nothing is left out for it"
