"""``calibrate CONFIG``: from the correlator's data to calibrated, imaged targets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from libs.core.errors import InputError, SelfcalError
from libs.core.numbers import counted
from selfcal.progress import Progress
from selfcal.settings import Settings
from steps.calibrate.calibrate_options import CALIBRATE_OPTIONS
from steps.commands.command_line import (
    Reports,
    RunArguments,
    config_parser,
    make_pipeline,
    run_with_config,
    show_plan,
)
from steps.commands.run_log import log_to

if TYPE_CHECKING:
    from selfcal.step import Step

__all__ = ["SessionsFailed", "calibrate_parser", "command", "run_session"]

_DESCRIPTION = (
    "Calibrate a session: find out which field is what, solve for delays,"
    " bandpass and gains, carry the flux scale over, image the calibrators, self-calibrate"
    " the targets. What is done is reused."
)
_EXAMPLE = """\
  vis: [session.ms]              # flux calibrator, phase calibrator and targets
  workdir: work_calibrate
"""


def calibrate_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    return config_parser("calibrate", _DESCRIPTION, _EXAMPLE, CALIBRATE_OPTIONS)


def command(argv: Sequence[str], reports: Reports | None = None) -> int:
    """Calibrate a session; failures are raised.

    Parameters
    ----------
    argv : sequence of str
        Without the program's and the command's name.
    reports : Reports, optional
        Without them no report is written.
    """
    return run_with_config(calibrate_parser(), argv, CALIBRATE_OPTIONS, run_session, reports)


class SessionsFailed(SelfcalError):  # noqa: N818 - what happened, not a kind of error
    """Some sessions failed, the others are done (exit code 1)."""


def run_session(path: Path, arguments: RunArguments, reports: Reports | None) -> Settings:
    """Run, list or plan what a session's config asks for; return its settings."""
    from steps.calibrate.calibrate_settings import load_calibrate_settings
    from steps.work_directory import check_owner

    settings = load_calibrate_settings(path, arguments.assignments)
    if not settings["project"]:
        check_owner(settings, arguments.steps)
        _run_session(settings, arguments, reports)
    else:
        _run_project(settings, arguments, reports)
    return settings


def _run_project(settings: Settings, arguments: RunArguments, reports: Reports | None) -> None:
    """Ingest what is new of a project, then calibrate each of its sessions."""
    from steps.calibrate.ingest import ingested_sets
    from steps.calibrate.plan import PROJECT_STEPS, project_steps

    named = [arguments.steps[key] for key in ("start", "until", "only") if arguments.steps[key]]
    own = any(name in PROJECT_STEPS for name in named)
    first = arguments if own or not named else replace(arguments, steps={"restart": False})
    _run_steps(settings, project_steps(), first)
    ends_here = own and (arguments.steps["until"] or arguments.steps["only"])
    if ends_here:
        return
    failed = []
    later = replace(arguments, steps={**arguments.steps, "start": ""}) if own else arguments
    for name, sets in ingested_sets(settings.workdir).items():
        values = {
            **settings.values, "vis": tuple(map(str, sets)), "project": "",
            "workdir": str(settings.workdir / name),
        }  # fmt: skip
        one = Settings(values, settings.origin, settings.config, {})
        print(f"== {name}", flush=True)
        try:
            if not sets:
                raise InputError("none of its scans could be read", "copy them again")
            _run_session(one, later, reports)
        except SelfcalError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed.append(name)
    if failed:
        raise SessionsFailed(
            f"{counted(len(failed), 'session')} failed: {', '.join(failed)}",
            "the others are done; the same command tries again",
        )


def _run_session(settings: Settings, arguments: RunArguments, reports: Reports | None) -> None:
    from steps.calibrate.plan import session_steps

    steps = session_steps(settings["steps"])
    progress = arguments.progress(quiet=settings["quiet"])
    try:
        _run_steps(settings, steps, arguments)
    except SelfcalError:
        _finish(settings.workdir, "failed", reports, progress)
        raise
    if not (arguments.listed or arguments.planned):
        _finish(settings.workdir, "", reports, progress)


def _run_steps(settings: Settings, steps: Sequence[Step], arguments: RunArguments) -> None:
    """Run, list or plan steps in the work directory of the settings."""
    from selfcal.state import hold_workdir
    from steps.data_state import mend_working_copies
    from steps.tools import make_tools
    from steps.work_directory import note_owner

    if arguments.listed or arguments.planned:
        show_plan(make_pipeline(settings, steps, Progress(quiet=True)), arguments)
        return
    workdir = settings.workdir
    with hold_workdir(workdir), log_to(workdir / "run.log", arguments.log_json):
        if not settings["project"]:
            note_owner(settings)
        progress = arguments.progress(quiet=settings["quiet"])
        mended = mend_working_copies(workdir)
        if mended:
            progress.note(mended)
        tools = make_tools(
            settings["imager"], settings["solver"], workdir / "logs",
            stall_s=settings["tool_stall"], on_wait=progress.tick, tell=progress.detail,
        )  # fmt: skip
        pipeline = make_pipeline(settings, steps, progress, tools=tools)
        try:
            pipeline.run(**arguments.steps)
        finally:
            pipeline.context.ahead.close()
            tools.close()


def _finish(workdir: Path, status: str, reports: Reports | None, progress: Progress) -> None:
    """Write summary.json and the report; print a table of the fields."""
    from steps.calibrate.session_summary import session_table, write_session_summary

    if not (workdir / "roles.json").exists():
        return
    summary = write_session_summary(workdir, status)
    progress.result(session_table(summary))
    if reports:
        progress.note(f"report: {reports.session(workdir)}")
