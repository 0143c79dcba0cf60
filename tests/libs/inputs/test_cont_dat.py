"""Files of line-free ranges: what is understood, and the line that is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.core.errors import ConfigError
from libs.inputs.cont_dat import FrequencyRange, merged, read_cont_dat

NAME = "ALMA_RB_06#BB_1#SW-01#FULL_RES"
TEXT = f"""
# made by hand
Field: "G34.3 core#1"

SpectralWindow: 16 X1#{NAME}
Flags: ALLCONT LOWBANDWIDTH
216.5~217.3GHz LSRK
217600~217900MHz TOPO

SpectralWindow: 18
ALL

SpectralWindow: 20
NONE

SpectralWindow: 22

Field: 04287+1801
SpectralWindow: 16
216.5~216.9GHz LSRK; 217.0~217.1GHz LSRK
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "cont.dat"
    path.write_text(text)
    return path


def test_fields_windows_and_ranges(tmp_path: Path) -> None:
    found = read_cont_dat(written(tmp_path, TEXT))
    assert list(found.fields) == ["G34.3 core#1", "04287+1801"]
    first, second, third, fourth = found.fields["G34.3 core#1"]
    assert first.ranges == [
        FrequencyRange(216.5e9, 217.3e9, "LSRK"), FrequencyRange(217.6e9, 217.9e9, "TOPO")
    ]  # fmt: skip
    assert first.flags == ("ALLCONT", "LOWBANDWIDTH") and first.name == f"X1#{NAME}"
    assert second.whole and not second.ranges and third.nothing
    assert not (fourth.ranges or fourth.whole or fourth.nothing)
    assert len(found.fields["04287+1801"][0].ranges) == 2


def test_a_window_is_found_by_its_name_and_then_by_its_number(tmp_path: Path) -> None:
    found = read_cont_dat(written(tmp_path, TEXT))
    field = "G34.3 core#1"
    own = found.window(field, 3, f"X7#{NAME}")
    assert own is not None and own.number == 16, "the shared ending, whatever the number is"
    assert found.window(field, 16, f"X7#{NAME.replace('BB_1', 'BB_2')}") is None, "another one's"
    assert found.window(field, 18, f"X7#{NAME.replace('BB_1', 'BB_2')}") is not None
    assert found.window(field, 16, "") is not None and found.window("other", 16, "") is None


def test_the_older_form_is_topocentric(tmp_path: Path) -> None:
    text = "NGC 5921\n\nSPW0\n1.4125~1.4130GHz;1.4140~1.4141GHz\n\nSPW1\nNONE\n\nOther\nSPW0\nALL\n"
    found = read_cont_dat(written(tmp_path, text))
    assert list(found.fields) == ["NGC 5921", "Other"]
    assert [r.frame for r in found.fields["NGC 5921"][0].ranges] == ["TOPO", "TOPO"]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("Field: A\nSpectralWindow: 0\n217~216GHz LSRK", 3, "does not go from a lower"),
        ("Field: A\nSpectralWindow: 0\n217~217GHz LSRK", 3, "does not go from a lower"),
        ("Field: A\nSpectralWindow: 0\n216~217GHz SOURCE", 3, "follows an ephemeris"),
        ("Field: A\nSpectralWindow: 0\n216~217GHz BARY", 3, "frame BARY"),
        ("Field: A\nSpectralWindow: 0\n216~217GHz", 3, "has no frame"),
        ("Field: A\nSpectralWindow: 0\n216~217parsec LSRK", 3, "unknown unit"),
        ("Field: A\nSpectralWindow: 0\n216~~217GHz LSRK", 3, "not understood"),
        ("Field: A\nSpectralWindow: 0\nFlags: MAYBE", 3, "unknown flag MAYBE"),
        ("Field: A\nSpectralWindow: zero", 2, "not understood"),
        ("Field: A\n216~217GHz LSRK", 2, "before any window"),
        ("SpectralWindow: 0\nALL", 1, "before any field"),
        ("Field: A\nSpectralWindow: 0\nSpectralWindow: 0", 3, "there twice"),
        ("Field:", 1, "without a name"),
        ("Field: A\nSpectralWindow: 0\nALL\nsomething else", 4, "not understood"),
        ("nothing of the kind", 1, "not understood"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"cont.dat:{line}: .*{said}"):
        read_cont_dat(written(tmp_path, text))


def test_ranges_that_touch_are_one() -> None:
    assert merged([(3, 4), (1, 2), (2, 2.5), (3.5, 3.6)]) == [(1, 2.5), (3, 4)]
