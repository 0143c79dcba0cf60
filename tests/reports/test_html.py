from __future__ import annotations

import base64
import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from libs.core.errors import InputError
from libs.gains.caltable import write_caltable
from reports.html import render, write_report
from reports.html_parts import Markup, facts, join, tag, times
from reports.records import read_run
from reports.summary import write_summary
from reports.tables import GAIN_COLUMNS, gains_rows, write_csv
from tests.libs.small_ms import make_ms
from tests.reports.fake_run import STEP_COLUMNS, make_gains, make_run, step_row, write_rows

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Outline(HTMLParser):
    """Checks that elements nest, and collects what a reader finds."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(values)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if tag == "a":
            self.links.append(str(values["href"]))
        assert tag != "script" or "src" not in values, "scripts are in the page"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def outline(page: str) -> Outline:
    parsed = Outline()
    parsed.feed(page)
    assert parsed.open == []
    return parsed


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_run(tmp_path_factory.mktemp("run") / "work", 64)
    (path / "data").mkdir()
    ms = make_ms(path / "data" / "3c273.ms", antennas=5, times=6)
    rows = []
    for step, amplitude in (("p0", False), ("ap1", True)):
        gains = make_gains(antennas=5, times=8, amplitude=amplitude)
        (path / "tables").mkdir(exist_ok=True)
        gains = type(gains)(**{**gains.__dict__, "antenna": _antennas(ms)})
        write_caltable(path / "tables" / f"{step}.3c273.gcal", gains, ms)
        rows += gains_rows(gains, step=step, ms="3c273.ms")
    write_csv(path / "gains.csv", GAIN_COLUMNS, rows)
    return path


def _antennas(ms: Path) -> tuple[str, ...]:
    from libs.ms.summary import summarise

    return summarise(ms).antenna


@pytest.fixture(scope="module")
def page(workdir: Path) -> str:
    return write_report(workdir).read_text(encoding="utf-8")


def test_the_page_names_every_step_with_its_decision(page: str, workdir: Path) -> None:
    parsed = outline(page)
    text = " ".join(parsed.text)
    for row in read_run(workdir).steps:
        assert f"step-{row.step.replace('_', '-')}" in parsed.ids
        assert row.reason in text
    assert "Self-calibration improved the image" in text
    assert "rejected: dynamic range fell" in text
    assert "not finished" not in text


def test_everything_is_escaped(page: str) -> None:
    assert "<b>bold</b>" not in page and "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "nothing &lt;to&gt; split &amp; &quot;go&quot;" in page


def test_the_page_needs_no_network_and_links_within(page: str) -> None:
    parsed = outline(page)
    assert not re.search(r"(src|href)=\"(https?:)?//", page)
    assert "@import" not in page and "url(" not in page and "fetch(" not in page
    inside = [link[1:] for link in parsed.links if link.startswith("#")]
    assert inside and set(inside) <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))


def test_pictures_are_inlined_and_described(page: str, workdir: Path) -> None:
    images = outline(page).images
    plots = {path.name for path in (workdir / "plots").glob("*.png")}
    expected = {
        "comparison.png", "residuals.png", "history.png", "statistics.png", "visibilities.png",
        "images_p1.png", "phase_p0.png", "phase_ap1.png", "amplitude_ap1.png", "snr_p0.png",
    }  # fmt: skip
    assert expected <= plots
    assert "amplitude_p0.png" not in plots  # phase only
    # first, last and untouched image and the gains, for readers without scripts
    assert len(images) == 4
    shown = re.findall(r'<image href="data:image/png;base64,[^"]+"', page)
    # by uv distance and by time, phases before and after, amplitudes; there is no model
    assert len(shown) >= 3
    for image in images:
        assert len(str(image["alt"])) > 10
        content = base64.b64decode(str(image["src"]).removeprefix("data:image/png;base64,"))
        assert content.startswith(b"\x89PNG")
    for name in expected:
        assert f'href="plots/{name}"' in page, "figures for papers are linked"


def test_the_script_is_given_what_was_recorded(page: str, workdir: Path) -> None:
    found = {
        key: json.loads(text)
        for key, text in re.findall(
            r'<script type="application/json" id="data-(\w+)">(.*?)</script>', page
        )
    }
    images = found["images"]
    assert [frame["label"] for frame in images["frames"]] == [
        "test_image", "p0", "p1", "p2", "Untouched data"
    ]  # fmt: skip
    last = images["frames"][2]
    raw = np.frombuffer(base64.b64decode(last["image"]), "<f2").astype(float) * last["scale"]
    with fits.open(workdir / "images" / "p1" / "p1-image.fits") as hdus:
        peak = float(hdus[0].data.max())
    assert raw.max() == pytest.approx(peak, rel=1e-3)
    gains = found["gains"]
    assert [table["step"] for table in gains] == ["p0", "ap1"]
    shape = (8, 1, 5, 2)
    phase = np.frombuffer(base64.b64decode(gains[0]["phase"]), "<i2").reshape(shape)
    assert (phase[:, :, -1] == -32768).all(), "the last antenna is flagged"
    assert not phase[:, :, 2].any(), "the third is the reference"
    assert gains[0]["amplitudes"] is False and gains[1]["amplitudes"] is True


def test_tables_of_result_gains_and_settings(page: str) -> None:
    text = " ".join(outline(page).text)
    assert "Dynamic range" in text and "Untouched data" in text
    assert "Gains by antenna" in text
    assert "p1.solint" in text and "--set" in text
    assert "wsclean" in text
    assert page.count('scope="col"') > 20


def test_a_second_report_replaces_the_first(workdir: Path, page: str) -> None:
    assert outline(write_report(workdir).read_text()).ids == outline(page).ids
    assert not list(workdir.glob(".*tmp")) and not list((workdir / "plots").glob(".*"))


def test_an_incomplete_run_has_a_report(tmp_path: Path) -> None:
    make_run(tmp_path / "w", 64, finished=False)
    (tmp_path / "w" / "run.log").write_text("solving <p1>\n")
    page = write_report(tmp_path / "w").read_text()
    text = " ".join(outline(page).text)
    assert "The run has not finished" in text
    assert "3 steps are recorded so far, the last is p0" in text
    assert "solving &lt;p1&gt;" in page


def test_a_failed_run_says_where_and_why(tmp_path: Path) -> None:
    rows = [step_row("startup"), step_row("fov_image", "failed", reason="no space on the disk")]
    write_rows(tmp_path / "steps.csv", STEP_COLUMNS, rows)
    text = " ".join(outline(write_report(tmp_path).read_text()).text)
    assert "The run failed" in text
    assert "Step fov_image failed: no space on the disk" in text


def test_missing_and_broken_products_leave_a_gap_that_is_named(tmp_path: Path) -> None:
    make_run(tmp_path / "w", 64)
    shutil.rmtree(tmp_path / "w" / "images" / "p1")
    (tmp_path / "w" / "images" / "p0" / "p0-residual.fits").write_bytes(b"no image")
    (tmp_path / "w" / "tables").mkdir()
    (tmp_path / "w" / "tables" / "p0.3c273.gcal").mkdir()
    page = write_report(tmp_path / "w").read_text()
    text = " ".join(outline(page).text)
    assert "figure images_p0 not drawn" in text
    assert "figure phase_p0 not drawn" in text
    assert "no longer there" in text
    assert (tmp_path / "w" / "plots" / "comparison.png").exists()


def test_warnings_of_the_run_are_shown(tmp_path: Path) -> None:
    make_run(tmp_path, 32, finished=False)
    (tmp_path / "summary.json").write_text('{"status": "unchanged", "warnings": ["flux +5 %"]}')
    text = " ".join(outline(write_report(tmp_path).read_text()).text)
    assert "did not help" in text and "flux +5 %" in text


def test_a_report_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    make_run(tmp_path, 32, finished=False)
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InputError, match=r"report\.html cannot be written"):
        write_report(tmp_path)
    assert not list(tmp_path.glob(".*tmp"))


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        write_report(tmp_path)


def test_pieces_escape_text_and_keep_markup() -> None:
    assert tag("p", "a < b", class_="x") == '<p class="x">a &lt; b</p>'
    assert tag("p", tag("b", "&")) == "<p><b>&amp;</b></p>"
    assert tag("p", "x", title='"q"') == '<p title="&quot;q&quot;">x</p>'
    assert isinstance(join(["<", Markup("<i>")]), Markup)
    assert Markup("<i>") + "<" == "<i>&lt;"
    assert facts({"a": "", "b": None}) == ""


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(15.8, "\u00d715.8"), (0.05, "\u00f720.0"), (0.9, "\u221210.0 %"), (1.02, "+2.0 %")],
)
def test_ratios(ratio: float, text: str) -> None:
    assert times(ratio) == text


def test_a_failed_run_says_how_to_go_on(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / "w", 64, finished=False)
    rows = list(csv.DictReader((workdir / "steps.csv").open()))
    rows.append(step_row("p1", "failed", reason="the disk is full; free space"))
    write_rows(workdir / "steps.csv", STEP_COLUMNS, rows)
    write_summary(workdir, {}, "failed")
    text = " ".join(outline(render(read_run(workdir))).text)
    assert "Step p1 failed: the disk is full" in text
    assert "give the same command again" in text and "doctor --bundle" in text
    assert "auto-selfcal apply" not in text, "what a failed run leaves is no result"


def test_an_unchanged_run_leads_to_the_reasons(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / "w", 64)
    summary = json.loads((workdir / "summary.json").read_text())
    summary |= {"status": "unchanged", "final": summary["initial"]}
    (workdir / "summary.json").write_text(json.dumps(summary))
    text = " ".join(outline(render(read_run(workdir))).text)
    assert "It did not help: what now?" in text
    head = text.partition("Self-calibration did not help")[2].partition("What to do next")[0]
    assert "Dynamic range" in head and "before" not in head, "there are no two states to compare"
