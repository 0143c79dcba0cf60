"""The parser of each command by its name: for the documentation and shell completion."""

from __future__ import annotations

import argparse
import importlib

__all__ = ["parser_of"]

_PARSERS = {
    "": "run:main_parser",
    "inspect": "inspect:inspect_parser",
    "init": "init:init_parser",
    "apply": "apply:apply_parser",
    "bundle": "bundle:bundle_parser",
    "restore": "restore:restore_parser",
    "solutions": "solutions:make_parser",
    "calibrate": "calibrate:calibrate_parser",
    "field": "field:field_parser",
    "vlass_cube": "vlass_cube:vlass_parser",
    "report": "report:report_parser",
    "config": "config:schema_parser",
    "completion": "completion:completion_parser",
    "doctor": "doctor:doctor_parser",
}


def parser_of(command: str) -> argparse.ArgumentParser:
    """Return the parser of a command; the empty name is the main command's."""
    module, _, function = _PARSERS[command].partition(":")
    found = getattr(importlib.import_module(f"steps.commands.{module}"), function)()
    assert isinstance(found, argparse.ArgumentParser)
    return found
