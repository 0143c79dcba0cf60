"""Parameter lists are read, never evaluated; groups of windows as the survey writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.core.errors import ConfigError
from libs.inputs.parameter_list import group_label, read_parameter_list, window_groups

KNOWN = ("phasecenter", "imagename", "spw", "imsize", "robust")
CENTRES = {2: 2052.0, 3: 2180.0, 4: 2308.0, 5: 2436.9}


def written(folder: Path, text: str) -> Path:
    path = folder / "CCIP_parameter.list"
    path.write_text(text)
    return path


def test_values_are_literals_of_all_kinds(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "# a comment\nphasecenter='J2000 12:16:04.600 +059.24.50.300'\n\nimagename = 'a=b'\n"
        "spw=['2','3,4']\nimsize=[100, 100]\nrobust=-0.5\n",
    )
    found = read_parameter_list(path, KNOWN, ("phasecenter", "imagename"))
    assert found.values == {
        "phasecenter": "J2000 12:16:04.600 +059.24.50.300", "imagename": "a=b",
        "spw": ["2", "3,4"], "imsize": [100, 100], "robust": -0.5,
    }  # fmt: skip
    assert found.place("spw") == "CCIP_parameter.list:5"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("imagename='a'\nphasecentre='b'\n", r"list:2: unknown parameter.*phasecenter\?"),
        ("just words\n", "list:1: 'just words' is not key=value"),
        ("spw=open('/etc/passwd').read()\n", "is no literal"),
        ("spw=__import__('os').system('true')\n", "is no literal"),
        ("spw=[1\n", "is no literal"),
        ("spw=1\nspw=2\n", "list:2: spw was given in line 1"),
        ("spw='2'\n", "has no phasecenter, imagename"),
        ("imagename=''\nphasecenter='x'\n", "has no imagename"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(tmp_path: Path, text: str, cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        read_parameter_list(written(tmp_path, text), KNOWN, ("phasecenter", "imagename"))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_parameter_list(tmp_path / "none.list", KNOWN)


@pytest.mark.parametrize(
    ("given", "groups"),
    [
        (["2", "3"], ((2,), (3,))),
        (["2,3,4", "5"], ((2, 3, 4), (5,))),
        ("2, 3", ((2, 3),)),
        ([2, 3], ((2,), (3,))),
        (["2180MHz", "2436MHz,2"], ((3,), (5, 2))),
    ],
)
def test_groups_of_windows(given: object, groups: tuple[tuple[int, ...], ...]) -> None:
    assert window_groups(given, CENTRES, "list:1") == groups


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (["2:0~15", "2:16~31"], "list:7: spw '2:0~15' selects channels"),
        (["1~4"], "list:7: spw '1~4' selects a range"),
        (["2", "9"], "there is no window '9'"),
        (["2,2"], "names a window twice"),
        (["2", "2"], "names a group twice"),
        ([], "spw is empty"),
        (["9999MHz"], "no window has a centre of 9999MHz"),
        (["two"], "there is no window 'two'"),
    ],
)
def test_other_selections_are_refused_with_the_line(given: object, cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        window_groups(given, CENTRES, "list:7")


def test_groups_name_their_images() -> None:
    assert group_label((2, 3, 4)) == "spw2_3_4"
