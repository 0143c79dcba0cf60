"""Subtraction of sources seen through their own solutions: nothing but the rest is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from libs.core.errors import InputError
from libs.core.gaussian import GaussianComponent, component_visibilities
from libs.core.geometry import ARCSEC_PER_RAD
from libs.directions.phase_shift import ShiftOptions, shift_data
from libs.directions.subtract import (
    SkyModel,
    add_source,
    image_model,
    subtract_sources,
)
from libs.h5parm.direction_gains import DirectionGains
from libs.h5parm.global_table import merge_into, write_with_entries
from libs.h5parm.solset import from_gain_solutions
from libs.simulation.observation import Simulation, Source, StationErrors, TecScreen, simulate
from tests.conftest import tree_hash
from tests.libs.directions.test_phase_shift import DEG, column, observe
from tests.steps.fake_source_run import point_model

ERRORS = StationErrors(
    screen=TecScreen(rms_tecu=0.1, height_km=250.0), phase_offset_deg=40.0, amp_offset=0.05
)
# a round source: position angles about the field's centre and about its own differ by 0.6 deg
SKY = (
    Source(1.0, 0.5 * DEG, 0.3 * DEG, 0.3, 0.3, name="one"),
    Source(0.6, -0.4 * DEG, 0.1 * DEG, name="two"),
)


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> tuple[Simulation, Path]:
    """A field behind a screen and the true solutions of both directions in one table."""
    folder = tmp_path_factory.mktemp("field")
    made = simulate(folder / "a.ms", observe(), SKY, ERRORS, perfect=False)
    for source in SKY:
        place = source.radec_rad(*made.observation.direction_rad)
        solset = from_gain_solutions(made.direction_gains[source.name], source.name, place)
        write_with_entries(folder / f"{source.name}.h5", solset, [])
    merge_into(folder / "all.h5", [folder / "one.h5", folder / "two.h5"])
    return made, folder / "all.h5"


def model(made: Simulation, source: Source, gains: DirectionGains | None) -> SkyModel:
    place = source.radec_rad(*made.observation.direction_rad)
    component = GaussianComponent(
        source.flux_jy, 0.0, 0.0, source.major_arcsec / ARCSEC_PER_RAD,
        source.minor_arcsec / ARCSEC_PER_RAD, np.deg2rad(source.pa_deg),
    )  # fmt: skip
    return SkyModel(
        source.name, place,
        lambda uvw_m, hz: component_visibilities([component], uvw_m, hz), gains,
    )  # fmt: skip


def test_components_through_their_solutions_leave_nothing(
    field: tuple[Simulation, Path], tmp_path: Path
) -> None:
    made, table = field
    before = tree_hash(made.ms)
    models = [model(made, s, DirectionGains.read(table, made.ms, s.name)) for s in SKY]
    done: list[float] = []
    subtract_sources(made.ms, tmp_path / "b.ms", models, chunk_bytes=40_000, on_chunk=done.append)
    assert tree_hash(made.ms) == before
    left = column(tmp_path / "b.ms", "DATA")
    assert np.abs(left).max() < 2e-3
    assert done[-1] == 1.0 and len(done) > 1
    for name in ("TIME", "UVW", "ANTENNA1", "FLAG", "WEIGHT", "SIGMA"):
        assert np.array_equal(column(tmp_path / "b.ms", name), column(made.ms, name)), name


def test_one_source_leaves_the_other(field: tuple[Simulation, Path], tmp_path: Path) -> None:
    """What is left after both is what is left of one after the other."""
    made, table = field
    first, second = (model(made, s, DirectionGains.read(table, made.ms, s.name)) for s in SKY)
    subtract_sources(made.ms, tmp_path / "b.ms", [first])
    assert 0.3 < np.abs(column(tmp_path / "b.ms", "DATA")[:, :, 0]).mean() < 0.9
    subtract_sources(tmp_path / "b.ms", tmp_path / "c.ms", [second])
    assert np.abs(column(tmp_path / "c.ms", "DATA")).max() < 2e-3


def test_model_images(field: tuple[Simulation, Path], tmp_path: Path) -> None:
    """A pixel of flux at the image's centre is a point at the direction."""
    made, table = field
    source = SKY[1]
    place = source.radec_rad(*made.observation.direction_rad)
    point_model(tmp_path / "model.fits", source.flux_jy, place)
    gains = DirectionGains.read(table, made.ms, source.name)
    by_image = SkyModel("two", place, image_model([tmp_path / "model.fits"]), gains)
    subtract_sources(made.ms, tmp_path / "b.ms", [by_image])
    subtract_sources(made.ms, tmp_path / "c.ms", [model(made, source, gains)])
    difference = column(tmp_path / "b.ms", "DATA") - column(tmp_path / "c.ms", "DATA")
    assert np.abs(difference).max() < 1e-4


def test_models_of_several_frequencies(field: tuple[Simulation, Path], tmp_path: Path) -> None:
    """A parabola through the slices, evaluated at each channel."""
    made, _ = field
    place = made.observation.direction_rad
    paths = []
    for number, (mhz, flux) in enumerate(((130, 3.0), (140, 1.0), (150, 3.0), (160, 9.0))):
        path = point_model(tmp_path / f"model_{number}.fits", flux, place)
        with fits.open(path, mode="update") as opened:
            opened[0].header["CRVAL3"] = mhz * 1e6
        paths.append(path)
    frequency = np.array([135e6, 140e6, 155e6])
    found = image_model(paths)(np.zeros((1, 3)), frequency)
    assert np.allclose(found[0], 1 + 2 * ((frequency - 140e6) / 10e6) ** 2, atol=1e-4)


def test_stations_without_solutions_keep_their_data(
    field: tuple[Simulation, Path], tmp_path: Path
) -> None:
    made, table = field
    gains = DirectionGains.read(table, made.ms, "one")
    lost = (np.arange(6) == 4)[:, None, None]
    gains = DirectionGains(replace(gains.solset, weight=np.where(lost, 0.0, gains.solset.weight)))
    subtract_sources(made.ms, tmp_path / "b.ms", [model(made, SKY[0], gains)])
    before, after = column(made.ms, "DATA"), column(tmp_path / "b.ms", "DATA")
    touched = (column(made.ms, "ANTENNA1") == 4) | (column(made.ms, "ANTENNA2") == 4)
    assert np.array_equal(before[touched], after[touched])
    changed = np.abs(before - after)[~touched][:, :, [0, 3]]
    assert (changed > 0.1).mean() > 0.9
    assert np.array_equal(before[:, :, 1:3], after[:, :, 1:3])


def test_a_source_put_back_is_as_if_never_taken_out(
    field: tuple[Simulation, Path], tmp_path: Path
) -> None:
    made, table = field
    gains = [DirectionGains.read(table, made.ms, s.name) for s in SKY]
    first, second = (model(made, s, g) for s, g in zip(SKY, gains, strict=True))
    subtract_sources(made.ms, tmp_path / "without.ms", [first, second])
    subtract_sources(made.ms, tmp_path / "other.ms", [first])
    add_source(tmp_path / "without.ms", second, chunk_bytes=40_000)
    back, other = (column(tmp_path / f"{name}.ms", "DATA") for name in ("without", "other"))
    assert np.abs(back - other).max() < 1e-5
    # stations without solutions kept the source, so it is not put in twice
    lost = (np.arange(6) == 4)[:, None, None]
    some = DirectionGains(
        replace(gains[1].solset, weight=np.where(lost, 0.0, gains[1].solset.weight))
    )
    blind = model(made, SKY[1], some)
    subtract_sources(tmp_path / "other.ms", tmp_path / "part.ms", [blind])
    add_source(tmp_path / "part.ms", blind)
    assert np.abs(column(tmp_path / "part.ms", "DATA") - other).max() < 1e-5


def test_a_source_put_back_into_corrected_and_shifted_data(
    field: tuple[Simulation, Path], tmp_path: Path
) -> None:
    """Small data without the source and the source put in: those of data that always had it."""
    made, table = field
    own, neighbour = (DirectionGains.read(table, made.ms, s.name) for s in reversed(SKY))
    source = model(made, SKY[1], own)
    subtract_sources(made.ms, tmp_path / "without.ms", [source])
    options = ShiftOptions(source.direction_rad)
    shift_data(made.ms, tmp_path / "whole.ms", options, neighbour)
    shift_data(tmp_path / "without.ms", tmp_path / "small.ms", options, neighbour)
    there = DirectionGains.read(table, tmp_path / "small.ms", "two")
    beneath = DirectionGains.read(table, tmp_path / "small.ms", "one")
    add_source(tmp_path / "small.ms", replace(source, gains=there), beneath)
    small, whole = (column(tmp_path / f"{name}.ms", "DATA") for name in ("small", "whole"))
    assert np.abs(small - whole).max() < 1e-5 < np.abs(whole).max()


def test_errors(field: tuple[Simulation, Path], tmp_path: Path) -> None:
    made, table = field
    with pytest.raises(InputError, match="name one of"):
        DirectionGains.read(table, made.ms)
    with pytest.raises(InputError, match="no direction"):
        DirectionGains.read(table, made.ms, "three")
    with pytest.raises(InputError, match="no column"):
        subtract_sources(made.ms, tmp_path / "b.ms", [], column="NONE")
    assert not (tmp_path / "b.ms").exists()
