"""What `vis` names: data sets told apart, others refused with a remedy, room on the disk."""

from __future__ import annotations

import shutil
import tarfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from libs.core.errors import ConfigError, InputError
from libs.inputs import working_copy
from libs.ms.tables import open_table
from tests.libs.small_ms import make_ms, tree_hash


@pytest.fixture
def ms(tmp_path: Path) -> Path:
    return make_ms(tmp_path / "obs.ms", antennas=4, times=4, channels=3)


def test_a_measurement_set_is_found_by_path_and_by_link(ms: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.ms"
    link.symlink_to(ms)
    for path, name in ((ms, "obs"), (link, "link")):
        (source,) = working_copy.resolve_inputs(str(path))
        assert (source.kind, source.path, source.name) == ("ms", ms, name)


def test_names_of_working_copies_differ_and_are_harmless(tmp_path: Path) -> None:
    paths = [make_ms(tmp_path / folder / "my obs.ms") for folder in map(_folder(tmp_path), "ab")]
    names = [source.name for source in working_copy.resolve_inputs([str(path) for path in paths])]
    assert names == ["my_obs", "my_obs_2"]


def _folder(parent: Path):
    def make(name: str) -> str:
        (parent / name).mkdir()
        return name

    return make


def bad_inputs(folder: Path) -> dict[str, tuple[str, str]]:
    """Make bad inputs: name to (what the message says, what the remedy says)."""
    (folder / "notes.txt").write_text("no data")
    (folder / "dir").mkdir()
    (folder / "asdm").mkdir()
    (folder / "asdm" / "ASDM.xml").write_text("<x/>")
    (folder / "data.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (folder / "cut.fits").write_bytes(b"SIMPLE  =                    T")
    (folder / "gone.ms").symlink_to(folder / "nowhere")
    with tarfile.open(folder / "obs.ms.tar.gz", "w:gz") as tar:
        tar.add(folder / "notes.txt")
    from astropy.io import fits

    fits.PrimaryHDU(np.zeros((4, 4))).writeto(folder / "image.fits")
    return {
        "missing.ms": ("does not exist", "correct vis"),
        "imag.fits": ("does not exist", "did you mean"),
        "gone.ms": ("is a link to nothing", "correct vis"),
        "notes.txt": ("neither a measurement set nor UVFITS", "name a .ms"),
        "dir": ("has no table.dat", "correct vis"),
        "asdm": ("is an ASDM", "importasdm"),
        "data.h5": ("is an HDF5 file", "copy it again"),
        "obs.ms.tar.gz": ("is an archive", "unpack it first"),
        "image.fits": ("without visibilities", "UVFITS"),
        "cut.fits": ("FITS file", ""),
    }


def test_what_is_no_data_set_is_refused_with_a_remedy(tmp_path: Path) -> None:
    for name, (cause, remedy) in bad_inputs(tmp_path).items():
        with pytest.raises(InputError) as caught:
            working_copy.resolve_inputs(str(tmp_path / name))
        assert cause in caught.value.cause and name in caught.value.cause
        assert remedy in caught.value.remedy


def test_tables_that_hold_no_visibilities_are_refused(ms: Path) -> None:
    with pytest.raises(InputError, match="not a measurement set but"):
        working_copy.resolve_inputs(str(ms / "ANTENNA"))
    with open_table(ms, write=True) as opened:
        opened.removecols(["DATA"])
    with pytest.raises(InputError, match="has no visibilities"):
        working_copy.resolve_inputs(str(ms))


def test_a_measurement_set_without_rows_is_refused(tmp_path: Path) -> None:
    empty = make_ms(tmp_path / "e.ms", times=0)
    with pytest.raises(InputError, match="has no rows"):
        working_copy.resolve_inputs(str(empty))


@pytest.mark.parametrize(
    ("vis", "message"),
    [
        ([], "vis is empty"),
        ([" "], "vis is empty"),
        ("demo:3c27", "did you mean demo:3c273"),
        ("demo:xyz", "demo:3c273, demo:3c273-raw, demo:ngc5921"),
        (["demo:3c273", "demo:3c273"], "names demo:3c273 twice"),
    ],
)
def test_a_wrong_vis_is_a_config_error(vis: list[str] | str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        working_copy.resolve_inputs(vis)


def test_demonstrations() -> None:
    known, raw = (working_copy.resolve_inputs(f"demo:{name}")[0] for name in ("3C273", "3c273-raw"))
    assert known.path == raw.path and known.kind == "uvfits"
    assert known.demo and known.demo.corruption_seed is not None
    assert raw.demo and raw.demo.corruption_seed is None
    assert working_copy.resolve_inputs("demo:ngc5921")[0].field == "1445*"
    assert working_copy.identity(known) != working_copy.identity(raw)


def test_identity_changes_with_the_data_and_not_by_reading(ms: Path) -> None:
    (source,) = working_copy.resolve_inputs(str(ms))
    before, tree = working_copy.identity(source), tree_hash(ms)
    working_copy.copy_size_bytes(source)
    assert working_copy.identity(source) == before
    assert tree_hash(ms) == tree
    with open_table(ms, write=True) as opened:
        opened.putcol("DATA", 2 * opened.getcol("DATA"))
    assert working_copy.identity(source) != before


# the disk


def test_only_rows_that_are_selected_need_room(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", fields=("one", "two"), scans=2, times=400, antennas=9)
    (source,) = working_copy.resolve_inputs(str(ms))
    whole = working_copy.copy_size_bytes(source)
    rows = (whole - working_copy.copy_size_bytes(source, "7")) / 2
    assert rows > 1e6
    for field, spw, share in (("1", "", 1), ("two", "", 1), ("0,1", "0:2~5", 2), ("t*", "", 2)):
        left = working_copy.copy_size_bytes(source, field, spw)
        assert left == pytest.approx(whole - (2 - share) * rows, rel=1e-3)


def test_a_full_disk_is_told_with_need_and_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12, 3_000_000))
    working_copy.check_disk(tmp_path / "new" / "work", 2_000_000)
    with pytest.raises(InputError, match=r"needs 12\.3 GB .* where 3 MB are free"):
        working_copy.check_disk(tmp_path / "new" / "work", 12_300_000_000)


def test_a_read_only_work_directory_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(working_copy.tempfile, "TemporaryFile", refuse)
    with pytest.raises(InputError, match=r"cannot be written \(Permission denied\)"):
        working_copy.check_disk(tmp_path, 1)


# the view
