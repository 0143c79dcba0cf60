"""``config schema``: the keys of a config as JSON Schema, made from the options."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from selfcal.options import UNITS, Option
from steps.commands.words import usage_name

__all__ = ["command", "config_schema", "schema_parser"]

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_KINDS = ("run", "field", "calibrate")


def schema_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog=usage_name("config"),
        description="Print the keys of a config as JSON Schema, for editors and other programs.",
    )
    parser.add_argument("what", choices=("schema",), help="the JSON Schema")
    parser.add_argument("kind", nargs="?", choices=_KINDS, default="run",
                        help="config of a run (default), a field or a session")  # fmt: skip
    return parser


def command(argv: Sequence[str]) -> int:
    """Print the schema."""
    kind = schema_parser().parse_args(argv).kind
    print(json.dumps(config_schema(kind), indent=2))
    return 0


def config_schema(kind: str = "run") -> dict[str, Any]:
    """Return the JSON Schema of a kind of config: ``run``, ``field`` or ``calibrate``.

    Parameters of steps, which a run's config has under ``overrides`` and the like, are part of it.
    """
    from steps import STEPS

    options = _options_of(kind)
    schema: dict[str, Any] = {
        "$schema": _DRAFT,
        "title": f"Config of selfcal, {kind}",
        "type": "object",
        "properties": {option.name: _of_option(option) for option in options},
        "additionalProperties": False,
    }
    if kind == "run":
        steps = {
            name: {
                "type": "object",
                "properties": {option.name: _of_option(option) for option in step.options},
                "additionalProperties": False,
            }
            for name, step in STEPS.items()
        }
        for table in ("init_parameters", "overrides"):
            schema["properties"][table]["properties"] = steps
            schema["properties"][table]["additionalProperties"] = False
    return schema


def _options_of(kind: str) -> Sequence[Option]:
    if kind == "field":
        from steps.field.field_options import FIELD_OPTIONS

        return FIELD_OPTIONS
    if kind == "calibrate":
        from steps.calibrate.calibrate_options import CALIBRATE_OPTIONS

        return CALIBRATE_OPTIONS
    from steps.run_options import RUN_OPTIONS

    return RUN_OPTIONS


def _of_option(option: Option) -> dict[str, Any]:
    """Return the schema of one option; numbers may be written as text, as YAML gives them."""
    names = {"type": "array", "items": {"type": "string"}}
    forms: dict[str, list[dict[str, Any]]] = {
        "int": [{"type": "integer"}],
        "float": [{"type": "number"}],
        "bool": [{"type": "boolean"}],
        "str": [{"type": "string"}, {"type": "integer"}],
        "choice": [{"enum": list(option.choices)}],
        "names": [{"type": "string"}, names],
        "path": [{"type": "string"}],
        "paths": [{"type": "string"}, names],
        "files": [{"type": "string"}, names, {"type": "object"}],
        "rounds": [{"type": "array", "items": names}],
        "size": [{"type": "integer", "minimum": 16},
                 {"type": "array", "items": {"type": "integer", "minimum": 16},
                  "minItems": 2, "maxItems": 2}],
        "spwmap": [{"type": "array", "items": {"type": "integer"}}],
        "table": [{"type": "object"}],
    }  # fmt: skip
    if option.kind in UNITS:
        found: list[dict[str, Any]] = [
            {"type": "string", "description": f'with its unit, as "{UNITS[option.kind][1]}"'}
        ]
    else:
        found = [dict(form) for form in forms[option.kind]]
    if option.minimum is not None and option.kind in ("int", "float"):
        found[0]["minimum"] = option.minimum
    found += [{"const": word} for word in option.words]
    about = {"description": option.meaning, "default": option.default}
    return about | (found[0] | about if len(found) == 1 else {"anyOf": found})
