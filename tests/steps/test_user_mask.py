"""The config key ``mask``: where CLEAN works and what the models of rounds hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from libs.core.errors import ConfigError
from libs.imaging.interface import open_image
from libs.simulation.observation import StationErrors
from tests import odd_data
from tests.quiet_run import QuietRun, quiet_run

STEPS = ("startup", "save_init_flags", "test_image", "closure_stats", "p0", "split_trial_1")
ERRORS = StationErrors(phase_walk_deg=9, phase_walk_s=600)
DS9 = "# Region file format: DS9 version 4.1\nfk5\n"


def boxes(*places: tuple[float, float]) -> str:
    """Regions of 12 arcsec around offsets (arcsec, east and north) from the phase centre."""
    lines = [
        f'box({225 + east / 3600 / np.cos(np.deg2rad(30)):.8f},{30 + north / 3600:.8f},12",12",0)'
        for east, north in places
    ]
    return DS9 + "\n".join(lines) + "\n"


def components(run: QuietRun, image: str) -> np.ndarray:
    """Offsets (arcsec east, north) of the pixels of a model with flux, (n, 2)."""
    plane, _ = open_image(run.workdir / image)
    y, x = np.nonzero(plane)
    return np.stack([64.0 - x, y - 64.0], axis=1)


@pytest.mark.parametrize("imager", ["native", pytest.param("wsclean", marks=pytest.mark.tools)])
def test_clean_and_models_are_within_the_mask(
    tmp_path: Path, imager: str, request: pytest.FixtureRequest
) -> None:
    if imager == "wsclean":
        request.getfixturevalue("wsclean")
    ms = odd_data.plain(tmp_path / "a.ms", antennas=10, integrations=4, errors=ERRORS)
    mask = tmp_path / "mine.reg"
    mask.write_text(boxes((0, 0), (25, -12)))
    first = quiet_run(tmp_path, [ms], steps=STEPS, mask=str(mask), imager=imager)
    for step, name in (("test_image", "model"), ("p0", "model")):
        found = components(first, first.result(step).products[name])
        near = np.abs(found[:, None, :] - np.array([(0, 0), (25, -12)])).max(axis=2).min(axis=1)
        assert len(found) and (near <= 7).all(), step
    assert "CLEAN and models are within the mask mine.reg (ds9 regions, 2" in (
        first.result("test_image").reason
    )
    plane, _ = open_image(first.workdir / first.result("p0").products["mask"])
    assert np.count_nonzero(plane) == pytest.approx(288, abs=30)
    _check_again(tmp_path, ms, mask, imager, first)


def _check_again(tmp_path: Path, ms: Path, mask: Path, imager: str, first: QuietRun) -> None:
    """The same again is reused; another content of the file runs what depends on it."""
    before, first_range = first.order, first.summary["final"]["dynamic_range"]
    same = quiet_run(tmp_path, [ms], steps=STEPS, mask=str(mask), imager=imager)
    assert same.order == before
    mask.write_text(boxes((0, 0), (25, -12), (-8, 21)))
    other = quiet_run(tmp_path, [ms], steps=STEPS, mask=str(mask), imager=imager)
    assert other.order["startup"] == before["startup"]
    assert other.order["test_image"] > before["test_image"]
    found = components(other, other.result("p0").products["model"])
    assert (np.abs(found - (-8, 21)).max(axis=1) <= 7).any(), "the third source"
    assert other.summary["final"]["dynamic_range"] > 1.5 * first_range


def test_a_mask_that_is_not_there_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mask = .* is no file"):
        quiet_run(tmp_path, [tmp_path / "no.ms"], mask=str(tmp_path / "none.reg"))
