"""``vlass_cube CONFIG``: images of a self-calibrated VLA Sky Survey set by groups of windows."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from libs.core.errors import SelfcalError
from libs.core.files import write_atomically
from selfcal.progress import Progress
from selfcal.settings import Settings
from steps.commands.command_line import (
    Reports,
    RunArguments,
    config_parser,
    make_pipeline,
    run_with_config,
    show_plan,
)
from steps.commands.run_log import log_to
from steps.vlass.vlass_options import VLASS_OPTIONS

if TYPE_CHECKING:
    from selfcal.step import Step

__all__ = ["GroupsFailed", "command", "vlass_parser"]

_DESCRIPTION = (
    "Restore a self-calibrated VLA Sky Survey set to the state in which its continuum run imaged"
    " it, and image it in Stokes I, Q, U and V for each group of spectral windows. What is done is"
    " reused."
)
_EXAMPLE = """\
  vis: VLASS2.1.sb1.eb1_split_split.ms
  resources: reimaging_resources.tgz
  seip_list: SEIP_parameter.list
  ccip_list: CCIP_parameter.list
"""
_RECORDS = ("restore", "groups", "rms", "cutouts", "stokes")


class GroupsFailed(SelfcalError):  # noqa: N818 - what happened, not a kind of error
    """Some groups of windows were not imaged, the others are done (exit code 1)."""


def vlass_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    return config_parser("vlass_cube", _DESCRIPTION, _EXAMPLE, VLASS_OPTIONS)


def command(argv: Sequence[str], reports: Reports | None = None) -> int:
    """Image a set; failures are raised.

    Parameters
    ----------
    argv : sequence of str
        Without the program's and the command's name.
    reports : Reports, optional
        Without them no report is written.
    """
    return run_with_config(vlass_parser(), argv, VLASS_OPTIONS, _run, reports)


def _run(path: Path, arguments: RunArguments, reports: Reports | None) -> None:
    from selfcal.state import hold_workdir
    from steps.vlass.vlass_plan import vlass_steps
    from steps.vlass.vlass_settings import load_vlass_settings
    from steps.work_directory import check_owner

    settings = load_vlass_settings(path, arguments.assignments)
    check_owner(settings, arguments.steps)
    steps = vlass_steps(settings["steps"])
    if arguments.listed or arguments.planned:
        show_plan(make_pipeline(settings, steps, Progress(quiet=True)), arguments)
        return
    progress = arguments.progress(quiet=settings["quiet"])
    # nothing is written into a work directory that another run holds
    with hold_workdir(settings.workdir), log_to(settings.workdir / "run.log", arguments.log_json):
        try:
            _run_steps(settings, steps, arguments, progress)
        except SelfcalError as error:
            _finish(settings.workdir, str(error), reports, progress)
            raise
        summary = _finish(settings.workdir, "", reports, progress)
    failed = [row["label"] for row in summary["groups"] if row["error"]]
    if failed:
        raise GroupsFailed(
            f"{len(failed)} of {len(summary['groups'])} groups were not imaged:"
            f" {', '.join(failed)}",
            "the others are done; the same command tries again",
        )


def _run_steps(
    settings: Settings, steps: Sequence[Step], arguments: RunArguments, progress: Progress
) -> None:
    """Run steps in the work directory of the settings."""
    from steps.data_state import mend_working_copies
    from steps.tools import make_tools
    from steps.work_directory import note_owner

    workdir = settings.workdir
    note_owner(settings)
    mended = mend_working_copies(workdir)
    if mended:
        progress.note(mended)
    tools = make_tools(
        settings["imager"], "native", workdir / "logs", stall_s=settings["tool_stall"],
        on_wait=progress.tick, tell=progress.detail,
    )  # fmt: skip
    pipeline = make_pipeline(settings, steps, progress, tools=tools)
    try:
        pipeline.run(**arguments.steps)
    finally:
        pipeline.context.ahead.close()
        tools.close()


def _finish(
    workdir: Path, error: str, reports: Reports | None, progress: Progress
) -> dict[str, Any]:
    """Write summary.json and the report, of a run that failed as well."""
    found = {name: _read(workdir / f"{name}.json") for name in _RECORDS}
    groups = found["groups"] or []
    bad = [row for row in groups if row["error"]]
    summary = {
        "status": "failed" if error or bad else "done", "error": error, **found,
        "targets": _read(workdir / "edit_image_list_ccip.json") or [], "groups": groups,
    }  # fmt: skip
    write_atomically(workdir / "summary.json", json.dumps(summary, indent=1) + "\n")
    if reports:
        progress.note(f"report: {reports.vlass(workdir)}")
    return summary


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None
