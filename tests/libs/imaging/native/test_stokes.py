"""Stokes parameters of visibilities: the algebra, and images of all four against the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from libs.core.errors import ConfigError, InputError
from libs.imaging.interface import ImagingOptions, Mosaic, open_image
from libs.imaging.native.native import NativeImager
from libs.imaging.native.stokes import combination, stokes_visibilities
from libs.imaging.wsclean import WSClean
from libs.ms.tables import open_table
from libs.simulation.mosaic import PolarizedSource
from libs.simulation.sky import Source
from tests.vlass_case import make_case

CIRCULAR = ("RR", "RL", "LR", "LL")
LINEAR = ("XX", "XY", "YX", "YY")
SOURCE = PolarizedSource(Source(1.0, 63.0, -42.0), q=0.2, u=-0.1, v=0.05)

values = st.lists(st.floats(-3, 3), min_size=8, max_size=8)


def hands_of(names: tuple[str, ...], i: complex, q: complex, u: complex, v: complex) -> NDArray:
    """Correlations of given Stokes visibilities, by the definitions."""
    by_name = {
        "RR": i + v, "RL": q + 1j * u, "LR": q - 1j * u, "LL": i - v,
        "XX": i + q, "XY": u + 1j * v, "YX": u - 1j * v, "YY": i - q,
    }  # fmt: skip
    return np.array([by_name[name] for name in names], np.complex64)[None, None]


@settings(max_examples=25, deadline=None)
@given(parts=values, order=st.permutations(range(4)), linear=st.booleans())
def test_each_parameter_comes_back_from_its_correlations(
    parts: list[float], order: list[int], linear: bool
) -> None:
    names = tuple((LINEAR if linear else CIRCULAR)[k] for k in order)
    truth = dict(zip("IQUV", [complex(*parts[2 * k : 2 * k + 2]) for k in range(4)], strict=True))
    data = hands_of(names, *truth.values())
    good = np.zeros((1, 1, 4), bool)
    for stokes, wanted in truth.items():
        how = combination(names, stokes, "IQUV")
        assert how is not None
        found, weight = stokes_visibilities(
            data, good, np.array([[[4.0, 1.0, 2.0, 3.0]]], np.float32), np.ones(1, bool), how
        )
        assert found[0, 0] == pytest.approx(wanted, abs=1e-5)
        assert weight[0, 0] == 1.0, "the smallest weight of all that are needed"


def test_a_flag_on_any_needed_correlation_takes_the_sample_from_all_parameters() -> None:
    data = hands_of(CIRCULAR, 1, 0, 0, 0)
    flag = np.array([[[False, True, False, False]]])
    weight = np.ones((1, 1, 4), np.float32)
    for together, left in (("IQUV", 0.0), ("IV", 1.0)):
        how = combination(CIRCULAR, "I", together)
        assert how is not None
        _, found = stokes_visibilities(data, flag, weight, np.ones(1, bool), how)
        assert found[0, 0] == left


def test_parameters_that_the_correlations_do_not_allow() -> None:
    assert combination(("RR", "LL"), "Q", "IQ") is None
    assert combination(("RR", "LL"), "V", "IV") is not None
    assert combination(("XX", "YY"), "Q", "IQ") is not None
    assert combination(("I", "V"), "V", "IV") is not None


@pytest.fixture(scope="module")
def polarized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stokes") / "set.ms"
    return make_case(path, spws=(2,), sky=(SOURCE,), noise_jy=0.002).ms


def options(ms: Path, folder: Path, **changes: object) -> ImagingOptions:
    first = ImagingOptions(
        vis=(ms,), folder=folder, basename="p", imsize=(128, 128), cell_arcsec=7.0, robust=0.5,
        niter=500, autothreshold_nsigma=4.0, stokes="IQUV", gain=0.1,
    )  # fmt: skip
    return first.but(**changes)


def peak(path: Path) -> float:
    plane, _ = open_image(path)
    return float(plane.ravel()[np.nanargmax(np.abs(plane))])


def check_against_truth(products: object, power: float) -> None:
    """Compare peaks; the source is in the middle of a pixel."""
    wanted = {"I": 1.0, "Q": 0.2, "U": -0.1, "V": 0.05}
    for stokes, fraction in wanted.items():
        plane = products.plane(stokes)  # type: ignore[attr-defined]
        assert peak(plane.image) == pytest.approx(power * fraction, rel=0.01, abs=0.001)
        header = open_image(plane.image)[1]
        axis = 3 if header["CTYPE3"] == "STOKES" else 4
        assert header[f"CRVAL{axis}"] == "IQUV".index(stokes) + 1


def beam_power() -> float:
    from libs.imaging.primary_beam import find_beam
    from tests.vlass_case import window_hz

    beam = find_beam("vla", 2e9, 25.0)
    assert beam is not None
    angle = np.radians(np.hypot(63.0, 42.0) / 3600.0)
    return float(beam.power(np.array([angle]), window_hz(2))[0])


def test_images_of_all_four(polarized: Path, tmp_path: Path) -> None:
    products = NativeImager().image(options(polarized, tmp_path))
    check_against_truth(products, beam_power())
    psfs = [open_image(plane.psf)[0] for plane in (products, *products.others)]
    assert all(np.array_equal(psfs[0], psf) for psf in psfs[1:]), "one PSF"
    assert len(products.paths) == 20
    assert all(path.exists() for path in products.paths)


def test_stokes_i_of_a_set_is_that_by_itself(polarized: Path, tmp_path: Path) -> None:
    alone = NativeImager().image(options(polarized, tmp_path / "a", stokes="I", niter=0))
    both = NativeImager().image(options(polarized, tmp_path / "b", stokes="IV", niter=0))
    assert alone.image.name == "p-image.fits"
    np.testing.assert_allclose(
        open_image(alone.image)[0], open_image(both.plane("I").image)[0], atol=1e-6
    )


@pytest.mark.tools
def test_wsclean_images_all_four(polarized: Path, tmp_path: Path) -> None:
    products = WSClean().image(options(polarized, tmp_path))
    check_against_truth(products, beam_power())


@pytest.mark.tools
def test_wsclean_refuses_mosaics(polarized: Path, tmp_path: Path) -> None:
    mosaic = Mosaic((0, 1, 2), "vla", 25.0)
    with pytest.raises(ConfigError, match="no mosaics"):
        WSClean().image(options(polarized, tmp_path, mosaic=mosaic, phase_centre_deg=(213.0, 20.0)))


def test_only_the_windows_asked_for_are_imaged(tmp_path: Path) -> None:
    ms = make_case(tmp_path / "two.ms", sky=(SOURCE,), noise_jy=0.002).ms
    with open_table(ms, write=True) as opened:
        ids, data = opened.getcol("DATA_DESC_ID"), opened.getcol("DATA")
        data[ids == 3] = 100.0
        opened.putcol("DATA", data)
    products = NativeImager().image(options(ms, tmp_path, spws=(2,), stokes="I"))
    assert peak(products.image) == pytest.approx(beam_power(), rel=0.02)


def test_missing_cross_hands_are_an_error(tmp_path: Path) -> None:
    ms = make_case(tmp_path / "c.ms", spws=(2,), sky=(SOURCE,)).ms
    with open_table(f"{ms}::POLARIZATION", write=True) as opened:
        opened.putcell("CORR_TYPE", 0, np.array([5, 5, 5, 8], np.int32))
    with pytest.raises(InputError, match="correlations that Stokes IQUV needs"):
        NativeImager().image(options(ms, tmp_path))


@pytest.mark.parametrize("stokes", ["", "QI", "IX", "II", "iquv"])
def test_other_orders_and_letters_are_refused(stokes: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in this order"):
        options(tmp_path / "x.ms", tmp_path, stokes=stokes)
