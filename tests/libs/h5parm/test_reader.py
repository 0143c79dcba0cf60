"""h5parm files: what is written is conform and comes back; real files."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest

from libs.core.angles import TEC_PHASE_HZ
from libs.core.errors import InputError
from libs.gains.gain_solutions import GainSolutions
from libs.h5parm.check import check
from libs.h5parm.reader import as_written, read_h5parm, write_h5parm
from libs.h5parm.solset import from_gain_solutions
from tests.libs.solset_examples import STATIONS, flagged, jones, solset, with_tec

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
