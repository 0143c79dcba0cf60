"""What keeps the code in order: who may import whom, sizes of files, one registry."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfcal.step import Step
from steps import STANDARD, STEPS
from tests.conftest import ROOT

LAYERS = ("libs", "selfcal", "steps", "reports")
MAX_LINES = 650
# what each layer may import of the project
ALLOWED = {
    "libs": {"libs"},
    "selfcal": {"libs", "selfcal"},
    "steps": {"libs", "selfcal", "steps"},
    "reports": {"libs", "reports"},
}
CASA = {"casatools", "casatasks", "casacore", "casadata", "casaconfig"}
SOURCES = sorted(
    path
    for layer in LAYERS
    for path in (ROOT / layer).rglob("*.py")
    if "__pycache__" not in str(path)
)


def imported(path: Path) -> Iterator[str]:
    """Yield the modules a file imports, at whatever depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_point_one_way(layer: str) -> None:
    above = {*LAYERS, "auto_selfcal", "config", "tests", "benchmarks"} - ALLOWED[layer]
    wrong = [
        f"{name(path)} imports {module}"
        for path in SOURCES
        if path.is_relative_to(ROOT / layer)
        for module in imported(path)
        if module.split(".")[0] in above
    ]
    assert not wrong


def test_the_engine_knows_neither_casa_nor_imagers() -> None:
    allowed = {"libs.core.errors", "libs.core.process"}
    for path in (ROOT / "selfcal").glob("*.py"):
        modules = set(imported(path))
        assert not {m.split(".")[0] for m in modules} & (CASA | {"numpy", "scipy"}), name(path)
        assert {m for m in modules if m.split(".")[0] == "libs"} <= allowed, name(path)


def test_casa_is_imported_in_the_child_process_only() -> None:
    wrong = [
        name(path)
        for path in SOURCES
        for module in imported(path)
        if module.split(".")[0] in {"casatools", "casatasks"} and path.name != "worker.py"
    ]
    assert not wrong


def test_files_are_of_one_subject() -> None:
    sizes = {name(path): len(path.read_text().splitlines()) for path in SOURCES}
    sizes["auto_selfcal.py"] = len((ROOT / "auto_selfcal.py").read_text().splitlines())
    assert {path: lines for path, lines in sizes.items() if lines > MAX_LINES} == {}


def test_functions_fit_a_screen() -> None:
    long = {}
    for path in [*SOURCES, ROOT / "auto_selfcal.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body
                first = body[1] if ast.get_docstring(node) and len(body) > 1 else body[0]
                lines = (node.end_lineno or 0) - first.lineno + 1
                if lines > 80:
                    long[f"{name(path)}:{node.name}"] = lines
    assert long == {}


def test_the_registry_is_an_explicit_dict_of_steps() -> None:
    tree = ast.parse((ROOT / "steps" / "__init__.py").read_text())
    (value,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_PLACES"
    )
    assert isinstance(value, ast.Dict)
    assert all(isinstance(key, ast.Constant) for key in value.keys)
    assert all(isinstance(item, ast.Constant) for item in value.values)
    assert all(issubclass(step, Step) for step in STEPS.values())
    assert set(STANDARD) <= set(STEPS)


def test_only_commands_print_and_parse_words() -> None:
    allowed = {"auto_selfcal.py", "libs/warm_up.py"}  # the latter is a program of its own
    wrong = []
    for path in [*SOURCES, ROOT / "auto_selfcal.py"]:
        if name(path) in allowed or name(path).startswith("steps/commands/"):
            continue
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        prints = any(getattr(call.func, "id", "") == "print" for call in calls)
        if prints or "argparse" in set(imported(path)):
            wrong.append(name(path))
    assert wrong == []


def test_the_program_only_hands_over() -> None:
    assert len((ROOT / "auto_selfcal.py").read_text().splitlines()) < 150


def test_rounds_differ_by_options_only() -> None:
    assert STEPS["p0"] is STEPS["p1"] is STEPS["p2"]
    assert STEPS["ap1"] is STEPS["ap2"]
    source = (ROOT / "steps" / "rounds" / "rounds.py").read_text()
    for word in ("'p0'", '"p0"', '"p1"', '"ap1"', '"bright"', '"faint"'):
        assert word not in source, f"rounds.py knows {word}"


def test_every_option_has_a_meaning_and_a_valid_default() -> None:
    for step, kind in STEPS.items():
        names = [option.name for option in kind.options]
        assert len(names) == len(set(names)), step
        for option in kind.options:
            assert option.meaning and len(option.meaning) < 140, f"{step}.{option.name}"
            option.parse(option.default, step)


def test_nothing_names_where_it_was_made() -> None:
    for path in [*SOURCES, *ROOT.glob("*.*"), *(ROOT / "templates").rglob("*.*")]:
        if path.suffix in (".py", ".yaml", ".cfg", ".toml", ".md") and path.is_file():
            assert "/work/" not in path.read_text(), name(path)
