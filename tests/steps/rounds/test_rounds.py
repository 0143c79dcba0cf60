"""Rounds as decisions: what is accepted, taken back, skipped, and what builds on what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from libs.gains.caltable import read_solutions
from libs.gains.native import NativeSolver
from libs.h5parm.check import check
from libs.ms import tables
from selfcal.context import Context
from selfcal.pipeline import StepFailed
from selfcal.step import StepResult
from steps.rounds.record import Refusal
from steps.rounds.solving import renew_tables
from tests.steps import fake_tools
from tests.steps.fake_tools import LIST, Looks, make_run

# each round's image a little better than the last
IMPROVING = {
    "test_image": Looks(1.0, 0.02),
    "selfcal_p0": Looks(1.0, 0.01),
    "selfcal_p1": Looks(1.0, 0.008),
    "selfcal_p2": Looks(1.0, 0.006),
    "selfcal_ap1": Looks(1.0, 0.004),
}


class NamedCasa(NativeSolver):
    """Solves natively under the name of gaincal's adapter."""

    name = "casa"


def rounds_of(result: StepResult) -> list[str]:
    return [table.round for table in result.tables]


def corrected_phase_rms_deg(workdir: Path) -> float:
    with tables.open_table(workdir / "data" / "point.ms") as opened:
        data, flag = opened.getcol("CORRECTED_DATA"), opened.getcol("FLAG")
    return float(np.degrees(np.angle(data[~flag]).std()))


def test_improving_rounds_are_accepted_and_build_on_each_other(tmp_path: Path) -> None:
    pipeline, imager = make_run(tmp_path, IMPROVING)
    results = pipeline.run()
    assert {name: results[name].status for name in LIST} == dict.fromkeys(LIST, "done")
    assert rounds_of(results["p0"]) == ["p0"]
    assert rounds_of(results["p1"]) == ["p1"], "p0's table is dropped"
    assert rounds_of(results["p2"]) == ["p1", "p2"]
    assert rounds_of(results["ap1"]) == ["p1", "p2", "ap1"]
    assert not check(tmp_path / "solutions.h5")
    assert corrected_phase_rms_deg(tmp_path) < 6
    names = [options.basename for options in imager.asked]
    assert names.index("selfcal_p0") < names.index("selfcal_p1")


def test_what_does_not_help_is_taken_back(tmp_path: Path) -> None:
    script = {**IMPROVING, "selfcal_p1": Looks(1.0, 0.05)}
    pipeline, _ = make_run(tmp_path, script)
    results = pipeline.run()
    assert results["p1"].status == "rejected"
    assert "SNR fell" in results["p1"].reason
    assert rounds_of(results["p1"]) == ["p0"], "the best state is restored"
    assert rounds_of(results["p2"]) == ["p0", "p2"]
    assert rounds_of(results["ap1"]) == ["p0", "p2", "ap1"]


def test_a_round_goes_on_while_its_cycles_gain(tmp_path: Path) -> None:
    """A poor start needs ten cycles and more; one that gains nothing ends the round."""
    rising = {f"selfcal_p1_{cycle}": Looks(1.0, 0.008 / 1.3**cycle) for cycle in range(2, 10)}
    later = {"selfcal_p2": Looks(1.0, 0.0004), "selfcal_ap1": Looks(1.0, 0.0003)}
    script = {**IMPROVING, **later, **rising, "selfcal_p1_10": Looks(1.0, 0.008 / 1.3**9)}
    pipeline, imager = make_run(tmp_path, script, names=LIST[:5])
    results = pipeline.run()
    assert results["p1"].status == "done"
    assert results["p1"].reason.startswith("9 cycles were accepted")
    assert results["p1"].metrics["cycles_tried"] == 10
    assert not any(options.basename == "selfcal_p1_11" for options in imager.asked)


def test_when_nothing_helps_the_initial_data_stay(tmp_path: Path) -> None:
    worse = {key: Looks(1.0, 0.1) for key in IMPROVING if key != "test_image"}
    pipeline, _ = make_run(tmp_path, {**worse, "test_image": Looks(1.0, 0.02)})
    results = pipeline.run()
    assert {results[name].status for name in LIST[3:]} == {"rejected"}
    assert results["ap1"].tables == ()
    with tables.open_table(tmp_path / "data" / "point.ms") as opened:
        assert not opened.getcol("FLAG").any()


def test_flags_start_from_the_same_version_in_every_round(tmp_path: Path) -> None:
    pipeline, _ = make_run(tmp_path, IMPROVING)
    results = pipeline.run()
    before = [results[name].metrics["flagged_before"] for name in ("p0", "p1", "p2", "ap1")]
    assert before == [before[0]] * 4


def test_a_round_that_flags_too_much_is_rejected(tmp_path: Path) -> None:
    # nothing has an SNR of a million: every solution is flagged, or there is none
    change = {"p1.minsnr": 1e6, "p1.max_new_flags": 0.01}
    pipeline, imager = make_run(tmp_path, IMPROVING, assignments=change)
    results = pipeline.run()
    assert results["p1"].status == "rejected"
    assert rounds_of(results["p1"]) == ["p0"]
    assert not any(options.basename == "selfcal_p1" for options in imager.asked)
    with tables.open_table(tmp_path / "data" / "point.ms") as opened:
        assert not opened.getcol("FLAG").any()


def test_a_round_that_made_things_worse_tries_the_next_model(tmp_path: Path) -> None:
    script = {
        **IMPROVING,
        "selfcal_p0": Looks(1.0, 0.005, hidden_jy=0.01),
        "selfcal_p1": Looks(1.0, 0.02),
        "selfcal_p1_model_2": Looks(1.0, 0.004),
    }
    adaptive = {"rounds": "adaptive"}
    once = {"p1.max_cycles": 1}
    pipeline, imager = make_run(tmp_path, script, names=LIST[:5], config=adaptive, assignments=once)
    result = pipeline.run()["p1"]
    assert result.status == "done", result.reason
    assert "it was solved against all of CLEAN's model, since otherwise SNR fell" in result.reason
    made = [options.basename for options in imager.asked]
    assert made[-2:] == ["selfcal_p1", "selfcal_p1_model_2"]
    assert [row["name"] for row in result.images] == made[-2:], "both are on record"


def test_a_mask_of_the_user_leaves_one_model(tmp_path: Path) -> None:
    script = {**IMPROVING, "selfcal_p0": Looks(1.0, 0.005, hidden_jy=0.01),
              "selfcal_p1": Looks(1.0, 0.02)}  # fmt: skip
    pipeline, imager = make_run(tmp_path, script, names=LIST[:5], config={"rounds": "adaptive"},
                                assignments={"p1.sigma_mask": 8.0})  # fmt: skip
    assert pipeline.run()["p1"].status == "rejected"
    assert not any("model_2" in options.basename for options in imager.asked)


def test_an_empty_image_has_nothing_to_calibrate_on(tmp_path: Path) -> None:
    pipeline, _ = make_run(tmp_path, {"": Looks(0.02, 0.01)})
    results = pipeline.run()
    assert {results[name].status for name in LIST[3:]} == {"skipped"}
    assert results["ap1"].tables == ()


def test_the_template_is_chosen_on_the_first_image_and_again_after_p0(tmp_path: Path) -> None:
    script = {**IMPROVING, "test_image": Looks(1.0, 0.06)}
    pipeline, _ = make_run(tmp_path, script)
    results = pipeline.run()
    assert results["test_image"].template == "faint", results["test_image"].reason
    assert results["p0"].template == "bright"
    assert results["p2"].status == "done"


def test_a_template_without_the_round_skips_it(tmp_path: Path) -> None:
    pipeline, _ = make_run(tmp_path, IMPROVING, config={"template": "very_faint"})
    results = pipeline.run()
    assert results["p1"].status == results["p2"].status == "skipped"
    assert results["p2"].reason == "template very_faint has no p2"
    assert rounds_of(results["ap1"]) == ["p0", "ap1"]


def test_amplitudes_hold_the_flux_scale(tmp_path: Path) -> None:
    pipeline, _ = make_run(tmp_path, IMPROVING)
    pipeline.run()
    with tables.open_table(tmp_path / "data" / "point.ms") as opened:
        data, flag = opened.getcol("CORRECTED_DATA"), opened.getcol("FLAG")
    assert abs(data[~flag].mean()) == pytest.approx(1.0, abs=0.01)


def test_a_change_of_flux_is_said_loudly(tmp_path: Path) -> None:
    script = {**IMPROVING, "selfcal_ap1": Looks(1.0, 0.004, flux_scale=1.08)}
    pipeline, _ = make_run(tmp_path, script, assignments={"ap1.max_cycles": 1})
    results = pipeline.run()
    assert "WARNING: the amplitude round changed the total flux by +9" in results["ap1"].reason


def test_a_round_run_again_gives_the_same(tmp_path: Path) -> None:
    first, _ = make_run(tmp_path, IMPROVING)
    before = first.run()
    again, imager = make_run(tmp_path, IMPROVING)
    assert again.run(start="p1")["ap1"].metrics["snr"] == before["ap1"].metrics["snr"]
    assert "selfcal_p0" not in [options.basename for options in imager.asked]
    reused, idle = make_run(tmp_path, IMPROVING)
    reused.run()
    assert not idle.asked and not idle.predicted


def test_an_antenna_that_is_not_there_is_named(tmp_path: Path) -> None:
    pipeline, _ = make_run(tmp_path, IMPROVING, config={"refant": "A11"})
    with pytest.raises(Exception, match="unknown antenna in refant 'A11'"):
        pipeline.run()


def test_tables_beneath_are_solved_anew_against_a_newer_model(tmp_path: Path) -> None:
    pipeline, _ = make_run(tmp_path, IMPROVING, names=LIST[:4])
    results = pipeline.run()
    context, prior = pipeline.context, results["p0"].tables
    with tables.open_table(tmp_path / "data" / "point.ms", write=True) as opened:
        opened.putcol("MODEL_DATA", opened.getcol("DATA"))
    own = results["p0"].metrics["model_from"]
    assert renew_tables(context, prior, "ap1", "_2", own) == prior, "nothing new in its own model"
    (renewed,) = renew_tables(context, prior, "ap1", "_2", "a better image")
    assert renewed == replace(prior[0], path="tables/ap1_2.p0.point.gcal")
    ms = tmp_path / "data" / "point.ms"
    before = read_solutions(tmp_path / prior[0].path, ms)
    after = read_solutions(tmp_path / renewed.path, ms)
    assert np.abs(np.angle(before.gain)).max() > 1, "what it took out of the data"
    assert np.abs(np.angle(after.gain)).max() < 1e-3, "the data are the model"
    np.testing.assert_allclose(after.time_s, before.time_s, rtol=0, atol=1)


def test_outliers_are_weighed_down_if_asked(tmp_path: Path) -> None:
    found = {}
    for wanted in (False, True):
        pipeline, _ = make_run(
            tmp_path / str(wanted), IMPROVING, names=LIST[:3], assignments={"p0.outliers": wanted}
        )
        pipeline.run()
        ms = tmp_path / str(wanted) / "data" / "point.ms"
        with tables.open_table(ms, write=True) as opened:
            data = opened.getcol("DATA")
            # one baseline is wild
            wild = (opened.getcol("ANTENNA1") == 0) & (opened.getcol("ANTENNA2") == 1)
            data[wild] *= np.complex64(20j)
            opened.putcol("DATA", data)
        again, _ = make_run(
            tmp_path / str(wanted), IMPROVING, names=LIST[:4], assignments={"p0.outliers": wanted}
        )
        results = again.run()
        assert results["p0"].metrics["solve_options"]["point.ms"]["outlier_weights"] is wanted
        gain = read_solutions(tmp_path / str(wanted) / results["p0"].tables[0].path, ms).gain
        truth = np.exp(1j * np.linspace(0, 2, 7))
        error = gain[0, 0, :, 0] / truth
        found[wanted] = np.degrees(np.abs(np.angle(error[0] / error[1:].mean())))
    assert found[True] < 0.2 * found[False], found


def test_the_casa_solver_has_no_weights_against_outliers(tmp_path: Path) -> None:
    pipeline, _ = make_run(tmp_path, IMPROVING, names=LIST[:4], assignments={"p0.outliers": True})
    pipeline.context.tools.solver = NamedCasa()
    with pytest.raises(StepFailed, match="no weights against outliers"):
        pipeline.run()


LADDER = ("startup", "test_image", "select_refant", "l1", "l2", "l3")


def ladder_run(
    workdir: Path,
    script: dict[str, Looks],
    monkeypatch: pytest.MonkeyPatch,
    change: Mapping[str, str] | None = None,
    **told: object,
) -> dict[str, StepResult]:
    """A run of the ladder in which closure statistics and model are told, not measured."""

    class Told(fake_tools.MadeUp):
        def run(self, context: Context) -> StepResult:
            result = super().run(context)
            return replace(result, metrics={**result.metrics, **told})

    monkeypatch.setattr(fake_tools, "MadeUp", Told)
    # the made-up array is a few km wide
    lengths = {"ladder_bottom": "100m", "ladder_top": "800m"}
    short = {f"{rung}.{name}": value for rung in LADDER[3:] for name, value in lengths.items()}
    pipeline, _ = make_run(
        workdir,
        script,
        names=LADDER,
        config={"template": "ladder"},
        assignments=short | dict(change or {}),
    )
    return dict(pipeline.run())


CLIMBING = {
    "test_image": Looks(1.0, 0.02),
    "selfcal_l1": Looks(1.0, 0.01),
    "selfcal_l2": Looks(1.0, 0.008),
    "selfcal_l3": Looks(1.0, 0.006),
}


def test_the_ladder_climbs_while_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = ladder_run(tmp_path, CLIMBING, monkeypatch, max_coherent_km=0.1)
    assert [results[name].status for name in LADDER[3:]] == ["done"] * 3
    limits = [results[name].metrics["judged_with"]["uvmax"] for name in LADDER[3:]]
    assert limits == pytest.approx([100, 100 * 8**0.25, 100 * 8**0.5])


def test_the_ladder_ends_at_the_first_rung_that_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = {**CLIMBING, "selfcal_l2": Looks(0.5, 0.01)}
    results = ladder_run(tmp_path, script, monkeypatch, max_coherent_km=0.1)
    assert [results[name].status for name in LADDER[3:]] == ["done", "rejected", "skipped"]
    assert results["l3"].reason == "the ladder ended at l2"
    assert rounds_of(results["l3"]) == ["l1"]


def test_a_rung_refused_on_the_same_baselines_does_not_end_the_ladder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On short baselines phases may have been good before; that says nothing against longer ones.

    The test image is limited as the first rung is, so that the two compare.
    """
    script = {**CLIMBING, "selfcal_l1": Looks(1.0, 0.1)}
    results = ladder_run(
        tmp_path, script, monkeypatch, change={"test_image.uvmax": "100m"}, max_coherent_km=0.1
    )
    assert [results[name].status for name in LADDER[3:]] == ["rejected", "done", "done"]
    assert results["l1"].metrics["refusal"] == Refusal.NOT_BETTER


def test_a_rung_that_only_repeats_a_refused_one_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the top all rungs have the same baselines: a refused one is not made again and again."""
    script = {**CLIMBING, "selfcal_l1": Looks(1.0, 0.1)}
    results = ladder_run(
        tmp_path, script, monkeypatch, change={"test_image.uvmax": "2000m"}, max_coherent_km=2.0
    )
    assert [results[name].status for name in LADDER[3:]] == ["rejected", "skipped", "skipped"]
    assert results["l3"].reason == "it has the same baselines as l1, which did not help"


def test_a_rung_skipped_as_a_repetition_does_not_end_the_ladder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """l2 is set to the first rung's limit; l3 goes on from l1."""
    told = {"max_coherent_km": 0.1, "closure_model_complete": True}
    change = {"l2.ladder_top": "100m"}
    results = ladder_run(tmp_path, CLIMBING, monkeypatch, change=change, **told)
    assert [results[name].status for name in LADDER[3:]] == ["done", "skipped", "done"]
    assert results["l2"].reason.startswith("l1 had every baseline")


def test_a_ladder_that_begins_at_its_top_has_one_rung(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"max_coherent_km": 2.0, "closure_model_complete": True}
    results = ladder_run(tmp_path, CLIMBING, monkeypatch, **told)
    assert [results[name].status for name in LADDER[3:]] == ["done", "skipped", "skipped"]
    assert "every baseline" in results["l2"].reason
    told["closure_model_complete"] = False
    again = ladder_run(tmp_path / "again", CLIMBING, monkeypatch, **told)
    assert [again[name].status for name in LADDER[3:]] == ["done"] * 3


def test_a_complete_closure_model_holds_up_the_whole_ladder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of shorter baselines, in which a faint source seems to be elsewhere, do not count."""
    point = {"flux_jy": 1.0, "l_rad": 0.0, "m_rad": 0.0, "major_rad": 0.0, "minor_rad": 0.0,
             "pa_rad": 0.0}  # fmt: skip
    for complete in (True, False):
        folder = tmp_path / str(complete)
        folder.mkdir()
        model = {"centre_rad": [0.0, 0.0], "components": [point]}
        (folder / "model.json").write_text(json.dumps(model))
        told = {"max_coherent_km": 0.1, "closure_model": "model.json",
                "closure_model_complete": complete}  # fmt: skip
        results = ladder_run(folder, CLIMBING, monkeypatch, **told)
        assert [results[name].status for name in LADDER[3:]] == ["done"] * 3
        models = [results[name].metrics["model_from"] for name in LADDER[3:]]
        assert models[0] == "initial_model"
        assert (models[1:] == ["initial_model"] * 2) is complete


def test_a_refused_later_cycle_is_on_record_and_does_not_count(tmp_path: Path) -> None:
    script = {**IMPROVING, "selfcal_p1_2": Looks(1.0, 0.1)}
    change = {"p1.max_cycles": 3, "p1.min_cycle_gain": 0.0}
    pipeline, imager = make_run(tmp_path, script, names=LIST[:5], assignments=change)
    result = pipeline.run()["p1"]
    assert "selfcal_p1_2" in [options.basename for options in imager.asked]
    assert result.status == "done"
    assert (result.metrics["cycles"], result.metrics["cycles_tried"]) == (1, 2)
    assert result.metrics["last_cycle_refused"].startswith("SNR fell")
    assert "; cycle 2 was not accepted: SNR fell" in result.reason
    assert [row["name"] for row in result.images][-1] == "selfcal_p1_2"


def test_cycles_that_all_helped_count_and_nothing_was_refused(tmp_path: Path) -> None:
    script = {**IMPROVING, "selfcal_p1_2": Looks(1.0, 0.007)}
    change = {"p1.max_cycles": 2, "p1.min_cycle_gain": 0.0}
    pipeline, _ = make_run(tmp_path, script, names=LIST[:5], assignments=change)
    result = pipeline.run()["p1"]
    assert (result.metrics["cycles"], result.metrics["cycles_tried"]) == (2, 2)
    assert "last_cycle_refused" not in result.metrics
    assert result.reason.startswith("2 cycles were accepted, in which the SNR went from")


def test_a_round_taken_back_warns_of_nothing(tmp_path: Path) -> None:
    script = {**IMPROVING, "selfcal_ap1": Looks(1.0, 0.1, flux_scale=1.5)}
    pipeline, _ = make_run(tmp_path, script)
    result = pipeline.run()["ap1"]
    assert result.status == "rejected"
    assert "warning" not in result.metrics and "WARNING" not in result.reason
