"""``init INSTRUMENT``: write a commented config to edit."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from libs.core.errors import ConfigError
from selfcal.options import unknown_name
from selfcal.template_files import TEMPLATE_DIR

__all__ = ["command"]


def command(argv: Sequence[str], program: str) -> int:
    """Write the config and print what to do with it.

    Parameters
    ----------
    argv : sequence of str
        Without the program's and the command's name.
    program : str
        How the program is called from any folder, for the text.
    """
    folder = TEMPLATE_DIR / "configs"
    known = sorted(path.stem for path in folder.glob("*.py"))
    parser = argparse.ArgumentParser(
        prog="auto_selfcal.py init", description="Write a commented config to edit."
    )
    parser.add_argument("instrument", help=", ".join(known))
    parser.add_argument("-o", "--output", default="config.py", help="file to write")
    arguments = parser.parse_args(argv)
    if arguments.instrument not in known:
        raise unknown_name("instrument", arguments.instrument, known)
    target = Path(arguments.output)
    if target.exists():
        raise ConfigError(f"{target} exists", "name another file with -o, or remove it")
    target.write_text((folder / f"{arguments.instrument}.py").read_text())
    print(f"{target} written: set vis, then {program} {shlex.quote(str(target.absolute()))}")
    return 0
