"""``restore X --to MS``: apply a bundle's solutions to another import of the observation."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from steps.commands.words import usage_name

if TYPE_CHECKING:
    from steps.record.restore import HowToApply

__all__ = ["add_how", "command", "how_of", "restore_parser"]


def restore_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog=usage_name("restore"),
        description="Apply the solutions of a bundle to measurement sets of the same observation:"
        " CORRECTED_DATA and FLAG are written, the flags saved beforehand. Antennas, windows and"
        " fields are found by name, frequency and direction. Nothing is written before all is"
        " checked.",
    )
    parser.add_argument("bundle", help="X.selfcal.tgz, or the folder of one that was unpacked")
    parser.add_argument("--to", nargs="+", required=True, metavar="MS", help="the measurement sets")
    add_how(parser)
    return parser


def command(argv: Sequence[str]) -> int:
    """Check the bundle and the data, apply, and print what was done."""
    arguments = restore_parser().parse_args(argv)
    from steps.record.restore import restore

    to = [Path(name).expanduser() for name in arguments.to]
    for line in restore(Path(arguments.bundle).expanduser(), to, how_of(arguments)):
        print(line, flush=True)
    return 0


def add_how(parser: argparse.ArgumentParser) -> None:
    """Add what `apply` and `restore` share."""
    parser.add_argument("--dry-run", action="store_true", help="check, tell what would be done")
    parser.add_argument("--script", metavar="FILE.py", type=Path, help="write a script of applycal"
                        " calls in place of the data")  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="write over self-calibrated data"
                        " that are registered in the HISTORY of the set")  # fmt: skip


def how_of(arguments: argparse.Namespace) -> HowToApply:
    """Return how to apply, from what was parsed."""
    from steps.record.restore import HowToApply

    return HowToApply(arguments.dry_run, arguments.script, arguments.overwrite)
