"""The file of line-free ranges that the settings of a run name."""

from __future__ import annotations

from pathlib import Path

from libs.core.errors import ConfigError
from selfcal.settings import Settings

__all__ = ["CONTFILE_SETTING", "cont_file"]

CONTFILE_SETTING = "contfile"
_BESIDE = "cont.dat"


def cont_file(settings: Settings) -> Path | None:
    """Return the file of line-free ranges: the one named, else ``cont.dat`` beside the config.

    Raises
    ------
    ConfigError
        The file named is not there.
    """
    named = settings[CONTFILE_SETTING]
    if named == "auto":
        if settings.config is None:
            return None
        path = settings.config.expanduser().absolute().parent / _BESIDE
        return path if path.is_file() else None
    if not named:
        return None
    path = Path(named).expanduser().absolute()
    if not path.is_file():
        raise ConfigError(f"contfile = {named} is no file", "correct contfile")
    return path
