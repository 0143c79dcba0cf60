from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from libs.ms.columns import ensure_data_column
from libs.ms.tables import open_table
from reports.visibility_data import (
    ShownVisibilities,
    VisibilitySource,
    natural_noise_jy_beam,
    read_points,
    visibility_density,
    window_rows,
)
from reports.visibility_figures import visibility_figure
from tests.libs.small_ms import make_ms
from tests.reports.test_gain_figures import ink


@pytest.fixture
def ms(tmp_path: Path) -> Path:
    path = make_ms(tmp_path / "a.ms", antennas=5, times=6, flux_jy=2.0)
    for name in ("CORRECTED_DATA", "MODEL_DATA"):
        ensure_data_column(path, name)
    with open_table(path, write=True) as opened:
        data = opened.getcol("DATA")
        turn = np.exp(1j * np.linspace(-2, 2, len(data)))[:, None, None]
        opened.putcol("CORRECTED_DATA", data)
        opened.putcol("MODEL_DATA", data)
        opened.putcol("DATA", data * turn)
    return path


def both(ms: Path) -> list[ShownVisibilities]:
    columns = (("Before", "DATA"), ("After", "CORRECTED_DATA"))
    return [
        read_points(VisibilitySource(label, (ms,), column, "MODEL_DATA"))
        for label, column in columns
    ]


def test_points_are_where_the_visibilities_are(ms: Path) -> None:
    before, after = visibility_density(both(ms))
    rows = 10 * 6
    assert before.count == after.count == rows * 2  # channels averaged, two hands
    assert after.amplitude.sum() == after.phase.sum() == rows * 2
    middle = 0.5 * (after.amplitude_edges[1:] + after.amplitude_edges[:-1])
    assert middle[after.amplitude.sum(axis=0) > 0] == pytest.approx(2.0, abs=0.03)
    phases = 0.5 * (before.phase_edges_deg[1:] + before.phase_edges_deg[:-1])
    spread = phases[before.phase.sum(axis=0) > 0]
    assert spread.min() < -100 and spread.max() > 100
    assert after.phase.sum(axis=0).argmax() == np.searchsorted(after.phase_edges_deg, 0) - 1


def test_phases_of_a_source_away_from_the_centre_are_set_against_its_model(ms: Path) -> None:
    with open_table(ms, write=True) as opened:
        data = opened.getcol("CORRECTED_DATA")
        turn = np.exp(1j * np.linspace(0, 300, len(data)))[:, None, None]
        opened.putcol("CORRECTED_DATA", data * turn)
        opened.putcol("MODEL_DATA", data * turn)
    after = visibility_density(both(ms))[1]
    phases = 0.5 * (after.phase_edges_deg[1:] + after.phase_edges_deg[:-1])
    assert np.abs(phases[after.phase.sum(axis=0) > 0]).max() < 3
    alone = visibility_density([read_points(VisibilitySource("After", (ms,), "CORRECTED_DATA"))])[0]
    assert (after.relative, alone.relative) == (True, False)
    assert np.count_nonzero(alone.phase.sum(axis=0)) > 30


def test_flagged_visibilities_are_left_out(ms: Path) -> None:
    with open_table(ms, write=True) as opened:
        flag = opened.getcol("FLAG")
        flag[: len(flag) // 2] = True
        flag[-1, :-1] = True  # one good channel is enough
        opened.putcol("FLAG", flag)
        data = opened.getcol("DATA")
        data[: len(flag) // 2] = 1e9
        opened.putcol("DATA", data)
    before, _ = visibility_density(both(ms))
    assert before.count == 60
    assert before.amplitude_edges[-1] < 5


def test_all_flagged_gives_no_figure(ms: Path) -> None:
    with open_table(ms, write=True) as opened:
        opened.putcol("FLAG", np.ones_like(opened.getcol("FLAG")))
    assert visibility_density(both(ms)) == []
    assert visibility_figure([]) is None


def test_the_model_is_a_line_in_every_panel(ms: Path) -> None:
    after = visibility_density(both(ms))[1]
    good = np.isfinite(after.model_amplitude[1])
    assert good.any()
    assert after.model_amplitude[1][good] == pytest.approx(2.0, abs=0.01)
    split = read_points(VisibilitySource("After", (ms,), "CORRECTED_DATA"))
    assert np.isfinite(visibility_density([both(ms)[0], split])[1].model_amplitude).any()
    assert np.isnan(visibility_density([split])[0].model_amplitude).all()


def test_a_sample_keeps_whole_integrations(ms: Path) -> None:
    source = VisibilitySource("Before", (ms,), "DATA", "MODEL_DATA")
    shown = read_points(source, max_rows=20)
    assert shown.part == pytest.approx(1 / 3)
    (density,) = visibility_density([shown])
    assert density.count == 2 * 10 * 2  # two of six integrations, ten baselines, two hands


def test_several_data_sets_are_taken_together(ms: Path) -> None:
    (density,) = visibility_density([read_points(VisibilitySource("Before", (ms, ms), "DATA"))])
    assert density.count == 240


def test_panels_share_axes_and_scale(ms: Path) -> None:
    figure = visibility_figure(visibility_density(both(ms)))
    assert figure is not None
    panels = [axes for axes in figure.axes if axes.get_subplotspec() and axes.collections][:4]
    assert [axes.get_title("left") for axes in panels[:2]] == ["Before", "After"]
    assert len({axes.get_xlim() for axes in panels}) == 1
    assert panels[2].get_ylim() == (-180, 180)
    assert len({axes.collections[0].norm.vmax for axes in panels}) == 1
    assert figure.legends[0].get_texts()[0].get_text().startswith("model")
    assert ink(figure) > 0.02


def test_visibilities_by_time_are_those_over_the_model(ms: Path) -> None:
    before, after = visibility_density(both(ms))
    middle = 0.5 * (after.ratio_edges[1:] + after.ratio_edges[:-1])
    assert after.ratio_by_time.sum() == after.count
    assert middle[after.ratio_by_time.sum(axis=0) > 0] == pytest.approx(1.0, abs=0.03)
    assert np.count_nonzero(after.phase_by_time.sum(axis=1)) == 6, "one column an integration"
    wide = np.count_nonzero(before.phase_by_time.sum(axis=0))
    assert wide > 10 * np.count_nonzero(after.phase_by_time.sum(axis=0))


def test_a_window_is_told_by_its_model_and_flags(ms: Path) -> None:
    with open_table(ms, write=True) as opened:
        model = opened.getcol("MODEL_DATA")
        opened.putcol("MODEL_DATA", 2 * model)
        flag = opened.getcol("FLAG")
        flag[:15] = True
        opened.putcol("FLAG", flag)
    before, after = (next(window_rows(shown)) for shown in both(ms))
    assert after.amplitude_ratio == pytest.approx(0.5)
    assert after.phase_scatter_deg == pytest.approx(0, abs=1e-3)
    assert before.amplitude_ratio < 0.4 and before.phase_scatter_deg > 30
    assert before.flagged == after.flagged == pytest.approx(15 / 60)
    assert (after.window, after.channels, after.points) == (0, model.shape[1], 90)


@pytest.mark.parametrize("factor", [1.0, 7.0])
def test_thermal_noise_needs_no_true_weights_and_sees_no_source(ms: Path, factor: float) -> None:
    """Known noise of a known number of visibilities; a source of any flux cancels."""
    rng, sigma = np.random.default_rng(3), 0.02
    path = make_ms(ms.with_name("long.ms"), antennas=7, times=60, flux_jy=5.0)
    with open_table(path, write=True) as opened:
        data = opened.getcol("DATA")
        data += sigma * (rng.normal(size=data.shape) + 1j * rng.normal(size=data.shape))
        opened.putcol("DATA", data)
        opened.putcol("WEIGHT", np.full_like(opened.getcol("WEIGHT"), factor / sigma**2))
        hands = 2 if data.shape[2] == 4 else data.shape[2]
    found = natural_noise_jy_beam(read_points(VisibilitySource("After", (path,), "DATA")))
    number = data.shape[0] * data.shape[1] * hands
    assert found == pytest.approx(sigma / np.sqrt(number), rel=0.08)


def test_thermal_noise_of_a_part_is_that_of_all(ms: Path) -> None:
    rng = np.random.default_rng(4)
    path = make_ms(ms.with_name("long.ms"), antennas=7, times=60, flux_jy=5.0)
    with open_table(path, write=True) as opened:
        data = opened.getcol("DATA")
        data += rng.normal(size=data.shape) + 1j * rng.normal(size=data.shape)
        opened.putcol("DATA", data)
    source = VisibilitySource("After", (path,), "DATA")
    whole, part = (read_points(source, max_rows=rows) for rows in (10**6, 400))
    assert part.part < 0.5
    assert natural_noise_jy_beam(part) == pytest.approx(natural_noise_jy_beam(whole), rel=0.15)


def test_too_few_visibilities_have_no_noise(ms: Path) -> None:
    path = make_ms(ms.with_name("short.ms"), antennas=3, times=1, flux_jy=5.0)
    shown = read_points(VisibilitySource("After", (path,), "DATA"))
    assert np.isnan(natural_noise_jy_beam(shown))
