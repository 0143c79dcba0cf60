"""README is one page, and what it names exists."""

from __future__ import annotations

import re

from tests.conftest import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_WORDS = 600


def test_it_is_one_page() -> None:
    assert len(TEXT.split()) <= MOST_WORDS


def test_links_and_pictures_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", TEXT)
    assert any(target.endswith(".png") for target in targets)
    for target in targets:
        assert target.startswith("https://") or (ROOT / target).is_file(), target


def test_every_page_of_the_documentation_can_be_reached() -> None:
    """From README or from the list of pages."""
    linked = set(re.findall(r"docs/([\w/]+)\.md", TEXT))
    listed = set((ROOT / "docs" / "index.md").read_text().split("\n"))
    for path in (ROOT / "docs").rglob("*.md"):
        name = str(path.relative_to(ROOT / "docs").with_suffix(""))
        if path.parent.name != "_build" and name != "index":
            assert name in linked | listed, name


def test_every_command_and_target_of_make_that_it_names() -> None:
    from auto_selfcal import COMMANDS

    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z][a-z-]+)\b", TEXT, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for word in re.findall(r"^auto-selfcal ([a-z]+) ", TEXT, re.MULTILINE):
        assert word in COMMANDS, word
