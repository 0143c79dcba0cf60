from __future__ import annotations

from typing import Any

from reports.held_out_figure import held_out_figure, read_trials
from tests.reports.test_gain_figures import ink


def trial(solint: float | str, gain: float, gaintype: str = "T", **values: Any) -> dict[str, Any]:
    return {
        "calmode": "p", "gaintype": gaintype, "solint_s": solint, "combine_scan": False,
        "combine_spw": True, "gain": gain, "error": 2.0, **values,
    }  # fmt: skip


METRICS = {
    "calmode": "p", "gaintype": "T", "solint_s": 40.0, "combine": ["spw"],
    "held_out": [
        trial("scan", 30.0), trial(10.0, 20.0), trial(40.0, 50.0), trial(10.0, -5.0, "G"),
        trial("scan", 8.0, combine_scan=True), trial(40.0, 1.0, "G"),
    ],
}  # fmt: skip


def test_trials_are_in_order_of_the_interval_and_one_is_chosen() -> None:
    trials = read_trials(METRICS)
    assert list(dict.fromkeys(t.interval for t in trials)) == [
        "10 s",
        "40 s",
        "one per scan",
        "one for all scans",
    ]
    assert [(t.interval, t.chi2_fall) for t in trials if t.chosen] == [("40 s", 50.0)]


def test_a_choice_of_all_scans_is_found() -> None:
    chosen = {**METRICS, "solint_s": "scan", "combine": ["spw", "scan"]}
    assert [t.interval for t in read_trials(chosen) if t.chosen] == ["one for all scans"]


def test_every_kind_is_a_line_and_the_choice_is_ringed() -> None:
    figure = held_out_figure(METRICS)
    assert figure is not None
    axes = figure.axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert set(labels) == {"phase, both pols", "phase, each pol", "chosen"}
    ring = next(line for line in axes.lines if line.get_label() == "chosen")
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (1, 50.0)
    assert axes.get_xticklabels()[0].get_text() == "10 s"
    assert ink(figure) > 0.01


def test_no_trials_no_figure() -> None:
    assert held_out_figure({}) is None
    assert held_out_figure({"held_out": "none"}) is None
    assert read_trials({"held_out": [{"gain": None}, 3]}) == []
