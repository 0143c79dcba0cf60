"""Writes the pages of docs/reference from the code: ``python docs/generate.py [--check]``.

A test compares the pages with the code, so that the documentation cannot drift from it. The page of
the library, which changes with every docstring, is written when the documentation is built and is
not kept.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
NOTE = "<!-- made by docs/generate.py from the code; do not edit -->"
# Parts of the library that are meant to be used from Python, in the order of the page.
ROOMS = (
    "ms", "flagging", "weights", "gains", "closure", "heldout", "imaging", "h5parm", "catalogues",
    "directions", "record", "inputs", "simulation", "core",
)  # fmt: skip

sys.path.insert(0, str(ROOT))


# -- tables ---------------------------------------------------------------------------------------


def _cell(text: str) -> str:
    """Return text as a cell of a table holds it."""
    return " ".join(str(text).split()).replace("|", r"\|").replace("<", r"\<").replace("*", r"\*")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _default(value: Any) -> str:
    """Return a default as a user would write it."""
    if value in ("", None) or value == [] or value == {} or value == ():
        return "-"
    if isinstance(value, (list, tuple)):
        return f"`{list(value)}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _kind(option: Any) -> str:
    """Return the kind of an option with its unit, choices and words."""
    from selfcal.options import UNITS

    text = {
        "int": "whole number", "float": "number", "bool": "True or False", "str": "text",
        "names": "list of names", "path": "file or folder", "paths": "list of files",
        "files": "file, list of files, or files by target or band",
        "rounds": "list of lists of steps", "size": "pixels, a number or a pair",
        "spwmap": "list of spectral windows", "table": "mapping",
    }.get(option.kind, option.kind)  # fmt: skip
    if option.kind in UNITS:
        text = f'{option.kind} with its unit, as `"{UNITS[option.kind][1]}"`'
    if option.choices:
        text = ("one of " if option.kind == "choice" else "of ") + ", ".join(
            f"`{choice}`" if choice else "empty" for choice in option.choices
        )
    words = [f"`{word}`" for word in option.words]
    return f"{text}; or {', '.join(words)}" if words else text


def _options(options: Sequence[Any]) -> str:
    """Return the table of options."""
    rows = [(f"`{o.name}`", _kind(o), _default(o.default), _cell(o.meaning)) for o in options]
    return _table(("name", "kind", "default", "meaning"), rows)


# -- pages ----------------------------------------------------------------------------------------


def command_line() -> str:
    """Return the page of all commands, from their parsers."""
    parts = ["# Command line", "The command is `auto-selfcal` once installed, `python auto_selfcal"
             ".py` in a checkout."]  # fmt: skip
    for name, parser in _parsers():
        parts += [f"## {name}", _cell(parser.description or "")]
        nested = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        parts.append(_arguments(parser))
        for action in nested:
            for word, sub in action.choices.items():
                parts += [f"### solutions {word}", _cell(sub.description or ""), _arguments(sub)]
    return "\n\n".join(part for part in parts if part)


def _parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield each command's name and parser."""
    from auto_selfcal import COMMANDS
    from steps.commands.parsers import parser_of

    yield "The main command", parser_of("")
    for name in COMMANDS:
        yield f"`{name}`", parser_of(name)


def _arguments(parser: argparse.ArgumentParser) -> str:
    """Return the table of a parser's arguments."""
    rows = []
    for action in parser._actions:
        if isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)):
            continue
        value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
        value = " ".join(value) if isinstance(value, tuple) else value
        takes = action.nargs != 0 and not isinstance(action, argparse._VersionAction)
        words = [f"{flag} {value}" if takes else flag for flag in action.option_strings]
        shown = ", ".join(f"`{word}`" for word in words) or f"`{action.metavar or action.dest}`"
        if action.choices:
            shown += " (" + ", ".join(str(choice) for choice in action.choices) + ")"
        rows.append((shown.replace("|", r"\|"), _cell(action.help or "")))
    return _table(("argument", "meaning"), rows) if rows else ""


def config_keys() -> str:
    """Return the page of the keys of all kinds of config."""
    from steps.calibrate.calibrate_options import CALIBRATE_OPTIONS
    from steps.field.field_options import FIELD_OPTIONS
    from steps.run_options import RUN_OPTIONS
    from steps.vlass.vlass_options import VLASS_OPTIONS

    return "\n\n".join(
        [
            "# Config keys",
            "A config is Python assignments or YAML. [Choosing options](../options.md) says more"
            " about what they do.",
            "## Keys of a run",
            _options(RUN_OPTIONS),
            "## Keys of a field",
            "For `auto-selfcal field`, see [LOFAR](../lofar.md).",
            _options(FIELD_OPTIONS),
            "## Keys of a session",
            "For `auto-selfcal calibrate`, see [sessions](../sessions.md).",
            _options(CALIBRATE_OPTIONS),
            "## Keys of a cube of the VLA Sky Survey",
            "For `auto-selfcal vlass_cube`, see [its page](../vlass_cube.md).",
            _options(VLASS_OPTIONS),
        ]
    )


def step_parameters() -> str:
    """Return the page of the parameters of all steps; steps of one class share a table."""
    from selfcal.step import Step
    from steps import STEPS

    classes: dict[type[Step], list[str]] = {}
    for name in STEPS:
        classes.setdefault(STEPS[name], []).append(name)
    parts = [
        "# Parameters of steps",
        "A parameter is set with `overrides` in a config or with `--set STEP.NAME=VALUE`. Defaults"
        " hold where neither `base.yaml` nor a [template](templates.md) says otherwise.",
    ]
    for kind, names in classes.items():
        parts += ["## " + ", ".join(f"`{name}`" for name in names), _first_line(kind.__doc__)]
        parts.append(_options(kind.options) if kind.options else "It has no parameters.")
    return "\n\n".join(parts)


def templates() -> str:
    """Return the page of all templates, as they are shipped, and of the rules that choose."""
    from selfcal.template_files import TEMPLATE_DIR, template_names

    parts = [
        "# Templates",
        "What they are is said in [Templates](../templates.md). These are the files as shipped.",
    ]
    for name in ("selection", "base", *template_names()):
        text = (TEMPLATE_DIR / f"{name}.yaml").read_text().strip()
        parts += [f"## `{name}.yaml`", f"```yaml\n{text}\n```"]
    return "\n\n".join(parts)


def files() -> str:
    """Return the page of the columns of the records."""
    from dataclasses import fields

    from reports.records import GainRow
    from selfcal.state import COLUMNS

    parts = ["# Formats of the records", "Which files a run writes is said in"
             " [What comes out](../outputs.md)."]  # fmt: skip
    parts += ["## `steps.csv`", ", ".join(f"`{name}`" for name in COLUMNS) + "."]
    parts.append("Tables, products, metrics and settings are JSON. Times are in seconds.")
    gains = ", ".join(f"`{field.name}`" for field in fields(GainRow))
    parts += ["## `gains.csv`", f"{gains}."]
    parts += ["## `images.csv`", "A row for each image: `step`, `image` and what was measured"
              " on it, the unit in each column's name."]  # fmt: skip
    return "\n\n".join(parts)


def summary() -> str:
    """Return the page of the keys of summary.json."""
    from reports.summary import STATE_MEANINGS, SUMMARY_MEANINGS

    def rows(meanings: Mapping[str, str]) -> list[tuple[str, str]]:
        return [(f"`{key}`", text) for key, text in meanings.items()]

    return "\n\n".join(
        [
            "# `summary.json`",
            "Paths are relative to the work directory. Of several targets the same is under"
            " `targets`, by name.",
            _table(("key", "content"), rows(SUMMARY_MEANINGS)),
            "## Figures of an image",
            _table(("key", "content"), rows(STATE_MEANINGS)),
        ]
    )


def library() -> str:
    """Return the page of the library's public names, from their docstrings."""
    parts = ["# The library", "Everything under `libs` can be imported and knows nothing of runs."
             " Docstrings state shapes, units, errors and the source of each formula."]  # fmt: skip
    for room in ROOMS:
        folder = ROOT / "libs" / room
        parts.append(f"## `libs.{room}`")
        for path in sorted(folder.rglob("*.py")):
            rows = list(_public(path))
            if rows:
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                first = _first_line(ast.get_docstring(ast.parse(path.read_text())))
                parts += [f"### `{module}`", first, _table(("name", "meaning"), rows)]
    return "\n\n".join(parts)


def _public(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the public functions and classes of a module with their docstrings' first lines."""
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names = set(ast.literal_eval(node.value))
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in names:
            yield f"`{node.name}`", _first_line(ast.get_docstring(node))


def _first_line(text: str | None) -> str:
    """Return the first line of a docstring, fit for a cell of a table."""
    first = (text or "").strip().split("\n\n")[0]
    return _cell(first.replace("``", "`"))


KEPT_OUT = {"library"}  # written by docs/conf.py when the documentation is built
PAGES = {
    "command_line": command_line,
    "config_keys": config_keys,
    "step_parameters": step_parameters,
    "templates": templates,
    "files": files,
    "summary": summary,
    "library": library,
}


def page(name: str) -> str:
    """Return the text of a page."""
    return f"{NOTE}\n\n{PAGES[name]()}\n"


def write(names: Sequence[str], *, check: bool = False) -> list[str]:
    """Write pages that differ from the code, or only compare; return their names."""
    REFERENCE.mkdir(exist_ok=True)
    old = []
    for name in names:
        path = REFERENCE / f"{name}.md"
        text = page(name)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            old.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    return old


def main() -> int:
    """Write the pages, or with ``--check`` name those that differ from the code."""
    parser = argparse.ArgumentParser(description="Write docs/reference from the code.")
    parser.add_argument("--check", action="store_true", help="only compare; exit code 1 if old")
    check = parser.parse_args().check
    old = write([name for name in PAGES if name not in KEPT_OUT], check=check)
    if check and old:
        print(f"not as the code is: {', '.join(old)}; run python docs/generate.py")
    return int(check and bool(old))


if __name__ == "__main__":
    sys.exit(main())
