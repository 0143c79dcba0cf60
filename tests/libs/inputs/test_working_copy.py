"""Inputs told apart, the input byte for byte what it was, bad values flagged and counted."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from libs.casa.session import CasaSession
from libs.core.errors import ConfigError, InputError
from libs.flagging.dead_feeds import flag_dead_feeds
from libs.gains.gain_solutions import GainSolutions
from libs.inputs import working_copy
from libs.ms import sanitise
from libs.ms import view as ms_view
from libs.ms.summary import summarise
from libs.ms.tables import column_names, open_table
from libs.simulation.corrupt import multiply_ms
from tests.archives import unpacked
from tests.conftest import ROOT
from tests.libs.small_ms import make_ms, tree_hash


def read(ms: Path, name: str) -> np.ndarray:
    with open_table(ms) as opened:
        return opened.getcol(name)


def write(ms: Path, name: str, value: np.ndarray) -> None:
    with open_table(ms, write=True) as opened:
        opened.putcol(name, value)


@pytest.fixture
def ms(tmp_path: Path) -> Path:
    return make_ms(tmp_path / "obs.ms", antennas=4, times=4, channels=3)


def test_the_view_shows_the_data_and_writing_into_it_does_not_reach_them(ms: Path) -> None:
    tree = tree_hash(ms)
    with ms_view.read_view(ms) as view:
        assert np.array_equal(read(view.path, "DATA"), read(ms, "DATA"))
        write(view.path / "ANTENNA", "NAME", ["changed"] * 4)
        place = view.path
    assert not place.parent.exists()
    assert tree_hash(ms) == tree


def test_the_view_of_a_read_only_input_can_be_written(ms: Path) -> None:
    places = [ms, *ms.rglob("*")]
    modes = {place: place.stat().st_mode for place in places}
    try:
        for place in places:
            place.chmod(modes[place] & ~0o222)
        with ms_view.read_view(ms) as view:
            own = [place for place in view.path.rglob("*") if not place.is_symlink()]
            assert own and all(place.stat().st_mode & 0o200 for place in own)
    finally:
        for place in places:
            place.chmod(modes[place])


_COPY_AS_PLAIN_USER = """
import sys
from pathlib import Path
from benchmarks.torture.machine import suffer
from libs.casa.session import CasaSession
from libs.inputs.working_copy import make_working_copy, resolve_inputs
suffer({"plain_user": True})
ms, target = map(Path, sys.argv[1:])
(source,) = resolve_inputs(str(ms))
print(make_working_copy(source, target, session=CasaSession(target.parent)).ms)
"""


def test_a_working_copy_of_a_read_only_input(ms: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    places = [ms, *ms.rglob("*")]
    modes = {place: place.stat().st_mode for place in places}
    try:
        for place in places:
            place.chmod(modes[place] & ~0o222)
        done = subprocess.run(
            [sys.executable, "-c", _COPY_AS_PLAIN_USER, ms, tmp_path / "work" / "copy.ms"],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    finally:
        for place in places:
            place.chmod(modes[place])
    assert done.returncode == 0, done.stderr
    assert np.array_equal(read(tmp_path / "work" / "copy.ms", "DATA"), read(ms, "DATA"))


def test_missing_and_broken_subtables_are_replaced(ms: Path) -> None:
    shutil.rmtree(ms / "HISTORY")
    (ms / "FLAG_CMD" / "table.dat").write_bytes(b"nonsense")
    tree = tree_hash(ms)
    with ms_view.read_view(ms) as view:
        assert set(view.replaced) == {"HISTORY", "FLAG_CMD"}
        assert len(view.notes) == 2
        with open_table(view.path / "HISTORY") as opened:
            assert opened.nrows() == 0
    assert tree_hash(ms) == tree


def test_a_missing_essential_subtable_is_an_error(ms: Path) -> None:
    shutil.rmtree(ms / "FIELD")
    with pytest.raises(InputError, match=r"subtable FIELD .* is missing"), ms_view.read_view(ms):
        pass


def test_an_empty_state_table_gets_its_row(ms: Path) -> None:
    write(ms, "STATE_ID", np.zeros(24, dtype=np.int32))
    tree = tree_hash(ms)
    with ms_view.read_view(ms) as view, open_table(view.path / "STATE") as opened:
        assert opened.nrows() == 1
    assert tree_hash(ms) == tree


def test_large_optional_subtables_lose_their_rows(
    ms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_table(ms / "HISTORY", write=True) as opened:
        opened.addrows(10)
    monkeypatch.setattr(ms_view, "COPY_BELOW_BYTES", 0)
    tree = tree_hash(ms)
    with ms_view.read_view(ms) as view, open_table(view.path / "HISTORY") as opened:
        assert opened.nrows() == 0
        assert "MESSAGE" in opened.colnames()
        assert any("HISTORY" in note for note in view.notes)
        assert not list(view.path.glob("*.linked"))
    assert tree_hash(ms) == tree


def test_links_inside_a_copy_become_files(tmp_path: Path) -> None:
    (tmp_path / "original").write_text("data")
    copy = tmp_path / "copy"
    (copy / "sub").mkdir(parents=True)
    (copy / "sub" / "soft").symlink_to(tmp_path / "original")
    os.link(tmp_path / "original", copy / "hard")
    assert ms_view.own_every_file(copy) == 2
    for name in ("sub/soft", "hard"):
        (copy / name).write_text("changed")
    assert (tmp_path / "original").read_text() == "data"
    assert ms_view.own_every_file(copy) == 0


# bad values


@given(
    hnp.arrays(
        np.float32, (3, 4), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)
    )
)
def test_clean_weights_are_finite_and_not_negative(weight: np.ndarray) -> None:
    clean, bad, zero = sanitise.clean_weights(weight)
    assert np.isfinite(clean).all() and (clean >= 0).all()
    assert np.array_equal(clean[~bad], weight[~bad])
    assert not (bad & zero).any()
    assert np.array_equal(clean == 0, bad | zero)


def test_weight_is_the_mean_of_the_channels_that_have_one() -> None:
    spectrum = np.array([[[2.0], [0.0], [4.0]], [[0.0], [0.0], [0.0]]], dtype=np.float32)
    assert sanitise.spread_weight(spectrum).tolist() == [[3.0], [0.0]]
    assert sanitise.sigma_of(np.array([4.0, 0.0], dtype=np.float32)).tolist() == [0.5, 0.0]


def test_each_kind_of_bad_value_is_counted_and_flagged(ms: Path) -> None:
    data, spectrum = read(ms, "DATA"), read(ms, "WEIGHT_SPECTRUM")
    data[0, 0, 0], data[1, 1, 1], data[2, 2, 0] = np.nan, np.inf, 4e37
    data[3, :, 1] = 0  # a dropout; one zero channel alone is a value like others
    data[4, 1, 0] = 0
    spectrum[5, 0, 0], spectrum[6, 1, 1], spectrum[7, 2, 0] = np.nan, np.inf, -1
    spectrum[8, :, 0] = 0
    write(ms, "DATA", data)
    write(ms, "WEIGHT_SPECTRUM", spectrum)
    write(ms, "WEIGHT", np.full((24, 2), 3.0, dtype=np.float32))  # the sum over channels
    write(ms, "SIGMA", np.full((24, 2), np.nan, dtype=np.float32))
    write(ms, "FLAG_ROW", np.arange(24) == 23)
    found = sanitise.sanitise(ms)
    assert found == sanitise.Repairs(
        total=24 * 6, flagged_before=6, not_finite=3, exactly_zero=3, bad_weight=3,
        zero_weight=3, sigma_rewritten=23,
    )  # fmt: skip
    assert len(found.lines()) == 5
    flag = read(ms, "FLAG")
    assert flag.sum() == 6 + 12
    assert np.isfinite(read(ms, "DATA")).all() and np.abs(read(ms, "DATA")).max() == 1
    weight, sigma = read(ms, "WEIGHT"), read(ms, "SIGMA")
    assert weight[8].tolist() == [0, 1] and sigma[8].tolist() == [0, 1]
    assert np.all(np.delete(weight, 8, axis=0) == 1)
    assert not sanitise.sanitise(ms).lines()


def test_without_a_weight_spectrum_the_row_weights_count(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", spectrum=False)
    weight = read(ms, "WEIGHT")
    weight[0, 0], weight[1, 1] = -3, 0
    write(ms, "WEIGHT", weight)
    found = sanitise.sanitise(ms)
    assert (found.bad_weight, found.zero_weight) == (8, 8)
    assert "WEIGHT_SPECTRUM" not in column_names(ms)


def test_an_undefined_weight_spectrum_is_removed(tmp_path: Path) -> None:
    from casacore.tables import makearrcoldesc

    ms = make_ms(tmp_path / "a.ms", spectrum=False)
    with open_table(ms, write=True) as opened:
        opened.addcols(makearrcoldesc("WEIGHT_SPECTRUM", 0.0, valuetype="float", ndim=2))
    assert not sanitise.sanitise(ms).lines()
    assert "WEIGHT_SPECTRUM" not in column_names(ms)


def test_zeros_of_compressed_data_are_values(ms: Path) -> None:
    data = read(ms, "DATA")
    data[3] = 0
    write(ms, "DATA", data)
    assert sanitise.sanitise(ms, quantised=True).exactly_zero == 0


def test_scratch_columns_are_a_unit_point_and_the_data(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", corr_types=(5, 6, 7, 8), flux_jy=3.0)
    sanitise.add_scratch_columns(ms)
    assert np.array_equal(read(ms, "CORRECTED_DATA"), read(ms, "DATA"))
    model = read(ms, "MODEL_DATA")
    assert model.shape == read(ms, "DATA").shape
    assert np.all(model == np.array([1, 0, 0, 1]))


def test_antennas_get_usable_names(ms: Path) -> None:
    write(ms / "ANTENNA", "NAME", ["1", "", "3", ""])
    write(ms / "ANTENNA", "STATION", ["AA", "AP", "AZ", ""])
    assert sanitise.name_antennas(ms, from_stations=False) == (
        "(blank) -> AP",
        "(blank) -> ANT3",
    )
    write(ms / "ANTENNA", "STATION", ["AA", "AP", "AZ", "LM"])
    sanitise.name_antennas(ms, from_stations=True)
    assert read(ms / "ANTENNA", "NAME") == ["AA", "AP", "AZ", "ANT3"]
    assert summarise(ms).antenna == ("AA", "AP", "AZ", "ANT3")


def test_a_feed_without_signal_and_noise_is_flagged(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", antennas=6, corr_types=(5, 6, 7, 8), noise_jy=0.1)
    assert flag_dead_feeds(ms) == ()
    data, one, two = (read(ms, name) for name in ("DATA", "ANTENNA1", "ANTENNA2"))
    data[one == 3, :, :2] *= 1e-4  # R of the first antenna: RR, RL
    data[two == 3, :, ::2] *= 1e-4  # R of the second: RR, LR
    write(ms, "DATA", data)
    (line,) = flag_dead_feeds(ms)
    assert "feed R of antenna A3" in line
    expected = np.zeros(data.shape, dtype=bool)
    expected[one == 3, :, :2] = True
    expected[two == 3, :, ::2] = True
    assert np.array_equal(read(ms, "FLAG"), expected)


def test_a_resolved_source_is_no_dead_feed(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", antennas=6, noise_jy=0.001)
    data = read(ms, "DATA")
    data[(read(ms, "ANTENNA1") == 3) | (read(ms, "ANTENNA2") == 3)] -= 1  # its noise stays
    write(ms, "DATA", data)
    assert flag_dead_feeds(ms) == ()


# whether the data can be used at all


def test_unusable_data_are_refused_with_cause_and_remedy(ms: Path) -> None:
    good = summarise(ms)
    working_copy.check_usable(good)
    lost = working_copy.WorkingCopy(
        ms, "DATA", sanitise.Repairs(total=10, bad_weight=10), (), None, None, 0, 0.0
    )
    cases = [
        ({"rows": 0}, None, "has no rows"),
        ({"flagged_fraction": 1.0}, None, "all visibilities .* are flagged"),
        ({"flagged_fraction": 1.0}, lost, "all weights .* are zero, negative or not finite"),
        ({"weights_positive": False}, None, "positive weight"),
        ({"antennas_used": ()}, None, "no baseline .*0 antennas of 4"),
        ({"antennas_used": (0, 1)}, None, "one baseline .*needs 3"),
    ]
    for change, copy, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            working_copy.check_usable(dataclasses.replace(good, **change), copy)
        assert caught.value.remedy


def test_options_of_mstransform() -> None:
    options = working_copy.mstransform_options(
        Path("a.ms"), Path("b.ms"), field="3C273", spw="0:2~5", datacolumn="corrected"
    )
    assert options == {
        "vis": "a.ms", "outputvis": "b.ms", "field": "3C273", "spw": "0:2~5",
        "datacolumn": "corrected", "correlation": "",
        "taql": "ANTENNA1 != ANTENNA2", "keepflags": True,
        "reindex": True,
    }  # fmt: skip


# with CASA


@pytest.mark.tools
def test_a_working_copy_of_a_selection(tmp_path: Path, session: CasaSession) -> None:
    ms = make_ms(
        tmp_path / "a.ms", antennas=4, times=6, scans=2, fields=("one", "two"),
        autocorrelations=True, noise_jy=0.1,
    )  # fmt: skip
    tree = tree_hash(ms)
    (source,) = working_copy.resolve_inputs(str(ms))
    said: list[str] = []
    target = tmp_path / "work" / "a.ms"
    copy = working_copy.make_working_copy(
        source, target, field="two", spw="0:2~4", session=session, progress=said.append
    )
    summary = summarise(copy.ms)
    working_copy.check_usable(summary, copy)
    assert (summary.rows, summary.channels) == (3 * 6, 3)
    rows = (read(ms, "FIELD_ID") == 1) & (read(ms, "ANTENNA1") != read(ms, "ANTENNA2"))
    assert np.allclose(read(target, "DATA"), read(ms, "DATA")[rows][:, 2:5], rtol=1e-6)
    assert {"MODEL_DATA", "CORRECTED_DATA"} <= set(summary.columns)
    assert not any(path.is_symlink() for path in target.rglob("*"))
    assert {path.name for path in target.parent.iterdir()} == {"a.ms", "a.ms.headers"}
    assert said and tree_hash(ms) == tree


@pytest.mark.tools
@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"field": "three"}, "no data for field = 'three'.* its fields are 0 one, 1 two"),
        ({"spw": "4"}, "no data for spw = '4'.*its spws 0 to 0"),
        ({"spw": "0:5~20"}, "names channel 20 of window 0, which has 8"),
        ({"datacolumn": "corrected"}, "a.ms has no filled CORRECTED_DATA"),
        ({"datacolumn": "float"}, "use 'auto', 'data' or 'corrected'"),
    ],
)
def test_nothing_selected_is_told_and_leaves_nothing(
    tmp_path: Path, session: CasaSession, selection: dict[str, str], message: str
) -> None:
    ms = make_ms(tmp_path / "a.ms", scans=2, fields=("one", "two"))
    tree = tree_hash(ms)
    (source,) = working_copy.resolve_inputs(str(ms))
    with pytest.raises((InputError, ConfigError), match=message):
        working_copy.make_working_copy(
            source, tmp_path / "w" / "a.ms", session=session, **selection
        )
    assert list((tmp_path / "w").iterdir()) == []
    assert tree_hash(ms) == tree


@pytest.mark.tools
def test_fields_far_apart_are_not_one_target(tmp_path: Path, session: CasaSession) -> None:
    ms = make_ms(tmp_path / "a.ms", scans=2, fields=("one", "two"))
    (source,) = working_copy.resolve_inputs(str(ms))
    for offset, far in ((0.01, False), (0.5, True)):
        with open_table(ms / "FIELD", write=True) as opened:
            opened.putcell("PHASE_DIR", 1, np.array([[1.2, 0.6 + offset]]))
        if far:
            with pytest.raises(InputError, match=r"29 deg apart \(one, two\)"):
                working_copy.make_working_copy(source, tmp_path / "w.ms", session=session)
        else:
            copy = working_copy.make_working_copy(source, tmp_path / "w.ms", session=session)
            assert any("2 fields are calibrated together" in note for note in copy.notes)


@pytest.mark.tools
def test_only_autocorrelations_are_no_data(tmp_path: Path, session: CasaSession) -> None:
    ms = make_ms(tmp_path / "a.ms", antennas=1, autocorrelations=True)
    (source,) = working_copy.resolve_inputs(str(ms))
    with pytest.raises(InputError, match="no data for cross-correlations"):
        working_copy.make_working_copy(source, tmp_path / "w.ms", session=session)


@pytest.mark.tools
def test_corrected_data_are_preferred_when_filled(ms: Path, session: CasaSession) -> None:
    sanitise.add_scratch_columns(ms)
    (source,) = working_copy.resolve_inputs(str(ms))
    target = ms.parent / "w" / "obs.ms"
    for factor, column in ((0, "DATA"), (2, "CORRECTED_DATA")):
        write(ms, "CORRECTED_DATA", factor * read(ms, "DATA"))
        tree = tree_hash(ms)
        copy = working_copy.make_working_copy(source, target, session=session)
        assert copy.datacolumn == column and copy.notes
        assert np.allclose(read(target, "DATA"), max(factor, 1) * read(ms, "DATA"))
        assert tree_hash(ms) == tree


@pytest.mark.tools
def test_a_killed_copy_leaves_the_old_one_and_the_next_start_replaces_it(
    ms: Path, session: CasaSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = working_copy.resolve_inputs(str(ms))
    target = ms.parent / "w" / "obs.ms"
    working_copy.make_working_copy(source, target, session=session)
    Path(f"{target}.flagversions").mkdir()
    tree = tree_hash(target)

    def killed(part: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(working_copy, "add_scratch_columns", killed)
    with pytest.raises(KeyboardInterrupt):
        working_copy.make_working_copy(source, target, session=session)
    assert tree_hash(target) == tree
    monkeypatch.undo()
    Path(f"{target}.part").mkdir()  # as kill -9 would leave it
    working_copy.make_working_copy(source, target, session=session)
    assert {path.name for path in target.parent.iterdir()} == {"obs.ms", "obs.ms.headers"}
    assert np.array_equal(read(target, "DATA"), read(ms, "DATA"))


@pytest.mark.tools
def test_the_demonstration_with_known_errors(tmp_path: Path, session: CasaSession) -> None:
    (source,) = working_copy.resolve_inputs("demo:3c273")
    copy = working_copy.make_working_copy(source, tmp_path / "3c273.ms", session=session)
    assert copy.truth and copy.untouched
    corrupted, untouched = read(copy.ms, "DATA"), read(copy.untouched, "DATA")
    assert not np.allclose(corrupted, untouched, rtol=0.1)
    assert np.array_equal(read(copy.ms, "CORRECTED_DATA"), corrupted)
    truth = GainSolutions(**np.load(copy.truth))
    assert np.std(np.abs(truth.gain)) == pytest.approx(0.1, abs=0.04)
    truth = replace(truth, gain=1 / truth.gain, polarization=tuple(truth.polarization))
    multiply_ms(copy.ms, truth)
    assert np.allclose(read(copy.ms, "DATA"), untouched, rtol=1e-5, atol=1e-6)
    again = working_copy.make_working_copy(source, tmp_path / "3c273.ms", session=session)
    assert np.array_equal(read(again.ms, "DATA"), corrupted)


REAL = {
    "vla": ("vla/day2_TDEM0003_10s_norx_1src_1spw.ms", ("feed R of antenna 7", "INTERVAL says")),
    "alma": ("alma/X5707_1spw_1scan_10chan_1time_1bl_noatm.ms", ("ASDM_CALATMOSPHERE",)),
    "lofar": ("lofar/lofar_hba_intl.ms", ("CORRECTED_DATA of the input", "SIGMA")),
    "eht": (
        "eht/SR1_M87_2017_095_lo_hops_netcal_StokesI.uvfits",
        ("1 -> AA", "cross hands are empty"),
    ),
    "vlba": ("vlba/mojave.uvfits", ("1 -> BR",)),
}


@pytest.mark.tools
@pytest.mark.parametrize("name", REAL)
def test_real_data_are_copied_and_stay_as_they_are(
    name: str, shared_data: Path, tmp_path: Path, session: CasaSession
) -> None:
    file, notes = REAL[name]
    path = shared_data / file
    if file.endswith(".ms"):
        path = unpacked(path.with_name(f"{path.name}.tar.gz"), tmp_path / "input")
    tree = tree_hash(path)
    (source,) = working_copy.resolve_inputs(str(path))
    identity = working_copy.identity(source)
    copy = working_copy.make_working_copy(source, tmp_path / "w" / "copy.ms", session=session)
    assert tree_hash(path) == tree and working_copy.identity(source) == identity
    for note in notes:
        assert any(note in said for said in copy.notes)
    assert copy.size_bytes < working_copy.copy_size_bytes(source)
    summary = summarise(copy.ms)
    flag = read(copy.ms, "FLAG")
    assert np.isfinite(read(copy.ms, "DATA")).all()
    spectrum = "WEIGHT_SPECTRUM" if "WEIGHT_SPECTRUM" in summary.columns else "WEIGHT"
    weight = read(copy.ms, spectrum)
    assert np.isfinite(weight).all() and (weight >= 0).all()
    assert (weight[~flag] > 0).all() if weight.ndim == 3 else True
    assert flag.shape[2] == (2 if name == "eht" else flag.shape[2])
    if name == "alma":
        with pytest.raises(InputError, match="one baseline"):
            working_copy.check_usable(summary, copy)
    else:
        working_copy.check_usable(summary, copy)
