"""Small data sets for a direction: exact on analytic skies, averages known, DP3 beside it."""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.core.coordinates import antenna_uvw
from libs.core.errors import ConfigError, InputError
from libs.core.files import tree_bytes
from libs.core.geometry import smearing_limits
from libs.directions.phase_shift import ShiftOptions, plan_shift, rotation, shift_data
from libs.h5parm.direction_gains import DirectionGains
from libs.h5parm.global_table import write_with_entries
from libs.h5parm.solset import from_gain_solutions
from libs.ms.antennas import AntennaArray
from libs.ms.tables import open_table
from libs.simulation.observation import (
    Observation,
    Simulation,
    Source,
    SpectralWindow,
    StationErrors,
    simulate,
)
from tests.conftest import tree_hash

DEG = 3600.0
SKY = (
    Source(1.0, 0.8 * DEG, -0.5 * DEG, name="target"),
    Source(0.3, 0.8 * DEG + 5.0, -0.5 * DEG - 3.0, name="neighbour"),
)


def array() -> AntennaArray:
    """Six stations up to 900 km apart."""
    centre = np.array([3826577.0, 461022.0, 5064892.0])
    offset = np.array(
        [[0, 0, 0], [3e3, 1e4, -2e3], [-2e4, 5e4, 1e4], [2e5, -1e5, -1e5], [-3e5, 4e5, 2e5],
         [4e5, 3e5, -4e5]]
    )  # fmt: skip
    names = tuple(f"S{i:03d}" for i in range(6))
    return AntennaArray("LOFAR", names, names, centre + offset, np.full(6, 30.0))


def observe(channels: int = 8, times: int = 12, **more: object) -> Observation:
    values: dict[str, object] = {
        "array": array(), "direction_deg": (212.8, 52.2), "start_s": 58849.4 * 86400.0,
        "integration_s": 2.0, "scan_s": 2.0 * times,
        "spws": (SpectralWindow(144e6, 0.4e6, channels),),
        "correlations": ("XX", "XY", "YX", "YY"), **more,
    }  # fmt: skip
    return Observation(**values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return simulate(tmp_path_factory.mktemp("sky") / "a.ms", observe(), SKY, perfect=False)


def place(simulation: Simulation, number: int = 0) -> tuple[float, float]:
    return simulation.sky[number].radec_rad(*simulation.observation.direction_rad)


def column(ms: Path, name: str) -> np.ndarray:
    with open_table(ms) as opened:
        return np.asarray(opened.getcol(name))


def about(ms: Path, sources: tuple[tuple[float, float, float], ...]) -> np.ndarray:
    """Analytic visibilities of (flux, l_arcsec, m_arcsec) with the UVW and channels of a set."""
    uvw = column(ms, "UVW")
    with open_table(f"{ms}::SPECTRAL_WINDOW") as windows:
        frequency = windows.getcell("CHAN_FREQ", 0)
    total = np.zeros((len(uvw), len(frequency)), complex)
    for flux, east, north in sources:
        l, m = east / 206264.80625, north / 206264.80625  # noqa: E741
        n = math.sqrt(1 - l * l - m * m) - 1
        total += flux * np.exp(2j * np.pi * np.outer(uvw @ [l, m, n], frequency / 299792458.0))
    return total


def test_a_source_at_the_new_centre_has_no_phase(made: Simulation, tmp_path: Path) -> None:
    before = tree_hash(made.ms)
    plan = shift_data(made.ms, tmp_path / "b.ms", ShiftOptions(place(made), "target"))
    assert tree_hash(made.ms) == before
    data = column(tmp_path / "b.ms", "DATA")
    ra, dec = place(made, 0)
    ra2, dec2 = place(made, 1)
    offset = ((ra2 - ra) * math.cos(dec2) * 206264.80625, (dec2 - dec) * 206264.80625)
    expected = about(tmp_path / "b.ms", ((1.0, 0.0, 0.0), (0.3, *offset)))
    assert np.abs(data[:, :, 0] - expected).max() < 2e-3
    assert np.abs(data[:, :, 1]).max() == 0
    assert plan.rows == len(data)
    with open_table(f"{tmp_path / 'b.ms'}::FIELD") as field:
        assert np.allclose(field.getcell("PHASE_DIR", 0), place(made), atol=1e-15)
        assert field.getcell("NAME", 0) == "target"
        assert np.allclose(
            field.getcell("DELAY_DIR", 0)[0], made.observation.direction_rad, atol=1e-12
        )


def test_baselines_are_those_of_the_new_centre(made: Simulation, tmp_path: Path) -> None:
    """As computed anew, but for the aberration's change over a degree, 1e-4 of the angle."""
    shift_data(made.ms, tmp_path / "b.ms", ShiftOptions(place(made)))
    observation = made.observation
    stations = antenna_uvw(observation.array.position_m, place(made), observation.time_s)
    first, second = observation.baselines
    anew = (stations[:, second] - stations[:, first]).reshape(-1, 3)
    uvw = column(tmp_path / "b.ms", "UVW")
    length = np.linalg.norm(anew, axis=1)
    assert (np.linalg.norm(uvw - anew, axis=1) / length).max() < 3e-6
    assert np.allclose(np.linalg.norm(column(made.ms, "UVW"), axis=1), np.linalg.norm(uvw, axis=1))


@given(
    st.floats(0, 6.28), st.floats(-1.5, 1.5), st.floats(0, 6.28), st.floats(-1.5, 1.5)
)  # fmt: skip
def test_rotations(ra: float, dec: float, ra2: float, dec2: float) -> None:
    there, back = rotation((ra, dec), (ra2, dec2)), rotation((ra2, dec2), (ra, dec))
    assert np.allclose(there @ back, np.eye(3), atol=1e-12)
    assert np.linalg.det(there) == pytest.approx(1.0)
    assert np.allclose(rotation((ra, dec), (ra, dec)), np.eye(3), atol=1e-12)


def test_shift_there_and_back(made: Simulation, tmp_path: Path) -> None:
    shift_data(made.ms, tmp_path / "b.ms", ShiftOptions(place(made)))
    centre = made.observation.direction_rad
    shift_data(tmp_path / "b.ms", tmp_path / "c.ms", ShiftOptions(centre), chunk_bytes=20_000)
    assert np.allclose(column(tmp_path / "c.ms", "DATA"), column(made.ms, "DATA"), atol=2e-5)
    assert np.allclose(column(tmp_path / "c.ms", "UVW"), column(made.ms, "UVW"), atol=1e-5)
    for name in ("TIME", "ANTENNA1", "ANTENNA2", "INTERVAL", "SCAN_NUMBER", "FLAG", "WEIGHT"):
        assert np.allclose(column(tmp_path / "c.ms", name), column(made.ms, name)), name


def test_averages_and_the_size_foreseen(made: Simulation, tmp_path: Path) -> None:
    options = ShiftOptions(place(made), average_s=9.0, average_hz=0.21e6)
    plan = plan_shift(made.ms, options)
    assert plan == shift_data(made.ms, tmp_path / "b.ms", options)
    assert plan.integration_s == 8.0 and plan.widths == (4,)
    assert plan.rows == 15 * 3
    data = column(tmp_path / "b.ms", "DATA")
    assert data.shape == (45, 2, 4)
    time = np.unique(column(tmp_path / "b.ms", "TIME"))
    assert np.allclose(time, made.observation.time_s.reshape(3, 4).mean(axis=1))
    assert np.allclose(column(tmp_path / "b.ms", "EXPOSURE"), 8.0)
    assert np.allclose(column(tmp_path / "b.ms", "WEIGHT_SPECTRUM"), 16.0)
    # the neighbour is near enough not to be smeared
    assert np.abs(np.abs(data[:, :, 0]) - 1.0).max() < 0.31
    with open_table(f"{tmp_path / 'b.ms'}::SPECTRAL_WINDOW") as windows:
        assert np.allclose(windows.getcell("CHAN_FREQ", 0), [143.9e6, 144.1e6])
        assert windows.getcell("NUM_CHAN", 0) == 2


def test_the_size_on_disk_is_as_foreseen(tmp_path: Path) -> None:
    large = simulate(tmp_path / "a.ms", observe(32, 400), SKY, perfect=False)
    options = ShiftOptions(place(large), average_s=4.0)
    plan = shift_data(large.ms, tmp_path / "b.ms", options)
    assert 0.5 < plan.size_bytes / tree_bytes(tmp_path / "b.ms") < 1.1


def test_flags_and_weights_in_averages(made: Simulation, tmp_path: Path) -> None:
    """What is flagged does not count; what is flagged throughout stays flagged."""
    ms = tmp_path / "a.ms"
    shutil.copytree(made.ms, ms)
    with open_table(ms, write=True) as opened:
        data, flag = opened.getcol("DATA"), opened.getcol("FLAG")
        weight = opened.getcol("WEIGHT")
        rows = opened.nrows() // 12
        first = np.arange(4) * rows  # the first baseline in the first four integrations
        data[first[0]] = 1e9
        flag[first[0]] = True
        data[first[1], 0] = np.nan
        flag[1 + first] = True
        weight[first[2]] = 3.0
        data[first] = np.where(
            np.isfinite(data[first]) & (np.abs(data[first]) < 1e6), 2.0, data[first]
        )
        data[first[2]] = 6.0
        opened.putcol("DATA", data)
        opened.putcol("FLAG", flag)
        opened.putcol("WEIGHT", weight)
    centre = made.observation.direction_rad
    shift_data(ms, tmp_path / "b.ms", ShiftOptions(centre, average_s=8.0, average_hz=0.1e6))
    data, weights = column(tmp_path / "b.ms", "DATA"), column(tmp_path / "b.ms", "WEIGHT_SPECTRUM")
    flag = column(tmp_path / "b.ms", "FLAG")
    # two channels of: two integrations of weight 1 and value 2, one of weight 3 and value 6
    assert data[0, 1, 0] == pytest.approx(22 / 5)
    assert weights[0, 1, 0] == pytest.approx(10)
    assert data[0, 0, 0] == pytest.approx((2 + 2 + 2 + 36) / 9)
    assert flag[1].all() and not flag[0].any() and np.isfinite(data).all()


def test_gains_are_divided_out_before_averaging(tmp_path: Path) -> None:
    errors = StationErrors(phase_walk_deg=200.0, phase_walk_s=10.0, amp_offset=0.2)
    sky = (Source(1.0, 0.4 * DEG, 0.2 * DEG),)
    made = simulate(tmp_path / "a.ms", observe(), sky, errors, perfect=False)
    solset = from_gain_solutions(made.gains, "target", place(made))
    write_with_entries(tmp_path / "g.h5", solset, [])
    gains = DirectionGains.read(tmp_path / "g.h5", made.ms)
    options = ShiftOptions(place(made), average_s=8.0)
    shift_data(made.ms, tmp_path / "b.ms", options, gains, chunk_bytes=30_000)
    data = column(tmp_path / "b.ms", "DATA")
    assert np.abs(data[:, :, [0, 3]] - 1.0).max() < 1e-3
    # one station without solutions: its baselines are flagged
    lost = (np.arange(6) == 2)[:, None, None]
    gains = DirectionGains(replace(gains.solset, weight=np.where(lost, 0.0, gains.solset.weight)))
    shift_data(made.ms, tmp_path / "c.ms", options, gains)
    one, two = column(tmp_path / "c.ms", "ANTENNA1"), column(tmp_path / "c.ms", "ANTENNA2")
    flagged = column(tmp_path / "c.ms", "FLAG").all(axis=(1, 2))
    assert np.array_equal(flagged, (one == 2) | (two == 2))


def test_several_windows_and_scans(tmp_path: Path) -> None:
    spws = (SpectralWindow(140e6, 0.4e6, 8), SpectralWindow(150e6, 0.4e6, 6))
    observation = observe(spws=spws, scans=2, gap_s=61.0, scan_s=10.0)
    made = simulate(tmp_path / "a.ms", observation, SKY[:1], perfect=False)
    plan = shift_data(
        made.ms, tmp_path / "b.ms", ShiftOptions(place(made), average_s=4.0, average_hz=0.2e6)
    )
    assert plan.widths == (4, 3)
    assert plan.rows == 15 * 2 * 6
    with open_table(tmp_path / "b.ms") as opened:
        for ddid, channels in ((0, 2), (1, 2)):
            part = opened.query(f"DATA_DESC_ID == {ddid}")
            data = part.getcol("DATA")
            assert data.shape == (90, channels, 4)
            assert np.abs(data[:, :, 0] - 1.0).max() < 1e-3
        assert sorted(set(opened.getcol("INTERVAL"))) == [2.0, 4.0]


def test_short_baselines_are_flagged(made: Simulation, tmp_path: Path) -> None:
    shift_data(made.ms, tmp_path / "b.ms", ShiftOptions(place(made), uvmin_m=60e3))
    uvw, flag = column(tmp_path / "b.ms", "UVW"), column(tmp_path / "b.ms", "FLAG")
    short = np.hypot(uvw[:, 0], uvw[:, 1]) < 60e3
    assert 0 < short.sum() < len(short)
    assert np.array_equal(flag.all(axis=(1, 2)), short)
    assert np.array_equal(flag.any(axis=(1, 2)), short)


def test_smearing_limits_hold_what_they_promise() -> None:
    baseline, frequency, radius = 1e6, 144e6, 60 / 206264.8
    seconds, hertz = smearing_limits(baseline, frequency, radius, loss=0.02)
    turns = baseline * radius / 299792458.0 * hertz
    assert 1 - np.sinc(turns) == pytest.approx(0.01, rel=0.02)
    turns = baseline * radius * frequency / 299792458.0 * 7.292115e-5 * seconds
    assert 1 - np.sinc(turns) == pytest.approx(0.01, rel=0.02)
    assert smearing_limits(0.0, frequency, radius) == (math.inf, math.inf)


def test_bad_input_is_refused_and_leaves_nothing(made: Simulation, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        ShiftOptions((0.0, 0.0), average_s=-1.0)
    with pytest.raises(InputError, match="no column"):
        shift_data(made.ms, tmp_path / "b.ms", ShiftOptions(place(made), column="NONE"))
    assert not (tmp_path / "b.ms").exists()


def test_dp3_makes_the_same(made: Simulation, tmp_path: Path) -> None:
    if shutil.which("DP3.py") is None:
        pytest.skip("DP3 is not installed")
    ra, dec = place(made)
    shift_data(
        made.ms, tmp_path / "own.ms", ShiftOptions((ra, dec), average_s=4.0, average_hz=0.1e6)
    )
    centre = f"[{math.degrees(ra)}deg,{math.degrees(dec)}deg]"
    argv = [
        "DP3.py", f"msin={made.ms}", f"msout={tmp_path / 'dp3.ms'}", "steps=[shift,average]",
        "shift.type=phaseshifter", f"shift.phasecenter={centre}",
        "average.type=averager", "average.timestep=2", "average.freqstep=2",
    ]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    own, other = ({n: column(tmp_path / f"{k}.ms", n) for n in
                   ("TIME", "ANTENNA1", "ANTENNA2", "DATA", "UVW", "WEIGHT_SPECTRUM")}
                  for k in ("own", "dp3"))  # fmt: skip
    order = [np.lexsort((c["ANTENNA2"], c["ANTENNA1"], np.round(c["TIME"]))) for c in (own, other)]
    assert np.allclose(own["TIME"][order[0]], other["TIME"][order[1]])
    assert np.allclose(own["UVW"][order[0]], other["UVW"][order[1]], atol=2e-3)
    assert np.allclose(own["DATA"][order[0]], other["DATA"][order[1]], atol=2e-4)
    assert np.allclose(own["WEIGHT_SPECTRUM"][order[0]], other["WEIGHT_SPECTRUM"][order[1]])
