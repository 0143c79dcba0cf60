from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.core.errors import ImageError
from libs.imaging.native.convolution import Convolver
from libs.imaging.native.deconvolution import CleanSettings, clean
from libs.imaging.native.restore import Beam, fit_beam, restored

SETTINGS = CleanSettings(
    niter=2000, gain=0.1, mgain=0.8, nmajor=30, automask_nsigma=4.0, autothreshold_nsigma=0.5
)


def gaussian(shape: tuple[int, int], beam: Beam) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]] - np.array(shape)[:, None, None] // 2
    a, b, c = beam.exponent()
    return np.exp(-(a * x * x + 2 * b * x * y + c * y * y))


def noisy_point(pixels: int = 64, seed: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """PSFs of twice the size, and the dirty image of 1 Jy with noise of the PSF's shape."""
    psf = gaussian((2 * pixels, 2 * pixels), Beam(5.0, 4.0, 30.0)).astype(np.float32)[None]
    white = np.random.default_rng(seed).normal(size=(pixels, pixels))
    convolver = Convolver(psf, (0.0,))
    noise = convolver.with_psf(0.005 * white.astype(np.float32)[None])
    model = np.zeros_like(noise)
    model[0, 30, 36] = 1.0
    return psf, noise + convolver.with_psf(model)


def test_clean_that_diverges_is_an_error() -> None:
    psf, dirty = noisy_point()
    convolver = Convolver(psf, (0.0,))

    def wrong_sign(model: np.ndarray) -> np.ndarray:
        return dirty + 3.0 * convolver.with_psf(model)

    with pytest.raises(ImageError, match="diverged"):
        clean(dirty, convolver, SETTINGS, wrong_sign)


def test_clean_that_works_is_none() -> None:
    psf, dirty = noisy_point()
    convolver = Convolver(psf, (0.0, 8.0))
    found = clean(dirty, convolver, SETTINGS, lambda model: dirty - convolver.with_psf(model))
    assert found.model.sum() == pytest.approx(1.0, abs=0.05)


@settings(deadline=None, max_examples=20)
@given(st.floats(3.0, 9.0), st.floats(0.4, 1.0), st.floats(0.0, 179.0), st.integers(0, 5))
def test_no_beam_near_the_fitted_one_fits_better(
    major: float, ratio: float, angle: float, seed: int
) -> None:
    """With sidelobes as well the fit is the least-squares minimum."""
    y, x = np.mgrid[-64:64, -64:64]
    wave = np.random.default_rng(seed).uniform(0.3, 0.9, 2)
    lobes = 0.05 * (np.cos(wave[0] * x) * np.cos(wave[1] * y) - 1.0)
    psf = gaussian((128, 128), Beam(major, ratio * major, angle)) + lobes
    best = fit_beam(psf)

    def misfit(beam: Beam) -> float:
        return float(((gaussian((128, 128), beam) - psf)[20:-20, 20:-20] ** 2).sum())

    for factor in (0.99, 1.01):
        wider = Beam(best.major_pixel * factor, best.minor_pixel, best.pa_deg)
        higher = Beam(best.major_pixel, best.minor_pixel * factor, best.pa_deg)
        assert misfit(best) < min(misfit(wider), misfit(higher))


def test_what_shows_while_the_mask_is_cleaned_deeper_is_cleaned_as_well() -> None:
    """With w the PSF is not the same everywhere: cycles from visibilities show what it hid."""
    psf, dirty = noisy_point()
    convolver = Convolver(psf, (0.0,))
    hidden = np.zeros_like(dirty)
    hidden[0, 12, 15] = 0.3
    hidden = convolver.with_psf(hidden)

    def exact(model: np.ndarray) -> np.ndarray:
        shown = hidden if model.sum() > 0.95 else 0.0
        return dirty + shown - convolver.with_psf(model)

    found = clean(dirty, convolver, dataclasses.replace(SETTINGS, image_domain=False), exact)
    assert found.model[0, 8:17, 11:20].sum() == pytest.approx(0.3, abs=0.08)


def test_cycles_from_visibilities_need_no_further_look_at_them() -> None:
    psf, dirty = noisy_point()
    convolver = Convolver(psf[:, 32:96, 32:96], (0.0,), shape=(64, 64))
    whole = Convolver(psf, (0.0,))
    asked = []

    def exact(model: np.ndarray) -> np.ndarray:
        asked.append(float(model.sum()))
        return dirty - whole.with_psf(model)

    found = clean(dirty, convolver, dataclasses.replace(SETTINGS, image_domain=False), exact)
    assert len(asked) == found.cycles == found.exact_cycles
    assert found.model.sum() == pytest.approx(1.0, abs=0.05)
    assert np.array_equal(found.residual, exact(found.model))


@given(seed=st.integers(0, 1000), scale=st.sampled_from([8.0, 12.0, 24.0]))
def test_scales_are_gaussians_that_end_at_the_edges(seed: int, scale: float) -> None:
    """What is convolved does not come in again at the other side."""
    rng = np.random.default_rng(seed)
    image = np.zeros((1, 40, 64), np.float32)
    image[0, rng.integers(0, 40, 6), rng.integers(0, 64, 6)] = rng.normal(size=6)
    image[0, 0, 63] = image[0, 39, 0] = 1.0
    convolver = Convolver(np.zeros((1, 80, 128), np.float32), (0.0, scale))
    found = convolver.with_scales(image)
    assert np.array_equal(found[0], image)
    sigma = scale * 3 / 16
    down, along = (np.arange(n) - np.arange(n)[:, None] for n in (40, 64))
    shape_y, shape_x = (
        np.exp(-0.5 * (d / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma) for d in (down, along)
    )
    # a Gaussian of a few pixels, sampled in the other domain
    wanted = shape_y @ image[0].astype(float) @ shape_x
    assert np.abs(found[1, 0] - wanted).max() < 1e-4 * np.abs(wanted).max()
    far = image[0] * 0.0
    far[0, 0] = 1.0
    assert abs(convolver.with_scales(far[None])[1, 0, -1, -1]) < 1e-6


@given(
    seed=st.integers(0, 1000), major=st.floats(2.0, 9.0), ratio=st.floats(0.3, 1.0),
    angle=st.floats(0, 180),
)  # fmt: skip
def test_restored_images_are_sums_of_beams(
    seed: int, major: float, ratio: float, angle: float
) -> None:
    """Also of components at the edges, and on a residual that stays elsewhere."""
    rng = np.random.default_rng(seed)
    shape = 48, 70
    model, residual = np.zeros(shape), rng.normal(0, 0.1, shape)
    places = [(0, 0), (47, 69), (int(rng.integers(48)), int(rng.integers(70)))][: 1 + seed % 3]
    beam = Beam(major, ratio * major, angle)
    wanted = residual.copy()
    a, b, c = beam.exponent()
    for y0, x0 in places:
        model[y0, x0] += 2.0
        y, x = np.mgrid[: shape[0], : shape[1]] - np.array([y0, x0])[:, None, None]
        wanted += 2.0 * np.exp(-(a * x * x + 2 * b * x * y + c * y * y))
    assert np.abs(restored(model, residual, beam) - wanted).max() < 1e-5
    assert np.array_equal(restored(0 * model, residual, beam), residual.astype(np.float32))


def test_a_source_at_the_edge_is_cleaned_though_no_large_component_may_lie_there() -> None:
    psf, _ = noisy_point(128)
    convolver = Convolver(psf, (0.0, 16.0))
    model = np.zeros((1, 128, 128), np.float32)
    model[0, 2, 64], model[0, 64, 64] = 30.0, 30.0
    dirty = convolver.with_psf(convolver.with_scales(model)[1])
    found = clean(dirty, convolver, SETTINGS, lambda model: dirty - convolver.with_psf(model))
    assert convolver.borders == (0, 9)
    assert np.abs(found.residual).max() < 0.05 * dirty.max()
