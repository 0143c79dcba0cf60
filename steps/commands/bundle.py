"""``bundle WORKDIR``: one archive with the record of a run and its gain tables."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from steps.commands.words import usage_name

__all__ = ["bundle_parser", "command"]


def bundle_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog=usage_name("bundle"),
        description="Write the record of a run and the gain tables it names to one archive, which"
        " `restore` applies without the work directory. It holds no data.",
    )
    parser.add_argument("workdir")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="the archive (default:"
                        " PREFIX.selfcal.tgz in this folder)")  # fmt: skip
    return parser


def command(argv: Sequence[str]) -> int:
    """Write the archive and print where it is."""
    arguments = bundle_parser().parse_args(argv)
    from steps.record.bundling import bundle_run

    print(bundle_run(Path(arguments.workdir).absolute(), arguments.output))
    return 0
