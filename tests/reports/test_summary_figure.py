from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reports.records import Run, read_run
from reports.summary_figure import summary_figure
from tests.reports.fake_run import STEP_COLUMNS, make_run, step_row, write_rows
from tests.reports.test_gain_figures import ink


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(make_run(tmp_path_factory.mktemp("run") / "work", 64))


def test_every_statistic_has_a_panel(run: Run) -> None:
    figure = summary_figure(run)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == [
        "Peak (Jy/beam)", "Noise (rms) (mJy/beam)", "Dynamic range", "Signal-to-noise ratio",
        "Total flux density (Jy)", "Flagged visibilities (%)",
    ]  # fmt: skip
    labels = [tick.get_text() for tick in figure.axes[-1].get_xticklabels()]
    assert labels == ["test_image", "p0", "p1", "p2", "ap1"]
    assert ink(figure) > 0.01


def test_a_rejected_step_is_beside_the_line(run: Run) -> None:
    axes = summary_figure(run).axes[2]
    line, cross = axes.lines[0], axes.lines[1]
    assert line.get_xdata().tolist() == [0, 1, 2, 4]
    assert cross.get_xdata().tolist() == [3]
    values = [run.statistic(row, "dynamic_range") for row in run.imaged()]
    assert line.get_ydata() == pytest.approx(np.array(values)[[0, 1, 2, 4]])
    assert axes.get_yscale() == "log"


def test_untouched_data_are_a_dotted_line(run: Run) -> None:
    figure = summary_figure(run)
    level = [line for line in figure.axes[2].lines if line.get_linestyle() == ":"]
    assert level[0].get_ydata()[0] == 1400
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["accepted", "rejected", "untouched data"]


def test_what_was_not_recorded_is_said(tmp_path: Path) -> None:
    rows = [step_row("test_image", metrics={"peak_jy_beam": 1.0})]
    write_rows(tmp_path / "steps.csv", STEP_COLUMNS, rows)
    figure = summary_figure(read_run(tmp_path))
    assert figure.axes[1].texts[0].get_text() == "not recorded"
    assert ink(figure) > 0.005


def test_images_after_the_last_round_are_no_final_state(tmp_path: Path) -> None:
    """A split that is imaged otherwise has other numbers than the state the rounds ended with."""
    workdir = make_run(tmp_path / "later")
    run = read_run(workdir)
    last = next(row for row in run.steps if row.step == "ap1")
    flagged = replace(last, step="flag_again", metrics={**last.metrics, "kind": ""})
    run = replace(run, steps=(*run.steps, flagged))
    axes = summary_figure(run).axes[2]
    line, ring = axes.lines[0], axes.lines[1]
    assert line.get_xdata().tolist() == [0, 1, 2, 4]
    assert ring.get_xdata().tolist() == [5]
    assert ring.get_markerfacecolor() == "none"
