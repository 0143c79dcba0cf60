"""Image targets, rejected groups, marked planes, resources, settings: what is refused, and why."""

from __future__ import annotations

import dataclasses
import json
import math
import tarfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import auto_selfcal
from libs.core.errors import ConfigError, InputError
from libs.imaging.interface import ImagingOptions
from steps.vlass.export import position_shift_arcsec, shifted
from steps.vlass.image_list import rejected
from steps.vlass.make_images import GroupTask, forget_others, marked_planes
from steps.vlass.resources import find_resources, unpack_resources
from steps.vlass.vlass_data import ImageTarget
from steps.vlass.vlass_plan import VLASS_STEPS, vlass_steps
from steps.vlass.vlass_settings import PlaneReject, load_vlass_settings, plane_reject

FILES = (
    "V.ms.flagversions/flags.statwt_1/table.dat", "V.s1_1.phase-self-cal.tbl/table.dat",
    "s13_0.V.I.iter1.model.tt0/table.dat", "s13_0.V.I.iter1.model.tt1/table.dat",
    "s4_0.V.QLcatmask-tier1.mask/table.dat", "s8_0.V.combined-tier2.mask/table.dat",
)  # fmt: skip


def resources(folder: Path, files: tuple[str, ...] = FILES) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_resources_are_found_below_a_folder_too(tmp_path: Path) -> None:
    resources(tmp_path / "below")
    found = find_resources(tmp_path, "V.ms")
    assert [path.name[-3:] for path in found.models] == ["tt0", "tt1"]
    assert found.flags.name == "flags.statwt_1"


@pytest.mark.parametrize(
    ("gone", "cause"),
    [
        (FILES[0], r"the backup of the flags \(V.ms.flagversions\) is missing"),
        (FILES[1], "the self-cal table .* is missing"),
        (FILES[2], "not one of consecutive Taylor terms"),
        (FILES[4], "the tier-1 mask .* is missing"),
        (FILES[5], "the tier-2 mask .* is missing"),
    ],
)
def test_each_missing_resource_is_named(tmp_path: Path, gone: str, cause: str) -> None:
    resources(tmp_path, tuple(name for name in FILES if name != gone))
    with pytest.raises(InputError, match=cause):
        find_resources(tmp_path, "V.ms")


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    resources(tmp_path, ("V.ms.flagversions/flags.other/table.dat", "a.combined-tier2.mask",
                         "b.combined-tier2.mask"))  # fmt: skip
    with pytest.raises(InputError) as caught:
        find_resources(tmp_path, "V.ms")
    for text in (
        "flags.statwt_1 in V.ms.flagversions", "self-cal table", "self-cal model", "tier-1",
        "the tier-2 mask (*.combined-tier2.mask) is there 2 times",
    ):  # fmt: skip
        assert text in str(caught.value)


def test_a_hostile_archive_is_refused_whole(tmp_path: Path) -> None:
    archive = tmp_path / "reimaging_resources.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(resources(tmp_path / "good") / "V.ms.flagversions", "V.ms.flagversions")
        link = tarfile.TarInfo("s8_0.V.combined-tier2.mask")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    with pytest.raises(InputError, match="is a link to '/etc'"):
        unpack_resources(archive, tmp_path / "work" / "resources")
    assert not (tmp_path / "work" / "resources").exists()


def test_an_archive_is_unpacked_anew_over_an_older_one(tmp_path: Path) -> None:
    archive = tmp_path / "r.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(resources(tmp_path / "good"), "./")
    folder = tmp_path / "resources"
    resources(folder, ("left/over",))
    unpack_resources(archive, folder)
    assert not (folder / "left").exists()
    assert find_resources(folder, "V.ms").tier1.exists()


def test_groups_flagged_too_much_are_left_out() -> None:
    fields = dict.fromkeys(range(12), 0.95) | {20: 0.1}
    rule = PlaneReject()
    assert rejected((2,), 1.0, {}, PlaneReject(apply=False)) == "all of its data are flagged"
    assert "12 of 13 fields" in rejected((2,), 0.9, fields, rule)
    assert rejected((2,), 0.9, fields, PlaneReject(nfield_thresh=13)) == ""
    assert rejected((2,), 0.9, fields, PlaneReject(flagpct_thresh=0.96)) == ""
    assert rejected((2, 3), 0.9, fields, PlaneReject(exclude_spw=frozenset({3}))) == ""
    assert rejected((2,), 0.9, fields, PlaneReject(apply=False)) == ""


def test_the_rule_is_read_as_published() -> None:
    found = plane_reject({"exclude_spw": "2, 17", "flagpct_thresh": 1})
    assert found == PlaneReject(True, frozenset({2, 17}), 1, 12)
    assert plane_reject(False) == PlaneReject(apply=False)
    for bad in ({"nfields": 3}, {"apply": "yes"}, {"nfield_thresh": 1.5}, {"exclude_spw": "a"}):
        with pytest.raises(ConfigError):
            plane_reject(bad)


def test_planes_are_marked_by_flags_and_beams() -> None:
    def row(label: str, ghz: float, beam: float, flagged: float = 0.1) -> dict[str, object]:
        plane = {"beam_major_arcsec": beam, "beam_minor_arcsec": beam}
        return {
            "label": label, "frequency_hz": 1e9 * ghz, "flagged": flagged, "planes": [plane],
            "mark": "",
        }  # fmt: skip

    rows = [
        row("a", 2.0, 3.0), row("b", 3.0, 2.0), row("c", 4.0, 1.5), row("d", 3.0, 2.6),
        row("e", 3.0, 2.0, 0.85), {**row("f", 3.0, 1.0), "planes": []},
    ]  # fmt: skip
    marked_planes(rows, 0.8, 0.2)
    assert [bool(one["mark"]) for one in rows] == [False, False, False, True, True, False]
    assert "1.30 of the median" in str(rows[3]["mark"])
    assert rows[4]["mark"] == "85% flagged"


def test_images_of_other_data_or_settings_are_made_anew(tmp_path: Path) -> None:
    options = ImagingOptions(
        vis=(tmp_path / "a.ms",), folder=tmp_path / "images/spw2", basename="a", imsize=(64, 64),
        cell_arcsec=1.0,
    )  # fmt: skip
    target = ImageTarget("a.spw2", "spw2", (2,), 2e9, (0.0, 0.0), (64, 64), 1.0, (0,), 0.0, "", {})
    task = GroupTask(target, options, "native", {}, str(tmp_path), 60.0)
    done = tmp_path / "images" / "spw2" / "done.json"

    def make() -> None:
        done.parent.mkdir(parents=True, exist_ok=True)
        done.write_text(json.dumps({"fingerprint": task.fingerprint, "planes": []}))

    forget_others(tmp_path / "images", [task], "data 1")
    make()
    forget_others(tmp_path / "images", [task], "data 1")
    assert done.exists()
    forget_others(tmp_path / "images", [task], "data 2")
    assert not done.exists(), "the data were restored from other resources"
    make()
    other = dataclasses.replace(task, options=options.but(robust=0.0))
    forget_others(tmp_path / "images", [other], "data 2")
    assert not done.exists(), "another weighting is asked for"
    moved = dataclasses.replace(
        task, workdir="/elsewhere",
        options=options.but(vis=(Path("/elsewhere/a.ms"),), folder=Path("/elsewhere/images/spw2")),
    )  # fmt: skip
    assert moved.fingerprint == task.fingerprint


def test_the_position_is_shifted_once_along_the_parallactic_angle() -> None:
    assert position_shift_arcsec(3e9, 45.0, 0.0) == pytest.approx((0.0, -0.25))
    east, north = position_shift_arcsec(1.5e9, 45.0, 90.0)
    assert (east, north) == pytest.approx((-1.0, 0.0), abs=1e-12)
    header = fits.Header()
    header["CRVAL1"], header["CRVAL2"] = 200.0, 60.0
    once = shifted(header, 1.5e9, 45.0, 90.0)
    assert (once["CRVAL1"] - 200.0) * 3600 * math.cos(math.radians(60)) == pytest.approx(-1.0)
    assert shifted(once, 1.5e9, 45.0, 90.0)["CRVAL1"] == once["CRVAL1"]
    assert header["CRVAL1"] == 200.0


def config(folder: Path, **changes: object) -> Path:
    values: dict[str, object] = {}
    for key in ("vis", "resources", "seip_list", "ccip_list"):
        (folder / key).touch()
        values[key] = str(folder / key)
    path = folder / "my.py"
    path.write_text("".join(f"{k} = {v!r}\n" for k, v in {**values, **changes}.items()))
    return path


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"vis": ""}, "vis not set"),
        ({"resources": "/none.tgz"}, "resources = /none.tgz: no such file"),
        ({"imager": "wsclean"}, "imager"),
        ({"plane_reject": {"nfields": 1}}, "nfield_thresh"),
        ({"scales": ["a"]}, "whole pixels"),
        ({"threads": 2}, "tclean knows no limits"),
        ({"cluster": "moon"}, "unknown cluster"),
        ({"weight": "sigma"}, "did you mean 'weights'"),
    ],
)
def test_a_bad_config_ends_with_2(
    tmp_path: Path, changes: dict[str, object], cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, **changes)
    with pytest.raises(ConfigError, match=cause):
        load_vlass_settings(path, {})
    assert auto_selfcal.main(["vlass_cube", str(path)]) == 2
    assert cause in capsys.readouterr().err


def test_steps_are_known_and_in_order() -> None:
    assert [step.name for step in vlass_steps()] == list(VLASS_STEPS)
    with pytest.raises(ConfigError, match="unknown step 'restore'"):
        vlass_steps(["restore"])
    with pytest.raises(ConfigError, match="needs make_images before it"):
        vlass_steps(["pbcor"])


def test_init_writes_a_config_that_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cube.py"
    assert auto_selfcal.main(["init", "vlass_cube", "-o", str(path)]) == 0
    assert "vlass_cube" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="no such file"):
        load_vlass_settings(path, {})
    values = {}
    for key in ("vis", "resources", "seip_list", "ccip_list"):
        (tmp_path / key).touch()
        values[key] = str(tmp_path / key)
    found = load_vlass_settings(path, values)
    assert found["imager"] == "tclean"
    assert np.isclose(found["nsigma_masked"], 3.0)
