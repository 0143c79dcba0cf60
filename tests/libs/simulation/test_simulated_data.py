"""Scenarios, and what the tools make of simulated data."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from libs.casa.session import CasaSession
from libs.core.errors import ConfigError
from libs.core.process import run_tool
from libs.ms.tables import open_table
from libs.simulation.array_configurations import load_configuration
from libs.simulation.observation import (
    Source,
    simulate,
)
from libs.simulation.scenarios import SCENARIOS, make_scenario, scenario
from tests.libs.simulation.test_observation import column, observe


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_scenarios_are_small_and_can_be_made(name: str, tmp_path: Path) -> None:
    if name.startswith("lofar"):
        pytest.importorskip("lofarantpos")
    whole = scenario(name).observation()
    visibilities = whole.rows * whole.spws[0].channels * len(whole.correlations)
    assert visibilities <= 6_100_000, "what a benchmark runs in minutes"
    made = make_scenario(name, tmp_path / "a.ms", scale=0.05, antennas=5)
    assert np.all(np.isfinite(column(made.ms, "DATA")))
    assert made.observation.rows < whole.rows
    assert bool(made.direction_gains) == (name == "lofar_field")


def test_unknown_scenarios_are_named() -> None:
    with pytest.raises(ConfigError, match="vla_a_5ghz"):
        scenario("vla")


def test_field_has_three_calibrators_and_six_fainter_within_a_circle() -> None:
    sky = scenario("lofar_field").sky
    assert len(sky) == 9
    assert sorted(s.flux_jy for s in sky)[-3] > 2 * sorted(s.flux_jy for s in sky)[-4]
    assert max(math.hypot(s.l_arcsec, s.m_arcsec) for s in sky) < 0.6 * 3600


# ---- the tools -------------------------------------------------------------------------------


def peak_position(path: Path) -> tuple[float, float, float]:
    """Peak (Jy/beam), RA and Dec (deg) of the brightest pixel."""
    with fits.open(path) as opened:
        image = np.squeeze(opened[0].data)
        y, x = np.unravel_index(int(image.argmax()), image.shape)
        ra, dec = WCS(opened[0].header).celestial.pixel_to_world_values(x, y)
    return float(image.max()), float(ra) % 360, float(dec)


def point_data(folder: Path) -> tuple[Path, tuple[float, float]]:
    """Data of one point well off the phase centre; its RA and Dec, deg."""
    source = Source(1.0, 30.0, 20.0)
    array = load_configuration("vla.a").thinned(12)
    observation = observe(
        array=array, scans=3, gap_s=3600.0, noise_jy=1e-3, integration_s=20.0, scan_s=200.0
    )
    made = simulate(folder / "a.ms", observation, [source], perfect=False)
    ra, dec = source.radec_rad(*observation.direction_rad)
    return made.ms, (math.degrees(ra), math.degrees(dec))


@pytest.mark.tools
def test_wsclean_finds_the_point_where_it_is(tmp_path: Path) -> None:
    if shutil.which("wsclean") is None:
        pytest.skip("wsclean is not installed")
    ms, (ra, dec) = point_data(tmp_path)
    argv = ["wsclean", "-reorder", "-name", str(tmp_path / "w"), "-size", "400", "400"]
    argv += ["-scale", "0.25asec", "-niter", "500", "-auto-threshold", "5", "-j", "2"]
    argv += ["-no-update-model-required", str(ms)]
    run_tool(argv, tmp_path / "w.log")
    peak, peak_ra, peak_dec = peak_position(tmp_path / "w-image.fits")
    assert peak == pytest.approx(1.0, abs=0.02)
    assert abs(peak_ra - ra) * math.cos(math.radians(dec)) * 3600 < 0.2
    assert abs(peak_dec - dec) * 3600 < 0.2


@pytest.mark.tools
def test_casa_takes_the_data_and_finds_the_point(tmp_path: Path) -> None:
    ms, (ra, dec) = point_data(tmp_path)
    with CasaSession(tmp_path / "log") as casa:
        image = tmp_path / "c"
        casa.run("tclean", vis=ms, imagename=image, imsize=400, cell="0.25arcsec", niter=200)
        casa.run("exportfits", imagename=f"{image}.image", fitsimage=tmp_path / "c.fits")
        casa.run("ft", vis=ms, model=f"{image}.model", usescratch=True)
        table = tmp_path / "g.tab"
        refant = column(ms / "ANTENNA", "NAME")[0]
        casa.run("gaincal", vis=ms, caltable=table, solint="inf", calmode="ap", refant=refant)
        casa.run("applycal", vis=ms, gaintable=[str(table)])
        casa.run(
            "mstransform", vis=ms, outputvis=tmp_path / "m.ms", datacolumn="corrected",
            chanaverage=True, chanbin=3, timeaverage=True, timebin="60s",
        )  # fmt: skip
    peak, peak_ra, peak_dec = peak_position(tmp_path / "c.fits")
    assert peak == pytest.approx(1.0, abs=0.02)
    assert abs(peak_ra - ra) * math.cos(math.radians(dec)) * 3600 < 0.2
    assert abs(peak_dec - dec) * 3600 < 0.2
    with open_table(table) as opened:
        gain = opened.getcol("CPARAM")[~opened.getcol("FLAG")]
    np.testing.assert_allclose(np.abs(gain), 1.0, atol=0.02)
    corrected = column(tmp_path / "m.ms", "DATA")
    assert corrected.shape[1] == 1
    assert np.isfinite(corrected).all()


@pytest.mark.tools
def test_dp3_averages_the_data(tmp_path: Path) -> None:
    if shutil.which("DP3.py") is None:
        pytest.skip("DP3 is not installed")
    pytest.importorskip("lofarantpos")
    made = make_scenario("lofar_hba", tmp_path / "a.ms", scale=0.05, antennas=6)
    argv = ["DP3.py", f"msin={made.perfect_ms}", f"msout={tmp_path / 'b.ms'}"]
    argv += ["steps=[averager]", "averager.freqstep=4", "averager.timestep=1"]
    run_tool(argv, tmp_path / "dp3.log", env={"OPENBLAS_NUM_THREADS": "1"})
    data = column(made.perfect_ms, "DATA")
    averaged = data.reshape(len(data), 4, 4, 4).mean(axis=2)
    np.testing.assert_allclose(column(tmp_path / "b.ms", "DATA"), averaged, atol=1e-5)
