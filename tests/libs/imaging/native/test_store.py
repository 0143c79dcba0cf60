"""What counts as Stokes I; windows, sets and centres that differ; weights; averaging."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from libs.core.errors import ImageError
from libs.imaging.interface import ImagingOptions, open_image
from libs.imaging.native.averaging import plan_averaging
from libs.imaging.native.native import NativeImager
from libs.imaging.native.samples import Selection
from libs.imaging.native.visibility_store import open_store
from libs.imaging.native.weighting import make_weighting
from libs.ms.tables import open_table
from tests.libs.imaging.native.sky_sums import C_M_S, fourier_sum, make_sky_ms
from tests.libs.small_ms import make_ms

ARCSEC = np.pi / 180 / 3600


EAST, NORTH = 2.1 * ARCSEC, -1.05 * ARCSEC  # on a pixel of 0.15 arcsec


def one_point(uvw: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    return fourier_sum(np.array([1.0]), np.array([EAST]), np.array([NORTH]), uvw, frequency)


def test_both_hands_where_there_are_two(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", spectrum=False)
    with open_table(ms, write=True) as opened:
        data, flag = opened.getcol("DATA"), opened.getcol("FLAG")
        weight = opened.getcol("WEIGHT")
        data[:, :, 1] = 3.0
        data[3, 2, 0] = np.nan
        flag[0, :, 0] = flag[1, 1, 1] = True
        weight[:] = (4.0, 2.0)
        weight[5, 1] = 0.0
        opened.putcol("DATA", data)
        opened.putcol("FLAG", flag)
        opened.putcol("WEIGHT", weight)
    (block,) = open_store((ms,), Selection("DATA"), memory_bytes=1e9).held
    assert block.visibility.shape == (58, 8)  # rows 0 and 5 hold nothing
    used = block.weight > 0
    assert np.allclose(block.visibility[used], 2.0)
    assert np.all(block.weight[used] == 2.0)  # the smaller of the two
    assert (~used).sum() == 2


def test_a_dead_hand_leaves_the_other(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", flux_jy=2.0)
    with open_table(ms, write=True) as opened:
        flag = opened.getcol("FLAG")
        flag[:, :, 0] = True
        opened.putcol("FLAG", flag)
    (block,) = open_store((ms,), Selection("DATA"), memory_bytes=1e9).held
    assert np.allclose(block.visibility, 2.0) and block.weight.all()


def test_a_single_hand_is_stokes_i(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", corr_types=(5,), flux_jy=2.0)
    (block,) = open_store((ms,), Selection("DATA"), memory_bytes=1e9).held
    assert np.allclose(block.visibility, 2.0)


def test_limits_of_uv_and_fields(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", fields=("a", "b"), scans=2, autocorrelations=True)
    store = open_store((ms,), Selection("DATA", 1, 150.0, 400.0), memory_bytes=1e9)
    (block,) = store.held
    length = np.linalg.norm(block.uvw_m, axis=1)
    assert length.min() >= 150 and length.max() <= 400
    assert len(block.time_s) < 30
    with pytest.raises(ImageError):
        open_store((ms,), Selection("DATA", 1, 1e6), memory_bytes=1e9)


def test_several_sets_of_unlike_windows_and_falling_channels(tmp_path: Path) -> None:
    rising = make_sky_ms(tmp_path / "a.ms", one_point, channels=4, seed=1)
    falling = make_sky_ms(
        tmp_path / "b.ms", one_point, channels=6, seed=2,
        frequency_hz=np.linspace(5.3e9, 5.2e9, 6),
    )  # fmt: skip
    options = ImagingOptions(
        vis=(rising, falling), folder=tmp_path / "i", basename="i", imsize=(128, 128),
        cell_arcsec=0.15, autothreshold_nsigma=3, update_model=True, threads=1, nmajor=10,
    )  # fmt: skip
    products = NativeImager().image(options)
    model, _ = open_image(products.model)
    assert model.sum() == pytest.approx(1.0, abs=0.01)
    for ms in (rising, falling):
        with open_table(ms) as opened:
            error = np.abs(opened.getcol("MODEL_DATA") - opened.getcol("DATA"))
        assert error.max() < 0.02


def test_sets_of_other_phase_centres_are_turned(tmp_path: Path) -> None:
    here = make_sky_ms(tmp_path / "a.ms", one_point, seed=1)
    there = make_sky_ms(tmp_path / "b.ms", one_point, seed=2)
    # the same point seen from a centre 30 arcsec north of the first one's
    north = 30 * ARCSEC
    with open_table(f"{there}::FIELD", write=True) as fields:
        fields.putcell("PHASE_DIR", 0, np.array([[1.2, 0.6 + north]]))
    ra, dec = _radec(EAST, NORTH, 1.2, 0.6)
    east, up = _lm(ra, dec, 1.2, 0.6 + north)
    with open_table(there, write=True) as opened, open_table(f"{there}::SPECTRAL_WINDOW") as w:
        uvw = opened.getcol("UVW")
        data = fourier_sum(
            np.array([1.0]), np.array([east]), np.array([up]), uvw, w.getcell("CHAN_FREQ", 0)
        )
        opened.putcol("DATA", np.repeat(data[:, :, None], 2, axis=2).astype(np.complex64))
    store = open_store((here, there), Selection("DATA"), memory_bytes=1e9)
    for block in store.blocks():
        wanted = one_point(block.uvw_m, block.frequency_hz)
        assert np.abs(block.visibility - wanted).max() < 2e-5
    options = ImagingOptions(
        vis=(here, there), folder=tmp_path / "i", basename="i", imsize=(128, 128),
        cell_arcsec=0.15, autothreshold_nsigma=3, update_model=True, threads=1, nmajor=10,
    )  # fmt: skip
    NativeImager().image(options)
    with open_table(there) as opened:
        assert np.abs(opened.getcol("MODEL_DATA") - opened.getcol("DATA")).max() < 0.02


def _radec(east: float, north: float, ra0: float, dec0: float) -> tuple[float, float]:
    up = np.sqrt(1 - east**2 - north**2)
    dec = np.arcsin(north * np.cos(dec0) + up * np.sin(dec0))
    return ra0 + np.arctan2(east, up * np.cos(dec0) - north * np.sin(dec0)), dec


def _lm(ra: float, dec: float, ra0: float, dec0: float) -> tuple[float, float]:
    east = np.cos(dec) * np.sin(ra - ra0)
    return east, np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(ra - ra0)


def test_briggs_weights_by_the_formula(tmp_path: Path) -> None:
    ms = make_sky_ms(tmp_path / "a.ms", one_point)
    store = open_store((ms,), Selection("DATA"), memory_bytes=1e9)
    (block,) = store.held
    cell = 0.3 * ARCSEC
    found = make_weighting(store.blocks(), (128, 100), cell, briggs=True, robust=-0.5).of(block)
    u = block.uvw_m[:, :1] * block.frequency_hz / C_M_S * (156 * cell)
    v = block.uvw_m[:, 1:2] * block.frequency_hz / C_M_S * (120 * cell)
    u, v = np.where(v < 0, -u, u), np.abs(v)
    place = np.floor(u + 78).astype(int), np.floor(v).astype(int)
    inside = (place[0] >= 0) & (place[0] < 156) & (place[1] < 60)
    density: dict[tuple[int, int], float] = {}
    for x, y, w, good in zip(*(p.ravel() for p in (*place, block.weight, inside)), strict=True):
        if good:
            density[x, y] = density.get((x, y), 0.0) + w
    values = np.array(list(density.values()))
    square = (5 * 10**0.5) ** 2 / ((values**2).sum() / values.sum())
    wanted = [
        w / (1 + density[x, y] * square) if good else 0.0
        for x, y, w, good in zip(*(p.ravel() for p in (*place, block.weight, inside)), strict=True)
    ]
    assert np.allclose(found.ravel(), wanted, rtol=1e-5)


def test_taper_widens_the_psf_by_its_width(tmp_path: Path) -> None:
    ms = make_sky_ms(tmp_path / "a.ms", one_point, antennas=20, times=30)
    first = ImagingOptions(
        vis=(ms,), folder=tmp_path / "i", basename="i", imsize=(256, 256), cell_arcsec=0.15,
        weighting="natural", niter=0,
    )  # fmt: skip
    plain = NativeImager().image(first)
    wide = NativeImager().image(first.but(uvtaper_arcsec=2.0, basename="w"))
    # Gaussians convolved: squares of their widths add up
    wanted = np.hypot(plain.beam_minor_arcsec, 2.0)
    assert wide.beam_minor_arcsec == pytest.approx(wanted, rel=0.08)


def test_averages_hold_all_the_weight_and_turn_little(tmp_path: Path) -> None:
    ms = make_sky_ms(tmp_path / "a.ms", one_point, channels=8, times=60)
    (block,) = open_store((ms,), Selection("DATA"), memory_bytes=1e9).held
    corner = 6 * ARCSEC
    plan = plan_averaging(block, corner, 5e9, with_terms=False)
    assert len(plan.weight) < 0.5 * block.weight.size
    assert plan.weight.sum(dtype=float) == pytest.approx(block.weight.sum(dtype=float))
    # a point at the corner loses no more than what is allowed for
    there = np.array([corner]), np.array([0.0])
    model = fourier_sum(np.array([1.0]), *there, block.uvw_m, block.frequency_hz)
    seen = plan.sums(block, block.visibility - model) / plan.weight
    wanted = fourier_sum(np.array([1.0]), *there, plan.uvw, np.array([C_M_S]))[:, 0]
    assert np.abs(seen - wanted).max() < 0.04
    # within the plan's own cells nothing is lost where there is no fringe
    nothing = plan.sums(block, block.visibility)
    assert np.abs(nothing).max() == 0
