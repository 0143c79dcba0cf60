"""An h5parm applied by CASA, after export, is the h5parm's gains divided out."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from libs.gains.casa_solver import CasaSolver
from libs.gains.solver import AppliedTable
from libs.h5parm.export import export_caltable
from libs.h5parm.reader import read_h5parm, write_h5parm
from libs.ms.summary import summarise
from libs.ms.tables import open_table
from tests.libs.solset_examples import flagged, solset


@pytest.mark.tools
def test_casa_divides_by_exported_gains(session, demo_ms, tmp_path) -> None:
    ms = tmp_path / "copy.ms"
    shutil.copytree(demo_ms, ms)
    summary = summarise(ms)
    with open_table(ms) as opened:
        times, row = np.unique(opened.getcol("TIME"), return_inverse=True)
        one, two = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
        data, flag = opened.getcol("DATA"), opened.getcol("FLAG")
        spw = opened.getcol("DATA_DESC_ID")
    rng = np.random.default_rng(1)
    frequency_hz = np.unique([float(f.mean()) for f in summary.frequency_hz])
    shape = (len(times), len(frequency_hz), len(summary.antenna), 1, 2)
    table = solset(
        time_s=times,
        frequency_hz=frequency_hz,
        antenna=summary.antenna,
        phase_rad=rng.uniform(-3, 3, shape),
        amplitude=rng.uniform(0.5, 2, shape),
    )
    table = flagged(table, station=summary.antenna[4])
    write_h5parm(tmp_path / "s.h5", table)
    export_caltable(tmp_path / "s.h5", ms, tmp_path / "s.gcal")
    CasaSolver(session).apply(ms, [AppliedTable(tmp_path / "s.gcal", interp="nearest")])
    with open_table(ms) as opened:
        corrected, after = opened.getcol("CORRECTED_DATA"), opened.getcol("FLAG")
    block = np.array([np.searchsorted(frequency_hz, f.mean()) for f in summary.frequency_hz])
    gain = read_h5parm(tmp_path / "s.h5").gain[row, block[spw], :, 0]
    rows = np.arange(len(row))
    # the first and the last correlation are the parallel hands
    expected = data[:, :, [0, -1]] / (gain[rows, one] * gain[rows, two].conj())[:, None, :]
    good = ~(flag | after)[:, :, [0, -1]]
    assert good.mean() > 0.3
    np.testing.assert_allclose(corrected[:, :, [0, -1]][good], expected[good], rtol=1e-4)
    assert after[(one == 4) | (two == 4)].all()
