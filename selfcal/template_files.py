"""The files of templates: their folder, names and contents."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from selfcal.yaml_files import read_text_mapping

__all__ = ["SELECTION", "TEMPLATE_DIR", "read_template", "template_names"]

TEMPLATE_DIR = Path(__file__).resolve().parent.parent / "templates"
SELECTION = "selection"
"""Name of the file with the rules that choose a template."""

_NOT_TEMPLATES = ("base", SELECTION, "instruments")


def template_names(folder: Path = TEMPLATE_DIR) -> tuple[str, ...]:
    """Return the names of all templates."""
    return tuple(sorted(p.stem for p in folder.glob("*.yaml") if p.stem not in _NOT_TEMPLATES))


@lru_cache(maxsize=64)
def read_template(name: str, folder: Path = TEMPLATE_DIR) -> dict[str, Any]:
    """Return the contents of a template, ``base`` or ``selection``, with every scalar as text.

    Raises
    ------
    ConfigError
        The file does not parse or is not a mapping.
    """
    return read_text_mapping(folder / f"{name}.yaml", "see templates/base.yaml")
