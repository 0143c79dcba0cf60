"""Configs that are ready for an instrument or a session, by name."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfcal.options import unknown_name
from selfcal.template_files import TEMPLATE_DIR
from selfcal.yaml_files import read_text_mapping
from steps.run_options import load_run_config

__all__ = ["load_ready_config", "ready_config_names", "ready_config_text"]

FOLDER = TEMPLATE_DIR / "configs"


def ready_config_names() -> list[str]:
    """Return the names of all ready configs of instruments."""
    return sorted({path.stem for path in FOLDER.glob("*.py")} | set(_arrays()))


def ready_config_text(name: str) -> str:
    """Return the Python text of a ready config, as ``init`` writes it."""
    array = _arrays().get(name)
    if array is None:
        return (FOLDER / f"{name}.py").read_text()
    text = (FOLDER / f"{array['like']}.py").read_text()
    text = re.sub(r"(?<=Self-calibration of )\S+(?= data)", array["array"], text, count=1)
    own = f'instrument = "{name}"'
    if array["note"]:
        own += "\n\n" + textwrap.fill(
            array["note"], 100, initial_indent="# ", subsequent_indent="# "
        )
    return text.replace(f'instrument = "{array["like"]}"', own)


def load_ready_config(name: str, key: str) -> tuple[dict[str, Any], Path]:
    """Return what a config assigns, and the file that it was read from.

    Parameters
    ----------
    name : str
        Name of a ready config, or path of a file.
    key : str
        The setting that names it, for the error.

    Raises
    ------
    ConfigError
        There is no such config, or it is wrong.
    """
    array = _arrays().get(name)
    ready = FOLDER / f"{array['like'] if array else name}.py"
    if ready.exists():
        own = {"instrument": name} if array else {}
        return load_run_config(ready) | own, ready
    if not Path(name).exists():
        raise unknown_name(key, name, ready_config_names())
    return load_run_config(Path(name)), Path(name)


def _arrays() -> Mapping[str, Mapping[str, str]]:
    return read_text_mapping(FOLDER / "arrays.yaml")
