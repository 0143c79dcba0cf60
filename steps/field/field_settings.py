"""Settings of a field's calibration: what a user gives, checked before anything runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from libs.core.errors import ConfigError
from selfcal.cluster import check_where, shared_threads
from selfcal.options import Option, unknown_name
from selfcal.paths import with_absolute_paths
from selfcal.settings import Settings, check_known, parse_options, read_config
from selfcal.template_check import check_settings
from steps import STEPS, build_steps
from steps.field.field_data import check_prepare
from steps.field.field_options import FIELD_OPTIONS
from steps.imaging import MEASURES
from steps.ready_configs import load_ready_config
from steps.run_options import RUN_OPTIONS, run_settings

__all__ = ["FLUX", "load_field_settings", "source_settings", "threads_of"]

# steps of a single source's list that a field's source does without: the field itself looks
# after other sources, and the calibrated data stay in the working copy
_NOT_IN_A_FIELD = ("fov_image", "split_trial_1")
# closure quantities: the part of other sources that averaging leaves on the baselines used, and
# the errors allowed for it
_CONFUSION_LEFT, _LEAST_FLOOR, _MOST_FLOOR = 0.2, 0.02, 0.5

FLUX = Option("layers", "flux", "10mJy", "a layer's least flux", minimum=0)


def load_field_settings(path: Path, assignments: Mapping[str, Any]) -> Settings:
    """Read a field's config and check it, its sources' config and where it runs.

    Parameters
    ----------
    path : Path
        Python or YAML.
    assignments : mapping
        Settings given on the command line.

    Raises
    ------
    ConfigError
        Unknown keys or values, nothing to work on, an unknown place to run.
    """
    if not path.exists():
        raise ConfigError(f"config {path} does not exist", "auto-selfcal field -h shows an example")
    config = read_config(path)
    assignments = _nested(assignments, config)
    check_known(FIELD_OPTIONS, {path.name: config, "--set": assignments})
    # workers run elsewhere
    sources = {path.name: _absolute(config), "--set": _absolute(assignments)}
    values, origin = parse_options(FIELD_OPTIONS, sources)
    limits = [FLUX.parse(text) for text in values["layers"]]
    if not limits or sorted(set(limits), reverse=True) != limits:
        raise ConfigError(f"layers = {list(values['layers'])} do not fall", "brightest first")
    for name in ("vis", "sources"):
        if not values[name] and not (name == "sources" and values["lbcs"]):
            raise ConfigError(f"{name} is empty", f"name the {name} in {path.name}")
    check_where(values["cluster"])
    check_prepare(values)
    if Path(values["source_config"]).exists():
        values["source_config"] = str(Path(values["source_config"]).absolute())
    settings = Settings(values, origin, path, {})
    source_settings(settings, "check", Path("check.ms"), 64, 1.0)
    return settings


def _absolute(config: Mapping[str, Any]) -> dict[str, Any]:
    """A field's config with the files named absolutely, also those of the sources' runs."""
    options = {name: kind.options for name, kind in STEPS.items()}
    found = with_absolute_paths(config, FIELD_OPTIONS, options)
    if isinstance(found.get("source_settings"), Mapping):
        found["source_settings"] = with_absolute_paths(
            found["source_settings"], RUN_OPTIONS, options
        )
    return found


def _nested(assignments: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Put ``global_parameters.NAME`` and ``STEP.NAME`` where the config holds such values.

    A step's parameter goes to ``overrides``; both over what the config file says.
    """
    plain = {name: value for name, value in assignments.items() if "." not in name}
    for dotted in assignments.keys() - plain.keys():
        step, _, name = dotted.partition(".")
        if step not in ("global_parameters", *STEPS):
            raise unknown_name("step in --set", step, ["global_parameters", *STEPS])
        key = "global_parameters" if step == "global_parameters" else "overrides"
        table = _mapping(key, plain.get(key, config.get(key)))
        own = table if key == step else _mapping(f"{key}['{step}']", table.get(step))
        own[name] = assignments[dotted]
        plain[key] = own if key == step else {**table, step: own}
    return plain


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value or {}, Mapping):
        raise ConfigError(f"{name} is not a mapping", "write {'solint': '30s'}")
    return dict(value or {})


def threads_of(settings: Settings) -> int:
    """Return the threads each source's tools may use."""
    if settings["threads"] != "auto":
        return int(settings["threads"])
    return shared_threads(settings["cluster"]) or os.cpu_count() or 1


def source_settings(
    settings: Settings,
    workdir: str,
    ms: Path | list[Path],
    imsize: int,
    cell_arcsec: float,
    confusion: float = 0.0,
    start_from: str = "",
    start_direction: str = "",
    catalogue: str = "",
) -> dict[str, Any]:
    """Return the config of one source's run, checked.

    Parameters
    ----------
    settings : Settings
        The field's.
    workdir : str
        The run's work directory.
    ms : Path or list of Path
        The source's small data.
    imsize : int
    cell_arcsec : float
    confusion : float
        What other sources of the field are in the data, relative to the source itself.
    start_from, start_direction : str
        h5parm that the data are corrected with, and its direction; empty: none.
    catalogue : str
        The source's entry for closure_stats; empty: none.

    Raises
    ------
    ConfigError
        The source's config, steps, settings or overrides are wrong.
    """
    config, path = load_ready_config(settings["source_config"], "source_config")
    steps = settings["source_steps"] or config.get("steps") or ()
    config["steps"] = [
        step for step in steps if settings["source_steps"] or step not in _NOT_IN_A_FIELD
    ]
    own = [option.name for option in RUN_OPTIONS]
    for key, value in settings["source_settings"].items():
        if key not in own:
            raise unknown_name("setting in source_settings", str(key), own)
        config[key] = value
    overrides = {"initial_model": _model_fit(confusion), "startup": {"start_applied": True}}
    if catalogue:
        overrides["closure_stats"] = {"catalogue": catalogue}
    for step, values in config.get("overrides", {}).items():
        overrides[step] = {**overrides.get(step, {}), **values}
    for step, values in settings["overrides"].items():
        if not isinstance(values, Mapping):
            raise ConfigError(f"overrides['{step}'] is not a mapping", "write {'solint': '30s'}")
        overrides[step] = {**overrides.get(step, {}), **values}
    config["global_parameters"] = {
        **config.get("global_parameters", {}), **settings["global_parameters"]
    }  # fmt: skip
    config |= {
        "vis": [str(one) for one in (ms if isinstance(ms, list) else [ms])],
        "workdir": workdir, "field": "", "spw": "", "datacolumn": "data",
        "imsize": imsize, "cell": f"{cell_arcsec:.6g}arcsec", "overrides": overrides,
        "threads": threads_of(settings), "quiet": True, "start_from": start_from,
        "start_direction": start_direction,
    }  # fmt: skip
    # steps that a field leaves out may still be named, and then rightly
    _check(config, path)
    wanted = set(config["steps"])
    for key in ("init_parameters", "overrides"):
        config[key] = {
            s: v for s, v in config.get(key, {}).items() if s in wanted or s not in STEPS
        }
    return with_absolute_paths(
        config, RUN_OPTIONS, {step: kind.options for step, kind in STEPS.items()}
    )


def _check(config: Mapping[str, Any], path: Path) -> None:
    """Check the config of a source's run, with its parameters of steps not in its list."""
    built = run_settings(config, path)
    steps = build_steps(built["steps"])
    others = [kind(name) for name, kind in STEPS.items() if name not in config["steps"]]
    check_settings(built, steps, others, measures=MEASURES)


def _model_fit(confusion: float) -> dict[str, Any]:
    """How a source's first model is fitted: other sources do not close; its place is known."""
    floor = round(min(_MOST_FLOOR, max(_LEAST_FLOOR, _CONFUSION_LEFT * confusion)), 3)
    return {"phase_floor": floor, "amplitude_floor": floor, "centre": "phase_centre"}
