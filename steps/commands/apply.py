"""``apply WORKDIR``: apply the final tables of a run to the original data."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

__all__ = ["apply_parser", "command"]


def apply_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="auto_selfcal.py apply",
        description="Apply the final tables of a run to the original data: CORRECTED_DATA and FLAG"
        " are written, the flags saved beforehand.",
    )
    parser.add_argument("workdir")
    parser.add_argument("--to", help="the measurement set to write (default: the run's input)")
    parser.add_argument("--field", default="", metavar="NAME[,NAME]|all",
                        help="fields whose rows are written (default: the run's)")  # fmt: skip
    return parser


def command(argv: Sequence[str]) -> int:
    """Apply the tables and print what was done to each data set."""
    arguments = apply_parser().parse_args(argv)
    from steps.applying import apply_run

    for line in apply_run(Path(arguments.workdir).absolute(), arguments.to, arguments.field):
        print(line)
    return 0
