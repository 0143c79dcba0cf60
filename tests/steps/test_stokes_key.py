"""The config key ``stokes``: full Stokes images of what a run calibrated."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.core.errors import ConfigError
from libs.imaging.interface import open_image
from libs.imaging.primary_beam import find_beam
from libs.simulation.mosaic import PolarizedSource, simulate_mosaic
from libs.simulation.sky import Source
from steps.run_options import check_files, run_settings
from tests.quiet_run import quiet_run
from tests.vlass_case import observation

STEPS = ("startup", "save_init_flags", "test_image", "split_trial_1")
SOURCE = PolarizedSource(Source(1.0, 210.0, -140.0), q=0.1, u=-0.2, v=0.05)


def test_final_images_of_all_stokes_parameters_corrected_for_the_beam(tmp_path: Path) -> None:
    seen = observation((2,), noise_jy=0.005, scans=2)
    beam = find_beam("vla", 2e9, 25.0)
    ms = tmp_path / "one.ms"
    simulate_mosaic(ms, seen, [(0.0, 0.0)], [SOURCE], beam, reference_hz=3e9, empty_spws=2)
    run = quiet_run(
        tmp_path / "run", [ms], steps=STEPS, stokes="IQUV", imsize=[128, 128], cell="7arcsec",
        spw="2", overrides={"split_trial_1": {"robust_values": ["0.5"], "with_multiscale": False}},
    )  # fmt: skip
    products = run.result("split_trial_1").products
    for name, truth in {"": 1.0, "Q_": 0.1, "U_": -0.2, "V_": 0.05}.items():
        plane = open_image(run.workdir / products[f"pbcor_{name}+0.5"])[0]
        peak = plane[64 - 20, 64 - 30]
        assert peak == pytest.approx(truth, rel=0.01, abs=0.001)
        assert (run.workdir / products[f"image_{name}+0.5"]).exists()


@pytest.mark.parametrize("stokes", ["Q", "VI", "full"])
def test_sets_without_stokes_i_or_in_another_order_are_refused(stokes: str) -> None:
    settings = run_settings({"stokes": stokes})
    with pytest.raises(ConfigError, match="in this order"):
        check_files(settings, STEPS)


def test_the_key_needs_the_step_that_images() -> None:
    with pytest.raises(ConfigError, match="no effect without the step split_trial_1"):
        check_files(run_settings({"stokes": "IQUV"}), STEPS[:-1])
