from __future__ import annotations

import io
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from reports.gain_figures import amplitude_figures, phase_figures, snr_histogram
from reports.time_axis import make_time_axis
from tests.reports.fake_run import make_gains


def ink(figure: Figure) -> float:
    """Share of the figure's pixels that are not white."""
    stream = io.BytesIO()
    figure.savefig(stream, format="raw", dpi=50)
    pixels = np.frombuffer(stream.getvalue(), np.uint8).reshape(-1, 4)[:, :3]
    return float((pixels < 250).any(axis=1).mean())


def visible(figure: Figure) -> list:
    return [axes for axes in figure.axes if axes.get_visible()]


def test_every_antenna_has_a_panel_on_shared_axes() -> None:
    (figure,) = phase_figures(make_gains(antennas=7), "Phases of p1")
    panels = visible(figure)
    assert [axes.get_title("left") for axes in panels] == [f"EA{i:02d}" for i in range(1, 8)]
    assert len({axes.get_ylim() for axes in panels}) == 1
    assert len({axes.get_xlim() for axes in panels}) == 1
    assert ink(figure) > 0.02


def test_reference_and_flagged_antennas_are_named() -> None:
    (figure,) = phase_figures(make_gains(antennas=7))
    notes = {axes.get_title("left"): axes.get_title("right") for axes in visible(figure)}
    assert notes["EA03"] == "reference"
    assert notes["EA07"] == "all flagged"


def test_both_polarizations_and_flags_are_in_the_legend() -> None:
    (figure,) = phase_figures(make_gains())
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["R", "L", "flagged"]
    scalar = make_gains(pols=("I",))
    (figure,) = phase_figures(replace(scalar, flag=np.zeros_like(scalar.flag)))
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["both polarizations"]


def test_many_antennas_are_paged() -> None:
    pages = phase_figures(make_gains(antennas=64, times=4), "LOFAR")
    assert [len(visible(page)) for page in pages] == [30, 30, 4]
    assert "page 3 of 3" in pages[2].texts[2].get_text()


@pytest.mark.parametrize(("largest_deg", "limit"), [(3, 5), (25, 30), (100, 120), (179, 180)])
def test_phase_limits_fit_the_phases(largest_deg: float, limit: float) -> None:
    solutions = make_gains(antennas=3, times=5, pols=("I",))
    solutions.gain[:] = np.exp(1j * np.radians(largest_deg))
    (figure,) = phase_figures(solutions)
    assert figure.axes[0].get_yticks()[-1] == limit


def test_flagged_solutions_are_no_part_of_the_lines() -> None:
    solutions = make_gains(antennas=2, times=10, pols=("I",))
    solutions.flag[:] = False
    solutions.flag[4, 0, 0, 0] = True
    (figure,) = phase_figures(solutions)
    line = max(figure.axes[0].lines, key=lambda line: len(line.get_xdata()))
    assert np.isfinite(line.get_ydata()).sum() == 9
    flags = figure.axes[0].collections[0].get_offsets()
    assert len(flags) == 1


def test_lines_break_where_a_phase_wraps() -> None:
    solutions = make_gains(antennas=1, times=4, pols=("I",))
    solutions = replace(solutions, time_s=5e9 + 30.0 * np.arange(4))
    solutions.gain[:, 0, 0, 0] = np.exp(1j * np.radians([170.0, 178.0, -178.0, -170.0]))
    solutions.flag[:] = False
    (figure,) = phase_figures(solutions)
    line = max(figure.axes[0].lines, key=lambda line: len(line.get_xdata()))
    assert np.isnan(line.get_ydata()).tolist() == [False, False, True, False, False]


def test_of_many_frequency_blocks_an_even_choice_is_drawn() -> None:
    (figure,) = phase_figures(make_gains(antennas=2, times=5, spws=40, pols=("I",)))
    lines = [line for line in figure.axes[0].lines if line.get_label() == "I"]
    assert len(lines) == 8
    assert "8 of 40 blocks, dark to light" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_amplitudes_only_where_they_were_solved() -> None:
    assert amplitude_figures(make_gains()) == []
    (figure,) = amplitude_figures(make_gains(amplitude=True))
    low, high = figure.axes[0].get_ylim()
    assert 0 < low < 1 < high < 2


def test_a_table_without_a_good_solution_is_drawn() -> None:
    solutions = make_gains(antennas=3)
    solutions.flag[:] = True
    assert len(phase_figures(solutions)) == 1
    assert amplitude_figures(solutions) == []
    texts = [text.get_text() for text in snr_histogram(solutions, 3.0).axes[0].texts]
    assert "no unflagged solution" in texts


def test_histogram_counts_good_solutions_and_marks_minsnr() -> None:
    solutions = make_gains()
    axes = snr_histogram(solutions, 3.0, "p1").axes[0]
    # stacked: the bars of the polarizations add up to all good solutions
    assert sum(patch.get_height() for patch in axes.patches) == (~solutions.flag).sum()
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[:2] == ["R", "L"] and "minsnr 3" in labels
    lines = [line for line in axes.lines if line.get_label() == "minsnr 3"]
    assert lines[0].get_xdata()[0] == 3.0


def test_gaps_are_cut_and_times_keep_their_order() -> None:
    time = np.concatenate([np.arange(5) * 30.0, 7200 + np.arange(5) * 30.0]) + 5e9
    axis = make_time_axis(time, np.full(10, 30.0))
    assert len(axis.cuts) == 1 and "cut short" in axis.label
    assert (np.diff(axis.x) > 0).all()
    assert np.diff(axis.x)[[0, 3, 5]].tolist() == [30.0] * 3
    assert np.diff(axis.x)[4] < 100
    places, labels = axis.ticks()
    assert places == [axis.x[0], axis.x[5]] and len(labels) == 2


def test_one_solution_has_an_axis() -> None:
    axis = make_time_axis(np.array([5e9]), np.array([0.0]))
    assert axis.x.tolist() == [0.0] and axis.cuts == ()
    assert len(axis.ticks()[0]) == 1


def test_the_callers_settings_stay() -> None:
    before = dict(matplotlib.rcParams)
    phase_figures(make_gains(antennas=2))
    assert dict(matplotlib.rcParams) == before
