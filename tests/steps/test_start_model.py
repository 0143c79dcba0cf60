"""The config key ``start_model``: the first rounds calibrate against what the user brings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from libs.core.errors import ConfigError
from libs.imaging.masks import grid_header
from libs.simulation.observation import StationErrors
from tests import odd_data
from tests.quiet_run import quiet_run

STEPS = ("startup", "save_init_flags", "test_image", "initial_model", "p0", "p1")
ERRORS = StationErrors(phase_walk_deg=200, phase_walk_s=200)  # an image shows nothing
COS = np.cos(np.deg2rad(30.0))


def write_list(path: Path) -> Path:
    lines = ["Format = Name, Type, Ra, Dec, I"]
    for number, source in enumerate(odd_data.SKY):
        ra = 225.0 + source.l_arcsec / 3600 / COS
        dec = 30.0 + source.m_arcsec / 3600
        lines.append(f"s{number},POINT,{ra:.9f}deg,{dec:.9f}deg,{source.flux_jy}")
    path.write_text("\n".join(lines) + "\n")
    return path


def write_catalogue(path: Path) -> Path:
    rows = [
        (225.0 + s.l_arcsec / 3600 / COS, 30.0 + s.m_arcsec / 3600, s.flux_jy * 1e3)
        for s in odd_data.SKY
    ] + [(100.0, -20.0, 5e3)]  # elsewhere
    table = Table(rows=rows, names=("ra", "dec", "total_flux"))
    table["total_flux"].unit = "mJy"
    table.write(path, format="votable")
    return path


def write_image(path: Path) -> Path:
    """On a grid of its own, about another centre, with another pixel."""
    header = grid_header((300, 301), 0.5, (225.0 + 20 / 3600 / COS, 30.0))
    header["BUNIT"] = "JY/PIXEL"
    plane = np.zeros((301, 300), np.float32)
    for source in odd_data.SKY:
        east, north = source.l_arcsec - 20.0, source.m_arcsec
        plane[round(150 + north / 0.5), round(150 - east / 0.5)] = source.flux_jy
    fits.writeto(path, plane[None, None], header)
    return path


@pytest.mark.parametrize(
    ("write", "name", "says"),
    [
        (write_list, "sky.txt", "sky.txt (list of components): 3 components, 1.450 Jy"),
        (write_catalogue, "sky.vot", "(catalogue): 3 components, 1 more are outside the primary"),
        (write_image, "sky.fits", "sky.fits (model image), 1.450 Jy"),
    ],
)
def test_a_run_starts_from_the_users_model(
    tmp_path: Path, write: object, name: str, says: str
) -> None:
    ms = odd_data.plain(tmp_path / "a.ms", antennas=10, integrations=4, errors=ERRORS)
    path = write(tmp_path / name)  # type: ignore[operator]
    run = quiet_run(tmp_path, [ms], steps=STEPS, start_model=str(path))
    first = run.result("initial_model")
    assert says in first.reason
    assert first.metrics["closure_reduced_chi2"] < 2.0
    assert run.result("p0").metrics["model_from"] == "initial_model"
    summary = run.summary
    assert summary["status"] == "improved"
    assert summary["final"]["peak_jy_beam"] == pytest.approx(1.0, rel=0.03)
    assert summary["final"]["dynamic_range"] > 20 * summary["initial"]["dynamic_range"]
    before = run.order
    again = quiet_run(tmp_path, [ms], steps=STEPS, start_model=str(path))
    assert again.order == before
    path.touch()
    third = quiet_run(tmp_path, [ms], steps=STEPS, start_model=str(path))
    assert third.order["test_image"] == before["test_image"]
    assert third.order["initial_model"] > before["initial_model"]
    assert third.summary["final"] == {**summary["final"]}


def test_a_model_that_no_step_reads_or_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    path = write_list(tmp_path / "sky.txt")
    with pytest.raises(ConfigError, match="no effect without the step initial_model"):
        quiet_run(tmp_path, [tmp_path], steps=("startup", "test_image"), start_model=str(path))
    with pytest.raises(ConfigError, match="is no file"):
        quiet_run(tmp_path, [tmp_path], start_model=str(tmp_path / "none.txt"))
    with pytest.raises(ConfigError, match="without start_model"):
        quiet_run(tmp_path, [tmp_path], model_flux_unit="mJy")


def write_terms(folder: Path) -> list[str]:
    """The image, which is that at the reference frequency, and a slope that is nothing."""
    first, second = write_image(folder / "sky.tt0.fits"), folder / "sky.tt1.fits"
    with fits.open(first) as hdus:
        fits.writeto(second, 0 * hdus[0].data, hdus[0].header)
    return [str(first), str(second)]


def test_taylor_terms_are_one_model(tmp_path: Path) -> None:
    ms = odd_data.plain(tmp_path / "a.ms", antennas=10, integrations=4, errors=ERRORS)
    steps = STEPS[:-1]
    one = quiet_run(tmp_path, [ms], steps=steps, start_model=write_terms(tmp_path))
    assert "sky.tt0.fits and 1 more (Taylor terms), 1.450 Jy" in one.result("initial_model").reason
    assert (one.workdir / "start_model.tt1.fits").exists(), "kept for later starts"
    two = quiet_run(tmp_path, [ms], steps=steps, start_model=str(tmp_path / "sky.tt0.fits"))
    assert not (two.workdir / "start_model.tt1.fits").exists()
    final = [run.summary["final"]["snr"] for run in (one, two)]
    assert final[0] == pytest.approx(final[1], rel=1e-3)


def test_a_model_of_another_field_is_a_wrong_config(tmp_path: Path) -> None:
    ms = odd_data.plain(tmp_path / "a.ms", antennas=10, integrations=4, errors=ERRORS)
    header = grid_header((100, 100), 0.5, (227.0, 30.0))
    header["BUNIT"] = "JY/PIXEL"
    plane = np.zeros((100, 100), np.float32)
    plane[50, 50] = 1.0
    fits.writeto(tmp_path / "far.fits", plane[None, None], header)
    with pytest.raises(ConfigError, match=r"far.fits has no flux inside the image of 128 x 128"):
        quiet_run(tmp_path, [ms], steps=STEPS, start_model=str(tmp_path / "far.fits"))
