"""``calibrate CONFIG``: from the correlator's data to calibrated, imaged targets."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from selfcal.progress import Progress
from steps.calibrate.calibrate_options import CALIBRATE_OPTIONS
from steps.commands.command_line import (
    Reports,
    RunArguments,
    add_run_arguments,
    log_to,
    make_pipeline,
    option_list,
    outcome_to,
    show_plan,
)

__all__ = ["command"]

_EXAMPLE = """\
  vis: [session.ms]              # flux calibrator, phase calibrator and targets
  workdir: work_calibrate
"""


def command(argv: Sequence[str], reports: Reports | None = None) -> int:
    """Calibrate a session; failures are raised.

    Parameters
    ----------
    argv : sequence of str
        Without the program's and the command's name.
    reports : Reports, optional
        Without them no report is written.
    """
    parsed = _parser().parse_args(list(argv))
    with outcome_to(parsed.outcome):
        _run(Path(parsed.config), RunArguments.read(parsed), reports)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="auto_selfcal.py calibrate",
        description="Calibrate a session: find out which field is what, solve for delays,"
        " bandpass and gains, carry the flux scale over, image the calibrators, self-calibrate"
        " the targets. What is done is reused.",
        epilog=f"an example, session.yaml:\n{_EXAMPLE}\nconfig keys:\n"
        f"{option_list(CALIBRATE_OPTIONS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", help="config file, Python or YAML")
    add_run_arguments(parser)
    return parser


def _run(path: Path, arguments: RunArguments, reports: Reports | None) -> None:
    from selfcal.pipeline import StepFailed
    from selfcal.state import hold_workdir
    from steps.calibrate.calibrate_settings import load_calibrate_settings
    from steps.calibrate.plan import session_steps
    from steps.data_state import mend_working_copies
    from steps.tools import make_tools

    settings = load_calibrate_settings(path, arguments.assignments)
    steps = session_steps(settings["steps"])
    if arguments.listed or arguments.planned:
        show_plan(make_pipeline(settings, steps, Progress(quiet=True)), arguments)
        return
    workdir = settings.workdir
    with hold_workdir(workdir), log_to(workdir / "run.log"):
        progress = Progress(quiet=settings["quiet"])
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
        except StepFailed:
            _finish(workdir, "failed", reports, progress)
            raise
        finally:
            pipeline.context.ahead.close()
            tools.close()
        _finish(workdir, "", reports, progress)


def _finish(workdir: Path, status: str, reports: Reports | None, progress: Progress) -> None:
    """Write summary.json and the report; print a table of the fields."""
    from steps.calibrate.session_summary import session_table, write_session_summary

    if not (workdir / "roles.json").exists():
        return
    summary = write_session_summary(workdir, status)
    print(session_table(summary), flush=True)
    if reports:
        progress.note(f"report: {reports.session(workdir)}")
