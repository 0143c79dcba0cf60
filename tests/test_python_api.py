"""The program from Python: results, exceptions, and nothing left behind in the caller's logging."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import selfcal
from libs.core.errors import ConfigError, InputError
from libs.h5parm.writer import write_h5parm
from selfcal.pipeline import StepFailed
from tests.conftest import ROOT
from tests.libs.small_ms import make_ms
from tests.libs.solset_examples import solset


@pytest.fixture
def vis(tmp_path: Path) -> Path:
    return make_ms(tmp_path / "a.ms", antennas=6, times=10, channels=4, noise_jy=0.05)


def test_importing_it_loads_nothing() -> None:
    code = "import sys, selfcal; print({'steps', 'numpy', 'reports'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
    assert {"run", "field", "calibrate", "solutions", "inspect"} <= set(dir(selfcal))
    with pytest.raises(AttributeError, match="bogus"):
        selfcal.bogus  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"feild": "x"}, "unknown argument 'feild' .did you mean 'field'"),
        ({"p1": "30s"}, "p1 = '30s' is no mapping"),
        ({"p1": {"solnit": "30s"}}, "solnit"),
        ({"cell": 3}, "cell"),
    ],
)
def test_wrong_arguments_are_exceptions(
    vis: Path, tmp_path: Path, arguments: dict, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        selfcal.run(str(vis), workdir=tmp_path / "work", quiet=True, **arguments)
    assert not (tmp_path / "work").exists()


def test_a_result_and_its_parts(
    vis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = {"workdir": tmp_path / "work", "steps": ["startup", "test_image"]}
    result = selfcal.run(vis, quiet=True, imsize=64, cell="1arcsec", **where)
    assert capsys.readouterr().out == ""
    assert result.status == "unchanged"
    assert result.images["initial"] == result.images["test_image"]
    assert result.images["initial"].exists() and result.report.exists()
    assert result.summary["initial"]["peak_jy_beam"] == pytest.approx(1.0, abs=0.05)
    assert len(result.image_statistics) == 1 and len(result.gains) == 0
    assert isinstance(result.ms, Path)
    assert result.ms.is_dir() and result.ms.parent == tmp_path / "work" / "data"
    assert repr(result).startswith("<unchanged")
    page = result._repr_html_()
    assert "<b>unchanged</b>" in page and "dynamic range" in page
    with pytest.raises(ConfigError, match="nothing to apply"):
        result.apply()
    again = selfcal.open_result(tmp_path / "work")
    assert again == result
    # the same from a config file, over which arguments win
    config = tmp_path / "my.yaml"
    config.write_text(f"vis: {vis}\nworkdir: nowhere\nimsize: 64\ncell: 1arcsec\n")
    selfcal.run(config=config, **where)
    assert "reused" in capsys.readouterr().out


def test_a_failed_step_is_an_exception_with_cause_and_remedy(tmp_path: Path) -> None:
    with pytest.raises((StepFailed, InputError), match=r"none\.ms") as raised:
        selfcal.run(str(tmp_path / "none.ms"), workdir=tmp_path / "work", quiet=True)
    assert raised.value.remedy


def test_the_callers_logging_is_left_alone(
    vis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    class Mine(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(f"{record.levelname} {record.name}")

    root, mine = logging.getLogger(), Mine()
    names = ("libs", "steps", "selfcal", "reports")
    before = [
        (log.level, list(log.handlers), log.propagate)
        for log in (root, *map(logging.getLogger, names))
    ]
    shown = warnings.showwarning
    root.addHandler(mine)
    try:
        selfcal.run(vis, quiet=True, workdir=tmp_path / "work", steps=["startup"])
    finally:
        root.removeHandler(mine)
    after = [
        (log.level, list(log.handlers), log.propagate)
        for log in (root, *map(logging.getLogger, names))
    ]
    assert after == before and warnings.showwarning is shown
    assert not [line for line in seen if line.startswith("INFO")], "their level is WARNING"
    text = (tmp_path / "work" / "run.log").read_text()
    assert "INFO selfcal" in text
    assert Path(sys.argv[0]).name in text.splitlines()[0], "the command line"
    lines = text.splitlines()
    assert len(lines) == len(set(lines)), "nothing twice"


def test_solutions_from_python(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_h5parm(path, solset())
    assert not [f for f in selfcal.solutions.check(path) if f.level == "error"]
    product = tmp_path / "b.h5"
    selfcal.solutions.combine(path, path, product)
    assert product.exists()


@pytest.mark.tools
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="the extra notebook is not installed")
    nbclient = pytest.importorskip("nbclient", reason="the extra notebook is not installed")
    pytest.importorskip("ipykernel", reason="the extra notebook is not installed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "docs" / "notebooks" / "selfcal.ipynb", as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert "text/html" in outputs[1][0]["data"]
    assert float(re.findall(r"[\d.]{3,}", outputs[2][0]["data"]["text/plain"])[-1]) > 100
    assert "did you mean 'refant'" in outputs[4][0]["text"]
