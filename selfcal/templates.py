"""Templates of parameters, the rules that choose one, and a step's options resolved from both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from libs.core.errors import ConfigError
from selfcal.options import Option, unknown_name
from selfcal.settings import Settings
from selfcal.step import Step

__all__ = [
    "TEMPLATE_DIR",
    "Choice",
    "Resolved",
    "check_settings",
    "choose_template",
    "load_template",
    "resolve_options",
    "template_names",
]

TEMPLATE_DIR = Path(__file__).resolve().parent.parent / "templates"
_NOT_TEMPLATES = ("base", "selection", "instruments")


def template_names(folder: Path = TEMPLATE_DIR) -> tuple[str, ...]:
    """Return the names of all templates."""
    return tuple(sorted(p.stem for p in folder.glob("*.yaml") if p.stem not in _NOT_TEMPLATES))


@lru_cache(maxsize=64)
def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path.name} is not valid YAML ({error})", "correct it") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path.name} is not a mapping", "see templates/base.yaml")
    return content


def load_template(
    name: str, instrument: str = "", band: str = "", folder: Path = TEMPLATE_DIR
) -> dict[str, dict[str, Any]]:
    """Return a template's sections: step name -> parameter -> value as written.

    A difference applies when its ``when`` names the instrument and band at hand; later ones win.

    Raises
    ------
    ConfigError
        No such template.
    """
    if name not in template_names(folder):
        raise unknown_name("template", name, template_names(folder))
    raw = _read(folder / f"{name}.yaml")
    sections = {step: dict(values) for step, values in raw.get("steps", {}).items()}
    for difference in raw.get("differences", []):
        when = difference["when"]
        if not _matches(when.get("instrument"), instrument) or not _matches(when.get("band"), band):
            continue
        for step, values in difference["steps"].items():
            sections.setdefault(step, {}).update(values)
    return sections


def _matches(wanted: Any, value: str) -> bool:
    if wanted is None:
        return True
    return value in (wanted if isinstance(wanted, list) else [wanted])


@dataclass(frozen=True)
class Choice:
    """A template chosen by a rule: its name, and the rule and numbers it was chosen by."""

    template: str
    reason: str


def choose_template(
    measured: Mapping[str, float | str], folder: Path = TEMPLATE_DIR, wanted: str = "auto"
) -> Choice:
    """Return the template of the first rule in ``selection.yaml`` that holds.

    Parameters
    ----------
    measured : mapping
        ``total_flux_jy``, ``snr`` and any closure statistics, by the names the rules use.
    folder : Path
        Where the templates are.
    wanted : str
        A template's name to take without asking the rules, or ``auto``.

    Raises
    ------
    ConfigError
        A rule names an unknown template or measure, or none holds.
    """
    if wanted != "auto":
        if wanted not in template_names(folder):
            raise unknown_name("template", wanted, template_names(folder))
        return Choice(wanted, f"template {wanted}: set by the config")
    known = template_names(folder)
    for number, rule in enumerate(_read(folder / "selection.yaml")["rules"], start=1):
        if rule["template"] not in known:
            raise unknown_name("template in selection.yaml", rule["template"], known)
        conditions = rule.get("when", {})
        if all(_holds(name, bounds, measured) for name, bounds in conditions.items()):
            numbers = ", ".join(
                f"{name} {measured[name]:.4g}" if isinstance(measured[name], float)
                else f"{name} {measured[name]}"
                for name in measured
            )  # fmt: skip
            name = rule["template"]
            return Choice(name, f"template {name}: rule {number} ({numbers})")
    raise ConfigError("no rule of selection.yaml holds", "end it with a rule without conditions")


def _holds(name: str, bounds: Any, measured: Mapping[str, float | str]) -> bool:
    """Whether a measure lies within ``{at_least, below}`` or equals a word."""
    if name not in measured:
        return False
    value = measured[name]
    if not isinstance(bounds, Mapping):
        return value == bounds
    unknown = set(bounds) - {"at_least", "below"}
    if unknown or isinstance(value, str):
        raise ConfigError(
            f"selection.yaml: bad bounds for {name}: {dict(bounds)}", "use at_least and below"
        )
    low = _number(bounds.get("at_least", -math.inf))
    high = _number(bounds.get("below", math.inf))
    return low <= value < high


def _number(value: Any) -> float:
    """A plain number, or a flux with its unit in Jy."""
    if isinstance(value, str):
        return float(Option("flux", "flux", "", "").parse(value, "selection.yaml"))
    return float(value)


@dataclass(frozen=True)
class Resolved:
    """A step's options: values in the unit of their kind, and where each came from."""

    values: Mapping[str, Any]
    origin: Mapping[str, str]
    absent: bool = False

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def resolve_options(
    step: Step,
    settings: Settings,
    template: str,
    instrument: str,
    band: str,
    folder: Path = TEMPLATE_DIR,
) -> Resolved:
    """Return a step's options: default < base < template < global < step's own < --set.

    Raises
    ------
    ConfigError
        A parameter that the step does not have, or a value of the wrong type or unit.
    """
    known = {option.name: option for option in step.options}
    layers: list[tuple[str, Mapping[str, Any]]] = []
    base = _read(folder / "base.yaml").get("steps", {})
    layers.append(("templates/base.yaml", base.get(step.name, {})))
    absent = False
    if step.from_template and template:
        sections = load_template(template, instrument, band, folder)
        absent = step.name not in sections
        layers.append((f"templates/{template}.yaml", sections.get(step.name, {})))
    shared = settings["global_parameters"]
    layers.append(("global_parameters", {n: v for n, v in shared.items() if n in known}))
    values = {name: option.parse(option.default, step.name) for name, option in known.items()}
    origin = dict.fromkeys(known, "default")
    for source, layer in layers:
        for name, raw in layer.items():
            _set(step, known, values, origin, name, raw, source)
    for name, (raw, source) in settings.step_overrides.get(step.name, {}).items():
        _set(step, known, values, origin, name, raw, source)
    return Resolved(MappingProxyType(values), MappingProxyType(origin), absent)


def _set(
    step: Step,
    known: Mapping[str, Option],
    values: dict[str, Any],
    origin: dict[str, str],
    name: str,
    raw: Any,
    source: str,
) -> None:
    if name not in known:
        raise unknown_name(f"parameter of {step.name} in {source}", name, list(known))
    values[name] = known[name].parse(raw, step.name)
    origin[name] = source


def check_settings(
    settings: Settings,
    steps: Sequence[Step],
    others: Sequence[Step] = (),
    folder: Path = TEMPLATE_DIR,
) -> None:
    """Check, before anything runs, all that steps will ask of the config and the templates.

    Parameters
    ----------
    settings : Settings
    steps : sequence of Step
        Those of the run.
    others : sequence of Step
        Steps not in the run's list, for which the config may hold parameters all the same.
    folder : Path
        Where the templates are.

    Raises
    ------
    ConfigError
        A global parameter no step of the run knows, an unknown template, or, in the config or
        in a template with any of its differences, an unknown parameter or a bad value.
    """
    known = {option.name for step in steps for option in step.options}
    for name in settings["global_parameters"]:
        if name not in known:
            raise unknown_name("parameter in global_parameters", name, sorted(known))
    names = template_names(folder)
    wanted = settings["template"]
    if wanted != "auto" and wanted not in names:
        raise unknown_name("template", wanted, names)
    for step in (*steps, *others):
        resolve_options(step, settings, "", "", "", folder)
        if step.from_template:
            for name in names if wanted == "auto" else [wanted]:
                _check_template(step, name, folder)


def _check_template(step: Step, template: str, folder: Path) -> None:
    """Check a template's section for a step, and those of its differences."""
    known = {option.name: option for option in step.options}
    raw = _read(folder / f"{template}.yaml")
    for part in (raw, *raw.get("differences", [])):
        for name, value in (part.get("steps", {}).get(step.name) or {}).items():
            _set(step, known, {}, {}, name, value, f"templates/{template}.yaml")
