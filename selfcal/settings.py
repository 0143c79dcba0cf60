"""Config file, templates and --set combined into validated values, each with its origin."""

from __future__ import annotations

import importlib.util
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from libs.core.errors import ConfigError
from selfcal.options import Option, unknown_name
from selfcal.yaml_files import read_text_mapping, text_value

__all__ = [
    "Settings",
    "build_settings",
    "check_known",
    "load_config",
    "own_names",
    "parse_assignments",
    "parse_options",
    "read_config",
    "read_python",
]


@dataclass(frozen=True)
class Settings:
    """The settings of a run.

    Attributes
    ----------
    values : mapping
        Values of all options of the run, parsed.
    origin : mapping
        Origin of each: ``default``, the config file's name or ``--set``.
    """

    values: Mapping[str, Any]
    origin: Mapping[str, str]
    config: Path | None = None
    step_overrides: Mapping[str, Mapping[str, tuple[Any, str]]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def workdir(self) -> Path:
        """The work directory, absolute."""
        return Path(self.values["workdir"]).expanduser().absolute()


def load_config(path: Path, options: Sequence[Option]) -> dict[str, Any]:
    """Read a config file, Python assignments or YAML, whose keys are options of the run.

    Raises
    ------
    ConfigError
        The file does not exist, does not parse, or has an unknown key.
    """
    if not path.exists():
        raise ConfigError(f"config {path} does not exist", "make one with: auto_selfcal.py init")
    raw = own_names(read_config(path), options)
    known = [option.name for option in options]
    for key in raw:
        if key not in known:
            raise unknown_name(f"config key in {path.name}", str(key), known)
    return raw


def own_names(values: Mapping[str, Any], options: Sequence[Option]) -> dict[str, Any]:
    """Return settings with other names of options replaced by their own.

    Raises
    ------
    ConfigError
        A setting is given under both names.
    """
    own = {other: option.name for option in options for other in option.also}
    found: dict[str, Any] = {}
    for name, value in values.items():
        if own.get(name, name) in found or (name in own and own[name] in values):
            raise ConfigError(f"{name} is another name of {own.get(name, name)}", "give one")
        found[own.get(name, name)] = value
    return found


def read_config(path: Path) -> dict[str, Any]:
    """Return the assignments of a config file, YAML by its suffix, else Python; unchecked.

    Values in YAML are read as text, which the options interpret later.
    """
    return read_text_mapping(path) if path.suffix in (".yaml", ".yml") else read_python(path)


def read_python(path: Path) -> dict[str, Any]:
    """Return the assignments of a Python file except modules, functions and ``_names``.

    Raises
    ------
    ConfigError
        The file fails to run, or is not Python.
    """
    spec = importlib.util.spec_from_file_location("selfcal_user_config", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is neither Python nor YAML", "name it .py or .yaml")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # any error in a user's file is a fault of the config
        raise ConfigError(f"{path.name} does not run ({error!r})", "correct it") from error
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, (types.ModuleType, types.FunctionType, type))
        and name != "annotations"
    }


def parse_assignments(pairs: Sequence[str]) -> dict[str, Any]:
    """Convert ``["p1.solint=30s", "imager=tclean"]`` to nested values.

    A value is text, or a list or mapping of texts in YAML.
    """
    nested: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name.strip():
            raise ConfigError(f"--set {pair} has no '='", "write --set KEY=VALUE")
        try:
            value = text_value(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {pair} does not parse", "quote the value") from error
        nested[name.strip()] = value
    return nested


def build_settings(
    config: Mapping[str, Any],
    config_path: Path | None,
    assignments: Mapping[str, Any],
    step_names: Sequence[str],
    options: Sequence[Option],
) -> Settings:
    """Combine defaults, config file and ``--set`` into checked settings.

    Parameters
    ----------
    config : mapping
        Values from `load_config`.
    config_path : Path or None
        Path of the config, for the origin of the values.
    assignments : mapping
        Values from `parse_assignments`; dotted names address a step's parameter.
    step_names : sequence of str
        Names of every existing step.
    options : sequence of Option
        Options of a run. The engine itself needs ``workdir``, ``template``, ``init_parameters``,
        ``global_parameters`` and ``overrides``; the others are for steps.
    """
    source = config_path.name if config_path else "config"
    config, assignments = own_names(config, options), own_names(assignments, options)
    known = [option.name for option in options]
    tops = {name: value for name, value in assignments.items() if "." not in name}
    for name in tops:
        if name not in known:
            raise unknown_name("setting", name, known)
    values, origin = parse_options(options, {source: config, "--set": tops})
    overrides = _step_overrides(values, source, assignments, step_names)
    return Settings(values, origin, config_path, overrides)


def check_known(options: Sequence[Option], sources: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse settings that no option has.

    Parameters
    ----------
    options : sequence of Option
    sources : mapping of str to mapping
        What each source assigns, by its name.

    Raises
    ------
    ConfigError
        A name is unknown.
    """
    known = [option.name for option in options]
    for source, given in sources.items():
        for name in given:
            if name not in known:
                raise unknown_name(f"setting in {source}", str(name), known)


def parse_options(
    options: Sequence[Option], sources: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the value of each option, and the source that it comes from.

    Parameters
    ----------
    options : sequence of Option
    sources : mapping of str to mapping
        What each source assigns, by its name; later ones win. Without any the default holds.

    Raises
    ------
    ConfigError
        A value is wrong.
    """
    values, origin = {}, {}
    for option in options:
        raw, origin[option.name] = option.default, "default"
        for source, given in sources.items():
            if option.name in given:
                raw, origin[option.name] = given[option.name], source
        values[option.name] = option.parse(raw)
    return values, origin


def _step_overrides(
    values: Mapping[str, Any],
    source: str,
    assignments: Mapping[str, Any],
    step_names: Sequence[str],
) -> dict[str, dict[str, tuple[Any, str]]]:
    """Return parameters given for single steps: step -> name -> (raw value, origin)."""
    found: dict[str, dict[str, tuple[Any, str]]] = {}
    for key in ("init_parameters", "overrides"):
        for step, parameters in values[key].items():
            if step not in step_names:
                raise unknown_name(f"step in {key}", step, step_names)
            if not isinstance(parameters, Mapping):
                raise ConfigError(f"{key}['{step}'] is not a mapping", "write {'solint': '30s'}")
            for name, value in parameters.items():
                found.setdefault(step, {})[name] = (value, f"{source}: {key}")
    for dotted, value in assignments.items():
        step, dot, name = dotted.partition(".")
        if not dot:
            continue
        if step == "global_parameters":
            values["global_parameters"][name] = value
        elif step in step_names:
            found.setdefault(step, {})[name] = (value, "--set")
        else:
            raise unknown_name("step in --set", step, step_names)
    return found
