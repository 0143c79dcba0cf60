"""Settings of ``vlass_cube``: what a user gives, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.core.errors import ConfigError
from selfcal.cluster import check_where
from selfcal.options import unknown_name
from selfcal.paths import with_absolute_paths
from selfcal.settings import Settings, check_known, parse_options, read_config
from steps.vlass.vlass_options import VLASS_OPTIONS

__all__ = ["PlaneReject", "load_vlass_settings", "plane_reject"]

_FILES = ("vis", "resources", "seip_list", "ccip_list")


@dataclass(frozen=True)
class PlaneReject:
    """When a group of windows is left out for its flags.

    Attributes
    ----------
    apply : bool
        False: never, but for groups flagged throughout.
    exclude_spw : frozenset of int
        Windows whose groups are always kept.
    flagpct_thresh : float
        Flagged fraction of a field above which it counts.
    nfield_thresh : int
        Number of such fields from which on the group is left out.
    """

    apply: bool = True
    exclude_spw: frozenset[int] = frozenset()
    flagpct_thresh: float = 0.9
    nfield_thresh: int = 12


def plane_reject(given: Any) -> PlaneReject:
    """Return the rule of a table such as ``{"apply": True, "nfield_thresh": 12}``, or of a bool.

    Raises
    ------
    ConfigError
        A key is unknown, or a value of the wrong kind.
    """
    if isinstance(given, bool):
        return PlaneReject(apply=given)
    kinds = {"apply": bool, "exclude_spw": str, "flagpct_thresh": float, "nfield_thresh": int}
    values: dict[str, Any] = {}
    for key, value in dict(given).items():
        if key not in kinds:
            raise unknown_name("key of plane_reject", str(key), list(kinds))
        whole = isinstance(value, int) and not isinstance(value, bool)
        good = isinstance(value, kinds[key]) or (key == "flagpct_thresh" and whole)
        if not good or (key == "nfield_thresh" and not whole):
            raise ConfigError(f"plane_reject: {key} is {value!r}", f"give a {kinds[key].__name__}")
        values[key] = value
    if "exclude_spw" in values:
        parts = [part.strip() for part in values["exclude_spw"].split(",") if part.strip()]
        if not all(part.isdigit() for part in parts):
            raise ConfigError(
                f"plane_reject: exclude_spw is {values['exclude_spw']!r}",
                "name windows by id with commas between",
            )
        values["exclude_spw"] = frozenset(int(part) for part in parts)
    return PlaneReject(**values)


def load_vlass_settings(path: Path, assignments: Mapping[str, Any]) -> Settings:
    """Read a config of ``vlass_cube`` and check it.

    Parameters
    ----------
    path : Path
        Python or YAML.
    assignments : mapping
        Settings given on the command line.

    Raises
    ------
    ConfigError
        Unknown keys or values, or files that are not there.
    """
    if not path.exists():
        raise ConfigError(
            f"config {path} does not exist", "make one with: auto_selfcal.py init vlass_cube"
        )
    sources = {path.name: read_config(path), "--set": assignments}
    check_known(VLASS_OPTIONS, sources)
    values, origin = parse_options(VLASS_OPTIONS, {
        name: with_absolute_paths(given, VLASS_OPTIONS, {}) for name, given in sources.items()
    })  # fmt: skip
    missing = [key for key in _FILES if not values[key]]
    if missing:
        raise ConfigError(f"{', '.join(missing)} not set", f"set them in {path.name}")
    gone = [f"{key} = {values[key]}" for key in _FILES if not Path(values[key]).exists()]
    if gone:
        raise ConfigError(f"{'; '.join(gone)}: no such file", "correct the config")
    check_where(values["cluster"])
    plane_reject(values["plane_reject"])
    for scale in values["scales"]:
        if not str(scale).isdigit():
            raise ConfigError(f"scales has {scale!r}", "give sizes in whole pixels")
    if values["imager"] == "tclean" and (values["memory"] != "auto" or values["threads"]):
        raise ConfigError(
            "tclean knows no limits of its memory and threads",
            "leave memory and threads out, or set imager to native",
        )
    return Settings(values, origin, path, {})
