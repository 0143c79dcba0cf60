"""Finished steps are thrown away by what changes what they do, and by nothing else."""

from __future__ import annotations

import shutil
import time
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcal import code_version as module
from selfcal import pipeline as pipeline_module
from selfcal.code_version import Code
from steps import STANDARD, STEPS
from steps.tools import TOOL_MODULES, Tools
from tests.conftest import ROOT
from tests.selfcal.fake_steps import NAMES, run

A = (
    '"""Doc."""\nfrom libs import b\n\nLIMIT = 3\n\n\n'
    'def f(x):\n    """Doc."""\n    return x + LIMIT\n'
)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A project of three modules, a worker, a tool and two data files."""
    for name, text in {
        "libs/__init__.py": "", "libs/a.py": A, "libs/b.py": "def g():\n    return 1\n",
        "libs/c.py": "from libs.a import f\nRUN = ['-m', 'libs.worker']\n",
        "libs/worker.py": "X = 1\n", "libs/tool.py": "X = 1\n", "libs/apart.py": "X = 1\n",
        "steps/__init__.py": "from steps import one, two\n",
        "steps/one.py": "from libs import c\nNAMES = 'rules.yaml'\n",
        "steps/two.py": "def run(context):\n    import libs.b\n    context.tools.imager.make()\n",
        "selfcal/__init__.py": "", "templates/rules.yaml": "rules: [a]  # one\n",
        "templates/other.yaml": "x: 1\n",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def versions(root: Path) -> tuple[str, str, str]:
    code = Code(root, {"imager": ("libs.tool",)})
    return code.of("steps.one"), code.of("steps.two"), code.version


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("libs/a.py", '    """Doc."""', '    """Another, longer."""'),
        ("libs/a.py", '"""Doc."""\n', ""),
        ("libs/a.py", "LIMIT = 3\n", 'LIMIT = 3  # why\n"""What it is."""\n'),
        ("libs/a.py", "x + LIMIT", "(\n        x\n        + LIMIT\n    )"),
        ("templates/rules.yaml", "[a]  # one", "\n  - 'a'"),
    ],
)
def test_words_and_form_change_nothing(small: Path, name: str, old: str, new: str) -> None:
    before = versions(small)
    text = (small / name).read_text()
    (small / name).write_text(text.replace(old, new, 1))
    assert (small / name).read_text() != text
    assert versions(small) == before


@pytest.mark.parametrize(
    ("name", "old", "new", "changed"),
    [
        ("libs/a.py", "LIMIT = 3", "LIMIT = 4", (True, False)),
        ("libs/a.py", "x + LIMIT", "x - LIMIT", (True, False)),
        ("libs/a.py", "LIMIT = 3", "LIMIT = 3.0", (True, False)),
        ("libs/b.py", "return 1", "return 2", (True, True)),
        ("libs/worker.py", "1", "2", (True, False)),
        ("libs/tool.py", "1", "2", (False, True)),
        ("libs/apart.py", "1", "2", (False, False)),
        ("templates/rules.yaml", "[a]", "[b]", (True, False)),
        ("templates/other.yaml", "1", "2", (False, False)),
        ("steps/two.py", "make", "paint", (False, True)),
        ("steps/__init__.py", "one, two", "two, one", (False, False)),
    ],
)
def test_what_a_step_can_come_to_execute_changes_its_version(
    small: Path, name: str, old: str, new: str, changed: tuple[bool, bool]
) -> None:
    before = versions(small)
    text = (small / name).read_text()
    (small / name).write_text(text.replace(old, new, 1))
    after = versions(small)
    assert tuple(a != b for a, b in zip(before, after, strict=True)) == (*changed, True)


@given(st.one_of(st.integers(), st.floats(allow_nan=False), st.text(), st.booleans()))
def test_constants_that_differ_are_told_apart(value: object) -> None:
    import ast

    def written(text: str) -> str:
        return "".join(module._written(ast.parse(text)))

    assert written(f"x = {value!r}") == written(f"x   =  ({value!r})  # why")
    assert written(f"x = {value!r}") != written(f"x = [{value!r}]")
    assert written(f"x = {value!r}") != written(f"x = {[value]!r}[0]")


def test_what_is_kept_serves_and_is_taken_over_when_a_file_changes(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = versions(small)
    monkeypatch.setattr(module, "_read", lambda path: pytest.fail(f"{path} is read again"))
    assert versions(small) == before
    monkeypatch.undo()
    kept = next((small / "selfcal").rglob("code_version.json"))
    kept.write_text("{")
    assert versions(small) == before


def test_the_whole_takes_a_tenth_of_a_second_once_it_is_kept() -> None:
    first = Code(ROOT, TOOL_MODULES).version

    def once() -> float:
        start = time.process_time()
        code = Code(ROOT, TOOL_MODULES)
        assert code.version == first
        for step in STEPS.values():
            code.of(step.__module__)
        return time.process_time() - start

    # whatever else the processor does costs this process time too: the least is its own
    assert min(once() for _ in range(5)) < 0.1


def test_the_version_does_not_depend_on_where_it_is_installed(tmp_path: Path) -> None:
    for folder in ("selfcal", "libs", "steps", "templates"):
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=leave)
    assert Code(tmp_path, TOOL_MODULES).version == Code(ROOT, TOOL_MODULES).version


def test_the_tools_behind_steps_are_known() -> None:
    assert set(TOOL_MODULES) == {field.name for field in fields(Tools)} - {"hint"}
    code = Code(ROOT, TOOL_MODULES)
    assert set().union(*TOOL_MODULES.values()) <= set(code.modules)
    reached = {name: code.reached(STEPS[name].__module__) for name in STANDARD}
    assert "libs.imaging.wsclean" not in reached["startup"]
    assert {"libs.casa.worker", "instruments.yaml"} <= reached["startup"]
    for name in ("fov_image", "test_image", "p0", "split_trial_1"):
        assert {"libs.imaging.wsclean", "libs.imaging.tclean"} <= reached[name], name
    for name in ("select_refant", "p0", "ap1"):
        assert {"libs.gains.native", "libs.gains.kernels"} <= reached[name], name
    assert {"selection.yaml"} <= reached["test_image"] & reached["p0"]
    assert not any({"steps", "selfcal.progress", "steps.run_options"} & r for r in reached.values())


def test_a_step_whose_code_changed_and_those_after_it_run_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.selfcal.fake_steps import Fake

    class Third(Fake):
        pass

    classes = {"third": Third}
    Third.__module__ = "steps.third"
    current = {"steps.third": "a"}
    monkeypatch.setattr(
        pipeline_module, "step_version", lambda name, tools: current.get(name, "all")
    )
    assert run(tmp_path, classes=classes) == list(NAMES)
    assert run(tmp_path, classes=classes) == []
    current["steps.third"] = "b"
    assert run(tmp_path, classes=classes) == ["third", "fourth"]
