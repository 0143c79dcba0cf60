"""Charts as SVG: points are where their ticks say, and nothing is undefined."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reports.svg import Place, Series, chart, scatter_map


def drawn(y: list[float], **how: object) -> str:
    x = [float(i) for i in range(len(y))]
    return chart([Series(x, y, name="a")], x_label="x", y_label="y", alt="a chart", **how)


def ticks(svg: str) -> dict[str, float]:
    """Labels of the vertical axis with their places."""
    found = re.findall(r'y="([\d.]+)" text-anchor="end">([^<]+)<', svg)
    return {label: float(place) - 3.5 for place, label in found}


def test_a_value_is_at_its_tick() -> None:
    svg = drawn([0.0, 10.0, 20.0])
    at = [float(y) for y in re.findall(r'cy="([\d.]+)"', svg)]
    assert at[1] == pytest.approx(ticks(svg)["10"], abs=0.2)
    assert at[0] == pytest.approx(ticks(svg)["0"], abs=0.2)
    assert at[2] < at[1] < at[0]


@pytest.mark.parametrize(("low", "high"), [(0.0012, 0.055), (30, 20000), (1e-9, 1e-3), (5, 6)])
def test_logarithmic_ticks_are_round_and_short(low: float, high: float) -> None:
    found = ticks(drawn([low, high], log_y=True))
    assert 1 <= len(found) <= 8
    assert max(map(len, found)) <= 7


@given(
    st.lists(st.one_of(st.floats(-1e12, 1e12), st.just(math.nan)), min_size=1, max_size=20),
    st.booleans(),
)
@example([5e-324], False)
@example([0.0, 5e-324], False)
def test_whatever_is_drawn_is_within_the_frame(y: list[float], log: bool) -> None:
    svg = drawn(y, log_y=log)
    assert "nan" not in svg and "inf" not in svg
    for place in re.findall(r'c[xy]="([-\d.]+)"', svg):
        assert -1 <= float(place) <= 461


def test_names_and_titles_are_escaped() -> None:
    svg = chart([Series([0], [1], (0.5,), "<b>", notes=["1 < 2"])], x_label="", y_label="<y>",
                alt='"', names=["<n>"])  # fmt: skip
    assert "<b>" not in svg and "<y>" not in svg and "<n>" not in svg
    assert "<title>1 &lt; 2</title>" in svg
    assert svg.count("<line") >= 1
    assert "&lt;A&gt;" in scatter_map([Place(0, 0, "f0", "<A>")], label="", alt="")


def test_labels_of_a_map_are_left_out_where_there_is_no_room() -> None:
    near = [Place(0.01 * i, 0.0, "open", f"n{i}", label=f"n{i}") for i in range(4)]
    text = str(scatter_map([*near, Place(1, 1, "open", "far", label="far")], label="", alt=""))
    assert ">far</text>" in text
    assert sum(f">n{i}</text>" in text for i in range(4)) <= 1


def test_a_map_has_a_bar_of_a_round_length() -> None:
    corners = [Place(0, 0, "open", "a"), Place(7.3, 1, "open", "b")]
    text = str(scatter_map(corners, label="", alt="", unit="deg"))
    assert ">2 deg</text>" in text and "deg" not in scatter_map(corners, label="", alt="")
