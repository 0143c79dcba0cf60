"""Flag versions and saved weights: restored exactly, atomic, readable by flagmanager."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.casa.session import CasaSession
from libs.core.errors import InputError
from libs.ms import flag_versions
from libs.ms.tables import open_table
from tests.libs.small_ms import make_ms


@pytest.fixture
def ms(tmp_path: Path) -> Path:
    return make_ms(tmp_path / "a.ms", antennas=4, times=4, channels=3)


def read(ms: Path, name: str) -> np.ndarray:
    with open_table(ms) as opened:
        return opened.getcol(name)


def write(ms: Path, name: str, value: np.ndarray) -> None:
    with open_table(ms, write=True) as opened:
        opened.putcol(name, value)


def random_flags(ms: Path, seed: int) -> np.ndarray:
    flag = np.random.default_rng(seed).random(read(ms, "FLAG").shape) < 0.4
    write(ms, "FLAG", flag)
    write(ms, "FLAG_ROW", flag.all(axis=(1, 2)))
    return flag


@given(first=st.integers(0, 1000), second=st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_each_version_comes_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, first: int, second: int
) -> None:
    ms = make_ms(tmp_path_factory.mktemp("f") / "a.ms", antennas=4, times=2, channels=3)
    saved = {}
    for name, seed in (("one", first), ("two", second)):
        saved[name] = random_flags(ms, seed)
        flag_versions.save_version(ms, name)
    random_flags(ms, 7)
    for name, flag in saved.items():
        flag_versions.restore_version(ms, name)
        assert np.array_equal(read(ms, "FLAG"), flag)
        assert np.array_equal(read(ms, "FLAG_ROW"), flag.all(axis=(1, 2)))


def test_versions_are_listed_with_their_comments(ms: Path) -> None:
    assert flag_versions.versions(ms) == {}
    flag_versions.save_version(ms, "Original", "as\n they came")
    flag_versions.save_version(ms, "p0")
    assert flag_versions.versions(ms) == {"Original": "as they came", "p0": ""}
    flag_versions.delete_version(ms, "p0")
    flag_versions.delete_version(ms, "never")
    assert list(flag_versions.versions(ms)) == ["Original"]
    assert not flag_versions.has_version(ms, "p0")


def test_saving_again_replaces_the_version(ms: Path) -> None:
    random_flags(ms, 1)
    flag_versions.save_version(ms, "x")
    flag = random_flags(ms, 2)
    flag_versions.save_version(ms, "x")
    random_flags(ms, 3)
    flag_versions.restore_version(ms, "x")
    assert np.array_equal(read(ms, "FLAG"), flag)
    assert not list(Path(f"{ms}.flagversions").glob("*.old"))


def test_a_kill_while_a_version_is_replaced_keeps_the_old_one(
    ms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = random_flags(ms, 1)
    flag_versions.save_version(ms, "x")
    random_flags(ms, 2)
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        flag_versions.save_version(ms, "x")
    monkeypatch.undo()
    assert flag_versions.has_version(ms, "x")
    flag_versions.restore_version(ms, "x")
    assert np.array_equal(read(ms, "FLAG"), flag)


def test_a_half_written_version_is_none(ms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(flag_versions, "_copy_values", killed)
    with pytest.raises(KeyboardInterrupt):
        flag_versions.save_version(ms, "x")
    monkeypatch.undo()
    assert not flag_versions.has_version(ms, "x")
    flag_versions.save_version(ms, "x")
    assert flag_versions.has_version(ms, "x")


def test_what_is_missing_or_does_not_fit_is_said(ms: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no saved flag version 'none'"):
        flag_versions.restore_version(ms, "none")
    with pytest.raises(InputError, match="no saved weights 'none'"):
        flag_versions.restore_weights(ms, "none")
    with pytest.raises(InputError, match="cannot name a version"):
        flag_versions.save_version(ms, "a/b")
    flag_versions.save_version(ms, "x")
    other = make_ms(tmp_path / "b.ms", antennas=5, times=4, channels=3)
    Path(f"{ms}.flagversions").rename(f"{other}.flagversions")
    with pytest.raises(InputError, match="24 rows, the data 40"):
        flag_versions.restore_version(other, "x")


@pytest.mark.parametrize("spectrum", [True, False])
def test_weights_come_back_exactly(tmp_path: Path, spectrum: bool) -> None:
    ms = make_ms(tmp_path / "a.ms", antennas=4, times=4, channels=3, spectrum=spectrum)
    names = ["WEIGHT", "SIGMA"] + ["WEIGHT_SPECTRUM"] * spectrum
    rng = np.random.default_rng(3)
    for name in names:
        write(ms, name, rng.random(read(ms, name).shape).astype(np.float32))
    before = {name: read(ms, name) for name in names}
    assert not flag_versions.has_weights(ms, "w")
    flag_versions.save_weights(ms, "w")
    assert flag_versions.has_weights(ms, "w")
    for name in names:
        write(ms, name, 2 * before[name])
    flag_versions.restore_weights(ms, "w")
    for name in names:
        assert np.array_equal(read(ms, name), before[name])


def test_a_weight_spectrum_made_since_is_removed(tmp_path: Path) -> None:
    from casacore.tables import makearrcoldesc

    ms = make_ms(tmp_path / "a.ms", spectrum=False)
    flag_versions.save_weights(ms, "w")
    with open_table(ms, write=True) as opened:
        opened.addcols(makearrcoldesc("WEIGHT_SPECTRUM", 0.0, valuetype="float", ndim=2))
    flag_versions.restore_weights(ms, "w")
    with open_table(ms) as opened:
        assert "WEIGHT_SPECTRUM" not in opened.colnames()


def test_count_by_antenna_and_window(ms: Path) -> None:
    with open_table(ms, write=True) as opened:
        flag = opened.getcol("FLAG")
        one, two = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
        flag[(one == 2) | (two == 2)] = True
        opened.putcol("FLAG", flag)
    counted = flag_versions.count(ms)
    assert counted.total == 6 * 4 * 3 * 2
    assert counted.fraction == 0.5
    assert counted.by_antenna == {0: 1 / 3, 1: 1 / 3, 2: 1.0, 3: 1 / 3}
    assert counted.by_spw == {0: 0.5}


def test_count_takes_in_flagged_rows(ms: Path) -> None:
    write(ms, "FLAG_ROW", np.arange(24) % 4 == 0)
    assert flag_versions.count(ms).fraction == 0.25


@pytest.mark.tools
def test_flagmanager_and_we_read_each_others_versions(ms: Path, session: CasaSession) -> None:
    theirs = random_flags(ms, 1)
    session.run("flagmanager", vis=ms, mode="save", versionname="theirs", comment="by CASA")
    ours = random_flags(ms, 2)
    flag_versions.save_version(ms, "ours", "by us")
    listed = session.run("flagmanager", vis=ms, mode="list")
    found = {one["name"]: one["comment"] for key, one in listed.items() if key.isdigit()}
    assert found == flag_versions.versions(ms) == {"theirs": "by CASA", "ours": "by us"}
    flag_versions.restore_version(ms, "theirs")
    assert np.array_equal(read(ms, "FLAG"), theirs)
    session.run("flagmanager", vis=ms, mode="restore", versionname="ours")
    assert np.array_equal(read(ms, "FLAG"), ours)
    session.run("flagmanager", vis=ms, mode="delete", versionname="theirs")
    assert list(flag_versions.versions(ms)) == ["ours"]
