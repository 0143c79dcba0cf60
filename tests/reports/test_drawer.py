"""The report drawn by a program beside the run."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
from astropy.io import fits

from libs.core.errors import InputError
from reports.drawer import Drawer, LivePage, _Work
from reports.drawings import Drawing, draw_ahead, draw_all
from reports.html import write_report
from reports.records import read_run
from reports.summary import write_summary
from tests.reports.fake_run import make_run


def figures(workdir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (workdir / "plots").glob("*.png")}


def wait_for(path: Path) -> None:
    """Wait until another program has written a file."""
    for _ in range(1200):
        if path.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} is not written")


def ahead(workdir: Path, known: Mapping[str, object] | None = None) -> dict[str, list[Drawing]]:
    found: dict[str, list[Drawing]] = {}
    for one in draw_ahead(read_run(workdir), known or {}):
        found |= one
    return found


def test_the_report_is_that_of_one_drawn_at_the_end(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / "run", size=64)
    write_summary(workdir, {})
    write_report(workdir)
    expected, page = figures(workdir), (workdir / "report.html").read_text()
    for path in (workdir / "plots").iterdir():
        path.unlink()
    (workdir / "report.html").unlink()
    drawer, told = Drawer(workdir), []
    drawer.prepare()
    drawer.round_done("p0")
    drawer.round_done("ap1")
    drawer.rounds_over()
    wait_for(workdir / "plots" / "images_ap1.png")
    drawer.write_report(told.append)
    drawer.finish(told.append)
    assert figures(workdir) == expected
    written = (workdir / "report.html").read_text()
    assert re.sub(r"[\d-]{10} \d\d:\d\d", "", written) == re.sub(r"[\d-]{10} \d\d:\d\d", "", page)
    assert told and not any("phase_p0" in text for text in told), "drawn when the round was done"
    assert not any("images_p0" in text for text in told), "drawn when the rounds were over"
    assert drawer.process is None


def test_without_plots_only_what_pages_show_is_drawn(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / "run", size=64)
    write_summary(workdir, {})
    drawer = Drawer(workdir, plots=False)
    drawer.round_done("p0")
    assert drawer.process is None
    drawer.rounds_over()
    drawer.write_report(lambda text: None)
    drawer.finish(lambda text: None)
    assert {path.name for path in (workdir / "plots").glob("*.png")} == {"comparison.png"}
    assert "images_ap1.png" not in (workdir / "report.html").read_text()


def test_what_changes_after_the_rounds_is_drawn_again(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / "run", size=64)
    write_summary(workdir, {})
    before = ahead(workdir)
    assert before and set(before) == set(ahead(workdir))
    assert ahead(workdir, before) == {}, "what is drawn is not drawn again"
    image = workdir / read_run(workdir).rounds[0].products["image"]
    with fits.open(image, mode="update") as hdus:
        hdus[0].data *= 2
    os.utime(image, ns=(1, 1))
    after = ahead(workdir)
    names = [{token.partition(" ")[0] for token in drawn} for drawn in (before, after)]
    assert names[0] == names[1]
    same = {token.partition(" ")[0] for token in set(before) & set(after)}
    assert {"history", "images_p0"} <= names[0] - same
    told: list[str] = []
    drawings, _ = draw_all(read_run(workdir), told.append, before)
    assert any("images_p0" in text for text in told)
    assert not any(f"drawing {name}" in told for name in same)
    assert {drawing.path.stem for drawing in drawings} >= names[0]


def test_a_program_that_dies_costs_no_report(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / "run", size=64)
    drawer = Drawer(workdir)
    drawer.prepare()
    assert drawer.process is not None
    drawer.process.kill()
    drawer.process.wait()
    drawer.write_report(lambda text: None)
    drawer.finish(lambda text: None)
    assert (workdir / "report.html").exists() and figures(workdir)


def test_a_program_that_dies_after_the_page_costs_no_figure(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / "run", size=64)
    write_report(workdir)
    expected = set(figures(workdir))
    for path in (workdir / "plots").iterdir():
        path.unlink()
    drawer = Drawer(workdir)
    drawer.write_report(lambda text: None)
    assert drawer.process is not None and (workdir / "report.html").exists()
    drawer.process.kill()
    drawer.finish(lambda text: None)
    assert set(figures(workdir)) == expected and drawer.process is None


def test_the_page_comes_before_everything_that_is_left_to_draw(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / "run", size=64)
    drawer = Drawer(workdir)
    drawer.rounds_over()
    for step in ("p0", "p1", "ap1"):
        drawer.round_done(step)
    drawer.write_report(lambda text: None)
    left = set(figures(workdir))
    drawer.finish(lambda text: None)
    assert "phase_ap1.png" not in left
    assert len(left) < len(figures(workdir))


def test_figures_drawn_in_advance_for_another_state_are_not_taken(tmp_path: Path) -> None:
    """Of figures of one name the last one drawn is on disk, whatever it was drawn for."""
    work = _Work(tmp_path, lambda **_: None, LivePage(tmp_path, lambda *_: tmp_path))
    work._keep({"history first": []})
    work._keep({"history second": []})
    work._keep({"residuals first": []})
    assert set(work.drawn) == {"history second", "residuals first"}


def test_what_the_user_can_mend_is_told(tmp_path: Path) -> None:
    drawer = Drawer(tmp_path)
    with pytest.raises(InputError):
        drawer.write_report(lambda text: None)
    assert drawer.process is None


def test_the_page_of_a_run_that_goes_on(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / "run", size=64, finished=False)
    drawer = Drawer(workdir)
    drawer.step_done()
    page = workdir / "report.html"
    for _ in range(600):
        if page.exists() and page.stat().st_mtime == 0:
            break
        time.sleep(0.1)
    assert "The run goes on" in page.read_text()
    # a run that is killed now has its report written at the next start
    assert page.stat().st_mtime_ns < (workdir / "steps.csv").stat().st_mtime_ns
    drawer.write_report(lambda text: None)
    assert "data-live" not in page.read_text().split("<body>")[0]


def test_the_live_page_takes_a_hundredth_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, written, clock = tmp_path / "report.html", [], [1000.0, 0.0]
    page.touch()

    def write(workdir: Path, drawn: object) -> Path:
        written.append(clock[0])
        clock[0] += 0.2
        clock[1] += 0.2  # CPU seconds
        return page

    monkeypatch.setattr("reports.drawer.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("reports.drawer.time.process_time", lambda: clock[1])
    live = LivePage(tmp_path, write)
    for _ in range(100):  # a step each second
        live.step_done({})
        clock[0] += 1.0
    assert 4 <= len(written) <= 6
    assert min(b - a for a, b in pairwise(written)) >= 20
