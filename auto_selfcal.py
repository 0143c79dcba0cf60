"""The command: self-calibrate what config.py names, and what goes with it."""

from __future__ import annotations

import importlib
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from libs.core.errors import SelfcalError
from selfcal.options import unknown_name
from steps.commands.command_line import Reports, RunDrawer

ROOT = Path(__file__).resolve().parent
DEMONSTRATION = ROOT / "templates" / "demonstration.py"
COMMANDS = (
    "inspect", "init", "apply", "bundle", "restore", "solutions", "calibrate", "field",
    "vlass_cube", "report", "doctor",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 done, 1 a step failed, 2 the config is wrong."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except SelfcalError as error:
        from selfcal.child_runs import exit_code

        print(f"selfcal: {error}", file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        print("selfcal: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1


def _dispatch(words: list[str]) -> int:
    """Hand the words over to the command that they name; without a name it is the main one."""
    name = words[0] if words else ""
    if name in COMMANDS:
        given = {
            "inspect": (_program(),),
            "init": (_program(),),
            "apply": (REPORTS,),
            "calibrate": (REPORTS,),
            "field": (REPORTS,),
            "vlass_cube": (REPORTS,),
            "report": (REPORTS,),
        }
        module = importlib.import_module(f"steps.commands.{name}")
        return int(module.command(words[1:], *given.get(name, ())))
    if name and not name.startswith("-") and not _is_config(name):
        raise unknown_name("command", name, COMMANDS)
    from steps.commands import run

    return run.command(words, REPORTS, _default_config, COMMANDS)


def _is_config(word: str) -> bool:
    """Whether a word names a config file, be it there or not, rather than a command."""
    path = Path(word)
    return path.exists() or len(path.parts) > 1 or bool(path.suffix)


def _program() -> str:
    """How this program is called from any folder."""
    beside = ROOT / "auto_selfcal.py"
    if Path(sys.argv[0]).name == "auto-selfcal":
        return "auto-selfcal"
    return f"python {shlex.quote(str(beside))}"


def _default_config() -> Path:
    """Return config.py of the current folder; where there is none, the demonstration's."""
    here = Path("config.py")
    if here.exists():
        return here
    shipped = DEMONSTRATION.resolve()  # in a checkout a link to its config.py
    print(f"no config.py in this folder: the demonstration is run, {shipped}", file=sys.stderr)
    return shipped


# -- the reports, of which steps know nothing -----------------------------------------------------


def _drawer(workdir: Path) -> RunDrawer:
    from reports.drawer import Drawer

    return Drawer(workdir)


def _summary(workdir: Path, versions: Mapping[str, str], status: str) -> dict[str, Any]:
    from reports.summary import write_summary

    return write_summary(workdir, versions, status)


def _table(summary: Mapping[str, Any]) -> str:
    from reports.tables import final_table

    return final_table(summary)


def _targets(workdir: Path, results: Sequence[Mapping[str, Any]]) -> str:
    from reports.targets_report import finish_targets

    return finish_targets(workdir, results)


def _field(workdir: Path) -> Path:
    from reports.field_report import write_field_report

    return write_field_report(workdir)


def _session(workdir: Path) -> Path:
    from reports.session_page import write_session_page

    return write_session_page(workdir)


def _vlass(workdir: Path) -> Path:
    from reports.vlass_page import write_vlass_page

    return write_vlass_page(workdir)


def _any_run(workdir: Path) -> Path:
    from reports.html import write_report
    from reports.targets_report import write_targets_report
    from steps.applying import has_targets

    if (workdir / "sources.json").exists():
        return _field(workdir)
    if (workdir / "edit_image_list_seip.json").exists():
        return _vlass(workdir)
    if (workdir / "roles.json").exists():
        return _session(workdir)
    return (write_targets_report if has_targets(workdir) else write_report)(workdir)


REPORTS = Reports(_drawer, _summary, _table, _targets, _field, _session, _vlass, _any_run)


if __name__ == "__main__":
    # a closed pipe (| head) ends the program as it does others
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
