"""``init NAME``: write a commented config to edit, of an instrument or a session."""

from __future__ import annotations

import argparse
import re
import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path

from libs.core.errors import ConfigError
from selfcal.options import Option, unknown_name
from selfcal.template_files import TEMPLATE_DIR
from steps.commands.words import usage_name
from steps.ready_configs import ready_config_names, ready_config_text

__all__ = ["command", "init_parser", "other_keys"]


# Commands of ready configs that are not those of a session's calibration.
_COMMANDS = {"vlass_cube": "vlass_cube"}


def _sessions() -> dict[str, Path]:
    """Return the ready configs of sessions by name."""
    return {path.stem: path for path in (TEMPLATE_DIR / "sessions").glob("*.py")}


def _options_of(session: bool) -> Sequence[Option]:
    """Return the keys that a config may have."""
    if session:
        from steps.calibrate.calibrate_options import CALIBRATE_OPTIONS

        return CALIBRATE_OPTIONS
    from steps.run_options import RUN_OPTIONS

    return RUN_OPTIONS


def other_keys(text: str, options: Sequence[Option]) -> str:
    """Return the keys that a config does not assign, as comments with their meaning."""
    lines = ["", "# Keys not used above, with their defaults."]
    for option in options:
        if not re.search(rf"^{option.name}\b", text, re.MULTILINE):
            lines += [f"# {line}" for line in textwrap.wrap(option.meaning, 96)]
            lines.append(f"# {option.name} = {option.default!r}")
    return "\n".join(lines) + "\n"


def init_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog=usage_name("init"), description="Write a commented config to edit."
    )
    known = sorted({*ready_config_names(), *_sessions()})
    parser.add_argument("instrument", help="one of " + ", ".join(known))
    parser.add_argument("--all", action="store_true", dest="every",
                        help="with every key there is, those not used as comments")  # fmt: skip
    parser.add_argument("-o", "--output", default="config.py", help="file to write (config.py)")
    return parser


def command(argv: Sequence[str], program: str) -> int:
    """Write the config and print what to do with it.

    Parameters
    ----------
    argv : sequence of str
        Without the program's and the command's name.
    program : str
        How the program is called from any folder, for the text.
    """
    sessions = _sessions()
    known = sorted({*ready_config_names(), *sessions})
    arguments = init_parser().parse_args(argv)
    if arguments.instrument not in known:
        raise unknown_name("instrument", arguments.instrument, known)
    target = Path(arguments.output)
    if target.exists():
        raise ConfigError(f"{target} exists", "name another file with -o, or remove it")
    session = sessions.get(arguments.instrument)
    text = session.read_text() if session else ready_config_text(arguments.instrument)
    if arguments.every:
        text += other_keys(text, _options_of(bool(session)))
    target.write_text(text)
    word = f"{_COMMANDS.get(arguments.instrument, 'calibrate')} " if session else ""
    key = "project" if "\nproject = " in text else "vis"
    there = shlex.quote(str(target.absolute()))
    print(f"{target} written: set {key}, then {program} {word}{there}")
    return 0
