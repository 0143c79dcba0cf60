"""The field's report: a map of every source and a page that says what came of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import auto_selfcal
from libs.core.errors import InputError
from reports.field_report import field_map, write_field_report


def source(name: str, status: str, layer: int = 1, **more: object) -> dict[str, object]:
    return {
        "name": name, "layer": layer, "ra_rad": 3.7 + 0.004 * layer, "dec_rad": 0.9,
        "flux_jy": 0.3, "status": status, "reason": f"reason of {name}", **more,
    }  # fmt: skip


SOURCES = [
    source("cal<1>", "calibrated", longest_baseline_km=800.0, snr=100.0, rms_jy_beam=1e-3),
    source("dull", "unchanged", 2, longest_baseline_km=0.0, snr=9.0),
    source("broken", "failed", 2, flux_jy=None),
    source("later", "waiting", 3),
]


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    counts = {"calibrated": 1, "unchanged": 1, "failed": 1, "waiting": 1}
    summary = {"counts": counts, "sources": SOURCES, "h5parm": "", "directions": [],
               "stations": [], "entries": 0}  # fmt: skip
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "steps.csv").write_text(
        "step,status,fingerprint,template,reason,seconds,seconds_imaging,seconds_solving,tables,"
        "products,metrics,settings,finished\n"
        'field_startup,done,x,,4 sources,1.0,0,0,[],{},"{""centre_deg"": [212.0, 52.0]}",{},now\n'
    )
    return tmp_path


def test_the_page_names_every_source(workdir: Path) -> None:
    text = write_field_report(workdir).read_text()
    for name in ("cal&lt;1&gt;", "dull", "broken", "later", "reason of broken", "field_startup"):
        assert name in text
    assert "cal<1>" not in text
    assert "data:image/png;base64," in text
    assert "1 of 4 sources calibrated, 1 left with the solutions of others, 1 failed" in text
    assert (workdir / "plots" / "field.png").stat().st_size > 5000


def test_a_source_leads_to_the_report_of_the_look_that_holds(workdir: Path) -> None:
    summary = json.loads((workdir / "summary.json").read_text())
    summary["sources"][1]["image"] = "run/images/l1/a.fits"
    summary["sources"][2]["image"] = "again/run/images/l1/a.fits"
    (workdir / "summary.json").write_text(json.dumps(summary))
    for name in ("dull/run", "broken/run", "broken/again/run"):
        folder = workdir / "sources" / name
        folder.mkdir(parents=True)
        (folder / "report.html").touch()
    text = write_field_report(workdir).read_text()
    for name, there in (("dull/run", 1), ("broken/run", 0), ("broken/again/run", 1)):
        assert text.count(f'href="sources/{name}/report.html"') == there, name


def test_the_report_command_knows_a_field(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workdir / "sources.json").write_text("[]")
    assert auto_selfcal.main(["report", str(workdir)]) == 0
    assert "reason of broken" in (workdir / "report.html").read_text()
    assert capsys.readouterr().out.strip() == str(workdir / "report.html")


@pytest.mark.parametrize("number", [1, 4])
def test_maps_with_few_sources(number: int) -> None:
    axes = field_map(SOURCES[:number]).axes[0]
    low, high = axes.get_xlim()
    assert low > high  # east to the left


def test_no_field_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no calibrated field"):
        write_field_report(tmp_path)
