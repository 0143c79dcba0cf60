"""Extended components of CLEAN are tried on calibrated data, and kept where they help."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selfcal.step import Skip
from steps.rounds.rounds import GainRound
from tests.steps.fake_tools import LIST, Looks, make_run

RESOLVED = {
    "test_image": Looks(1.0, 0.02, halo_jy_beam=0.5),
    "selfcal_p0": Looks(1.0, 0.01, halo_jy_beam=0.5),
    "scales_p1": Looks(1.0, 0.006, halo_jy_beam=0.5),
    "selfcal_p1": Looks(1.0, 0.005, halo_jy_beam=0.5),
}
ADAPTIVE = {"rounds": "adaptive"}


def test_the_rounds_go_on_with_scales_that_lower_the_noise(tmp_path: Path) -> None:
    pipeline, imager = make_run(tmp_path, RESOLVED, names=LIST[:5], config=ADAPTIVE)
    results = pipeline.run()
    assert results["p1"].status == "done", results["p1"].reason
    assert "with extended components in CLEAN's model" in results["p1"].reason
    scales = {options.basename: options.multiscale for options in imager.asked}
    assert scales["selfcal_p0"] is False
    assert scales["scales_p1"] is scales["selfcal_p1"] is True
    assert results["p1"].metrics["judged_with"]["with_multiscale"] is True
    names = [row["name"] for row in results["p1"].images]
    assert names[:2] == ["scales_p1", "selfcal_p1"]


def test_scales_show_the_last_cycle_where_the_next_is_refused(tmp_path: Path) -> None:
    script = {
        **RESOLVED,
        "scales_p1": Looks(1.0, 0.02, halo_jy_beam=0.5),
        "scales_p1_2": Looks(1.0, 0.003, halo_jy_beam=0.5),
        "selfcal_p1_2": Looks(1.0, 0.004, halo_jy_beam=0.5),
    }
    pipeline, _ = make_run(tmp_path, script, names=LIST[:5], config=ADAPTIVE,
                           assignments={"p1.max_cycles": "3"})  # fmt: skip
    result = pipeline.run()["p1"]
    assert result.status == "done", result.reason
    assert result.metrics["cycles"] == 1
    assert result.products["image"].endswith("scales_p1_2-image.fits")
    assert result.metrics["judged_with"]["with_multiscale"] is True
    assert result.metrics["rms_jy_beam"] == pytest.approx(0.003, rel=0.05)


@pytest.mark.parametrize("noise_jy", [0.012, None])
def test_scales_stay_where_no_other_gains_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise_jy: float | None
) -> None:
    """Refused by its image, or none that held-out data trust: the round brings the image alone."""
    script = RESOLVED if noise_jy is None else {**RESOLVED, "selfcal_p1": Looks(1.0, noise_jy)}
    pipeline, imager = make_run(tmp_path, script, names=LIST[:6], config=ADAPTIVE)
    if noise_jy is None:
        solve = GainRound._cycle

        def nothing(self: GainRound, *args: Any) -> Any:
            if self.name == "p0":
                return solve(self, *args)
            raise Skip("nothing was solved for")

        monkeypatch.setattr(GainRound, "_cycle", nothing)
    results = pipeline.run()
    result = results["p1"]
    assert result.status == "done"
    assert [ref.round for ref in result.tables] == ["p0"]
    assert result.products["image"].endswith("scales_p1-image.fits")
    assert result.metrics["rms_jy_beam"] == pytest.approx(0.006, rel=0.05)
    assert result.metrics["judged_with"]["with_multiscale"] is True
    assert result.reason.startswith("with extended components in CLEAN's model the same data")
    assert result.reason.count("extended components") == 1
    assert "no other gains were taken" in result.reason
    tried = [options.basename for options in imager.asked]
    assert not any(name.startswith("scales_p2") for name in tried), "once is enough"


def test_scales_that_do_not_help_are_left(tmp_path: Path) -> None:
    script = {**RESOLVED, "scales_p1": Looks(1.0, 0.011, halo_jy_beam=0.5)}
    pipeline, imager = make_run(tmp_path, script, names=LIST[:5], config=ADAPTIVE)
    results = pipeline.run()
    assert results["p1"].status == "done", results["p1"].reason
    assert "extended components" not in results["p1"].reason
    assert not any(o.multiscale for o in imager.asked if o.basename == "selfcal_p1")


@pytest.mark.parametrize("case", ["a point", "the user's word"])
def test_nothing_is_tried_of_a_point_or_where_the_user_has_decided(
    tmp_path: Path, case: str
) -> None:
    script, assignments = RESOLVED, {}
    if case == "a point":
        script = {name: replace(looks, halo_jy_beam=0.0) for name, looks in RESOLVED.items()}
    else:
        assignments = {"p1.with_multiscale": "false"}
    pipeline, imager = make_run(
        tmp_path, script, names=LIST[:5], config=ADAPTIVE, assignments=assignments
    )
    pipeline.run()
    assert not any(options.basename.startswith("scales") for options in imager.asked)
