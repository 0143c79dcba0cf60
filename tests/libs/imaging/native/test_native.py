"""The imager from measurement set to images and MODEL_DATA, on skies with known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from libs.core.errors import ConfigError, ImageError, InputError
from libs.imaging.interface import ImagingOptions, open_image, sky_position, write_image
from libs.imaging.native import native
from libs.imaging.native.native import NativeImager
from libs.imaging.statistics import mad_std, measure_products
from libs.ms.tables import open_table
from tests.libs.imaging.native.sky_sums import fourier_sum, make_sky_ms

ARCSEC = np.pi / 180 / 3600
CELL = 0.15


def points(*sources: tuple[float, float, float]):
    """Sky of points: flux, and east and north in pixels."""
    flux, east, north = (np.array(column) for column in zip(*sources, strict=True))

    def visibilities(uvw: np.ndarray, frequency: np.ndarray) -> np.ndarray:
        return fourier_sum(flux, east * CELL * ARCSEC, north * CELL * ARCSEC, uvw, frequency)

    return visibilities


def options(ms: Path, **changes: object) -> ImagingOptions:
    first = ImagingOptions(
        vis=(ms,), folder=ms.parent / "images", basename="i", imsize=(128, 128),
        cell_arcsec=CELL, robust=0.0, automask_nsigma=4, autothreshold_nsigma=0.5, threads=1,
    )  # fmt: skip
    return first.but(**changes)


@pytest.fixture
def two_points(tmp_path: Path) -> Path:
    return make_sky_ms(tmp_path / "two.ms", points((1.0, 0, 0), (0.4, 20, -12)), noise_jy=0.05)


def test_flux_and_position_of_points(two_points: Path) -> None:
    cycles = []
    products = NativeImager(on_cycle=cycles.append).image(options(two_points))
    model, _ = open_image(products.model)
    image, header = open_image(products.image)
    assert model[62:67, 62:67].sum() == pytest.approx(1.0, abs=0.004)
    assert model[50:55, 42:47].sum() == pytest.approx(0.4, abs=0.004)
    assert image[64, 64] == pytest.approx(1.0, abs=0.01)
    assert image[52, 44] == pytest.approx(0.4, abs=0.01)
    assert header["BUNIT"] == "JY/BEAM" and header["TELESCOP"] == "EVLA"
    ra, dec = sky_position(header, 64, 64)
    assert (ra, dec) == pytest.approx((np.degrees(1.2), np.degrees(0.6)))
    east_ra, north_dec = sky_position(header, 44, 52)
    assert (east_ra - ra) * np.cos(0.6) * 3600 == pytest.approx(20 * CELL, rel=1e-3)
    assert (north_dec - dec) * 3600 == pytest.approx(-12 * CELL, rel=1e-3)
    assert cycles and cycles[-1].exact
    assert "components" in options(two_points).log.read_text()
    assert measure_products(products).peak_jy_beam == pytest.approx(1.0, abs=0.01)


def test_residual_is_noise_and_exact(two_points: Path) -> None:
    settings = options(two_points)
    products = NativeImager().image(settings)
    residual, _ = open_image(products.residual)
    natural = 0.05 / np.sqrt(66 * 20 * 4 * 2)
    assert residual.std() < 1.6 * natural
    # what is left of the data after its own model is the residual of the image
    NativeImager().predict(products.models, settings)
    with open_table(two_points, write=True) as opened:
        opened.putcol("DATA", opened.getcol("DATA") - opened.getcol("MODEL_DATA"))
    again = NativeImager().image(settings.but(niter=0, basename="left"))
    left, _ = open_image(again.image)
    # averaged noise is other noise toward the corner, where its fringes turn by 0.07 in a cell
    middle = slice(48, 80), slice(48, 80)
    assert (left - residual)[middle].std() < 0.02 * residual.std()
    assert (left - residual).std() < 0.1 * residual.std()


def test_one_thread_gives_the_same_bits(two_points: Path) -> None:
    settings = options(two_points)
    first = NativeImager().image(settings)
    second = NativeImager().image(settings.but(basename="j"))
    for one, two in zip(first.paths, second.paths, strict=True):
        assert np.array_equal(fits.getdata(one), fits.getdata(two)), one.name


def test_streamed_data_give_the_same_image(
    two_points: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = NativeImager().image(options(two_points))
    monkeypatch.setattr(native, "memory_for_visibilities", lambda *_: 50_000.0)
    streamed = NativeImager().image(options(two_points, basename="j"))
    assert "read anew" in options(two_points, basename="j").log.read_text()
    one, two = (open_image(products.image)[0] for products in (held, streamed))
    assert np.abs(one - two).max() < 1e-4


def test_an_image_larger_than_memory_is_refused_before_data_are_read(
    two_points: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "open_store", lambda *_, **__: pytest.fail("data were read"))
    with pytest.raises(ConfigError, match="takes") as caught:
        NativeImager().image(options(two_points, memory_bytes=1e6))
    assert "memory" in caught.value.remedy


def test_model_column_holds_every_row(two_points: Path) -> None:
    with open_table(two_points, write=True) as opened:
        flag = opened.getcol("FLAG")
        flag[::3] = True
        opened.putcol("FLAG", flag)
    settings = options(two_points, uvmin_m=2000.0, uvmax_m=15000.0, update_model=True)
    products = NativeImager().image(settings)
    plane, _ = open_image(products.model)
    y, x = np.nonzero(plane)
    with open_table(two_points) as opened:
        uvw, model = opened.getcol("UVW"), opened.getcol("MODEL_DATA")
    with open_table(f"{two_points}::SPECTRAL_WINDOW") as windows:
        frequency = windows.getcell("CHAN_FREQ", 0)
    east, north = -(x - 64) * CELL * ARCSEC, (y - 64) * CELL * ARCSEC
    wanted = fourier_sum(plane[y, x].astype(float), east, north, uvw, frequency)
    assert np.abs(model - wanted[:, :, None]).max() < 1e-5 * np.abs(plane).sum()


def test_a_shifted_centre(tmp_path: Path) -> None:
    east, north = 400.0, -250.0  # pixels: a minute of arc
    ms = make_sky_ms(tmp_path / "far.ms", points((1.0, east, north)), noise_jy=0.02)
    here = (np.degrees(1.2), np.degrees(0.6))
    there = sky_position(_header_of_centre(tmp_path, here), 64 - east, 64 + north)
    settings = options(ms, phase_centre_deg=there, update_model=True)
    products = NativeImager().image(settings)
    image, header = open_image(products.image)
    y, x = np.unravel_index(np.argmax(image), image.shape)
    assert (y, x) == (64, 64)
    assert image[64, 64] == pytest.approx(1.0, abs=0.005)
    assert sky_position(header, 64, 64) == pytest.approx(there, abs=1e-8)
    with open_table(ms) as opened:
        uvw, model = opened.getcol("UVW"), opened.getcol("MODEL_DATA")
    with open_table(f"{ms}::SPECTRAL_WINDOW") as windows:
        frequency = windows.getcell("CHAN_FREQ", 0)
    wanted = points((1.0, east, north))(uvw, frequency)
    assert np.abs(model[:, :, 0] - wanted).max() < 0.02


def _header_of_centre(folder: Path, centre: tuple[float, float]) -> fits.Header:
    header = fits.Header()
    for axis, (kind, value, step) in enumerate(
        (("RA---SIN", centre[0], -CELL / 3600), ("DEC--SIN", centre[1], CELL / 3600)), start=1
    ):
        header[f"CTYPE{axis}"], header[f"CRVAL{axis}"] = kind, value
        header[f"CDELT{axis}"], header[f"CRPIX{axis}"] = step, 65.0
        header[f"CUNIT{axis}"] = "deg"
    header["EQUINOX"], header["RADESYS"] = 2000.0, "FK5"
    return header


def test_spectral_index_of_a_wide_band(tmp_path: Path) -> None:
    frequency = np.linspace(2e9, 4e9, 16)
    reference = 3e9

    def sky(uvw: np.ndarray, hertz: np.ndarray) -> np.ndarray:
        flux = np.stack([1.0 * (hertz / reference) ** -0.8, 0.3 * (hertz / reference) ** 0.5])
        place = np.array([0.0, 15.0]) * CELL * ARCSEC
        return fourier_sum(flux, place, place, uvw, hertz)

    ms = make_sky_ms(
        tmp_path / "wide.ms", sky, channels=16, frequency_hz=frequency, noise_jy=0.02,
        longest_m=3e4,
    )  # fmt: skip
    products = NativeImager().image(options(ms, channels_out=8, nterms=3, mgain=0.6))
    assert len(products.models) == 3
    terms = [open_image(path)[0] for path in products.models]
    x = frequency / reference - 1
    for flux, alpha, (row, column) in ((1.0, -0.8, (64, 64)), (0.3, 0.5, (79, 49))):
        box = slice(row - 3, row + 4), slice(column - 3, column + 4)
        found = sum(float(term[box].sum()) * x**power for power, term in enumerate(terms))
        true = flux * (frequency / reference) ** alpha
        # three terms leave x^3, up to 1 % at the ends of such a band
        assert np.abs(found / true - 1).max() < 0.015
        fitted = np.polyfit(np.log(frequency / reference), np.log(found), 1)
        assert fitted[0] == pytest.approx(alpha, abs=0.02)
        assert np.exp(fitted[1]) == pytest.approx(flux, rel=0.005)
    with fits.open(products.model) as hdus:
        # edges of the band are half a channel beyond
        assert hdus[0].header["CRVAL3"] == pytest.approx(reference)


def test_a_gaussian_keeps_its_flux_with_multiscale(tmp_path: Path) -> None:
    sigma = 4.0 * CELL * ARCSEC

    def sky(uvw: np.ndarray, hertz: np.ndarray) -> np.ndarray:
        square = (uvw[:, :2] ** 2).sum(axis=1)[:, None] * (hertz / 299792458.0) ** 2
        return 2.0 * np.exp(-2 * np.pi**2 * sigma**2 * square) + 0j

    ms = make_sky_ms(tmp_path / "wide.ms", sky, antennas=16, noise_jy=0.01, longest_m=1.5e4)
    products = NativeImager().image(options(ms, multiscale=True))
    model, _ = open_image(products.model)
    assert model.sum() == pytest.approx(2.0, rel=0.005)


def test_beam_of_three_to_one(tmp_path: Path) -> None:
    ms = make_sky_ms(tmp_path / "low.ms", points((1.0, 3, 5)), dec_deg=12.0, noise_jy=0.02)
    with open_table(ms, write=True) as opened:
        uvw = opened.getcol("UVW")
        uvw[:, 1] /= 3.0
        opened.putcol("UVW", uvw)
        data = points((1.0, 3, 5))(uvw, np.array(5e9 + 2e6 * np.arange(4)))
        opened.putcol("DATA", np.repeat(data[:, :, None], 2, axis=2).astype(np.complex64))
    products = NativeImager().image(options(ms, automask_nsigma=0, autothreshold_nsigma=3))
    assert products.beam_major_arcsec > 2.5 * products.beam_minor_arcsec
    assert open_image(products.model)[0].sum() == pytest.approx(1.0, abs=0.005)


def test_a_field_of_four_degrees(tmp_path: Path) -> None:
    """More than a turn of w at the corner, a strong source far off the centre, two threads."""
    pixels, noise = 320, 0.2
    cell = np.deg2rad(4.0) / pixels
    flux = np.array([10.0, 1.0, 0.5])
    east, north = cell * np.array([60.0, 0.0, -140.0]), cell * np.array([-97.0, 0.0, 130.0])

    def sky(uvw: np.ndarray, hertz: np.ndarray) -> np.ndarray:
        return fourier_sum(flux, east, north, uvw, hertz)

    ms = make_sky_ms(
        tmp_path / "field.ms", sky, antennas=20, longest_m=0.3 / cell, noise_jy=noise,
        frequency_hz=150e6 + 1e5 * np.arange(4),
    )  # fmt: skip
    chosen = options(
        ms, imsize=(pixels, pixels), cell_arcsec=cell / ARCSEC, automask_nsigma=5.0,
        autothreshold_nsigma=1.0, threads=2,
    )  # fmt: skip
    products = NativeImager().image(chosen)
    assert "residual from image domain" not in chosen.log.read_text()
    model, residual = open_image(products.model)[0], open_image(products.residual)[0]
    sigma = mad_std(residual)
    for true, l, m in zip(flux, east, north, strict=True):  # noqa: E741
        x, y = round(pixels / 2 - l / cell), round(pixels / 2 + m / cell)
        found = model[y - 3 : y + 4, x - 3 : x + 4].sum()
        assert found == pytest.approx(true, abs=5 * sigma + 5e-4 * true)
    # nothing that CLEAN would begin with is left
    assert np.abs(residual).max() < 1.3 * 5.0 * sigma


def test_a_mask_is_obeyed(two_points: Path) -> None:
    dirty = NativeImager().image(options(two_points, niter=0))
    plane, header = open_image(dirty.image)
    inside = np.zeros(plane.shape)
    inside[60:69, 60:69] = 1
    mask = write_image(inside, header, two_points.parent / "mask.fits")
    products = NativeImager().image(options(two_points, mask=mask, nmajor=8))
    model, _ = open_image(products.model)
    assert not model[inside == 0].any()
    assert model.sum() == pytest.approx(1.0, abs=0.03)
    with pytest.raises(InputError, match="mask"):
        NativeImager().image(options(two_points, mask=mask, imsize=(64, 64)))


def test_dirty_image_alone(two_points: Path) -> None:
    products = NativeImager().image(options(two_points, niter=0))
    image, residual, dirty = (
        open_image(path)[0] for path in (products.image, products.residual, products.dirty)
    )
    assert np.array_equal(image, dirty) and np.array_equal(residual, dirty)
    assert not open_image(products.model)[0].any()


def test_tiny_fields(tmp_path: Path) -> None:
    cell = 2e-6  # arcsec

    def sky(uvw: np.ndarray, hertz: np.ndarray) -> np.ndarray:
        return fourier_sum(
            np.array([0.6]), np.array([8 * cell * ARCSEC]), np.array([0.0]), uvw, hertz
        )

    frequency = np.array([2.27e11, 2.29e11])
    ms = make_sky_ms(
        tmp_path / "eht.ms", sky, channels=2, longest_m=1.2e7, frequency_hz=frequency,
        noise_jy=0.01,
    )  # fmt: skip
    products = NativeImager().image(options(ms, cell_arcsec=cell, update_model=True))
    assert open_image(products.model)[0].sum() == pytest.approx(0.6, abs=0.005)
    with open_table(ms) as opened:
        uvw, model = opened.getcol("UVW"), opened.getcol("MODEL_DATA")
    assert np.abs(model[:, :, 0] - sky(uvw, frequency)).max() < 0.02


def test_useless_data_are_errors(two_points: Path) -> None:
    with open_table(two_points, write=True) as opened:
        opened.putcol("FLAG", np.ones_like(opened.getcol("FLAG")))
    with pytest.raises(ImageError, match="no visibility"):
        NativeImager().image(options(two_points))
    with pytest.raises(InputError, match="CORRECTED_DATA"):
        NativeImager().image(options(two_points, column="CORRECTED_DATA"))
    with pytest.raises(ConfigError, match="field 7"):
        NativeImager().image(options(two_points, field_id=7))
