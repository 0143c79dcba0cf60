"""``auto_selfcal.py [CONFIG]``: run the list of steps, for one target or for several."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from libs.core.disk import disk_error
from libs.core.errors import ConfigError, SelfcalError
from selfcal import __version__
from selfcal.progress import Progress
from selfcal.settings import Settings, own_names
from steps import STANDARD, STEPS, build_steps
from steps.commands.command_line import (
    Reports,
    RunArguments,
    RunDrawer,
    add_run_arguments,
    option_list,
    outcome_to,
    parse_run_words,
    pipeline_of,
    show_plan,
)
from steps.commands.finish import check_on_finish, next_steps, run_on_finish
from steps.commands.run_log import log_to
from steps.commands.words import usage_name
from steps.run_options import RUN_OPTIONS, check_files, load_run_config, run_settings

if TYPE_CHECKING:
    from selfcal.step import Step

__all__ = ["command", "main_parser", "run_config", "run_pipeline"]


def main_parser(others: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser of the main command, whose help names the other commands."""
    parser = argparse.ArgumentParser(
        prog=usage_name(),
        description="Self-calibrate radio-interferometric data. Finished steps are reused.",
        epilog=f"config keys:\n{option_list(RUN_OPTIONS)}\n\n"
        f"other commands: {', '.join(others)}"
        " (each has its own -h)\nsteps: " + ", ".join(STEPS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "config",
        nargs="?",
        help="config file, Python or YAML (default: config.py here, else the demonstration)",
    )
    add_run_arguments(parser)
    parser.add_argument("--version", action="version", version=f"selfcal {__version__}")
    return parser


def command(
    argv: Sequence[str], reports: Reports, default_config: Callable[[], Path], others: Sequence[str]
) -> int:
    """Run the list of steps; failures are raised.

    Parameters
    ----------
    argv : sequence of str
        Without the program's name.
    reports : Reports
    default_config : callable
        ``() -> Path``: the config that is taken where none is named.
    others : sequence of str
        Names of the other commands, for the help.
    """
    parsed = parse_run_words(main_parser(others), argv, RUN_OPTIONS)
    with outcome_to(parsed.outcome):
        arguments = RunArguments.read(parsed)
        path = Path(parsed.config) if parsed.config else default_config()
        run_config(path, load_run_config(path), arguments, reports)
    return 0


def run_config(
    path: Path | None, config: Mapping[str, Any], arguments: RunArguments, reports: Reports
) -> Settings:
    """Run what a config asks for, one target or several; return its settings.

    Parameters
    ----------
    path : Path or None
        File of the config.
    config : mapping
        What it assigns.
    arguments : RunArguments
    reports : Reports
    """
    from selfcal.state import hold_workdir
    from selfcal.template_check import check_settings
    from steps.imaging import MEASURES
    from steps.tools import check_memory
    from steps.work_directory import check_owner, note_owner

    settings = run_settings(config, path, arguments.assignments)
    steps = build_steps(settings["steps"] or STANDARD)
    names = {step.name for step in steps}
    check_files(settings, names)
    others = [kind(n) for n, kind in STEPS.items() if n not in names]
    check_settings(settings, steps, others, measures=MEASURES)
    check_memory(settings)
    check_on_finish(settings["on_finish"])
    check_owner(settings, arguments.steps)
    if settings["targets"]:
        from steps.commands.targets import run_every_target

        over = own_names(arguments.assignments, RUN_OPTIONS)
        run_every_target(arguments, {**config, **over}, settings, reports)
        return settings
    if settings["cluster"] != "inline":
        raise ConfigError(
            f"cluster = {settings['cluster']} shares out targets, and none are named",
            'add targets = "all", or leave cluster out',
        )
    if arguments.listed or arguments.planned:
        _show(settings, steps, arguments)
        return settings
    with hold_workdir(settings.workdir), log_to(settings.workdir / "run.log", arguments.log_json):
        check_owner(settings, arguments.steps)  # another run may have ended in between
        note_owner(settings)
        run_pipeline(arguments, settings, steps, reports)
    return settings


def _show(settings: Settings, steps: Sequence[Step], arguments: RunArguments) -> None:
    """Print the steps and their state, or what would run on data that were looked at."""
    estimate = None
    if arguments.planned:
        from steps.preflight import check_data

        estimate = check_data(settings, steps)
    show_plan(pipeline_of(settings, steps, Progress(quiet=True)), arguments)
    if estimate:
        print("\n".join([f"work directory: {settings.workdir}", *estimate.lines]))


def run_pipeline(
    arguments: RunArguments, settings: Settings, steps: Sequence[Step], reports: Reports
) -> None:
    """Run the steps of one target, whose work directory is held; print its table."""
    from selfcal.pipeline import StepFailed
    from steps.data_state import mend_working_copies
    from steps.tools import make_tools

    workdir = settings.workdir
    progress = arguments.progress(quiet=settings["quiet"])
    tools = make_tools(
        settings["imager"], settings["solver"], workdir / "logs",
        stall_s=settings["tool_stall"], on_wait=progress.tick,
        tell=progress.detail,
    )  # fmt: skip
    with closing(reports.drawer(workdir, settings["plots"])) as drawer:
        pipeline = pipeline_of(settings, steps, progress, tools, drawer)
        progress.note(f"selfcal {__version__}: {', '.join(settings['vis'])} -> {workdir}")
        rows_before = pipeline.state.rows
        mended = mend_working_copies(workdir)
        if mended:
            progress.note(mended)
        begin = time.monotonic()
        try:
            pipeline.run(**arguments.steps)
        except StepFailed:
            _finish_failed(drawer, tools, progress, reports)
            run_on_finish(settings["on_finish"], "failed", workdir, progress)
            raise
        finally:
            pipeline.context.ahead.close()
            tools.close()
        missing = [step.name for step in steps if pipeline.state.get(step.name) is None]
        render = pipeline.state.rows > rows_before or _report_is_old(workdir)
        status = "incomplete" if missing else ""
        summary = _finish(drawer, tools, progress, reports, status, render=render)
        if not missing:
            _write_record(settings, tools.versions(), progress)
        judged = any(step.from_template for step in steps)
        _tell_result(summary, missing, progress, reports, judged=judged)
        progress.note(f"{time.monotonic() - begin:.1f} s")
        for line in next_steps(summary, workdir):
            progress.note(line)
        if render:
            _draw_the_rest(drawer, progress)
    run_on_finish(settings["on_finish"], summary["status"], workdir, progress)


def _tell_result(
    summary: Mapping[str, Any],
    missing: Sequence[str],
    progress: Progress,
    reports: Reports,
    *,
    judged: bool,
) -> None:
    """Print the table of the images, what was said loudly, and what came of it."""
    progress.result(reports.table(summary))
    for text in summary["warnings"]:
        progress.result(f"WARNING: {text}", warning=True)
    if missing:
        left = ", ".join(missing)
        progress.result(f"not finished: {left} are left to run; the same command goes on")
    if summary["status"] == "unchanged" and judged:
        progress.result("self-calibration did not help: the initial data stay as they were")


def _write_record(settings: Settings, versions: Mapping[str, str], progress: Progress) -> None:
    """Write the record and link the products; say so where that cannot be done.

    The run has its results all the same, and what goes by a record asks for one.
    """
    from steps.cont_file import cont_file
    from steps.record.build import write_run_record

    names = {name: settings[name] for name in ("oussid", "stage")}
    try:
        write_run_record(settings.workdir, versions, cont_file(settings), names)
    except SelfcalError as error:
        progress.note(f"no record could be written: {error}", warning=True)


def _report_is_old(workdir: Path) -> bool:
    """Whether the report is missing or was not finished since the last step."""
    report, steps = workdir / "report.html", workdir / "steps.csv"
    return not report.exists() or report.stat().st_mtime_ns < steps.stat().st_mtime_ns


def _finish(
    drawer: RunDrawer,
    tools: Any,
    progress: Progress,
    reports: Reports,
    status: str,
    *,
    render: bool,
) -> dict[str, Any]:
    """Write summary.json and, where something changed, the page, whose figures come after it."""
    summary = reports.summary(drawer.workdir, tools.versions(), status)
    if render:
        progress.begin("report")
        drawer.write_report(lambda text: progress.tick())
        progress.end("report.html written")
    return summary


def _finish_failed(drawer: RunDrawer, tools: Any, progress: Progress, reports: Reports) -> None:
    """Write summary and report of a run that failed; where that fails too, its cause counts."""
    try:
        _finish(drawer, tools, progress, reports, "failed", render=True)
        _draw_the_rest(drawer, progress)
    except (SelfcalError, OSError) as error:
        progress.stop()
        refused = None if isinstance(error, SelfcalError) else disk_error(error)
        progress.note(f"no report could be written: {refused or error}", warning=True)


def _draw_the_rest(drawer: RunDrawer, progress: Progress) -> None:
    """Wait for the figures of plots/ that are not drawn yet, once the results were told."""
    progress.begin("figures")
    drawer.finish(lambda text: progress.tick())
    progress.end("plots/ written")
