"""h5parm files: what is written is conform and comes back; real files and real readers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from libs.core.angles import TEC_PHASE_HZ, tec_phase_rad
from libs.core.errors import InputError
from libs.gains.gain_solutions import GainSolutions
from libs.h5parm.check import check
from libs.h5parm.reader import as_written, read_h5parm, write_h5parm
from libs.h5parm.regrid import regrid
from libs.h5parm.solset import from_gain_solutions
from tests.archives import unpacked
from tests.libs.solset_examples import STATIONS, flagged, jones, solset

REAL = ("dirtest1", "dirtest2", "fulljones1", "fulljones2")


def gains(**changes) -> GainSolutions:
    """Make antenna gains of 3 times, 2 spectral windows, 4 antennas, 2 feeds."""
    rng = np.random.default_rng(0)
    shape = (3, 2, 4, 2)
    values = {
        "time_s": np.array([0.0, 10, 20]) + 5e9,
        "interval_s": np.full(3, 10.0),
        "frequency_hz": np.array([8.4e9, 8.5e9]),
        "spw": np.array([0, 1]),
        "antenna": STATIONS,
        "position_m": np.arange(12.0).reshape(4, 3),
        "polarization": ("R", "L"),
        "gain": rng.uniform(0.5, 2, shape) * np.exp(1j * rng.uniform(-3, 3, shape)),
        "flag": np.zeros(shape, dtype=bool),
        "snr": np.full(shape, 5.0),
    }
    return GainSolutions(**(values | changes))


def assert_same(a, b) -> None:
    """Assert that two tables hold the same."""
    assert (a.antenna, a.direction, a.polarization) == (b.antenna, b.direction, b.polarization)
    for name in ("time_s", "frequency_hz", "direction_rad", "phase_rad", "amplitude", "weight"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_allclose(a.position_m, b.position_m, atol=1)


@pytest.mark.parametrize("polarization", [("XX", "YY"), ("I",)])
def test_round_trip(tmp_path, polarization) -> None:
    directions = {"A": (217.0, 35.0), "3C 380": (270.0, -10.0)}
    table = flagged(
        solset(polarization=polarization, directions=directions, seed=1), station="DE601HBA"
    )
    write_h5parm(tmp_path / "s.h5", table)
    assert_same(read_h5parm(tmp_path / "s.h5"), as_written(table))
    assert check(tmp_path / "s.h5") == []


def test_round_trip_of_jones_matrices_and_tec(tmp_path) -> None:
    write_h5parm(tmp_path / "j.h5", jones(1))
    assert_same(read_h5parm(tmp_path / "j.h5"), jones(1))
    tec = replace(
        solset(frequency_hz=[150e6], polarization=("I",)), tec_tecu=np.full((3, 4, 1), 0.2)
    )
    write_h5parm(tmp_path / "t.h5", tec)
    back = read_h5parm(tmp_path / "t.h5")
    np.testing.assert_array_equal(back.tec_tecu, tec.tec_tecu)
    assert check(tmp_path / "t.h5") == check(tmp_path / "j.h5") == []


def test_the_file_is_what_dp3_and_losoto_ask_for(tmp_path) -> None:
    path = tmp_path / "s.h5"
    table = flagged(solset(seed=1), station="UK608HBA", times=0)
    write_h5parm(path, table, {"extra": np.arange(3)})
    with h5py.File(path) as file:
        assert list(file) == ["sol000"]
        top = file["sol000"]
        assert top.attrs["h5parm_version"] == b"1.0"
        assert [n for n in top if isinstance(top[n], h5py.Group)] == ["amplitude000", "phase000"]
        assert top["antenna"].dtype["name"] == "S16"
        assert top["antenna"].dtype["position"].base == np.float32
        assert top["source"].dtype["name"] == "S128"
        assert top["source"]["name"][0] == b"[A]"
        phase = top["phase000"]
        assert phase.attrs["TITLE"] == b"phase"
        assert phase["val"].attrs["AXES"] == phase["weight"].attrs["AXES"]
        assert phase["val"].attrs["AXES"] == b"time,freq,ant,dir,pol"
        assert (phase["val"].dtype, phase["weight"].dtype) == (np.float64, np.float32)
        assert phase["pol"][()].tolist() == [b"XX", b"YY"]
        np.testing.assert_array_equal(np.isnan(phase["val"]), phase["weight"][()] == 0)
        assert np.isnan(phase["val"][0, :, 3]).all()


def test_gain_solutions_there_and_back() -> None:
    flag = np.zeros((3, 2, 4, 2), dtype=bool)
    flag[1, 0, 2] = True
    original = gains(flag=flag)
    table = from_gain_solutions(original, "3C273", (3.2, 0.03))
    assert table.polarization == ("XX", "YY")
    back = table.to_gain_solutions(polarization=("R", "L"), interval_s=original.interval_s)
    np.testing.assert_allclose(back.gain[~flag], original.gain[~flag])
    np.testing.assert_array_equal(back.flag, flag)
    np.testing.assert_allclose(back.snr[~flag], 5.0)
    assert (back.polarization, back.antenna) == (("R", "L"), original.antenna)


def test_gains_of_snr_0_are_no_solutions() -> None:
    """Data of an antenna left as they came: its gain of 1 is not known to be right."""
    snr = np.full((3, 2, 4, 2), 5.0)
    snr[:, :, 2] = 0.0
    table = from_gain_solutions(gains(snr=snr))
    assert not table.valid[:, :, 2].any() and table.valid[:, :, [0, 1, 3]].all()
    assert (table.phase_rad[:, :, 2] == 0).all() and (table.amplitude[:, :, 2] == 1).all()
    # a table that says nothing of SNR
    unknown = from_gain_solutions(gains(snr=np.zeros((3, 2, 4, 2))))
    assert (unknown.weight == 1).all()


def test_a_gain_common_to_both_feeds_is_written_for_both(tmp_path) -> None:
    one = gains()
    common = replace(
        one,
        polarization=("I",),
        **{name: getattr(one, name)[..., :1] for name in ("gain", "flag", "snr")},
    )
    write_h5parm(tmp_path / "t.h5", from_gain_solutions(common))
    back = read_h5parm(tmp_path / "t.h5")
    assert back.polarization == ("XX", "YY")
    np.testing.assert_allclose(back.gain[:, :, :, 0], np.repeat(common.gain, 2, axis=-1))


def test_spectral_windows_out_of_order_and_of_one_frequency() -> None:
    snr = np.full((3, 2, 4, 2), 5.0)
    snr[0, 1] = 9.0
    swapped = from_gain_solutions(gains(frequency_hz=np.array([8.5e9, 8.4e9])))
    assert swapped.frequency_hz.tolist() == [8.4e9, 8.5e9]
    np.testing.assert_allclose(swapped.gain[:, 0, :, 0], gains().gain[:, 1])
    same = from_gain_solutions(gains(frequency_hz=np.array([8.4e9, 8.4e9]), snr=snr))
    assert same.shape == (3, 1, 4, 1, 2)
    np.testing.assert_allclose(same.gain[0, 0, :, 0], gains().gain[0, 1])  # the better one
    np.testing.assert_allclose(same.gain[1, 0, :, 0], gains().gain[1, 0])


def test_soltabs_on_other_axes_and_grids(tmp_path) -> None:
    """Fast scalar phases without direction, slow amplitudes: as DP3 and LoSoTo write them."""
    path = tmp_path / "s.h5"
    write_h5parm(path, solset(time_s=[0, 10, 20], phase_rad=0.0, amplitude=2.0))
    with h5py.File(path, "a") as file:
        top = file["sol000"]
        del top["phase000"]
        phase = top.create_group("phase000")
        phase.attrs["TITLE"] = np.bytes_(b"phase")
        phase["ant"] = top["amplitude000/ant"][()]
        phase["time"] = np.array([20.0, 15, 10, 5, 0])
        phase["freq"] = np.array([130e6])
        values = np.arange(5.0)[::-1] / 10 * np.ones((4, 1, 1))
        for name, array in (("val", values.transpose(0, 2, 1)), ("weight", np.ones((4, 5, 1)))):
            array = np.ascontiguousarray(array.reshape(4, 5, 1))
            phase[name] = array
            phase[name].attrs["AXES"] = np.bytes_(b"ant,time,freq")
    table = read_h5parm(path)
    assert table.time_s.tolist() == [0, 5, 10, 15, 20]
    assert (table.polarization, table.direction) == (("XX", "YY"), ("A",))
    np.testing.assert_allclose(table.phase_rad[:, 0, 1, 0, 0], [0, 0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(table.amplitude, 2.0)


def test_tec_beside_phases_per_frequency_must_be_chosen(tmp_path) -> None:
    path = tmp_path / "s.h5"
    write_h5parm(path, solset(phase_rad=0.5))
    with h5py.File(path, "a") as file:
        top = file["sol000"]
        tec = top.create_group("tec000")
        tec.attrs["TITLE"] = np.bytes_(b"tec")
        for axis in ("time", "ant"):
            tec[axis] = top[f"phase000/{axis}"][()]
        for name in ("val", "weight"):
            tec[name] = np.full((3, 4), 0.1 if name == "val" else 1.0)
            tec[name].attrs["AXES"] = np.bytes_(b"time,ant")
    with pytest.raises(InputError, match="name the soltabs"):
        read_h5parm(path)
    np.testing.assert_allclose(read_h5parm(path, ["phase000"]).phase_rad, 0.5)
    only = read_h5parm(path, ["tec000"])
    np.testing.assert_allclose(only.tec_tecu, 0.1)
    both = read_h5parm(path, ["phase000", "tec000"])
    expected = np.exp(1j * (0.5 + 0.1 * TEC_PHASE_HZ / both.frequency_hz))
    np.testing.assert_allclose(both.gain[0, :, 0, 0, 0], expected)


def with_tec(seed: int = 3, **options):
    """Make a table of TECs, of what is left of the phases, and of amplitudes."""
    table = flagged(solset(seed=seed, **options), station=STATIONS[2], times=1)
    tec = np.random.default_rng(seed).uniform(-0.5, 0.5, (*table.shape[::2][:2], table.shape[3]))
    tec[1, 2] = 0.0  # not known
    return replace(table, tec_tecu=tec)


def test_tec_and_its_whole_phase_are_beside_each_other(tmp_path) -> None:
    path = tmp_path / "s.h5"
    table = with_tec(directions={"A": (217.0, 35.0), "B": (218.0, 35.0)})
    write_h5parm(path, table)
    assert check(path) == []
    back = read_h5parm(path)
    assert_same(back, table)
    np.testing.assert_array_equal(back.tec_tecu, table.tec_tecu)
    with h5py.File(path) as file:
        top = file["sol000"]
        assert [n for n in top if isinstance(top[n], h5py.Group)] == [
            "amplitude000", "phase000", "phase001", "tec000",
        ]  # fmt: skip
        assert top["tec000/val"].attrs["AXES"] == b"time,ant,dir"
        assert top["tec000"].attrs["TITLE"] == b"tec"
        assert top["phase001"].attrs["TITLE"] == b"phase"
        val = top["phase000/val"][()]
        np.testing.assert_allclose(val[table.valid], table.total_phase_rad[table.valid])
        assert np.isnan(top["tec000/val"][1, 2]).all() and top["tec000/weight"][1, 2, 0] == 0
    # whole or parts: the same gains; never both
    parts = read_h5parm(path, ["tec000", "phase001", "amplitude000"])
    whole = read_h5parm(path, ["phase000", "amplitude000"])
    for one in (parts, whole):
        np.testing.assert_allclose(one.gain, table.gain, atol=1e-9)
    assert whole.tec_tecu is None
    with pytest.raises(InputError, match="count it twice"):
        read_h5parm(path, ["phase000", "tec000"])


def test_pure_tecs_have_no_rest_and_a_common_gain_becomes_one_for_each_feed(tmp_path) -> None:
    path = tmp_path / "s.h5"
    table = replace(solset(polarization=("I",)), tec_tecu=np.full((3, 4, 1), 0.2))
    write_h5parm(path, table)
    with h5py.File(path) as file:
        assert "phase001" not in file["sol000"]
    assert_same(read_h5parm(path), as_written(table))
    assert read_h5parm(path).polarization == ("XX", "YY")
    assert check(path) == []


def test_phases_that_another_program_changed_count(tmp_path, caplog) -> None:
    path = tmp_path / "s.h5"
    write_h5parm(path, with_tec())
    with h5py.File(path, "a") as file:
        file["sol000/phase000/val"][...] += 0.01
    table = read_h5parm(path)
    assert table.tec_tecu is None and "no longer the sum of its parts" in caplog.text
    expected = with_tec().gain * np.exp(0.01j)
    np.testing.assert_allclose(table.gain[table.valid], expected[table.valid])
    assert any("it counts" in finding.text for finding in check(path))
    with h5py.File(path, "a") as file:
        for name in ("tec000", "phase001"):
            del file[f"sol000/{name}"].attrs["PART_OF"]
    assert any("does not say whether" in finding.text for finding in check(path))


def test_bad_files_are_told_from_good_ones(tmp_path) -> None:
    with pytest.raises(InputError, match="no h5parm"):
        read_h5parm(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(InputError, match="not an HDF5"):
        read_h5parm(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.arange(3)
    with pytest.raises(InputError, match="solution sets"):
        read_h5parm(tmp_path / "other.h5")
    with pytest.raises(InputError, match="longer than 15"):
        write_h5parm(tmp_path / "x.h5", solset(antenna=("A" * 16, "B")))
    assert not (tmp_path / "x.h5").exists()
    with pytest.raises(InputError, match="cannot be written"):
        write_h5parm(tmp_path / "nowhere" / "x.h5", solset())
    with pytest.raises(InputError, match="directions"):
        solset(directions={"A": (1, 1), "B": (2, 2)}).to_gain_solutions()
    with pytest.raises(InputError, match="full-Jones"):
        jones(1).to_gain_solutions()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda top: top["phase000/val"].attrs.__delitem__("AXES"), "without attribute AXES"),
        (lambda top: top["phase000"].attrs.__delitem__("TITLE"), "no attribute TITLE"),
        (lambda top: top["phase000"].__delitem__("weight"), "no dataset weight"),
        (lambda top: top["phase000/val"].__setitem__((0, 0, 0, 0, 0), np.nan), "have a weight"),
        (lambda top: top["phase000/weight"].__setitem__((0, 0, 0, 0, 0), 0), "have a value"),
        (lambda top: top["phase000/time"].__setitem__(2, 0.0), "do not increase"),
        (lambda top: top["phase000/ant"].__setitem__(2, b"XX999"), "not in the table"),
        (lambda top: top["amplitude000/val"].__setitem__((0, 0, 0, 0, 0), -1), "negative ampl"),
        (lambda top: top.file.create_group("sol001"), "WSClean refuses"),
        (lambda top: top.attrs.__delitem__("h5parm_version"), "h5parm_version"),
        (lambda top: top.__delitem__("source"), "no table"),
    ],
)
def test_check_names_the_fault(tmp_path, change, text) -> None:
    path = tmp_path / "s.h5"
    write_h5parm(path, solset(seed=1))
    with h5py.File(path, "a") as file:
        change(file["sol000"])
    assert any(text in finding.text for finding in check(path)), check(path)


def test_check_finds_names_that_dp3_does_not(tmp_path) -> None:
    path = tmp_path / "s.h5"
    write_h5parm(path, solset())
    with h5py.File(path, "a") as file:
        del file["sol000/phase000/ant"]
        file["sol000/phase000/ant"] = np.array([name.encode() for name in STATIONS], "S9")
    assert any("DP3 does not find it" in finding.text for finding in check(path))


@pytest.mark.parametrize("name", REAL)
def test_real_files(shared_data, tmp_path, name) -> None:
    path = shared_data / "lofar" / f"{name}.h5"
    table = read_h5parm(path)
    assert table.full_jones == name.startswith("full")
    assert "DE601HBA" in table.antenna
    assert table.valid.all()
    with h5py.File(path) as file:
        np.testing.assert_array_equal(table.phase_rad, file["sol000/phase000/val"])
    write_h5parm(tmp_path / "copy.h5", table)
    assert_same(read_h5parm(tmp_path / "copy.h5"), table)
    assert check(tmp_path / "copy.h5") == []


# ------------------------------------------------------------------------- DP3, LoSoTo, WSClean


def program(name: str) -> str:
    """Return the path of a program, on the PATH or in this environment, or skip."""
    beside = Path(sys.executable).parent
    found = shutil.which(name, path=f"{beside}{os.pathsep}{os.environ['PATH']}")
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(scope="module")
def lofar_ms(shared_data, tmp_path_factory) -> Path:
    """Unpack the real LOFAR measurement set."""
    archive = shared_data / "lofar" / "lofar_hba_intl.ms.tar.gz"
    return unpacked(archive, tmp_path_factory.mktemp("lofar"))


def dp3_applies(ms: Path, h5parm: Path, tmp_path: Path, *steps: str, table: str = "out.ms"):
    """Return the data DP3 makes with the given applycal corrections, and its flags."""
    from libs.ms.tables import open_table

    out = tmp_path / table
    words = [f"msin={ms}", f"msout={out}", f"steps=[{','.join(s.split(':')[0] for s in steps)}]"]
    for step in steps:
        name, correction = step.split(":")
        words += [f"{name}.type=applycal", f"{name}.parmdb={h5parm}"]
        words.append(f"{name}.correction={correction}")
        if correction == "fulljones":
            words.append(f"{name}.soltab=[amplitude000,phase000]")
    done = subprocess.run(
        [program("DP3.py"), *words],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with open_table(out) as opened:
        return opened.getcol("DATA"), opened.getcol("FLAG")


class Data:
    """The visibilities of a small measurement set and where each row stands."""

    def __init__(self, ms: Path) -> None:
        from libs.ms.tables import open_table

        with open_table(ms) as opened:
            self.vis, self.flag = opened.getcol("DATA"), opened.getcol("FLAG")
            times = opened.getcol("TIME")
            self.antenna1, self.antenna2 = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
        with open_table(f"{ms}::ANTENNA") as opened:
            self.names, self.position = tuple(opened.getcol("NAME")), opened.getcol("POSITION")
        with open_table(f"{ms}::SPECTRAL_WINDOW") as opened:
            self.frequency_hz = opened.getcol("CHAN_FREQ")[0]
        self.time_s, self.row_time = np.unique(times, return_inverse=True)

    def solset(self, **options):
        """Random gains on the grid of the data."""
        return solset(
            time_s=self.time_s,
            **{"frequency_hz": self.frequency_hz, "antenna": self.names, **options},
        )

    def corrected(self, gain):
        """V / (g_p conj(g_q)), or J_p^-1 V J_q^-H; ``gain`` is (time, chan, ant, pol)."""
        if gain.shape[-1] == 2:
            gain = gain[..., [0, 0, 1, 1]] * [1, 0, 0, 1]
        matrix = np.linalg.inv(gain.reshape(*gain.shape[:-1], 2, 2))
        one, two = matrix[self.row_time, :, self.antenna1], matrix[self.row_time, :, self.antenna2]
        vis = self.vis.reshape(*self.vis.shape[:2], 2, 2)
        return (one @ vis @ np.conj(np.swapaxes(two, -1, -2))).reshape(self.vis.shape)


def assert_close(got, flag, expected, data) -> None:
    """Assert equal visibilities, where not flagged, to float precision."""
    good = ~(flag | data.flag)
    assert good.mean() > 0.5
    assert np.abs(got - expected)[good].max() < 1e-6 * np.abs(expected[good]).max()


@pytest.mark.tools
def test_dp3_divides_by_our_gains(lofar_ms, tmp_path) -> None:
    data = Data(lofar_ms)
    gone = data.names[3]
    table = flagged(data.solset(seed=1), station=gone)
    write_h5parm(tmp_path / "s.h5", table)
    got, flag = dp3_applies(lofar_ms, tmp_path / "s.h5", tmp_path, "p:phase000", "a:amplitude000")
    assert_close(got, flag, data.corrected(table.gain[:, :, :, 0]), data)
    assert flag[(data.antenna1 == 3) | (data.antenna2 == 3)].all()


@pytest.mark.tools
def test_dp3_takes_our_tec(lofar_ms, tmp_path) -> None:
    data = Data(lofar_ms)
    tec = np.random.default_rng(1).uniform(-0.1, 0.1, (len(data.time_s), len(data.names), 1))
    table = replace(data.solset(frequency_hz=[150e6], polarization=("I",)), tec_tecu=tec)
    write_h5parm(tmp_path / "t.h5", table)
    got, flag = dp3_applies(lofar_ms, tmp_path / "t.h5", tmp_path, "t:tec000")
    phase = tec_phase_rad(tec, data.frequency_hz)
    assert_close(got, flag, data.corrected(np.exp(1j * phase) * np.ones(2)), data)


@pytest.mark.tools
@pytest.mark.parametrize(
    "steps",
    [("p:phase000", "a:amplitude000"), ("t:tec000", "r:phase001", "a:amplitude000")],
    ids=["whole", "parts"],
)
def test_dp3_takes_the_whole_phase_or_its_parts(lofar_ms, tmp_path, steps) -> None:
    data = Data(lofar_ms)
    table = data.solset(seed=5)
    tec = np.random.default_rng(6).uniform(-0.1, 0.1, (len(data.time_s), len(data.names), 1))
    table = replace(table, tec_tecu=tec)
    write_h5parm(tmp_path / "t.h5", table)
    got, flag = dp3_applies(lofar_ms, tmp_path / "t.h5", tmp_path, *steps)
    assert_close(got, flag, data.corrected(table.gain[:, :, :, 0]), data)


@pytest.mark.tools
def test_wsclean_facets_take_the_whole_phase(wsclean, tmp_path) -> None:
    """A point source behind TECs, phases and amplitudes comes out as bright as it is."""
    from astropy.io import fits

    from libs.ms.tables import open_table
    from tests.libs.small_ms import make_ms

    ms = make_ms(tmp_path / "a.ms", antennas=7, times=12, channels=4)
    data = Data(ms)
    with open_table(f"{ms}::FIELD") as fields:
        place = fields.getcol("PHASE_DIR")[0, 0]
    table = data.solset(seed=7, directions={"A": np.rad2deg(place)})
    rng = np.random.default_rng(8)
    table = replace(
        table, amplitude=1 + 0.2 * (table.amplitude - 1.25),
        tec_tecu=rng.uniform(-1, 1, (len(data.time_s), len(data.names), 1)),
    )  # fmt: skip
    write_h5parm(tmp_path / "s.h5", table)
    gain = table.gain[:, :, :, 0]
    one, two = gain[data.row_time, :, data.antenna1], gain[data.row_time, :, data.antenna2]
    with open_table(ms, write=True) as opened:
        opened.putcol("DATA", (data.vis * one * np.conj(two)).astype(np.complex64))
    region = tmp_path / "f.reg"
    ra, dec = np.rad2deg(place)
    corners = ((-0.1, -0.1), (0.1, -0.1), (0.1, 0.1), (-0.1, 0.1))
    points = ",".join(f"{ra + x / np.cos(place[1]):.6f},{dec + y:.6f}" for x, y in corners)
    region.write_text(f"fk5\npolygon({points})\n")
    words = ["-size", "128", "128", "-scale", "0.5asec", "-no-update-model-required"]
    facets = ["-facet-regions", str(region), "-apply-facet-solutions", str(tmp_path / "s.h5")]
    peaks = {}
    for name, more in (("bad", []), ("good", [*facets, "phase000,amplitude000"])):
        done = subprocess.run(
            [wsclean, "-name", str(tmp_path / name), *words, *more, str(ms)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        # with solutions the image free of their mean is the -pb one
        suffix = "image-pb" if more else "image"
        with fits.open(tmp_path / f"{name}-{suffix}.fits") as file:
            peaks[name] = float(np.abs(file[0].data).max())
    assert peaks["bad"] < 0.7
    assert peaks["good"] == pytest.approx(1.0, rel=0.005)


@pytest.mark.tools
def test_dp3_agrees_on_products_of_real_jones_matrices(lofar_ms, shared_data, tmp_path) -> None:
    """The product of two tables undoes what applying one after the other undoes."""
    from libs.h5parm.combine import combine, on_axes

    data = Data(lofar_ms)
    read = [read_h5parm(shared_data / "lofar" / f"fulljones{i}.h5") for i in (1, 2)]
    # The tables are of another night: their first times stand for those of the data.
    placed = []
    for table in read:
        table = regrid(table, table.time_s, data.frequency_hz)
        table = on_axes(table, data.names, data.position)
        at = regrid(table, table.time_s[0] + np.arange(len(data.time_s)) * 100.0, data.frequency_hz)
        placed.append(replace(at, time_s=data.time_s))
    first, second = placed
    write_h5parm(tmp_path / "product.h5", combine(first, second).solset)
    got, flag = dp3_applies(lofar_ms, tmp_path / "product.h5", tmp_path, "j:fulljones")
    data.vis = data.corrected(first.gain[:, :, :, 0])
    assert_close(got, flag, data.corrected(second.gain[:, :, :, 0]), data)


@pytest.mark.tools
def test_dp3_picks_one_of_several_directions(lofar_ms, tmp_path) -> None:
    data = Data(lofar_ms)
    table = data.solset(seed=2, directions={"A": (241.0, 55.0), "B": (242.0, 55.5)})
    write_h5parm(tmp_path / "s.h5", table, {"provenance": np.zeros(2, dtype=[("a", "S3")])})
    words = [f"msin={lofar_ms}", f"msout={tmp_path / 'o.ms'}", "steps=[p]", "p.type=applycal"]
    words += [f"p.parmdb={tmp_path / 's.h5'}", "p.correction=phase000", "p.direction=[B]"]
    subprocess.run(
        [program("DP3.py"), *words],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
    )
    from libs.ms.tables import open_table

    with open_table(tmp_path / "o.ms") as opened:
        got, flag = opened.getcol("DATA"), opened.getcol("FLAG")
    assert_close(got, flag, data.corrected(np.exp(1j * table.phase_rad[:, :, :, 1])), data)


_LOSOTO_TEC = """
import sys
import numpy as np
from losoto.h5parm import h5parm
file = h5parm(sys.argv[1])
solset = file.getSolset("sol000")
tec, whole, rest = (solset.getSoltab(name) for name in ("tec000", "phase000", "phase001"))
assert tec.getType() == "tec" and tec.getAxesNames() == ["time", "ant", "dir"]
values, axes = whole.getValues()
parts = rest.getValues(retAxesVals=False) - 8.4479745e9 * (
    tec.getValues(retAxesVals=False)[:, None, :, :, None] / axes["freq"][:, None, None, None]
)
np.testing.assert_allclose(np.exp(1j * values), np.exp(1j * parts), atol=1e-4)
file.close()
"""


@pytest.mark.tools
def test_losoto_reads_tecs_and_phases(tmp_path) -> None:
    python = Path(program("losoto")).with_name("python")
    write_h5parm(tmp_path / "s.h5", with_tec())
    done = subprocess.run(
        [python, "-c", _LOSOTO_TEC, tmp_path / "s.h5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


_LOSOTO = """
import sys
import numpy as np
from losoto.h5parm import h5parm
file = h5parm(sys.argv[1])
assert file.getSolsetNames() == ["sol000"], file.getSolsetNames()
solset = file.getSolset("sol000")
assert len(solset.getAnt()) == 4 and list(solset.getSou()) == ["[A]"], solset.getSou()
arrays = {}
for soltab in solset.getSoltabs():
    values, axes = soltab.getValues()
    assert soltab.getAxesNames() == ["time", "freq", "ant", "dir", "pol"]
    assert list(axes["pol"]) == ["XX", "YY"] and list(axes["dir"]) == ["[A]"]
    arrays[soltab.getType()] = values
    arrays[soltab.getType() + "_weight"] = soltab.getValues(retAxesVals=False, weight=True)
np.savez(sys.argv[2], **arrays)
file.close()
"""


@pytest.mark.tools
def test_losoto_reads_what_we_wrote(tmp_path) -> None:
    python = Path(program("losoto")).with_name("python")
    table = flagged(solset(seed=4), station="DE602HBA", times=1)
    write_h5parm(tmp_path / "s.h5", table, {"provenance": np.zeros(2, dtype=[("a", "S3")])})
    done = subprocess.run(
        [python, "-c", _LOSOTO, tmp_path / "s.h5", tmp_path / "read.npz"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    read = np.load(tmp_path / "read.npz")
    good = table.valid
    np.testing.assert_array_equal(read["phase"][good], table.phase_rad[good])
    np.testing.assert_array_equal(read["amplitude"][good], table.amplitude[good])
    assert np.isnan(read["phase"][~good]).all()
    np.testing.assert_array_equal(read["phase_weight"] > 0, good)
