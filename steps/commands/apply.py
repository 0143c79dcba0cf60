"""``apply WORKDIR``: apply the final tables of a run to the original data."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from libs.core.errors import ConfigError
from steps.commands.command_line import Reports
from steps.commands.restore import add_how, how_of
from steps.commands.words import usage_name

__all__ = ["apply_parser", "command"]


def apply_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog=usage_name("apply"),
        description="Apply the final tables of a run to the original data: CORRECTED_DATA and FLAG"
        " are written, the flags saved beforehand.",
    )
    parser.add_argument("workdir")
    parser.add_argument("--to", nargs="+", default=[], metavar="MS", help="the measurement sets to"
                        " write (default: the run's inputs)")  # fmt: skip
    parser.add_argument("--field", default="", metavar="NAME[,NAME]|all",
                        help="other fields whose rows are written, of any data with the same"
                        " windows (default: the run's own)")  # fmt: skip
    add_how(parser)
    return parser


def command(argv: Sequence[str], reports: Reports) -> int:
    """Apply the tables, print what was done to each data set, and say so in the report."""
    arguments = apply_parser().parse_args(argv)
    from steps.applying import apply_run, has_targets
    from steps.record.build import record_of_run
    from steps.record.restore import apply_record

    workdir = Path(arguments.workdir).absolute()
    how = how_of(arguments)
    if arguments.field or record_of_run(workdir) is None:
        if how.dry_run or how.script or how.overwrite or len(arguments.to) > 1:
            raise ConfigError(
                "--dry-run, --script, --overwrite and several sets after --to go by the record of"
                " a run, for its own fields",
                "leave --field out; a run without a record writes one when it is started again",
            )
        lines = apply_run(workdir, arguments.to[0] if arguments.to else None, arguments.field)
    else:
        lines = apply_record(workdir, [Path(name).expanduser() for name in arguments.to], how)
    for line in lines:
        print(line, flush=True)
    if has_targets(workdir) and not (how.dry_run or how.script):
        reports.any_run(workdir)
    return 0
