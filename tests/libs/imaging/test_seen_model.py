"""A user's model through the primary beams of a mosaic's pointings, beside simulated data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from libs.core.coordinates import lm_to_radec
from libs.imaging.masks import grid_header
from libs.imaging.primary_beam import find_beam
from libs.imaging.seen_model import SeenModel
from libs.imaging.start_model import ComponentSky, ImageSky, SkyComponent, read_sky_image
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from tests.pipeline_case import (
    ARCSEC,
    FIELDS,
    FIRST,
    MOSAIC_DEG,
    MOSAIC_SKY,
    WINDOWS,
    GainErrors,
    make_pipeline_case,
)

CENTRE = (math.radians(MOSAIC_DEG[0]), math.radians(MOSAIC_DEG[1]))
BEAM = find_beam("alma", 217e9, 12.0)
HZ = 217e9


def components() -> ComponentSky:
    return ComponentSky(tuple(
        SkyComponent(*lm_to_radec(s.l_arcsec * ARCSEC, s.m_arcsec * ARCSEC, *CENTRE), s.flux_jy)
        for s in MOSAIC_SKY
    ))  # fmt: skip


def image(path: Path) -> ImageSky:
    """The same sources, all on pixels of 0.5 arcsec, about another centre."""
    ra, dec = lm_to_radec(3.0 * ARCSEC, -2.0 * ARCSEC, *CENTRE)
    header = grid_header((128, 100), 0.5, (math.degrees(ra), math.degrees(dec)))
    header["BUNIT"] = "Jy/pixel"
    plane = np.zeros((100, 128), np.float32)
    for source in MOSAIC_SKY:
        east, north = source.l_arcsec - 3.0, source.m_arcsec + 2.0
        plane[50 + round(north / 0.5), 64 - round(east / 0.5)] = source.flux_jy
    fits.writeto(path, plane[None, None], header)
    return read_sky_image([path])


@pytest.mark.parametrize("kind", ["components", "image"])
def test_each_pointing_sees_what_was_simulated_for_it(tmp_path: Path, kind: str) -> None:
    """Through a beam that changes over the window by some per cent at its edge."""
    case = make_pipeline_case(
        tmp_path, [FIRST], fields=FIELDS[3:6], windows=WINDOWS[:1], antennas=6, scans=1,
        scan_s=24.0, noise_jy=0.0, errors=GainErrors(0.0, 0.0),
    )  # fmt: skip
    (ms,) = case.vis
    model = components() if kind == "components" else image(tmp_path / "sky.fits")
    assert BEAM is not None
    fields, hz = Subtables(ms).fields, Subtables(ms).channel_hz[0]
    with open_table(ms) as opened:
        uvw, data, of = (opened.getcol(name) for name in ("UVW", "DATA", "FIELD_ID"))
    for number, field in enumerate(fields):
        rows = of == number
        seen = SeenModel(model, BEAM, field.pointing_rad)
        found = seen.visibilities(uvw[rows], hz, field.direction_rad)
        worst = np.abs(found - data[rows][:, :, 0]).max()
        assert worst < 0.005 * model.flux_jy, f"pointing {number}"
        plain = model.visibilities(uvw[rows], hz, field.direction_rad)
        assert np.abs(plain - data[rows][:, :, 0]).max() > 0.1 * model.flux_jy, "beams matter"


def test_spectra_keep_their_shape_and_nothing_is_seen_beyond_the_main_lobe() -> None:
    east, north = 10.0 * ARCSEC, 0.0
    place = lm_to_radec(east, north, *CENTRE)
    far = lm_to_radec(300.0 * ARCSEC, 0.0, *CENTRE)
    sky = ComponentSky((
        SkyComponent(*place, 1.0, reference_hz=HZ, spectrum=(-0.7,)),
        SkyComponent(*place, 2.0, reference_hz=HZ, spectrum=(0.4,), logarithmic=False),
        SkyComponent(*far, 50.0),
    ))  # fmt: skip
    assert BEAM is not None
    hz = np.array([HZ])
    seen = SeenModel(sky, BEAM, CENTRE)
    power = float(BEAM.power(np.array([10.0 * ARCSEC]), HZ)[0])
    assert 0.3 < power < 0.9
    at_zero = seen.visibilities(np.zeros((1, 3)), hz, CENTRE)
    assert at_zero[0, 0] == pytest.approx(3.0 * power, rel=1e-6)
    band = np.array([HZ, 1.1 * HZ])
    values = seen.visibilities(np.zeros((1, 3)), band, CENTRE)[0]
    higher = float(BEAM.power(np.array([10.0 * ARCSEC]), 1.1 * HZ)[0])
    assert values[1] == pytest.approx((1.1**-0.7 + 2.04) * higher, rel=1e-6)
