"""POINTING shared with the original, which nothing that is done to the copy reaches."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from libs.ms.hard_links import link_pointing
from libs.ms.tables import open_table
from tests.libs.small_ms import tree_hash
from tests.pipeline_case import FIELDS, FIRST, make_pipeline_case


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return make_pipeline_case(
        tmp_path, [FIRST], fields=FIELDS[1:2], antennas=4, scans=1, scan_s=12.0
    ).vis[0]


def contents(ms: Path) -> dict[str, str]:
    return {name: value for name, value in tree_hash(ms).items() if "table.lock" not in name}


def test_files_are_shared_and_writing_makes_them_the_copy_s_own(
    tmp_path: Path, original: Path
) -> None:
    copy = tmp_path / "copy.ms"
    shutil.copytree(original, copy)
    before = contents(original)
    assert link_pointing(copy, original) == []
    for file in (original / "POINTING").iterdir():
        shared = (copy / "POINTING" / file.name).stat().st_ino == file.stat().st_ino
        assert shared is (file.name != "table.lock")
    with open_table(f"{copy}::POINTING") as opened:
        assert opened.nrows() == 300
    with open_table(f"{copy}::POINTING", write=True) as opened:
        opened.putcell("TIME", 0, -1.0)
        opened.removerows([1])
    assert contents(original) == before
    with open_table(f"{copy}::POINTING") as opened:
        assert opened.nrows() == 299 and opened.getcell("TIME", 0) == -1.0
    shutil.rmtree(copy)
    assert contents(original) == before


def test_without_links_it_is_left_empty(
    tmp_path: Path, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.ms"
    shutil.copytree(original, copy)

    def refuse(*where: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (said,) = link_pointing(copy, original)
    assert said.startswith("POINTING is left empty") and "cross-device" in said
    with open_table(f"{copy}::POINTING") as opened:
        assert opened.nrows() == 0
