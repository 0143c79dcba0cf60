"""The choice of a template by the first rule of ``selection.yaml`` that the image satisfies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.core.errors import ConfigError
from selfcal.options import Option, unknown_name
from selfcal.template_files import SELECTION, TEMPLATE_DIR, read_template, template_names

__all__ = ["Choice", "choose_template"]


@dataclass(frozen=True)
class Choice:
    """A template chosen by a rule: its name, the rule, and the numbers that decided."""

    template: str
    reason: str


def choose_template(
    measured: Mapping[str, float | str], folder: Path = TEMPLATE_DIR, wanted: str = "auto"
) -> Choice:
    """Return the template of the first rule in ``selection.yaml`` that holds.

    Parameters
    ----------
    measured : mapping
        Measured ``total_flux_jy``, ``snr`` and closure statistics, by the names the rules use.
    folder : Path
        Folder of the templates.
    wanted : str
        Name of a template to use without the rules, or ``auto``.

    Raises
    ------
    ConfigError
        A rule names an unknown template, or no rule holds. `selfcal.template_check` finds all
        other faults of rules before a run.
    """
    if wanted != "auto":
        if wanted not in template_names(folder):
            raise unknown_name("template", wanted, template_names(folder))
        return Choice(wanted, f"template {wanted}: set by the config")
    known = template_names(folder)
    for number, rule in enumerate(read_template(SELECTION, folder)["rules"], start=1):
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
    """Return whether a measure lies within ``{at_least, below}`` or is one of some words."""
    if name not in measured:
        return False
    value = measured[name]
    if not isinstance(bounds, Mapping):
        return value in (bounds if isinstance(bounds, list) else [bounds])
    if isinstance(value, str):
        raise ConfigError(f"selection.yaml: bounds for the word {name}", "name the words wanted")
    low = _number(bounds.get("at_least", -math.inf))
    high = _number(bounds.get("below", math.inf))
    return low <= value < high


def _number(value: Any) -> float:
    """Return a plain number, or a flux with its unit in Jy."""
    try:
        return float(value)
    except ValueError:
        return float(Option("flux", "flux", "", "").parse(value, "selection.yaml"))
