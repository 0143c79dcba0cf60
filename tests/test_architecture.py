"""What keeps the code in order: who may import whom, sizes of files, one registry."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfcal.step import Step
from steps import STANDARD, STEPS
from tests.conftest import ROOT

LAYERS = ("libs", "selfcal", "steps", "reports")
MAX_LINES = 500
MAX_BODY_LINES = 60
# rooms of libs/ by floor: a room imports rooms of lower floors only
FLOORS = (
    ("core",),
    ("casa", "catalogues"),
    ("ms",),
    ("flagging", "weights", "gains", "closure", "imaging"),
    ("heldout",),
    ("h5parm", "simulation", "record"),
    ("inputs", "directions"),
    ("warm_up",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Files that write to the user's terminal, and why.
PRINTS = {
    "auto_selfcal.py": "the command line",
    "selfcal/progress.py": "the display of progress",
    "libs/warm_up.py": "a command of its own: python -m libs.warm_up",
}
# What is larger than the rules allow; to be divided, and nothing joins it.
LARGE_FILES: dict[str, int] = {}
LARGE_BODIES: dict[str, int] = {}
# Functions that every program of its own has, and every subcommand.
ENTRY_POINTS = {"main"}
SUBCOMMAND = {"command"}
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


def test_rooms_of_libs_import_lower_floors_only() -> None:
    wrong = []
    for path in SOURCES:
        if not path.is_relative_to(ROOT / "libs") or path == ROOT / "libs" / "__init__.py":
            continue
        own = path.relative_to(ROOT / "libs").parts[0].removesuffix(".py")
        assert own in FLOOR, f"{name(path)} is in no room"
        for module in imported(path):
            if module.startswith("libs."):
                other = module.split(".")[1]
                if other != own and FLOOR[other] >= FLOOR[own]:
                    wrong.append(f"{name(path)} imports {module}")
    assert not wrong


def test_tests_mirror_the_rooms() -> None:
    tests = ROOT / "tests" / "libs"
    wrong = [
        name(path)
        for path in tests.rglob("test_*.py")
        if (path.parent == tests and path.name != "test_warm_up.py")
        or not (ROOT / "libs" / path.parent.relative_to(tests) / "__init__.py").exists()
    ]
    assert not wrong


def strings(path: Path) -> Iterator[ast.Constant]:
    """Yield the texts of a file, parts of formatted ones included, docstrings not."""
    tree = ast.parse(path.read_text())
    documents = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if text and id(node) not in documents:
            yield node


def test_subtables_are_opened_in_one_room() -> None:
    places = [*SOURCES, ROOT / "auto_selfcal.py", *(ROOT / "benchmarks").glob("*.py")]
    wrong = [
        f"{name(path)}:{node.lineno}"
        for path in places
        if not path.is_relative_to(ROOT / "libs" / "ms")
        for node in strings(path)
        if re.search(r"::([A-Z_]{4,}$|$)", node.value)
    ]
    assert not wrong


def is_private(word: str) -> bool:
    return word.startswith("_") and not word.endswith("__")


def test_no_private_names_across_modules() -> None:
    wrong = []
    for path in [*SOURCES, ROOT / "auto_selfcal.py"]:
        tree = ast.parse(path.read_text())
        names: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LAYERS:
                names |= {alias.asname or alias.name for alias in node.names}
                wrong += [
                    f"{name(path)}: {alias.name}" for alias in node.names if is_private(alias.name)
                ]
        modules = {
            other for other in names if any(p.stem == other or p.name == other for p in SOURCES)
        }
        wrong += [
            f"{name(path)}: {node.value.id}.{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in modules
            and is_private(node.attr)
        ]
    assert not wrong


def test_public_names_are_unique() -> None:
    """A class, a function or a tuple of options has one meaning in the whole project."""
    places: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            found = []
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                found = [node.name]
            elif isinstance(node, ast.Assign):
                found = [
                    target.id
                    for target in node.targets
                    if isinstance(target, ast.Name) and target.id.endswith("_OPTIONS")
                ]
            entries = ENTRY_POINTS
            if path.parent == ROOT / "steps" / "commands":
                entries = ENTRY_POINTS | SUBCOMMAND
            for one in found:
                if not one.startswith("_") and one not in entries:
                    places.setdefault(one, []).append(name(path))
    assert {one: paths for one, paths in places.items() if len(paths) > 1} == {}


def test_the_command_line_is_in_one_place() -> None:
    wrong = []
    for path in SOURCES:
        if path.is_relative_to(ROOT / "steps" / "commands"):
            continue
        tree = ast.parse(path.read_text())
        if "argparse" in set(imported(path)):
            wrong.append(f"{name(path)} imports argparse")
        calls = [
            node.lineno
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
        ]
        if calls and name(path) not in PRINTS:
            wrong.append(f"{name(path)} prints in line {calls[0]}")
    assert not wrong


def test_reports_know_no_step() -> None:
    """They read what a step recorded; ``initial_model`` is also a state that is measured."""
    known = set(STEPS) - {"initial_model"}
    wrong = [
        f"{name(path)}:{node.lineno} {node.value}"
        for path in (ROOT / "reports").rglob("*.py")
        for node in strings(path)
        if node.value in known
    ]
    assert not wrong


def test_the_engine_knows_neither_casa_nor_imagers() -> None:
    allowed = {"libs.core.disk", "libs.core.errors", "libs.core.files", "libs.core.process"}
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
    large = {path: n for path, n in sizes.items() if n > LARGE_FILES.get(path, MAX_LINES)}
    assert large == {}


def test_functions_fit_a_screen() -> None:
    long = {}
    for path in [*SOURCES, ROOT / "auto_selfcal.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body
                first = body[1] if ast.get_docstring(node) and len(body) > 1 else body[0]
                lines = (node.end_lineno or 0) - first.lineno + 1
                place = f"{name(path)}:{node.name}"
                if lines > LARGE_BODIES.get(place, MAX_BODY_LINES):
                    long[place] = lines
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
