"""Data on which CLEAN fails go on from the dirty image to a closure model, and are checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from libs.core.errors import ConfigError, ImageError
from libs.imaging.interface import ImageProducts, ImagingOptions, open_image
from steps import build_steps
from tests.steps.fake_tools import Looks, ScriptedImager, make_run

NAMES = ("startup", "test_image", "select_refant", "closure_stats", "initial_model", "p0",
         "closure_check")  # fmt: skip
SCRIPT = {"test_image": Looks(1.0, 0.1), "selfcal_p0": Looks(1.0, 0.01)}
FEW = {"initial_model.max_components": 1}


@dataclass
class Diverges(ScriptedImager):
    """CLEAN fails on images of these names."""

    fails: tuple[str, ...] = ()
    dirty_too: bool = False

    def image(self, options: ImagingOptions) -> ImageProducts:
        """Make the image, or fail as WSClean does when its model is NaN."""
        if options.basename in self.fails and (options.niter or self.dirty_too):
            raise ImageError("WSClean's model image is not finite", "look at the data")
        return super().image(options)


def run(
    workdir: Path, *, names: tuple[str, ...] = NAMES, assignments: dict[str, Any] | None = None,
    **fails: Any,
) -> tuple[dict[str, Any], ScriptedImager]:  # fmt: skip
    pipeline, _ = make_run(workdir, SCRIPT, names=names, assignments={**FEW, **(assignments or {})})
    imager = Diverges(SCRIPT, **fails)
    pipeline.context.tools.imager = imager
    return pipeline.run(), imager


def test_the_run_goes_on_from_the_dirty_image(tmp_path: Path) -> None:
    results, imager = run(tmp_path, fails=("test_image",))
    test = results["test_image"]
    assert test.status == "done"
    assert test.metrics["warning"].startswith("WSClean's model image is not finite; the dirty")
    assert "WARNING" in test.reason and "\n" not in test.reason
    assert [options.niter for options in imager.asked if options.basename == "test_image"] == [0]
    assert test.images[0]["fault"] == test.metrics["warning"]
    assert results["initial_model"].metrics["accepted"]
    p0 = results["p0"]
    assert p0.status == "done", "judged against the dirty image"
    assert "warning" not in p0.metrics and p0.images[-1]["fault"] == ""


def test_a_round_whose_clean_fails_is_judged_by_its_dirty_image(tmp_path: Path) -> None:
    results, imager = run(tmp_path, fails=("selfcal_p0",))
    assert [o.niter for o in imager.asked if o.basename == "selfcal_p0"] == [0]
    assert "takes its place" in results["p0"].images[-1]["fault"]


def test_data_without_any_image_still_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="model image is not finite"):
        run(tmp_path, fails=("test_image",), dirty_too=True)


def test_clean_is_kept_within_the_radius(tmp_path: Path) -> None:
    radius = {"test_image.clean_radius": "10arcsec"}
    results, imager = run(tmp_path, assignments=radius)
    for options in imager.asked:
        assert options.mask is not None
        window, _ = open_image(options.mask)
        # pixels of 0.5 arcsec: the disc has a radius of 20
        assert window.sum() == pytest.approx(np.pi * 20**2, rel=0.02)
        assert window[128, 128] and window[128, 148] and not window[128, 149]
    assert results["p0"].metrics["judged_with"]["clean_radius"] == 10.0
    _, plain = run(tmp_path / "plain")
    assert {options.mask for options in plain.asked} == {None}


def test_models_are_checked_against_closure_quantities(tmp_path: Path) -> None:
    floors = {"closure_check.phase_floor": 0.0, "closure_check.amplitude_floor": 0.0}
    results, _ = run(tmp_path, assignments=floors)
    check = results["closure_check"]
    assert check.status == "done"
    # the closure model and MODEL_DATA, as the scripted imager leaves it, are the 1 Jy point
    for name in ("initial_model", "final_image"):
        assert check.metrics[f"{name}_phase_chi2"] == pytest.approx(1, abs=0.2)
        assert check.metrics[f"{name}_amplitude_chi2"] == pytest.approx(1, abs=0.25)
    assert check.metrics["closure_phases"] == 4 * 15 * 2
    assert "floors 0 deg and 0" in check.reason
    assert check.tables == results["p0"].tables


def test_without_a_model_there_is_nothing_to_check(tmp_path: Path) -> None:
    names = ("startup", "test_image", "closure_check")
    script = {"test_image": Looks(peak_jy=0.0, noise_jy=0.1)}
    pipeline, _ = make_run(tmp_path, script, names=names)
    check = pipeline.run()["closure_check"]
    assert check.status == "skipped" and "no model to check" in check.reason


def test_the_check_needs_an_image() -> None:
    with pytest.raises(ConfigError, match="closure_check needs test_image"):
        build_steps(["startup", "closure_check"])
