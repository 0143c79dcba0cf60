"""The pages by the rules of axe-core: contrast, names, headings, landmarks, in light and dark."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from libs.gains.caltable import write_caltable
from libs.ms.summary import summarise
from reports.html import write_live_page, write_report
from tests.libs.small_ms import make_ms
from tests.reports.browser import ask, chromium
from tests.reports.fake_run import make_gains, make_run
from tests.reports.test_browser import field_page, targets_page

pytestmark = pytest.mark.tools
DARK = "--blink-settings=preferredColorScheme=0"
AUDIT = """
for (const d of document.querySelectorAll("details")) d.open = true;
await new Promise((resolve, reject) => {
  const script = document.createElement("script");
  script.src = "axe.min.js"; script.onload = resolve; script.onerror = reject;
  document.head.append(script);
});
const found = await axe.run(document, { resultTypes: ["violations"] });
return found.violations.map(v => [v.impact, v.id, v.help,
  v.nodes.slice(0, 4).map(n => `${n.target.join(" ")}: ${n.any.map(a => a.message).join("; ")}`)]);
"""


def run_page(folder: Path) -> Path:
    work = make_run(folder, 64)
    (work / "data").mkdir()
    (work / "tables").mkdir()
    ms = make_ms(work / "data" / "3c273.ms", antennas=12, times=6)
    for step, amplitude in (("p0", False), ("ap1", True)):
        gains = make_gains(antennas=12, times=40, amplitude=amplitude)
        gains = type(gains)(**{**gains.__dict__, "antenna": summarise(ms).antenna})
        write_caltable(work / "tables" / f"{step}.3c273.gcal", gains, ms)
    return write_report(work)


def live_page(folder: Path) -> Path:
    return write_live_page(make_run(folder, 64, finished=False))


def made(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    def page(folder: Path) -> Path:
        folder.mkdir()
        return make(folder)

    return page


PAGES = {
    "run": run_page, "live": live_page, "field": made(field_page), "targets": made(targets_page)
}  # fmt: skip


def audit(page: Path, folder: Path, *switches: str, width: int = 1400) -> list[Any]:
    """Return what axe-core finds serious or critical: impact, rule, meaning, places."""
    spec = importlib.util.find_spec("axe_core_python")
    assert spec and spec.submodule_search_locations
    script = Path(spec.submodule_search_locations[0]) / "axe.min.js"
    shutil.copy(script, folder / "axe.min.js")
    found = ask(page, folder, AUDIT, width, *switches)
    return [one for one in found if one[0] in ("serious", "critical")]


@pytest.mark.parametrize("name", PAGES)
def test_pages_have_no_serious_fault(name: str, tmp_path: Path) -> None:
    chromium()
    pytest.importorskip("axe_core_python", reason="the extra test is not installed")
    page = PAGES[name](tmp_path / "work")
    assert audit(page, tmp_path) == []
    assert audit(page, tmp_path, DARK, width=360) == []


def test_a_fault_is_found(tmp_path: Path) -> None:
    chromium()
    pytest.importorskip("axe_core_python", reason="the extra test is not installed")
    page = tmp_path / "page.html"
    page.write_text(
        '<!doctype html><html lang="en"><head><title>a</title></head><body><main><h1>a</h1>'
        '<p style="color:#ccc;background:#fff">pale</p><img src="data:,"><select></select>'
        "</main></body></html>"
    )
    assert {rule for _, rule, *_ in audit(page, tmp_path)} >= {
        "color-contrast", "image-alt", "select-name"
    }  # fmt: skip
