"""``report WORKDIR``: draw the figures and write report.html anew."""

from __future__ import annotations

import argparse
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from libs.core.errors import ToolError
from steps.commands.command_line import Reports
from steps.commands.words import usage_name

__all__ = ["command", "report_parser"]


def report_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog=usage_name("report"), description="Draw the figures and write report.html anew."
    )
    parser.add_argument("--open", action="store_true", help="then show it in the browser")
    parser.add_argument("workdir", help="work directory of a run, a field or a session")
    return parser


def command(argv: Sequence[str], reports: Reports) -> int:
    """Write the report of whatever was run in a work directory and print its name."""
    arguments = report_parser().parse_args(argv)
    page = reports.any_run(Path(arguments.workdir))
    print(page)
    if arguments.open and not webbrowser.open(page.absolute().as_uri()):
        raise ToolError("no browser could be started", f"open {page} yourself")
    return 0
