"""Templates: valid for every step, chosen by flux and SNR, extended without Python."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.core.errors import ConfigError
from selfcal.settings import Settings, parse_assignments
from selfcal.template_check import check_settings
from selfcal.template_choice import choose_template
from selfcal.template_files import TEMPLATE_DIR, template_names
from selfcal.templates import load_template, resolve_options
from steps import STEPS, build_steps
from steps.imaging import MEASURES
from steps.instruments import identify
from steps.run_options import run_settings

SEED_TEMPLATES = {"very_faint", "faint", "standard_1", "standard_2", "bright"}
INSTRUMENTS = ("vla", "emerlin", "other")
BANDS = ("", "L", "X", "Ku", "Ka")


def settings_of(config: dict[str, Any] | None = None) -> Settings:
    return run_settings(config or {}, None, {})


def measured(flux_jy: float, snr: float) -> dict[str, float | str]:
    return {"total_flux_jy": flux_jy, "snr": snr, "instrument": "vla", "band": "L"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the templates that a test may change."""
    target = tmp_path / "templates"
    shutil.copytree(TEMPLATE_DIR, target)
    return target


# -- what ships ---------------------------------------------------------------------------------


def test_templates_of_the_scheme_are_there() -> None:
    assert set(template_names()) >= SEED_TEMPLATES


@pytest.mark.parametrize("name", sorted(SEED_TEMPLATES))
def test_every_template_is_valid_for_every_step(name: str) -> None:
    for step in build_steps(list(STEPS)):
        for instrument in INSTRUMENTS:
            for band in BANDS:
                resolve_options(step, settings_of(), name, instrument, band)


@pytest.mark.parametrize("name", sorted(SEED_TEMPLATES))
def test_sections_of_templates_are_steps(name: str) -> None:
    for instrument in INSTRUMENTS:
        for band in BANDS:
            assert set(load_template(name, instrument, band)) <= set(STEPS)


def test_shipped_templates_pass_the_check_before_a_run() -> None:
    check_settings(settings_of(), build_steps(list(STEPS)), measures=MEASURES)


def test_rounds_missing_from_a_template_are_absent_not_default() -> None:
    (step,) = (s for s in build_steps(list(STEPS)) if s.name == "p2")
    assert resolve_options(step, settings_of(), "very_faint", "vla", "L").absent
    assert not resolve_options(step, settings_of(), "bright", "vla", "L").absent


def test_brighter_templates_solve_on_shorter_intervals() -> None:
    (step,) = (s for s in build_steps(list(STEPS)) if s.name == "p0")
    order = ("very_faint", "faint", "standard_1", "standard_2", "bright")
    solint = [resolve_options(step, settings_of(), t, "vla", "L")["solint"] for t in order]
    seconds = [float("inf") if s == "inf" else s for s in solint]
    assert seconds == sorted(seconds, reverse=True)


# -- selection ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flux_jy", "snr", "template"),
    [
        (0.004999, 1e4, "very_faint"), (0.005, 1e4, "faint"),
        (0.019999, 1e4, "faint"), (0.020, 1e4, "standard_1"),
        (0.049999, 1e4, "standard_1"), (0.050, 1e4, "standard_2"),
        (0.099999, 1e4, "standard_2"), (0.100, 1e4, "bright"), (1000.0, 1e4, "bright"),
        # a strong source in a bad image
        (27.0, 9.99, "very_faint"), (27.0, 10.0, "faint"), (27.0, 40.0, "standard_2"),
        (0.0, 0.0, "very_faint"),
    ],
)  # fmt: skip
def test_boundaries_of_flux_and_snr(flux_jy: float, snr: float, template: str) -> None:
    choice = choose_template(measured(flux_jy, snr))
    assert choice.template == template
    assert f"snr {snr:.4g}" in choice.reason and "rule" in choice.reason


ORDER = ("very_faint", "faint", "standard_1", "standard_2", "bright")


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 1e5), st.floats(0, 1e5))
def test_more_flux_and_more_snr_never_choose_a_fainter_template(
    flux: float, more: float, snr: float, higher: float
) -> None:
    first = choose_template(measured(flux, snr)).template
    second = choose_template(measured(flux + more, snr + higher)).template
    assert ORDER.index(second) >= ORDER.index(first)


def test_a_template_named_in_the_config_is_taken() -> None:
    assert choose_template(measured(27.0, 1e4), wanted="faint").template == "faint"
    with pytest.raises(ConfigError, match="did you mean 'bright'"):
        choose_template(measured(27.0, 1e4), wanted="brigth")


# -- differences --------------------------------------------------------------------------------


def test_differences_by_instrument_and_band(folder: Path) -> None:
    (folder / "mine.yaml").write_text(
        "steps: {p0: {solint: 60s, robust: 0}, p1: {solint: 30s}}\n"
        "differences:\n"
        "  - when: {instrument: emerlin}\n    steps: {p0: {solint: 90s}}\n"
        "  - when: {band: [K, Ka]}\n    steps: {p0: {robust: 1}, p2: {solint: 10s}}\n"
        "  - when: {instrument: emerlin, band: K}\n    steps: {p0: {solint: 95s}}\n"
    )

    def p0(instrument: str, band: str) -> dict[str, Any]:
        return load_template("mine", instrument, band, folder)["p0"]

    assert p0("vla", "L") == {"solint": "60s", "robust": "0"}
    assert p0("emerlin", "L") == {"solint": "90s", "robust": "0"}
    assert p0("vla", "Ka") == {"solint": "60s", "robust": "1"}
    assert p0("emerlin", "K") == {"solint": "95s", "robust": "1"}
    assert "p2" in load_template("mine", "vla", "K", folder)
    assert "p2" not in load_template("mine", "vla", "L", folder)


def test_emerlin_solves_bright_sources_on_longer_intervals_than_the_vla() -> None:
    (step,) = (s for s in build_steps(list(STEPS)) if s.name == "p0")
    vla = resolve_options(step, settings_of(), "bright", "vla", "L")
    emerlin = resolve_options(step, settings_of(), "bright", "emerlin", "L")
    assert emerlin["solint"] > vla["solint"]
    assert str(emerlin.origin["solint"]) == "templates/bright.yaml"


def test_layers_from_default_to_set() -> None:
    (step,) = (s for s in build_steps(list(STEPS)) if s.name == "p1")
    config = {"global_parameters": {"niter": 7}, "overrides": {"p1": {"minsnr": 9}}}
    settings = run_settings(config, None, {"p1.robust": 2})
    found = resolve_options(step, settings, "bright", "vla", "L")
    assert (found["niter"], found["minsnr"], found["robust"]) == (7, 9.0, 2.0)
    assert str(found.origin["niter"]) == "global_parameters"
    assert str(found.origin["minsnr"]) == "config: overrides"
    assert str(found.origin["robust"]) == "--set"
    assert str(found.origin["solint"]) == "templates/bright.yaml"
    assert str(found.origin["uvmin"]) == "default"
    by_user = {name for name, origin in found.origin.items() if origin.by_user}
    assert by_user == {"niter", "minsnr", "robust"}


def test_a_config_whose_name_begins_like_a_template_is_the_users_all_the_same() -> None:
    (step,) = (s for s in build_steps(list(STEPS)) if s.name == "p1")
    for name in ("default.py", "defaults_2.yaml"):
        settings = run_settings({"overrides": {"p1": {"minsnr": 9}}}, Path(name))
        assert resolve_options(step, settings, "", "", "").origin["minsnr"].by_user, name


# -- new templates without Python ---------------------------------------------------------------


def test_a_new_template_needs_a_file_and_a_rule_only(folder: Path) -> None:
    (folder / "blazar.yaml").write_text("steps: {p0: {solint: 12s}, ap1: {solint: 36s}}\n")
    rules = folder / "selection.yaml"
    text = rules.read_text()
    rule = "  - {template: blazar, when: {total_flux_jy: {at_least: 1Jy}, snr: {at_least: 500}}}\n"
    rules.write_text(text.replace("rules:\n", "rules:\n" + rule))
    assert "blazar" in template_names(folder)
    assert choose_template(measured(1.0, 500.0), folder).template == "blazar"
    assert choose_template(measured(1.0, 499.0), folder).template == "bright"
    assert choose_template(measured(0.01, 500.0), folder).template == "faint"
    for step in build_steps(list(STEPS)):
        resolved = resolve_options(step, settings_of(), "blazar", "vla", "L", folder)
        if step.name == "p0":
            assert resolved["solint"] == 12.0
        if step.name == "p1":
            assert resolved.absent


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("steps: {p0: {solnt: 12s}}", "unknown parameter of p0 in templates/bad.yaml 'solnt'"),
        ("steps: {p0: {solint: 12}}", "p0.solint = '12' is not a time with its unit"),
        ("steps: {p0: {solint: 12s}}\ndifferences: [{when: {band: X}, steps: {p0: {minsnr: x}}}]",
         "p0.minsnr = 'x' is not a number"),
        ("- a", "bad.yaml is not a mapping"),
        ("steps: [", "bad.yaml is not valid YAML"),
    ],
)  # fmt: skip
def test_a_broken_template_is_found_before_a_run(folder: Path, text: str, says: str) -> None:
    (folder / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        check_settings(settings_of(), build_steps(list(STEPS)), measures=MEASURES, folder=folder)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("step: {p0: {solint: 12s}}", "key in templates/bad.yaml: 'step' (did you mean 'steps'"),
        ("differences: []", "templates/bad.yaml has no steps"),
        ("steps: {p11: {solint: 12s}}", "step in templates/bad.yaml: 'p11' (did you mean 'p1'"),
        ("steps: {test_image: {robust: 1}}", "unknown step in templates/bad.yaml: 'test_image'"),
        ("steps: [p0]", "templates/bad.yaml: steps is not a mapping"),
        ("steps: {p0: 12s}", "templates/bad.yaml: p0 is not a mapping"),
        ("steps: {p0: {solint: 12m}}", "templates/bad.yaml: p0.solint = '12m' is not a time"),
        ("steps: {p0: {solint: 1s}, p0: {solint: 2s}}", "'p0' is there twice"),
        ("steps: {}\ndifferences: {when: {}}", "is not a list"),
        ("steps: {}\ndifferences: [{wen: {band: K}, steps: {}}]",
         "key in templates/bad.yaml, difference 1: 'wen' (did you mean 'when'"),
        ("steps: {}\ndifferences: [{when: {band: K}, step: {}}]", "'step' (did you mean 'steps'"),
        ("steps: {}\ndifferences: [{steps: {}}]", "bad.yaml, difference 1 has no when"),
        ("steps: {}\ndifferences: [{when: {band: K}, steps: {}}, {when: {bnad: K}, steps: {}}]",
         "condition in templates/bad.yaml, difference 2: 'bnad' (did you mean 'band'"),
        ("steps: {}\ndifferences: [{when: {instrument: emerln}, steps: {}}]",
         "instrument = 'emerln' is not one of"),
        ("steps: {}\ndifferences: [{when: {band: [K, KA]}, steps: {}}]",
         "band = 'KA' is not one of"),
        ("steps: {}\ndifferences: [{when: {band: K}, steps: {p0: {solnt: 1s}}}]",
         "parameter of p0 in templates/bad.yaml, difference 1 'solnt' (did you mean 'solint'"),
    ],
)  # fmt: skip
def test_a_template_is_checked_as_strictly_as_a_config(folder: Path, text: str, says: str) -> None:
    (folder / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        check_settings(settings_of(), build_steps(list(STEPS)), measures=MEASURES, folder=folder)
    assert says in str(caught.value) and caught.value.remedy


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rule: []", "key in templates/selection.yaml: 'rule' (did you mean 'rules'"),
        ("rules: {}", "is not a list"),
        ("rules: [bright]", "templates/selection.yaml, rule 1 is not a mapping"),
        ("rules: [{when: {snr: {below: 3}}}]", "rule 1 has no template"),
        ("rules: [{template: briht}]", "rule 1: 'briht' (did you mean 'bright'"),
        ("rules: [{template: bright}, {template: faint, wen: {}}]", "rule 2: 'wen'"),
        ("rules: [{template: bright, when: {snrr: {below: 3}}}]", "rule 1: 'snrr' (did you mean"),
        ("rules: [{template: bright, when: {max_coherent: {below: 3}}}]", "'max_coherent_km'"),
        ("rules: [{template: bright, when: {snr: {bellow: 3}}}]", "'bellow' (did you mean 'below'"),
        ("rules: [{template: bright, when: {snr: 3}}]", "rule 1: snr has no bounds"),
        (
            "rules: [{template: bright, when: {snr: {below: 3Jy}}}]",
            "snr.below = '3Jy' is not a",
        ),
        ("rules: [{template: bright, when: {total_flux_jy: {below: 3}}}]", "a flux with its unit"),
        ("rules: [{template: bright, when: {instrument: vlaa}}]", "instrument = 'vlaa'"),
    ],
)
def test_the_rules_are_checked_as_strictly_as_a_config(folder: Path, text: str, says: str) -> None:
    (folder / "selection.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        check_settings(settings_of(), build_steps(list(STEPS)), measures=MEASURES, folder=folder)
    assert says in str(caught.value) and caught.value.remedy
    if "template: briht" not in text:  # rules that are not asked do not keep a run from going
        named = settings_of({"template": "bright"})
        check_settings(named, build_steps(list(STEPS)), measures=MEASURES, folder=folder)


def test_base_is_checked_too(folder: Path) -> None:
    (folder / "base.yaml").write_text("steps: {test_imge: {robust: 0}}")
    with pytest.raises(ConfigError, match=r"templates/base.yaml: 'test_imge' .did you mean"):
        check_settings(settings_of(), build_steps(list(STEPS)), measures=MEASURES, folder=folder)


def test_a_rule_for_an_unknown_template_is_an_error(folder: Path) -> None:
    (folder / "selection.yaml").write_text("rules: [{template: briht}]\n")
    with pytest.raises(ConfigError, match="did you mean 'bright'"):
        choose_template(measured(1.0, 100.0), folder)


def test_rules_none_of_which_holds_are_an_error(folder: Path) -> None:
    (folder / "selection.yaml").write_text("rules: [{template: bright, when: {snr: {below: 3}}}]\n")
    with pytest.raises(ConfigError, match="no rule"):
        choose_template(measured(1.0, 100.0), folder)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"global_parameters": {"nitre": 5}}, "did you mean 'niter'"),
        ({"template": "brigth"}, "did you mean 'bright'"),
        ({"overrides": {"p1": {"solint": 30}}}, "p1.solint = 30 is not a time"),
        ({"overrides": {"p1": {"solnt": "30s"}}}, "did you mean 'solint'"),
        ({"init_parameters": {"test_image": {"robust": "high"}}}, "test_image.robust"),
    ],
)
def test_a_wrong_config_is_found_before_a_run(config: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_settings(settings_of(config), build_steps(list(STEPS)), measures=MEASURES)
    assert says in str(caught.value)


def test_a_wrong_assignment_is_found_before_a_run() -> None:
    pairs = parse_assignments(["global_parameters.nitre=5"])
    with pytest.raises(ConfigError, match=r"'nitre' .did you mean 'niter'"):
        check_settings(run_settings({}, None, pairs), build_steps(list(STEPS)), measures=MEASURES)


# -- instruments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("telescope", "ghz", "instrument", "band"),
    [
        ("EVLA", 1.5, "vla", "L"), ("VLA", 8.4, "vla", "X"), ("JVLA", 36.0, "vla", "Ka"),
        ("e-MERLIN", 5.1, "emerlin", "C"), ("ALMA", 230.0, "alma", "6"),
        ("VLBA", 15.3, "vlba", "Ku"),
        ("LOFAR", 0.144, "lofar", "HBA"), ("ATA", 3.0, "ata", "S"),
        ("MeerKAT", 1.3, "meerkat", "L"),
        ("VLA", 2.0, "vla", "S"), ("VLA", 600.0, "vla", ""),
    ],
)  # fmt: skip
def test_telescope_and_frequency_tell_instrument_and_band(
    telescope: str, ghz: float, instrument: str, band: str
) -> None:
    assert identify(telescope, ghz * 1e9) == (instrument, band)


def test_the_config_wins_and_is_checked() -> None:
    assert identify("UNKNOWN", 1.5e9, "vla") == ("vla", "L")
    assert identify("VLA", 1.5e9, "auto", "K") == ("vla", "K")
    with pytest.raises(ConfigError, match="did you mean 'emerlin'"):
        identify("VLA", 1.5e9, "emerln")
    with pytest.raises(ConfigError, match="unknown band of vla"):
        identify("VLA", 1.5e9, "vla", "LL")
