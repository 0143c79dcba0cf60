"""Checks of the config and the templates before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from libs.core.errors import ConfigError
from selfcal.options import Option, unknown_name
from selfcal.settings import Settings
from selfcal.step import Step
from selfcal.template_files import SELECTION, TEMPLATE_DIR, read_template, template_names
from selfcal.templates import resolve_options

__all__ = ["check_settings", "check_templates"]

_BOUNDS = ("at_least", "below")
_DIFFER_BY = ("instrument", "band")


def check_settings(
    settings: Settings,
    steps: Sequence[Step],
    others: Sequence[Step] = (),
    *,
    measures: Sequence[Option],
    folder: Path = TEMPLATE_DIR,
) -> None:
    """Check the config's parameters, and the templates that the run may use.

    Parameters
    ----------
    settings : Settings
    steps : sequence of Step
        Steps of the run.
    others : sequence of Step
        Steps outside the run's list for which the config may still hold parameters.
    measures : sequence of Option
        Measures that rules may use, each with the kind of its bounds.
    folder : Path
        Folder of the templates.

    Raises
    ------
    ConfigError
        A global parameter is unknown to every step of the run, a template is unknown, or the
        config or a template with any of its differences has an unknown name or a bad value.
    """
    known = {option.name for step in steps for option in step.options}
    for name in settings["global_parameters"]:
        if name not in known:
            raise unknown_name("parameter in global_parameters", name, sorted(known))
    names = template_names(folder)
    wanted = settings["template"]
    if wanted != "auto" and wanted not in names:
        raise unknown_name("template", wanted, names)
    everything = (*steps, *others)
    check_templates(names if wanted == "auto" else [wanted], everything, measures, folder)
    for step in everything:
        resolve_options(step, settings, "", "", "", folder)


def check_templates(
    names: Sequence[str],
    steps: Sequence[Step],
    measures: Sequence[Option],
    folder: Path = TEMPLATE_DIR,
) -> None:
    """Check templates, ``base.yaml`` and, for more than one template, the rules that choose.

    Parameters
    ----------
    names : sequence of str
        Names of the templates.
    steps : sequence of Step
        Every step that files may name.
    measures : sequence of Option
        Measures that rules may use; differences use those named instrument and band.
    folder : Path
        Folder of the templates.

    Raises
    ------
    ConfigError
        Something in a file has no effect or no meaning; the error names the file and the place.
    """
    by_name = {step.name: step for step in steps}
    base = read_template("base", folder)
    words = {option.name: option for option in measures if option.name in _DIFFER_BY}
    _check_file(base, "templates/base.yaml", by_name, words)
    in_templates = {name: step for name, step in by_name.items() if step.from_template}
    for name in names:
        _check_file(read_template(name, folder), f"templates/{name}.yaml", in_templates, words)
    if len(names) > 1:
        _check_rules(names, {option.name: option for option in measures}, folder)


def _check_file(
    raw: Mapping[str, Any], place: str, steps: Mapping[str, Step], words: Mapping[str, Option]
) -> None:
    """Check the sections of a template and its differences."""
    _keys(raw, place, ("steps",), ("differences",))
    _sections(raw["steps"], place, steps)
    for number, difference in enumerate(_list(raw.get("differences", []), place), start=1):
        here = f"{place}, difference {number}"
        _keys(difference, here, ("when", "steps"))
        _conditions(difference["when"], here, words)
        _sections(difference["steps"], here, steps)


def _check_rules(names: Sequence[str], measures: Mapping[str, Option], folder: Path) -> None:
    place = f"templates/{SELECTION}.yaml"
    raw = read_template(SELECTION, folder)
    _keys(raw, place, ("rules",))
    for number, rule in enumerate(_list(raw["rules"], place), start=1):
        here = f"{place}, rule {number}"
        _keys(rule, here, ("template",), ("when",))
        if rule["template"] not in names:
            raise unknown_name(f"template in {here}:", str(rule["template"]), names)
        _conditions(rule.get("when", {}), here, measures)


def _keys(found: Any, place: str, needed: Sequence[str], others: Sequence[str] = ()) -> None:
    """Check that a part of a file is a mapping with all required keys and no unknown one."""
    if not isinstance(found, Mapping):
        raise ConfigError(f"{place} is not a mapping", f"write its {', '.join(needed)}")
    for key in found:
        if key not in (*needed, *others):
            raise unknown_name(f"key in {place}:", key, (*needed, *others))
    for key in needed:
        if key not in found:
            raise ConfigError(f"{place} has no {key}", f"add {key}:")


def _list(found: Any, place: str) -> list[Any]:
    if not isinstance(found, list):
        raise ConfigError(f"{place}: {found!r} is not a list", "begin each entry with -")
    return found


def _sections(found: Any, place: str, steps: Mapping[str, Step]) -> None:
    """Check the parameters of steps; a section may be empty."""
    if not isinstance(found, Mapping):
        raise ConfigError(f"{place}: steps is not a mapping", "write steps: {p0: {solint: 60s}}")
    for name, values in found.items():
        if name not in steps:
            raise unknown_name(f"step in {place}:", name, list(steps))
        if not isinstance(values, Mapping):
            raise ConfigError(f"{place}: {name} is not a mapping", "write p0: {solint: 60s}")
        known = {option.name: option for option in steps[name].options}
        for parameter, value in values.items():
            if parameter not in known:
                raise unknown_name(f"parameter of {name} in {place}", parameter, list(known))
            known[parameter].parse(value, f"{place}: {name}")


def _conditions(found: Any, place: str, measures: Mapping[str, Option]) -> None:
    """Check the conditions of a rule or a difference: words, or bounds of numbers."""
    if not isinstance(found, Mapping):
        raise ConfigError(f"{place}: when is not a mapping", "write when: {snr: {below: 10}}")
    for name, wanted in found.items():
        if name not in measures:
            raise unknown_name(f"condition in {place}:", name, list(measures))
        measure = measures[name]
        if measure.kind in ("str", "choice"):
            for word in wanted if isinstance(wanted, list) else [wanted]:
                measure.parse(word, f"{place}: when")
            continue
        if not isinstance(wanted, Mapping) or not wanted:
            raise ConfigError(f"{place}: {name} has no bounds", "write at_least, below or both")
        for bound, value in wanted.items():
            if bound not in _BOUNDS:
                raise unknown_name(f"bound of {name} in {place}:", bound, _BOUNDS)
            replace(measure, name=bound).parse(value, f"{place}: {name}")
