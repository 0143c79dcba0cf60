"""The report as a reader meets it: narrow and wide, dark, by keyboard, without scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from libs.gains.caltable import write_caltable
from libs.ms.summary import summarise
from reports.field_report import write_field_report
from reports.html import write_live_page, write_report
from reports.targets_report import finish_targets
from tests.libs.small_ms import make_ms
from tests.reports.browser import ask, chromium, run_chromium
from tests.reports.fake_run import STEP_COLUMNS, make_gains, make_run, step_row, write_rows
from tests.reports.test_targets_report import result

pytestmark = pytest.mark.tools
LARGEST_BYTES = 8_000_000


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chromium()
    work = make_run(tmp_path_factory.mktemp("run") / "work", 128)
    (work / "data").mkdir()
    (work / "tables").mkdir()
    ms = make_ms(work / "data" / "3c273.ms", antennas=12, times=6)
    for step, amplitude in (("p0", False), ("ap1", True)):
        gains = make_gains(antennas=12, times=40, amplitude=amplitude)
        gains = type(gains)(**{**gains.__dict__, "antenna": summarise(ms).antenna})
        write_caltable(work / "tables" / f"{step}.3c273.gcal", gains, ms)
    path = write_report(work)
    assert path.stat().st_size < LARGEST_BYTES
    return path


OVERLAPS = """
for (const d of document.querySelectorAll("details")) d.open = true;
const wrong = [];
for (const svg of document.querySelectorAll("svg.chart")) {
  const boxes = [...svg.querySelectorAll("text")].filter(t => !t.getAttribute("transform"))
    .map(t => [t.getBoundingClientRect(), t.textContent]).filter(([b]) => b.width);
  const edge = svg.getBoundingClientRect();
  for (const t of svg.querySelectorAll("text")) {
    const box = t.getBoundingClientRect();
    if (box.width && (box.left < edge.left - 1 || box.right > edge.right + 1
        || box.bottom > edge.bottom + 1)) wrong.push(`cut: ${t.textContent}`);
  }
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
    const [a, s] = boxes[i], [b, t] = boxes[j];
    if (a.left < b.right - 1 && b.left < a.right - 1
        && a.top < b.bottom - 1 && b.top < a.bottom - 1)
      wrong.push(`${s} / ${t}`);
  }
}
const wide = document.documentElement.scrollWidth;
const out = [...document.querySelectorAll("body *")].filter(e => {
  const box = e.getBoundingClientRect();
  return box.width && box.right > innerWidth + 1 && !e.closest(".scroll, .trace, pre, svg");
}).map(e => e.tagName + "." + e.className);
return { wide, inner: innerWidth, wrong, out: out.slice(0, 5),
         loaded: performance.getEntriesByType("resource").map(e => e.name) };
"""


@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_overflows_overlaps_or_is_fetched(page: Path, tmp_path: Path, width: int) -> None:
    found = ask(page, tmp_path, OVERLAPS, width)
    assert found["inner"] == width
    assert found["wide"] <= width, found["out"]
    assert found["out"] == [] and found["wrong"] == [] and found["loaded"] == []


def field_page(folder: Path) -> Path:
    from tests.reports.test_field_report import SOURCES

    counts = {"calibrated": 1, "unchanged": 1, "failed": 1, "waiting": 1}
    summary = {"counts": counts, "sources": SOURCES, "h5parm": "", "directions": [],
               "stations": [], "entries": 0}  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    metrics = {"centre_deg": [212.0, 52.0]}
    write_rows(folder / "steps.csv", STEP_COLUMNS, [step_row("field_startup", metrics=metrics)])
    return write_field_report(folder)


def targets_page(folder: Path) -> Path:
    finish_targets(folder, [result("NGC 1_C"), result("a_long_name_of_a_target_X", "failed")])
    return folder / "report.html"


@pytest.mark.parametrize("make", [field_page, targets_page])
@pytest.mark.parametrize("width", [360, 1400])
def test_pages_of_fields_and_targets_fit(tmp_path: Path, make: Any, width: int) -> None:
    chromium()
    work = tmp_path / "work"
    work.mkdir()
    found = ask(make(work), tmp_path, OVERLAPS, width)
    assert found["wide"] <= width and found["out"] == [] and found["loaded"] == []


def test_dark_by_the_readers_setting_and_by_the_button(page: Path, tmp_path: Path) -> None:
    script = """
        const paper = () => getComputedStyle(document.body).backgroundColor;
        const before = paper(); document.getElementById("theme").click();
        return [before, paper()];
    """
    light, dark = ask(page, tmp_path, script)
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(18, 23, 29)")
    found = ask(page, tmp_path, script, 1400, "--blink-settings=preferredColorScheme=0")
    assert found == [dark, light]


def test_the_viewer_by_keyboard(page: Path, tmp_path: Path) -> None:
    script = """
        const root = document.getElementById("viewer"), canvas = root.querySelector(".picture");
        const press = key => canvas.dispatchEvent(new KeyboardEvent("keydown", { key }));
        const pixels = () => { const c = canvas.getContext("2d");
          return Array.from(c.getImageData(0, 0, canvas.width, canvas.height).data)
            .reduce((a, b, i) => (a * 31 + b) % 1000003, 7); };
        canvas.focus();
        const first = pixels();
        press("ArrowRight");
        const said = root.querySelector("output").textContent;
        press("0"); const again = pixels();
        press("+"); const zoomed = pixels(); press("0");
        const changes = {};
        for (const [name, value] of [["what", "residual"], ["what", "sigma"], ["what", "model"],
            ["what", "image"], ["stretch", "linear"], ["slider", "0"], ["slider", "100"],
            ["left", "2"]]) {
          const control = root.querySelector(`[name=${name}]`), before = pixels();
          control.value = value; control.dispatchEvent(new Event("input"));
          changes[name + value] = pixels() !== before;
        }
        return { focus: document.activeElement === canvas, said, same: first === again,
                 zoomed: zoomed !== first, changes };
    """
    found = ask(page, tmp_path, script)
    assert found["focus"] and found["same"] and found["zoomed"]
    # the cursor starts in the middle of the cut-out, right of it after one key
    assert "12:29:06" in found["said"] and "Jy/beam" in found["said"], found["said"]
    assert "ICRS" in found["said"]
    assert all(found["changes"].values()), found["changes"]


def test_every_control_can_be_reached_and_has_a_name(page: Path, tmp_path: Path) -> None:
    script = """
        for (const d of document.querySelectorAll("details")) d.open = true;
        const all = [...document.querySelectorAll(
          "button, select, input, summary, a[href], [tabindex]")];
        const shown = all.filter(e => e.getClientRects().length);
        const name = e => e.getAttribute("aria-label")
          || (e.labels && e.labels[0] && e.labels[0].textContent) || e.textContent;
        return { count: shown.length, deaf: shown.filter(e => e.tabIndex < 0).length,
                 nameless: shown.filter(e => !name(e).trim()).map(e => e.outerHTML.slice(0, 80)) };
    """
    found = ask(page, tmp_path, script)
    assert found["count"] > 40
    assert found["deaf"] == 0 and found["nameless"] == []


def test_gains_by_antenna(page: Path, tmp_path: Path) -> None:
    script = """
        const root = document.getElementById("gains-view");
        const set = (name, value) => { const e = root.querySelector(`[name=${name}]`);
          e.value = value; e.dispatchEvent(new Event("input")); };
        const names = () => [...root.querySelectorAll(".antennas button")].map(b => b.textContent);
        const all = names();
        root.querySelectorAll(".antennas button")[1].click();
        const traced = root.querySelectorAll(".trace .uplot").length;
        set("order", "flagged"); const worst = names()[0];
        set("search", all[3]); const one = names();
        set("search", "nothing like it"); const none = root.querySelector(".none").hidden;
        return { all, traced, worst, one, none };
    """
    found = ask(page, tmp_path, script)
    assert len(found["all"]) == 12 and found["traced"] == 1
    assert found["worst"] == found["all"][-1], "the last antenna is flagged throughout"
    assert found["one"] == [found["all"][3]] and found["none"] is False


def test_without_scripts_there_are_pictures(page: Path, tmp_path: Path) -> None:
    shot, outer = tmp_path / "shot.png", tmp_path / "outer.html"
    # a sandboxed frame runs no scripts
    outer.write_text(
        f'<body style="margin:0"><iframe sandbox src="{page.as_uri()}" style="border:0;'
        'width:1000px;height:3000px"></iframe></body>'
    )
    # a busy machine may take the picture before the frame is painted
    for _ in range(4):
        run_chromium(outer, tmp_path, f"--screenshot={shot}", "--window-size=1000,3000")
        pixels = (imread(shot)[..., :3] * 255).round().astype(int)
        if len(np.unique(pixels.reshape(-1, 3), axis=0)) > 5:
            break
    glow = (pixels[..., 0] > 150) & (pixels[..., 1] < 130) & (pixels[..., 2] < 110)
    assert glow.sum() > 500, "the images, in colours that nothing else on the page has"
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 500


def test_a_live_page_loads_itself_again(tmp_path: Path) -> None:
    chromium()
    work = make_run(tmp_path / "work", 64, finished=False)
    page = write_live_page(work)
    found = ask(page, tmp_path, "return document.documentElement.dataset.live;")
    assert found == "1"
    text = page.read_text()
    assert "The run goes on" in text and '<meta http-equiv="refresh"' in text
    assert "data-live" not in write_report(work).read_text().split("<body>")[0]


def test_tables_are_sorted_by_a_heading(tmp_path: Path) -> None:
    chromium()
    work = tmp_path / "work"
    work.mkdir()
    script = """
        const table = document.querySelector("table.sortable");
        const names = () => [...table.tBodies[0].rows].map(r => r.cells[0].textContent);
        const heading = text => [...table.tHead.rows[0].cells]
          .find(h => h.textContent.startsWith(text)).querySelector("button");
        heading("SNR").focus();
        const first = names();
        heading("SNR").click(); const up = names();
        heading("SNR").click(); const down = names();
        const links = [...document.querySelectorAll("svg.map a")].map(a => a.getAttribute("href"));
        return { first, up, down, focus: document.activeElement.tagName, links,
                 there: links.every(l => document.getElementById(l.slice(1))) };
    """
    found = ask(field_page(work), tmp_path, script)
    assert found["first"][0] == "cal<1>" and found["focus"] == "BUTTON"
    assert found["up"][:2] == ["dull", "cal<1>"] and found["down"][:2] == ["cal<1>", "dull"]
    assert set(found["up"][2:]) == {"broken", "later"}, "what is missing comes last"
    assert len(found["links"]) == 4 and found["there"]
