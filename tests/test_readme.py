"""README names every key, step, parameter and command there is, and what it shows is real."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from selfcal.template_files import template_names
from steps import STEPS
from steps.calibrate.calibrate_options import CALIBRATE_OPTIONS
from steps.calibrate.plan import PROJECT_STEPS, SESSION_STEPS
from steps.commands import solutions
from steps.field.field_options import FIELD_OPTIONS
from steps.run_options import RUN_OPTIONS
from tests.conftest import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
# comments in examples look like headings
PROSE = re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
LARGEST_PICTURE_BYTES = 400_000


def section(title: str) -> str:
    """Return what stands below a heading, down to the next of its rank or above."""
    found = re.search(rf"^(#+) {re.escape(title)}$", PROSE, re.MULTILINE)
    assert found, f"README has no heading {title}"
    rest = PROSE[found.end() :]
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


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def written(value: Any) -> str:
    return "`" + (f'"{value}"' if isinstance(value, str) else repr(value)) + "`"


@pytest.mark.parametrize("option", RUN_OPTIONS, ids=lambda option: option.name)
def test_every_config_key_with_its_default(option: Any) -> None:
    table = {row[0]: row[1] for row in rows(section("Config keys"))}
    assert table[f"`{option.name}`"] == written(option.default)
    for choice in option.choices:
        assert choice in section("Config keys")


def test_no_config_key_that_is_not_there() -> None:
    known = {f"`{option.name}`" for option in RUN_OPTIONS} | {"key"}
    assert {row[0] for row in rows(section("Config keys"))} == known


def test_every_step() -> None:
    table = [row for row in rows(section("Steps")) if len(row) == 2 and row[0] != "step"]
    told = set().union(*(named(row[0]) for row in table))
    assert told == set(STEPS)
    assert all(row[1].endswith(".") for row in table), "a sentence for each"


def test_every_parameter_of_steps_and_rounds() -> None:
    rounds, others = named(section("Options of rounds")), named(section("Steps"))
    for name, kind in STEPS.items():
        for option in kind.options:
            assert option.name in (rounds if kind.from_template else others), (name, option.name)


def test_every_key_of_a_field() -> None:
    told = named(section("Loop 1: a field"))
    assert {option.name for option in FIELD_OPTIONS} <= told


def test_every_key_and_step_of_a_session() -> None:
    text = section("From calibrators to targets: `calibrate`")
    table = {row[0] for row in rows(text)} - {"key"}
    assert table == {f"`{option.name}`" for option in CALIBRATE_OPTIONS}
    assert {*SESSION_STEPS, *PROJECT_STEPS} <= named(text)


def test_every_template() -> None:
    assert set(template_names()) <= named(section("Templates"))


def test_every_subcommand_of_solutions() -> None:
    parser = solutions.make_parser()
    commands = next(a.choices for a in parser._actions if a.dest == "command")
    assert commands is not None
    told = {word.split()[0] for word in named(section("h5parms: `solutions`"))}
    assert set(commands) <= told


def test_every_switch_of_the_command() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "auto_selfcal.py", "-h"], capture_output=True, text=True, check=True
    )
    for switch in set(re.findall(r"(?<!\S)--[a-z-]+", done.stdout)) - {"--help", "--version"}:
        assert switch in TEXT, switch


def test_every_target_of_make_that_readme_names() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z][a-z-]+)\b", "\n".join(blocks(""))):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_python_examples_import_what_there_is() -> None:
    for block in blocks("python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


def test_yaml_examples_are_yaml() -> None:
    found = [yaml.safe_load(block) for block in blocks("yaml")]
    assert found
    known = {option.name for option in FIELD_OPTIONS}
    field = next(block for block in found if isinstance(block, dict) and "sources" in block)
    assert set(field) <= known


def test_links_and_pictures_lead_somewhere() -> None:
    anchors = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", PROSE, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXT):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("https://"):
            assert (ROOT / target).is_file(), target
    for picture in (ROOT / "docs").glob("*.png"):
        assert picture.stat().st_size < LARGEST_PICTURE_BYTES, picture
