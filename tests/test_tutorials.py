"""Every tutorial of the documentation is followed to its end."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.tutorials import commands_of, follow, same_output

TUTORIALS = sorted((ROOT / "docs").glob("tutorial_*.md"))


@pytest.mark.tools
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_leads_where_it_says(page: Path, tmp_path: Path) -> None:
    data = Path(os.environ.get("SELFCAL_DATA", ROOT.parent / "shared" / "data"))
    needed = re.findall(r"\$SELFCAL_DATA/([^\s'\"]+)", page.read_text())
    missing = [name for name in needed if not (data / name).exists()]
    if missing:
        pytest.skip(f"{', '.join(missing)} not in {data} (set SELFCAL_DATA)")
    follow(page, tmp_path, data)


def test_there_are_commands_in_every_tutorial() -> None:
    assert len(TUTORIALS) >= 3
    for page in TUTORIALS:
        assert len(list(commands_of(page))) >= 3, page.name


@pytest.mark.parametrize(
    ("wanted", "found", "same"),
    [
        ("final 12.0 mJy", "final 13.1 mJy", True),
        ("final 12.0 mJy", "final 25.0 mJy", False),
        ("a ... d", "a b c d", True),
        ("a ... d", "a b c", False),
        ("... improved ...", "status: improved now", True),
        ("... improved ...", "status: unchanged now", False),
        ("a b", "a b c", False),
        ("...", "", True),
    ],
)
def test_output_is_compared_word_by_word(wanted: str, found: str, same: bool) -> None:
    assert same_output(wanted, found) is same
