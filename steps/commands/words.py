"""Words of the command line: what names a config, and how the program is called."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

__all__ = ["is_config", "program_name", "usage_name"]


def is_config(word: str) -> bool:
    """Return True where a word names a config file, be it there or not, rather than a command."""
    path = Path(word)
    return path.exists() or len(path.parts) > 1 or bool(path.suffix)


def program_name(beside: Path) -> str:
    """Return how this program is called from any folder.

    Parameters
    ----------
    beside : Path
        The program's file in a checkout.
    """
    if Path(sys.argv[0]).name == "auto-selfcal":
        return "auto-selfcal"
    return f"python {shlex.quote(str(beside))}"


def usage_name(command: str = "") -> str:
    """Return how the program was called, and which of its commands, for usage messages."""
    name = Path(sys.argv[0]).name
    called = name if name in ("auto-selfcal", "auto_selfcal.py") else "auto_selfcal.py"
    return f"{called} {command}".rstrip()
