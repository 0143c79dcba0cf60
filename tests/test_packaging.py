"""What is installed is all that a run needs, and an installed copy runs in an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("libs", "reports", "selfcal", "steps", "templates")
SHIPPED = (*PACKAGES, "auto_selfcal.py", "config.py", "setup.cfg", "pyproject.toml", "MANIFEST.in",
           "README.md", "LICENSE", "docs/glossary.md")  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the project, built from a copy: building leaves files behind."""
    source = tmp_path_factory.mktemp("source")
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            leave = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=leave)
        else:
            (source / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    for name in ("tests", "benchmarks"):
        (source / name).mkdir()
        (source / name / "__init__.py").write_text("")
    target = tmp_path_factory.mktemp("wheel")
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(target)!r})"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (path,) = target.glob("selfcal-*.whl")
    return path


def test_the_wheel_holds_every_module_and_data_file_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        found = {name for name in content.namelist() if ".dist-info/" not in name}
        demonstration = content.read("templates/demonstration.py")
    wanted = {"auto_selfcal.py"} | {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".yaml", ".csv", ".js", ".css", ".txt", ".md")
    }
    assert found == wanted
    assert demonstration == (ROOT / "config.py").read_bytes()


def test_the_wheel_brings_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        (name,) = (n for n in content.namelist() if n.endswith("entry_points.txt"))
        text = content.read(name).decode()
    assert "auto-selfcal = auto_selfcal:program" in text


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command installed in an environment of its own that sees the packages of this one."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    here = sysconfig.get_paths()["purelib"]
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps",
         "--disable-pip-version-check", wheel],
        check=True,
    )  # fmt: skip
    (site,) = (folder / "lib").glob("python3*/site-packages")
    # the project itself may be installed beside the packages; the copy is found before it
    (site / "packages.pth").write_text(here + "\n")
    return folder / "bin" / "auto-selfcal"


def call(command: Path, folder: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [command, *arguments], cwd=folder, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.tools
def test_an_installed_copy_runs_the_demonstration_in_an_empty_folder(
    command: Path, tmp_path: Path
) -> None:
    listed = call(command, tmp_path, ["--list"])
    assert listed.returncode == 0, listed.stderr
    assert "no config.py in this folder: the demonstration is run" in listed.stderr
    assert str(ROOT) not in listed.stderr
    assert listed.stdout.splitlines()[0].split() == ["startup", "not", "run", "yet"]
    planned = call(command, tmp_path, ["--dry-run"])
    assert planned.returncode == 0 and "not run yet" in planned.stdout
    done = call(command, tmp_path, ["--until", "startup"])
    assert done.returncode == 0, done.stderr + done.stdout
    assert (tmp_path / "work_3c273" / "report.html").exists()
    again = call(command, tmp_path, ["--until", "startup", "--dry-run"])
    assert again.stdout.split()[:2] == ["startup", "reuse"]


@pytest.mark.tools
def test_an_installed_copy_is_used_from_python(command: Path, tmp_path: Path) -> None:
    code = (
        "import selfcal; result = selfcal.run('demo:3c273', until='startup', quiet=True);"
        "print(result.status, result.report.exists())"
    )
    done = call(command.with_name("python"), tmp_path, ["-c", code])
    assert done.stdout == "incomplete True\n", done.stdout + done.stderr
    assert (tmp_path / "work_3c273" / "resolved.yaml").exists()


@pytest.mark.tools
def test_an_installed_copy_takes_the_config_of_the_folder(command: Path, tmp_path: Path) -> None:
    assert call(command, tmp_path, ["init", "vla"]).returncode == 0
    (tmp_path / "config.py").write_text("vis = 'demo:3c273'\nsteps = ['startup', 'p0']\n")
    wrong = call(command, tmp_path, ["--list"])
    assert wrong.returncode == 2 and "step p0 needs test_image before it" in wrong.stderr
    assert "demonstration" not in wrong.stderr
