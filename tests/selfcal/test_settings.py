"""Config files, --set, and how they are combined and checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.core.errors import ConfigError
from selfcal.settings import parse_assignments
from steps import STEPS
from steps.run_options import RUN_OPTIONS, load_run_config, run_settings
from tests.conftest import ROOT

NAMES = list(STEPS)


def test_the_shipped_config_is_valid() -> None:
    path = ROOT / "config.py"
    settings = run_settings(load_run_config(path), path, {})
    assert settings["vis"] == ("demo:3c273",)
    assert settings.origin["vis"] == "config.py"
    assert set(settings["steps"]) <= set(STEPS)


@pytest.mark.parametrize("path", sorted((ROOT / "templates" / "configs").glob("*.py")))
def test_config_files_by_observatory_are_valid(path: Path) -> None:
    settings = run_settings(load_run_config(path), path, {})
    assert set(settings["steps"]) <= set(STEPS)


def test_defaults_config_and_set_and_where_each_came_from(tmp_path: Path) -> None:
    path = tmp_path / "my.py"
    path.write_text("vis = 'a.ms'\nfield = '3C273'\nimsize = 512\n")
    pairs = parse_assignments(["field=M87", "p1.solint=30s", "cell=0.1arcsec"])
    settings = run_settings(load_run_config(path), path, pairs)
    assert (settings["field"], settings.origin["field"]) == ("M87", "--set")
    assert (settings["imsize"], settings.origin["imsize"]) == ((512, 512), "my.py")
    assert (settings["refant"], settings.origin["refant"]) == ("auto", "default")
    assert settings["cell"] == pytest.approx(0.1)
    assert settings.step_overrides["p1"]["solint"] == ("30s", "--set")


def test_yaml_and_python_configs_mean_the_same(tmp_path: Path) -> None:
    python, yaml = tmp_path / "a.py", tmp_path / "a.yaml"
    python.write_text("vis = ['a.ms', 'b.ms']\noverrides = {'p1': {'solint': '30s'}}\n")
    yaml.write_text("vis: [a.ms, b.ms]\noverrides:\n  p1: {solint: 30s}\n")
    assert load_run_config(python) == load_run_config(yaml)


def test_a_config_may_import_and_compute(tmp_path: Path) -> None:
    path = tmp_path / "my.py"
    path.write_text(
        "from pathlib import Path\nimport os\n_here = Path('data')\n"
        "def _name(k):\n    return f'{_here}/{k}.ms'\nvis = [_name(k) for k in range(2)]\n"
    )
    assert load_run_config(path) == {"vis": ["data/0.ms", "data/1.ms"]}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.py", "viss = 'a.ms'", "unknown config key in a.py 'viss' (did you mean 'vis'?)"),
        ("a.yaml", "imager_: x", "did you mean 'imager'?"),
        ("a.py", "vis = ", "a.py does not run"),
        ("a.py", "vis = undefined", "NameError"),
        ("a.yaml", "vis: [a", "a.yaml is not valid YAML"),
        ("a.yaml", "- a", "not a mapping"),
        ("a.txt", "vis = 'a.ms'", "neither Python nor YAML"),
    ],
)
def test_bad_config_files(tmp_path: Path, name: str, text: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_run_config(path)
    assert says in str(caught.value) and caught.value.remedy


def test_missing_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not exist.*init"):
        load_run_config(tmp_path / "none.py")


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["imagr=tclean"], "did you mean 'imager'"),
        (["pp1.solint=30s"], "unknown step in --set 'pp1'"),
        (["imager"], "has no '='"),
        (["=3"], "has no '='"),
        (["vis=[a"], "does not parse"),
        (["imager=casa"], "one of 'auto', 'native', 'wsclean', 'tclean'"),
        (["cell=3"], "an angle with its unit such as"),
        (["imsize=big"], "a number of pixels"),
        (["tool_stall=5"], "a time with its unit"),
        (["threads=-1"], "below 0"),
    ],
)
def test_bad_assignments(pairs: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_settings({}, None, parse_assignments(pairs))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"overrides": {"p11": {"solint": "30s"}}}, "did you mean 'p1'"),
        ({"overrides": {"p1": "30s"}}, "not a mapping"),
        ({"overrides": "p1"}, "a mapping"),
        ({"init_parameters": {"test_imagge": {}}}, "did you mean 'test_image'"),
    ],
)
def test_bad_overrides(config: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_settings(config, None, {})
    assert says in str(caught.value)


def test_set_wins_over_overrides_and_leaves_the_defaults_alone() -> None:
    pairs = parse_assignments(["p1.solint=30s", "global_parameters.niter=5"])
    config = {"overrides": {"p1": {"solint": "60s", "robust": 1}}}
    settings = run_settings(config, None, pairs)
    assert settings.step_overrides["p1"]["solint"] == ("30s", "--set")
    assert settings.step_overrides["p1"]["robust"] == (1, "config: overrides")
    assert settings["global_parameters"] == {"niter": "5"}
    assert run_settings({}, None, {})["global_parameters"] == {}


def test_values_of_set_are_text_and_lists_and_mappings_of_text() -> None:
    pairs = ["vis=[a.ms, b.ms]", "quiet=true", "field=", "spw='0'", "overrides={p1: {robust: 1}}"]
    assert parse_assignments(pairs) == {
        "vis": ["a.ms", "b.ms"], "quiet": "true", "field": "", "spw": "0",
        "overrides": {"p1": {"robust": "1"}},
    }  # fmt: skip
    built = run_settings({}, None, parse_assignments([*pairs, "threads=2"]))
    assert (built["quiet"], built["threads"]) == (True, 2)


def test_every_key_has_a_meaning_and_a_valid_default() -> None:
    for option in RUN_OPTIONS:
        assert option.meaning
        option.parse(option.default)


def test_other_names_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("usermask: a.crtf\nusermodel: [m.tt0.fits, m.tt1.fits]\n")
    config = load_run_config(path)
    assert config == {"mask": "a.crtf", "start_model": ["m.tt0.fits", "m.tt1.fits"]}
    settings = run_settings(config, path, {"usermask": "b.crtf"})
    assert settings["mask"] == "b.crtf" and settings.origin["mask"] == "--set"
    assert settings["start_model"] == ("m.tt0.fits", "m.tt1.fits")
    path.write_text("usermask: a.crtf\nmask: b.crtf\n")
    with pytest.raises(ConfigError, match="usermask is another name of mask"):
        load_run_config(path)


@pytest.mark.parametrize("value", [{"a": {"b": "c"}}, {"a": 1.5}, [["a"]], 2.5])
def test_files_are_names_lists_or_mappings_of_these(value: object) -> None:
    with pytest.raises(ConfigError, match=r"mask = .* is not the name of a file, a list"):
        run_settings({"mask": value})
