"""The figure of the closure statistic: what is read, what is drawn in which colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

from reports.closure_figure import ClosureRecords, closure_figure, read_closures
from reports.drawings import draw_all
from reports.records import Run, StepRow
from reports.style import ACCEPTED, REJECTED
from reports.timeline import timeline
from tests.reports.test_gain_figures import ink

STATIONS = (
    "station,coherence,threshold,p_value,samples,coherent\n"
    "CS001,0.8,0.1,0,500,True\nDE601,0.4,0.1,0.001,300,True\nIE613,0.02,0.12,0.4,100,False\n"
    "PL612,0,inf,1,0,False\n"
)
BINS = (
    "shortest_km,longest_km,coherence,threshold,p_value,coherent\n"
    "0.1,40,0.8,0.05,0,True\n40,600,0.4,0.06,0,True\n600,1900,0.01,0.08,0.5,False\n"
)
PAIRS = (
    "antenna1,antenna2,length_km,coherence,p_value\n"
    "CS001,DE601,300,0.4,0.001\nCS001,IE613,1200,0.02,0.4\n"
)


def make_run(workdir: Path, *names: str) -> Run:
    """A run that recorded the files named."""
    texts = {"closure": STATIONS, "closure_baselines": BINS, "closure_pairs": PAIRS}
    products = {name: f"{name}.csv" for name in names}
    for name, path in products.items():
        (workdir / path).write_text(texts[name])
    row = StepRow(
        "closure_stats", "done", reason="2 of 4 stations coherent", products=products,
        metrics={"max_coherent_km": 550.0},
    )  # fmt: skip
    return Run(workdir, (row,))


def records(workdir: Path, *names: str) -> ClosureRecords | None:
    run = make_run(workdir, *names)
    return read_closures(run, run.steps[0])


def test_what_a_step_wrote_is_read(tmp_path: Path) -> None:
    found = records(tmp_path, "closure", "closure_baselines", "closure_pairs")
    assert found is not None
    assert [row["station"] for row in found.stations] == ["CS001", "DE601", "IE613", "PL612"]
    assert (len(found.bins), len(found.baselines), found.longest_km) == (3, 2, 550.0)
    assert records(tmp_path, "closure") is None
    assert records(tmp_path) is None


def test_bins_are_blue_above_noise_and_orange_below(tmp_path: Path) -> None:
    found = records(tmp_path, "closure", "closure_baselines", "closure_pairs")
    assert found is not None
    figure = closure_figure(found)
    left, right = figure.axes
    assert left.get_xscale() == "log"
    segments = {
        to_hex(lines.get_color()[0]): np.concatenate(lines.get_segments())
        for lines in left.collections
        if lines.get_linewidth()[0] == 3
    }
    assert np.allclose(segments[ACCEPTED], [[0.1, 0.8], [40, 0.8], [40, 0.4], [600, 0.4]])
    assert np.allclose(segments[REJECTED], [[600, 0.01], [1900, 0.01]])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["baseline", "coherent", "noise", "limit of noise", "coherent to 550 km"]
    assert [text.get_text() for text in right.get_yticklabels()][-1] == "PL612"
    assert [text.get_text() for text in right.texts] == [" no data"]
    assert ink(figure) > 0.01


def test_a_short_record_is_drawn_without_baselines(tmp_path: Path) -> None:
    found = records(tmp_path, "closure", "closure_baselines")
    assert found is not None and found.baselines == []
    assert ink(closure_figure(found)) > 0.005


@pytest.mark.parametrize("many", [False, True])
def test_the_report_shows_it_with_its_step(tmp_path: Path, many: bool) -> None:
    run = make_run(tmp_path, "closure", "closure_baselines", "closure_pairs")
    if many:
        lines = "".join(f"S{i:03d},0.5,0.1,0,9,True\n" for i in range(120))
        (tmp_path / "closure.csv").write_text(STATIONS + lines)
    drawings, problems = draw_all(run)
    assert problems == []
    (drawing,) = [one for one in drawings if one.kind == "closure"]
    assert drawing.path == tmp_path / "plots" / "closure_stats.png"
    assert "2 of 4 stations coherent" in drawing.alt
    page = str(timeline(run, drawings))
    assert "closure_stats.png" in page or "data:image/png" in page
