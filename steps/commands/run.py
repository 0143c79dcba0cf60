"""``auto_selfcal.py [CONFIG]``: run the list of steps, for one target or for several."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from libs.core.errors import ConfigError
from selfcal import __version__
from selfcal.progress import Progress
from selfcal.settings import Settings, own_names
from steps import STANDARD, STEPS, build_steps
from steps.commands.command_line import (
    Reports,
    RunArguments,
    RunDrawer,
    add_run_arguments,
    log_to,
    option_list,
    outcome_to,
    pipeline_of,
    show_plan,
)
from steps.run_options import RUN_OPTIONS, check_files, load_run_config, run_settings

if TYPE_CHECKING:
    from selfcal.step import Step

__all__ = ["command", "main_parser", "run_pipeline"]


def main_parser(others: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser of the main command, whose help names the other commands."""
    parser = argparse.ArgumentParser(
        prog="auto_selfcal.py",
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
    parsed = main_parser(others).parse_args(argv)
    with outcome_to(parsed.outcome):
        arguments = RunArguments.read(parsed)
        path = Path(parsed.config) if parsed.config else default_config()
        _run(path, load_run_config(path), arguments, reports)
    return 0


def _run(path: Path, config: Mapping[str, Any], arguments: RunArguments, reports: Reports) -> None:
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
    check_owner(settings, arguments.steps)
    if settings["targets"]:
        from steps.commands.targets import run_every_target

        over = own_names(arguments.assignments, RUN_OPTIONS)
        run_every_target(arguments, {**config, **over}, settings, reports)
        return
    if settings["cluster"] != "inline":
        raise ConfigError(
            f"cluster = {settings['cluster']} shares out targets, and none are named",
            'add targets = "all", or leave cluster out',
        )
    if arguments.listed or arguments.planned:
        _show(settings, steps, arguments)
        return
    with hold_workdir(settings.workdir), log_to(settings.workdir / "run.log"):
        check_owner(settings, arguments.steps)  # another run may have ended in between
        note_owner(settings)
        run_pipeline(arguments, settings, steps, reports)


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
    from steps.cont_file import cont_file
    from steps.data_state import mend_working_copies
    from steps.record.build import write_run_record
    from steps.tools import make_tools

    workdir = settings.workdir
    progress = Progress(quiet=settings["quiet"])
    begin = time.monotonic()
    tools = make_tools(
        settings["imager"], settings["solver"], workdir / "logs",
        stall_s=settings["tool_stall"], on_wait=progress.tick,
        tell=progress.detail,
    )  # fmt: skip
    drawer = reports.drawer(workdir)
    pipeline = pipeline_of(settings, steps, progress, tools, drawer)
    progress.note(f"selfcal {__version__}: {', '.join(settings['vis'])} -> {workdir}")
    rows_before = pipeline.state.rows
    mended = mend_working_copies(workdir)
    if mended:
        progress.note(mended)
    try:
        pipeline.run(**arguments.steps)
    except StepFailed:
        _finish(drawer, tools, progress, reports, "failed", render=True)
        raise
    except BaseException:
        drawer.close()
        raise
    finally:
        pipeline.context.ahead.close()
        tools.close()
    asked = arguments.steps["until"] or arguments.steps["only"]
    render = pipeline.state.rows > rows_before or _report_is_old(workdir)
    summary = _finish(drawer, tools, progress, reports, "", render=render)
    if not asked:
        write_run_record(workdir, tools.versions(), cont_file(settings))
    print(reports.table(summary), flush=True)
    for text in summary["warnings"]:
        print(f"WARNING: {text}")
    part = asked or not any(step.from_template for step in steps)
    if summary["status"] == "unchanged" and not part:
        print("self-calibration did not help: the initial data stay as they were")
    progress.note(f"{time.monotonic() - begin:.1f} s; report: {workdir / 'report.html'}")


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
    """Write summary.json and, where something changed, the report."""
    summary = reports.summary(drawer.workdir, tools.versions(), status)
    if render:
        progress.begin("report")
        drawer.write_report(lambda text: progress.tick())
        progress.end("plots/ and report.html written")
    return summary
