"""The noise that visibilities alone give an image."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.imaging.interface import ImagingOptions, open_image
from libs.imaging.native.native import NativeImager
from libs.imaging.native.samples import Block
from libs.imaging.native.thermal_noise import ThermalNoise
from libs.imaging.statistics import mad_std
from tests.libs.imaging.native.sky_sums import make_sky_ms


def block(times: int, channels: int, rng: np.random.Generator, stations: int = 9) -> Block:
    """Noise of a standard deviation of 3 / sqrt(weight), 0 where the weight is 0."""
    first, second = np.triu_indices(stations, k=1)
    nrow = times * len(first)
    weight = rng.uniform(0.5, 2.0, (nrow, 1)) * np.ones((nrow, channels))
    weight[rng.random(weight.shape) < 0.1] = 0.0
    noise = rng.normal(size=(nrow, channels)) + 1j * rng.normal(size=(nrow, channels))
    sigma = 3.0 / np.sqrt(np.where(weight > 0, weight, np.inf))
    return Block(
        np.zeros((nrow, 3)),
        1e9 + 1e6 * np.arange(channels),
        (noise * sigma).astype(np.complex64),
        weight.astype(np.float32),
        np.repeat(10.0 * np.arange(times), len(first)),
        np.tile(first, times).astype(np.int32),
        np.tile(second, times).astype(np.int32),
    )


def measured(data: Block, model: np.ndarray | None = None) -> float:
    noise = ThermalNoise.empty()
    order = np.lexsort((data.time_s, data.antenna2, data.antenna1))
    noise.add(data, order, model)
    return noise.jy_beam


def expected(data: Block) -> float:
    """sqrt(sum w^2 sigma^2) / sum w with n sigma^2 = 9 of natural weights n."""
    natural = data.weight if data.natural is None else data.natural
    used = natural > 0
    squares = float((data.weight[used].astype(float) ** 2 / natural[used]).sum())
    return 3.0 * math.sqrt(squares) / float(data.weight.sum())


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([(1, 64), (2, 32), (30, 1), (20, 8)]))
def test_it_is_that_of_the_weighted_mean_whatever_the_source(
    seed: int, shape: tuple[int, int]
) -> None:
    data = block(*shape, np.random.default_rng(seed))
    source = np.where(data.weight > 0, 50.0 - 20.0j, 0.0).astype(np.complex64)
    bright = Block(
        data.uvw_m, data.frequency_hz, data.visibility + source, data.weight, data.time_s,
        data.antenna1, data.antenna2,
    )  # fmt: skip
    # errors by the number of differences, of which each visibility is in two
    close = 6.0 / math.sqrt((data.weight > 0).sum())
    assert measured(data) == pytest.approx(expected(data), rel=close)
    assert measured(bright) == pytest.approx(measured(data), rel=1e-3)
    assert measured(bright, source) == pytest.approx(measured(data), rel=1e-3)


@pytest.mark.parametrize("shape", [(1, 64), (30, 8)])
def test_weights_of_the_image_may_differ_between_neighbours(shape: tuple[int, int]) -> None:
    """As those of uniform weighting do."""
    rng = np.random.default_rng(8)
    data = block(*shape, rng, stations=40)
    factor = (10.0 ** rng.uniform(-1.0, 1.0, data.weight.shape)).astype(np.float32)
    image = replace(data, weight=data.weight * factor, natural=data.weight)
    assert expected(image) > 1.2 * expected(data)
    assert measured(image) == pytest.approx(expected(image), rel=0.03)


def test_gaps_part_neighbours() -> None:
    data = block(10, 1, np.random.default_rng(3), stations=27)
    jump = np.where(data.time_s >= 50.0, 1000.0, 0.0)[:, None]
    later = data.time_s + np.where(data.time_s >= 50.0, 600.0, 0.0)
    parts = Block(
        data.uvw_m, data.frequency_hz,
        (data.visibility + jump * (data.weight > 0)).astype(np.complex64), data.weight, later,
        data.antenna1, data.antenna2,
    )  # fmt: skip
    assert measured(parts) == pytest.approx(expected(data), rel=0.05)


def test_it_is_not_known_without_neighbours() -> None:
    assert math.isnan(measured(block(1, 1, np.random.default_rng(1), stations=40)))
    assert math.isnan(measured(block(2, 1, np.random.default_rng(1), stations=4)))


@pytest.mark.parametrize("robust", [-1.0, 2.0])
def test_it_is_the_noise_of_an_image_without_sources(tmp_path: Path, robust: float) -> None:
    """Weights of the image count, not those of the data."""
    ms = make_sky_ms(tmp_path / "noise.ms", lambda uvw, f: np.zeros((len(uvw), len(f))),
                     noise_jy=0.5)  # fmt: skip
    products = NativeImager().image(
        ImagingOptions(vis=(ms,), folder=tmp_path, basename="i", imsize=(256, 256),
                       cell_arcsec=0.15, robust=robust, niter=1, threads=1)
    )  # fmt: skip
    plane, _ = open_image(products.residual)
    assert products.thermal_jy_beam == pytest.approx(mad_std(plane), rel=0.05)
