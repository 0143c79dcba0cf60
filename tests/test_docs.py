"""The documentation cannot drift from the code: pages made from it are those in docs/reference."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from reports.records import read_run
from reports.summary import STATE_MEANINGS, SUMMARY_MEANINGS, build_summary
from selfcal.template_files import template_names
from steps import STEPS
from steps.calibrate.plan import PROJECT_STEPS, SESSION_STEPS
from steps.commands import solutions
from steps.field.field_options import FIELD_OPTIONS
from steps.run_options import RUN_OPTIONS
from tests.conftest import ROOT

DOCS = ROOT / "docs"
# where a network may be needed, and what is made when the documentation is built
PAGES = sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts and p.stem != "library")
LARGEST_PICTURE_BYTES = 400_000


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load_generator()


def text_of(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def prose(text: str) -> str:
    """Return a page without its examples, whose comments look like headings."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def section(page: str, title: str) -> str:
    """Return what stands below a heading, down to the next of its rank or above."""
    text = prose(text_of(page))
    found = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert found, f"{page} has no heading {title}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of each row of Markdown tables."""
    for line in text.splitlines():
        if line.startswith("|") and not set(line) <= set("|-: "):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]


def named(text: str) -> set[str]:
    """Return the words in code type."""
    return set(re.findall(r"`([^`\n]+)`", text))


def blocks(language: str) -> list[tuple[str, str]]:
    """Return the examples of a language with the pages that they are on."""
    return [
        (path.name, block)
        for path in [*PAGES, ROOT / "README.md"]
        for block in re.findall(
            rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL
        )
    ]


@pytest.mark.parametrize("name", [n for n in generate.PAGES if n not in generate.KEPT_OUT])
def test_pages_made_from_the_code_are_up_to_date(name: str) -> None:
    path = DOCS / "reference" / f"{name}.md"
    assert path.read_text(encoding="utf-8") == generate.page(name), "run: python docs/generate.py"


def test_an_old_page_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "REFERENCE", tmp_path)
    assert generate.write(["summary"]) == ["summary"]
    assert generate.write(["summary"], check=True) == []
    (tmp_path / "summary.md").write_text("changed")
    assert generate.write(["summary"], check=True) == ["summary"]


def test_the_summary_has_the_keys_that_are_told(tmp_path: Path) -> None:
    from tests.reports.fake_run import make_run

    summary = build_summary(read_run(make_run(tmp_path)), {})
    assert set(summary) <= set(SUMMARY_MEANINGS)
    assert set(summary["final"]) <= set(STATE_MEANINGS)
    assert len(summary["final"]) > 3


def test_config_keys_that_are_explained_exist() -> None:
    told = {row[0] for row in rows(section("options", "Config keys"))} - {"key"}
    assert told
    assert told <= {f"`{option.name}`" for option in RUN_OPTIONS}
    told = set().union(*(named(row[0]) for row in rows(section("lofar", "Loop 1: a field"))), set())
    assert told <= {option.name for option in FIELD_OPTIONS}


def test_every_step_is_explained() -> None:
    table = [row for row in rows(section("options", "Steps")) if len(row) == 2]
    told = set().union(*(named(row[0]) for row in table if row[0] != "step"))
    assert set(STEPS) <= told
    assert {*SESSION_STEPS, *PROJECT_STEPS} <= named(text_of("sessions"))


def test_parameters_that_are_explained_exist() -> None:
    known = {option.name for kind in STEPS.values() for option in kind.options}
    told = set().union(*(named(row[0]) for row in rows(section("options", "Options of rounds"))))
    assert len(told) > 20
    assert told <= known


def test_every_template_and_subcommand_is_explained() -> None:
    assert set(template_names()) <= named(text_of("templates"))
    commands = next(a.choices for a in solutions.make_parser()._actions if a.dest == "command")
    assert commands is not None
    assert set(commands) <= {word.split()[0] for word in named(text_of("solutions"))}


def test_every_target_of_make_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page, block in blocks(""):
        for target in re.findall(r"^make ([a-z][a-z-]+)\b", block, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), (page, target)


def test_python_examples_import_what_there_is() -> None:
    found = blocks("python")
    assert found
    for page, block in found:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{page}: {node.module}.{alias.name}"


def test_yaml_examples_are_yaml() -> None:
    found = [yaml.safe_load(block) for _, block in blocks("yaml")]
    known = {option.name for option in FIELD_OPTIONS}
    field = next(block for block in found if isinstance(block, dict) and "sources" in block)
    assert set(field) <= known


def test_examples_in_docstrings_hold() -> None:
    """Those of the library and of the command that need neither data nor tools."""
    tried = 0
    for path in [*(ROOT / "libs").rglob("*.py"), *(ROOT / "steps").rglob("*.py")]:
        if ">>>" in path.read_text(encoding="utf-8"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found = doctest.testmod(importlib.import_module(name))
            assert found.failed == 0, name
            tried += found.attempted
    assert tried > 0


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.*)$", prose(path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_links_and_pictures_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file) if file else path
        assert place.is_file() or place.stem == "library", target
        if anchor:
            assert anchor in anchors(place), target


def test_pictures_are_small() -> None:
    for picture in DOCS.glob("*.png"):
        assert picture.stat().st_size < LARGEST_PICTURE_BYTES, picture


@pytest.mark.tools
def test_it_builds_without_a_network_and_without_warnings(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    pytest.importorskip("furo", reason="the extra docs is not installed")
    pytest.importorskip("myst_parser", reason="the extra docs is not installed")
    blocked = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", DOCS, tmp_path / "html"],
        capture_output=True,
        text=True,
        env={**os.environ, **blocked},
    )
    assert done.returncode == 0, done.stderr
    index = (tmp_path / "html" / "index.html").read_text()
    assert not re.findall(r'(?:src|href)="https?://[^"]+\.(?:js|css|woff2?)', index)
