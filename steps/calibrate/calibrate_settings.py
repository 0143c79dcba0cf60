"""Settings of a session's calibration: what a user gives, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from libs.catalogues import pybdsf
from libs.core.errors import ConfigError
from selfcal.cluster import check_where
from selfcal.options import unknown_name
from selfcal.paths import with_absolute_paths
from selfcal.settings import Settings, check_known, parse_options, read_config
from steps import STEPS
from steps.calibrate.calibrate_options import CALIBRATE_OPTIONS
from steps.ready_configs import load_ready_config
from steps.run_options import RUN_OPTIONS

__all__ = ["load_calibrate_settings"]


def load_calibrate_settings(path: Path, assignments: Mapping[str, Any]) -> Settings:
    """Read a session's config and check it.

    Parameters
    ----------
    path : Path
        Python or YAML.
    assignments : mapping
        Settings given on the command line.

    Raises
    ------
    ConfigError
        Unknown keys or values, nothing to work on, two things to work on, or a source finder
        that is not installed.
    """
    if not path.exists():
        raise ConfigError(
            f"config {path} does not exist", "make one with: auto_selfcal.py init calibrate"
        )
    config = read_config(path)
    sources = {path.name: config, "--set": assignments}
    check_known(CALIBRATE_OPTIONS, sources)
    options = {name: kind.options for name, kind in STEPS.items()}
    values, origin = parse_options(CALIBRATE_OPTIONS, {
        name: with_absolute_paths(given, CALIBRATE_OPTIONS, options)
        for name, given in sources.items()
    })  # fmt: skip
    if bool(values["vis"]) == bool(values["project"]):
        what = "are both set" if values["vis"] else "are both empty"
        raise ConfigError(f"vis and project {what}", f"set one of them in {path.name}")
    check_where(values["cluster"])
    if values["source_finder"] == "pybdsf":
        pybdsf.check_pybdsf("source_finder is pybdsf")
    _check_targets(values)
    return Settings(values, origin, path, {})


def _check_targets(values: Mapping[str, Any]) -> None:
    """Check what the targets' runs are given."""
    if values["target_config"] != "auto":
        load_ready_config(values["target_config"], "target_config")
    own = [option.name for option in RUN_OPTIONS]
    for key in values["target_settings"]:
        if key not in own:
            raise unknown_name("setting in target_settings", str(key), own)
    for step in values["overrides"]:
        if step not in STEPS:
            raise unknown_name("step in overrides", str(step), list(STEPS))
