"""The typical power of visibilities: that of their noise, whatever a few of them hold."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from libs.ms.data_power import typical_power
from libs.ms.tables import open_table
from libs.simulation.observation import simulate
from tests.libs.directions.test_phase_shift import observe


def test_the_power_of_noise(tmp_path: Path) -> None:
    """|V|^2 is twice the variance of either part, with and without interference and flags."""
    made = simulate(tmp_path / "a.ms", observe(16, 40, noise_jy=0.5), [], perfect=False)
    assert typical_power(made.ms) == pytest.approx(2 * 0.5**2, rel=0.05)
    with open_table(made.ms, write=True) as opened:
        data, flag = opened.getcol("DATA"), opened.getcol("FLAG")
        data[::50] = 1e4
        data[1::4] = 3.0
        flag[1::4] = True
        opened.putcol("DATA", data)
        opened.putcol("FLAG", flag)
    assert typical_power(made.ms) == pytest.approx(2 * 0.5**2, rel=0.1)
    with open_table(made.ms) as opened:
        longest = float(np.hypot(*opened.getcol("UVW")[:, :2].T).max())
    assert math.isnan(typical_power(made.ms, uvmin_m=longest + 1))
