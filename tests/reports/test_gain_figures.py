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


def texts(figure: Figure, kind: str) -> list:
    """Texts of one kind: name, note, tick or title."""
    return [text for text in figure.axes[0].texts if text.get_gid() == kind]


def words(figure: Figure, kind: str) -> list[str]:
    return [text.get_text() for text in texts(figure, kind)]


def curve(figure: Figure, label: str) -> tuple[np.ndarray, np.ndarray]:
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == label]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def test_every_antenna_has_a_panel() -> None:
    (figure,) = phase_figures(make_gains(antennas=7), "Phases of p1")
    assert words(figure, "name") == [f"EA{i:02d}" for i in range(1, 7)]  # the last is flagged
    assert words(figure, "title") == ["Phases of p1. Without solutions, not shown: EA07"]
    assert ink(figure) > 0.02


def test_panels_share_their_limits_and_are_labelled_at_the_outer_ones() -> None:
    solutions = make_gains(antennas=7, times=20, pols=("I",))
    solutions = replace(solutions, time_s=5e9 + 30.0 * np.arange(20))
    solutions.flag[:] = False
    solutions.gain[:] = np.exp(1j * np.radians(np.linspace(-40, 40, 20)))[:, None, None, None]
    (figure,) = phase_figures(solutions)
    x, y = (values[np.isfinite(values)].reshape(7, 20) for values in curve(figure, "I"))
    # five in a row: equal curves lie a panel's distance apart
    assert np.allclose(y[:5], y[0]) and np.allclose(y[5:], y[5])
    assert np.allclose(x[5] - x[0], 0.0) and np.allclose(x[6] - x[1], 0.0)
    assert np.allclose(np.diff(x[:5], axis=0), x[1] - x[0])
    ticks = words(figure, "tick")
    assert ticks.count("0") == 2 and ticks.count("45") == 2 and ticks.count("−45") == 2


def test_a_value_is_where_its_tick_is() -> None:
    solutions = make_gains(antennas=1, times=3, pols=("I",))
    solutions = replace(solutions, time_s=5e9 + 30.0 * np.arange(3))
    solutions.flag[:] = False
    solutions.gain[:, 0, 0, 0] = np.exp(1j * np.radians([-45.0 * 0.98, 0.0, 22.5]))
    (figure,) = phase_figures(solutions)
    place = {text.get_text(): text.get_position()[1] for text in texts(figure, "tick")}
    _, y = curve(figure, "I")
    assert y[1] == pytest.approx(place["0"])
    assert y[2] == pytest.approx(0.5 * (place["0"] + place["45"]))


def test_reference_and_flagged_antennas_are_named() -> None:
    (figure,) = phase_figures(make_gains(antennas=7))
    notes = {}
    for note in texts(figure, "note"):
        x, y = note.get_position()
        beside = [n for n in texts(figure, "name") if n.get_position()[1] == pytest.approx(y)]
        near = min(beside, key=lambda n: x - n.get_position()[0] if n.get_position()[0] < x else 99)
        notes[near.get_text()] = note.get_text()
    assert notes["EA03"] == "reference"
    assert "EA07" not in notes
    assert words(figure, "title") == ["Without solutions, not shown: EA07"]


def test_several_antennas_without_phase_are_no_references() -> None:
    """As where a table holds amplitudes of all antennas, but phases of a few."""
    solutions = make_gains(antennas=6)
    solutions.gain[:, :, :4] = 1.0
    solutions.flag[:, :, :4] = False
    (figure,) = phase_figures(solutions)
    notes = words(figure, "note")
    assert notes.count("phase 0") == 4
    assert "reference" not in notes


def test_a_table_of_amplitudes_has_no_figure_of_phases() -> None:
    solutions = make_gains(amplitude=True)
    assert phase_figures(replace(solutions, gain=np.abs(solutions.gain) + 0j)) == []
    assert phase_figures(replace(solutions, flag=np.ones_like(solutions.flag))) == []


def test_both_polarizations_and_flags_are_in_the_legend() -> None:
    (figure,) = phase_figures(make_gains())
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["R", "L", "flagged"]
    scalar = make_gains(pols=("I",))
    (figure,) = phase_figures(replace(scalar, flag=np.zeros_like(scalar.flag)))
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["both polarizations"]


def test_many_antennas_are_paged() -> None:
    pages = phase_figures(make_gains(antennas=64, times=4), "LOFAR")
    assert [len(words(page, "name")) for page in pages] == [30, 30, 3]
    assert words(pages[2], "title") == ["LOFAR. Without solutions, not shown: EA64 (page 3 of 3)"]


@pytest.mark.parametrize(("largest_deg", "limit"), [(3, 5), (25, 30), (100, 120), (179, 180)])
def test_phase_limits_fit_the_phases(largest_deg: float, limit: float) -> None:
    solutions = make_gains(antennas=3, times=5, pols=("I",))
    solutions.gain[:] = np.exp(1j * np.radians(largest_deg))
    (figure,) = phase_figures(solutions)
    assert {str(limit), f"−{limit}"} < set(words(figure, "tick"))


def test_flagged_solutions_are_no_part_of_the_lines() -> None:
    solutions = make_gains(antennas=2, times=10, pols=("I",))
    solutions.flag[:] = False
    solutions.flag[4, 0, 0, 0] = True
    (figure,) = phase_figures(solutions)
    # the other antenna is the reference and has all ten
    assert np.isfinite(curve(figure, "I")[1]).sum() == 19
    (flags,) = [c for c in figure.axes[0].collections if c.get_label() == "flagged"]
    assert len(flags.get_offsets()) == 1


def test_lines_break_where_a_phase_wraps() -> None:
    solutions = make_gains(antennas=1, times=4, pols=("I",))
    solutions = replace(solutions, time_s=5e9 + 30.0 * np.arange(4))
    solutions.gain[:, 0, 0, 0] = np.exp(1j * np.radians([170.0, 178.0, -178.0, -170.0]))
    solutions.flag[:] = False
    (figure,) = phase_figures(solutions)
    assert np.isnan(curve(figure, "I")[1]).tolist() == [False, False, True, False, False]


def test_of_many_frequency_blocks_an_even_choice_is_drawn() -> None:
    (figure,) = phase_figures(make_gains(antennas=2, times=5, spws=40, pols=("I",)))
    lines = [line for line in figure.axes[0].lines if line.get_label() == "I"]
    assert len(lines) == 8
    assert "8 of 40 blocks, dark to light" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_amplitudes_only_where_they_were_solved() -> None:
    assert amplitude_figures(make_gains()) == []
    (figure,) = amplitude_figures(make_gains(amplitude=True))
    ticks = [float(word) for word in words(figure, "tick") if ":" not in word]
    assert 0 < min(ticks) < 1 < max(ticks) < 2


def test_a_table_without_a_good_solution_has_a_histogram_only() -> None:
    solutions = make_gains(antennas=3)
    solutions.flag[:] = True
    assert phase_figures(solutions) == []
    assert amplitude_figures(solutions) == []
    said = [text.get_text() for text in snr_histogram(solutions, 3.0).axes[0].texts]
    assert "no unflagged solution" in said


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
