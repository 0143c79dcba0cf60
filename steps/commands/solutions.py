"""``solutions list|check|best|combine|merge|apply|export``: h5parms from the command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from steps.commands.words import usage_name

__all__ = ["command", "make_parser"]


def command(argv: Sequence[str]) -> int:
    """Run one subcommand; return 0, or 1 when ``check`` found errors."""
    # A declination of -12d30m is no option: argparse takes words with a space for values.
    words = [f" {word}" if re.match(r"-[\d.]", word) else word for word in argv]
    arguments = make_parser().parse_args(words)
    from steps.commands.solution_actions import ACTIONS

    return ACTIONS[arguments.command](arguments)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the subcommands."""
    parser = argparse.ArgumentParser(
        prog=usage_name("solutions"),
        description="The global table of solutions over direction and station, and other h5parms.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    sub = command("list", "each direction and station: origin, coherence, date")
    sub.add_argument("h5parm", type=Path)
    sub = command("check", "whether LoSoTo, DP3 and WSClean can read it")
    sub.add_argument("h5parm", type=Path, nargs="+")
    _add_best(command("best", "per station the nearest direction with good solutions"))
    sub = command("combine", "multiply two tables: initial x incremental")
    sub.add_argument("initial", type=Path)
    sub.add_argument("incremental", type=Path)
    sub.add_argument("-o", "--output", type=Path, required=True)
    sub.add_argument(
        "--frequencies", help="MHz, comma separated; default: the union of both tables'"
    )
    _add_soltabs(sub)
    sub = command("merge", "add the directions of other files to a table")
    sub.add_argument("into", type=Path)
    sub.add_argument("source", type=Path, nargs="+")
    sub.add_argument("--force", action="store_true", help="take older solutions too")
    _add_soltabs(sub)
    sub = command("export", "write a CASA gain table for a measurement set")
    sub.add_argument("h5parm", type=Path)
    sub.add_argument("--ms", type=Path, required=True, help="the data it is to be applied to")
    sub.add_argument("-o", "--output", type=Path, required=True)
    sub.add_argument("--name", help="which direction, when there are several")
    _add_soltabs(sub)
    sub = command("apply", "apply the solutions of one direction to data")
    sub.add_argument("h5parm", type=Path)
    sub.add_argument("ms", type=Path)
    sub.add_argument("--name", help="which direction, when there are several")
    sub.add_argument(
        "--field", default="all", metavar="NAME[,NAME]", help="rows written; default: all"
    )
    _add_soltabs(sub)
    return parser


def _add_soltabs(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--soltabs",
        type=lambda text: text.split(","),
        help="comma separated, e.g. tec000,amplitude000; default: the first of each type",
    )


def _add_best(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("h5parm", type=Path)
    sub.add_argument(
        "--direction", nargs=2, metavar=("RA", "DEC"), required=True, help="deg, or with a unit"
    )
    sub.add_argument("-o", "--output", type=Path, help="h5parm to write; default: only tell")
    sub.add_argument("--name", default="best", help="name of the direction in it (best)")
    sub.add_argument(
        "--min-good", type=float, default=0.5, help="least unflagged fraction, 0 to 1 (0.5)"
    )
    sub.add_argument(
        "--min-coherence", type=float, default=0.5, help="least coherence, 0 to 1 (0.5)"
    )
    sub.add_argument("--max-separation", default="180deg", help="farthest direction (any)")
    sub.add_argument(
        "--missing",
        choices=("flag", "unit"),
        default="flag",
        help="stations with nothing good: flagged, or left as they are (flag)",
    )
