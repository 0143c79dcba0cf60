"""Settings of a field's calibration: what a user gives, checked before anything runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from libs.catalogues.source_list import CALIBRATOR_RADIUS_DEG, TARGET_RADIUS_DEG
from libs.core.errors import ConfigError
from selfcal.cluster import check_where
from selfcal.options import Option, unknown_name
from selfcal.settings import Settings, read_config
from selfcal.template_check import check_settings
from selfcal.template_files import TEMPLATE_DIR
from steps import STEPS, build_steps
from steps.field.field_data import PREPARE_OPTIONS, check_prepare
from steps.imaging import MEASURES
from steps.run_options import RUN_OPTIONS, load_run_config, run_settings

__all__ = ["FIELD_OPTIONS", "FLUX", "load_field_settings", "source_settings", "threads_of"]

_FLUX_UNITS = ("", "Jy", "mJy")
# steps of a single source's list that a field's source does without: the field itself looks
# after other sources, and the calibrated data stay in the working copy
_NOT_IN_A_FIELD = ("fov_image", "split_trial_1")
# closure quantities: the part of other sources that averaging leaves on the baselines used, and
# the errors allowed for it
_CONFUSION_LEFT, _LEAST_FLOOR, _MOST_FLOOR = 0.2, 0.02, 0.5

FIELD_OPTIONS: tuple[Option, ...] = (
    Option("vis", "names", "", "measurement sets of the field, not averaged; never written"),
    Option("workdir", "str", "work_field", "where everything the run makes is written"),
    Option("sources", "names", "", "lists of sources (CSV, VOTable, FITS), or lotss: ask LoTSS"),
    Option("lbcs", "str", "", "LBCS calibrators with their flags, a list; or lbcs: ask LBCS"),
    Option("components", "str", "", "list of the sources' Gaussians with their Parent_Source"),
    Option("flux_unit", "choice", "", "Jy or mJy, for lists that give none", choices=_FLUX_UNITS),
    Option("layers", "names", ["100mJy", "10mJy"],
           "least flux of each layer; LBCS calibrators are in the first"),
    Option("radius", "angle", f"{TARGET_RADIUS_DEG}deg", "sources within this of the centre",
           minimum=0),
    Option("calibrator_radius", "angle", f"{CALIBRATOR_RADIUS_DEG}deg",
           "LBCS calibrators within this of the centre", minimum=0),
    Option("datacolumn", "str", "DATA", "column of vis to start from"),
    Option("initial_solutions", "str", "", "h5parm to begin the global table with"),
    Option("average_time", "time", "auto", "integration of a source's data; auto: by its map",
           words=("auto",), minimum=0),
    Option("average_frequency", "frequency", "auto",
           "channel width of a source's data; auto: by its map", words=("auto",), minimum=0),
    Option("smearing", "float", 0.02, "amplitude that auto averaging may cost at the map's edge",
           minimum=0.0001),
    *PREPARE_OPTIONS,
    Option("uvmin", "length", "20km",
           "shorter baselines of a source's data are flagged: they see the rest of the field",
           minimum=0),
    Option("map_size", "angle", "auto", "width of the maps; auto: 20 arcsec to 2 arcmin by shape",
           words=("auto",), minimum=1),
    Option("cell", "angle", "auto", "pixel size of the maps; auto: by the baselines",
           words=("auto",)),
    Option("min_good_fraction", "float", 0.5, "best solutions: least part not flagged", minimum=0),
    Option("min_coherence", "float", 0.5, "best solutions: least coherence", minimum=0),
    Option("max_separation", "angle", "inf", "best solutions: farthest direction used",
           words=("inf",)),
    Option("again", "choice", "auto", "calibrate a layer's sources again once the others of the"
           " layer are out of the data; auto: where these count beside the noise",
           choices=("auto", "never", "always")),
    Option("subtract_snr", "float", 7.0, "sources of a lower image SNR are not subtracted",
           minimum=0),
    Option("source_config", "str", "lofar",
           "how a source is calibrated: a ready config's name or a config file"),
    Option("source_steps", "names", "", "steps of a source; empty: those of source_config"),
    Option("overrides", "table", {}, "parameters of a source's steps"),
    Option("source_settings", "table", {}, "other settings of a source's run (template, solver)"),
    Option("global_parameters", "table", {},
           "parameters for every step of the sources' runs that knows them"),
    Option("cluster", "str", "inline", "inline, local:N, tcp://host:port or slurm.yaml"),
    Option("threads", "int", "auto", "threads of each source; auto: the cores shared out",
           words=("auto",), minimum=1),
    Option("tool_stall", "time", "1200s", "a source's run silent and idle this long is killed"),
    Option("quiet", "bool", False, "print warnings and the result only"),
)  # fmt: skip

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
    known = [option.name for option in FIELD_OPTIONS]
    if not path.exists():
        raise ConfigError(f"config {path} does not exist", "see README for an example")
    config = read_config(path)
    assignments = _nested(assignments, config)
    for source, names in ((path.name, config), ("--set", assignments)):
        for name in names:
            if name not in known:
                raise unknown_name(f"setting in {source}", str(name), known)
    values, origin = {}, {}
    for option in FIELD_OPTIONS:
        raw, origin[option.name] = option.default, "default"
        for source, given in ((path.name, config), ("--set", assignments)):
            if option.name in given:
                raw, origin[option.name] = given[option.name], source
        values[option.name] = option.parse(raw)
    limits = [FLUX.parse(text) for text in values["layers"]]
    if not limits or sorted(set(limits), reverse=True) != limits:
        raise ConfigError(f"layers = {list(values['layers'])} do not fall", "brightest first")
    for name in ("vis", "sources"):
        if not values[name] and not (name == "sources" and values["lbcs"]):
            raise ConfigError(f"{name} is empty", f"name the {name} in {path.name}")
    check_where(values["cluster"])
    check_prepare(values)
    if Path(values["source_config"]).exists():  # workers run elsewhere
        values["source_config"] = str(Path(values["source_config"]).absolute())
    settings = Settings(values, origin, path, {})
    source_settings(settings, "check", Path("check.ms"), 64, 1.0)
    return settings


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
    kind, _, count = settings["cluster"].partition(":")
    cores = os.cpu_count() or 1
    return max(1, cores // int(count)) if kind == "local" else cores


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
    name = settings["source_config"]
    ready = TEMPLATE_DIR / "configs" / f"{name}.py"
    path = ready if ready.exists() else Path(name)
    if not path.exists():
        known = sorted(p.stem for p in ready.parent.glob("*.py"))
        raise unknown_name("source_config", name, known)
    config = load_run_config(path)
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
    return config


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
