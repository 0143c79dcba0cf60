"""A step's options, combined from defaults, templates, config and command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from selfcal.options import Option, unknown_name
from selfcal.origin import DEFAULT, Layer, Origin
from selfcal.settings import Settings
from selfcal.step import Step
from selfcal.template_files import TEMPLATE_DIR, read_template, template_names

__all__ = ["Resolved", "load_template", "resolve_options"]


def load_template(
    name: str, instrument: str = "", band: str = "", folder: Path = TEMPLATE_DIR
) -> dict[str, dict[str, Any]]:
    """Return the sections of a template, or of ``base``: step -> parameter -> value as written.

    A difference applies when its ``when`` names the present instrument and band; later ones win.

    Raises
    ------
    ConfigError
        There is no such template.
    """
    if name not in ("base", *template_names(folder)):
        raise unknown_name("template", name, template_names(folder))
    raw = read_template(name, folder)
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
class Resolved:
    """A step's options: values in the unit of their kind, and their origins."""

    values: Mapping[str, Any]
    origin: Mapping[str, Origin]
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
        A parameter is unknown to the step, or a value has the wrong type or unit.
    """
    known = {option.name: option for option in step.options}
    layers: list[tuple[Origin, Mapping[str, Any]]] = []
    base = load_template("base", instrument, band, folder)
    layers.append((Origin(Layer.TEMPLATE, "templates/base.yaml"), base.get(step.name, {})))
    absent = False
    if step.from_template and template:
        sections = load_template(template, instrument, band, folder)
        absent = step.name not in sections
        source = Origin(Layer.TEMPLATE, f"templates/{template}.yaml")
        layers.append((source, sections.get(step.name, {})))
    shared = settings.values.get("global_parameters", {})
    own = {name: value for name, value in shared.items() if name in known}
    layers.append((Origin(Layer.USER, "global_parameters"), own))
    values = {name: option.parse(option.default, step.name) for name, option in known.items()}
    origin = dict.fromkeys(known, DEFAULT)
    for source, layer in layers:
        for name, raw in layer.items():
            _set(step, known, values, origin, name, raw, source)
    for name, (raw, given) in settings.step_overrides.get(step.name, {}).items():
        _set(step, known, values, origin, name, raw, Origin(Layer.USER, given))
    return Resolved(MappingProxyType(values), MappingProxyType(origin), absent)


def _set(
    step: Step,
    known: Mapping[str, Option],
    values: dict[str, Any],
    origin: dict[str, Origin],
    name: str,
    raw: Any,
    source: Origin,
) -> None:
    if name not in known:
        raise unknown_name(f"parameter of {step.name} in {source}", name, list(known))
    values[name] = known[name].parse(raw, f"{source}: {step.name}")
    origin[name] = source
