"""The command: self-calibrate what config.py names, and what goes with it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from libs.core.disk import disk_error, leave
from libs.core.errors import SelfcalError
from selfcal.options import unknown_name
from steps.commands.command_line import Reports
from steps.commands.words import is_config, program_name

if TYPE_CHECKING:
    from steps.api import Api

HERE = Path(__file__).resolve()
DEMONSTRATION = HERE.parent / "templates" / "demonstration.py"
COMMANDS = (
    "inspect", "init", "apply", "bundle", "restore", "solutions", "calibrate", "field",
    "vlass_cube", "report", "config", "completion", "doctor",
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
        # whoever read the output has gone (| head), so there is nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, RuntimeError) as error:
        refused = disk_error(error)
        if refused is None:
            raise
        print(f"selfcal: {refused}", file=sys.stderr)
        return 1


def _dispatch(words: list[str]) -> int:
    """Hand the words over to the command that they name; without a name it is the main one."""
    name = words[0] if words else ""
    if name in COMMANDS:
        given: dict[str, tuple[Any, ...]] = dict.fromkeys(
            ("inspect", "init"), (program_name(HERE),)
        )
        with_reports = ("apply", "calibrate", "field", "vlass_cube", "report")
        given |= dict.fromkeys(with_reports, (REPORTS,))
        given |= {"completion": (COMMANDS,)}
        module = importlib.import_module(f"steps.commands.{name}")
        return int(module.command(words[1:], *given.get(name, ())))
    if name and not name.startswith("-") and not is_config(name):
        raise unknown_name("command", name, COMMANDS)
    from steps.commands import run

    return run.command(words, REPORTS, _default_config, COMMANDS)


def _default_config() -> Path:
    """Return config.py of the current folder; where there is none, the demonstration's."""
    here = Path("config.py")
    if here.exists():
        return here
    shipped = DEMONSTRATION.resolve()  # in a checkout a link to its config.py
    print(f"no config.py in this folder: the demonstration is run, {shipped}", file=sys.stderr)
    return shipped


# -- the reports, of which steps know nothing -----------------------------------------------------


def _later(module: str, name: str) -> Callable[..., Any]:
    """Return a function of the reports, imported when it is called: plots take a second to load."""

    def call(*given: Any) -> Any:
        return getattr(importlib.import_module(f"reports.{module}"), name)(*given)

    return call


def _any_run(workdir: Path) -> Path:
    from reports.html import write_report
    from reports.targets_report import write_targets_report
    from steps.applying import has_targets

    if (workdir / "sources.json").exists():
        return REPORTS.field(workdir)
    if (workdir / "edit_image_list_seip.json").exists():
        return REPORTS.vlass(workdir)
    if (workdir / "roles.json").exists():
        return REPORTS.session(workdir)
    return (write_targets_report if has_targets(workdir) else write_report)(workdir)


REPORTS = Reports(
    _later("drawer", "Drawer"),
    _later("summary", "write_summary"),
    _later("tables", "final_table"),
    _later("targets_report", "finish_targets"),
    _later("field_report", "write_field_report"),
    _later("session_page", "write_session_page"),
    _later("vlass_page", "write_vlass_page"),
    _any_run,
)


def python_api() -> Api:
    """Return the functions for Python, as `selfcal` offers them."""
    from steps.api import Api

    return Api(REPORTS)


def program() -> None:
    """Run the command as a program of its own, which ends with its exit code."""
    leave(main())


if __name__ == "__main__":
    program()
