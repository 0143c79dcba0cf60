"""The simulated executions hold what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from tests.pipeline_case import FIRST, LineMade, make_pipeline_case, with_noise_field


def test_ids_differ_and_the_gains_are_known(tmp_path: Path) -> None:
    line = LineMade("04287+1801", 230.538e9, 10e6, 5.0)
    case = make_pipeline_case(
        tmp_path, antennas=4, scans=1, scan_s=24.0, noise_jy=0.0, line=line, perfect=True
    )
    names = [[field.name for field in Subtables(path).fields] for path in case.vis]
    assert names[0] != names[1]
    assert sorted(names[0]) == sorted(names[1])
    assert names[1].count("L1551 map") == 3
    assert [[w.channels for w in Subtables(path).windows] for path in case.vis] == [
        [8, 8, 16, 8], [4, 8, 8, 16, 8],
    ]  # fmt: skip
    for path, perfect, gains in zip(case.vis, case.perfect, case.gains, strict=True):
        with open_table(path) as opened, open_table(perfect) as truth:
            ids, when = opened.getcol("DATA_DESC_ID"), opened.getcol("TIME")
            row = int(np.flatnonzero(ids == ids.max())[-1])
            one, two = opened.getcell("ANTENNA1", row), opened.getcell("ANTENNA2", row)
            place = int(np.searchsorted(gains.time_s, when[row]))
            factor = gains.gain[place, ids[row], one] * gains.gain[place, ids[row], two].conj()
            np.testing.assert_allclose(
                opened.getcell("DATA", row), truth.getcell("DATA", row) * factor, rtol=1e-5
            )
        with open_table(f"{path}::POINTING") as pointing:
            assert pointing.nrows()


def test_the_line_moves_with_the_earth(tmp_path: Path) -> None:
    """Half a year apart it is in other channels, and as bright."""
    line = LineMade("04287+1801", 230.55e9, 20e6, 5.0)
    case = make_pipeline_case(
        tmp_path, antennas=4, scans=1, scan_s=12.0, noise_jy=0.0, line=line, perfect=True
    )
    peaks = []
    for number, path in enumerate(case.perfect):
        field = case.fields_of[number].index(1)
        with open_table(path) as opened:
            wanted = opened.getcol("FIELD_ID") == field
            wanted &= opened.getcol("DATA_DESC_ID") == case.windows_of[number].index(2)
            spectrum = np.abs(opened.getcell("DATA", int(np.flatnonzero(wanted)[0]))[:, 0])
        window = Subtables(path).windows[case.windows_of[number].index(2)]
        peaks.append(window.frequency_hz[int(np.argmax(spectrum))])
        assert 4.0 < spectrum.max() < 5.3
    assert 10e6 < abs(peaks[0] - peaks[1]) < 30e6


def test_a_field_of_noise_and_a_compact_array(tmp_path: Path) -> None:
    import dataclasses

    compact = dataclasses.replace(FIRST, array="7m")
    case = make_pipeline_case(
        tmp_path, [compact], fields=with_noise_field(), antennas=4, scans=1, scan_s=12.0
    )
    found = Subtables(case.vis[0])
    assert found.fields[-1].name == "blank"
    assert found.antennas[0].diameter_m == 7.0
