"""The command: self-calibrate what config.py names, and what goes with it."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from libs.core.errors import ConfigError, SelfcalError
from libs.core.files import write_atomically
from reports.drawer import Drawer
from selfcal import __version__
from selfcal.context import Context
from selfcal.options import Option
from selfcal.pipeline import Pipeline, PlannedStep, StepFailed, settings_record
from selfcal.progress import Progress
from selfcal.settings import Settings, parse_assignments
from selfcal.state import State, hold_workdir
from selfcal.step import Step, StepResult
from selfcal.template_check import check_settings
from selfcal.template_files import TEMPLATE_DIR
from steps import STANDARD, STEPS, build_steps
from steps.imaging import MEASURES
from steps.run_options import RUN_OPTIONS, load_run_config, run_settings
from steps.tools import TOOL_MODULES, make_tools

DEMONSTRATION = TEMPLATE_DIR / "demonstration.py"
log = logging.getLogger("selfcal")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 done, 1 a step failed, 2 the config is wrong."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands = {"init": command_init, "report": command_report, "doctor": command_doctor,
                "apply": command_apply, "solutions": command_solutions,
                "field": command_field}  # fmt: skip
    try:
        if arguments and arguments[0] in commands:
            return commands[arguments[0]](arguments[1:])
        return command_run(arguments)
    except ConfigError as error:
        print(f"selfcal: {error}", file=sys.stderr)
        return 2
    except SelfcalError as error:
        print(f"selfcal: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("selfcal: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1


# -- run ----------------------------------------------------------------------------------------


def _run_parser() -> argparse.ArgumentParser:
    keys = "\n".join(_option_help(option) for option in RUN_OPTIONS)
    parser = argparse.ArgumentParser(
        prog="auto_selfcal.py",
        description="Self-calibrate radio-interferometric data. Finished steps are reused.",
        epilog=f"config keys:\n{keys}\n\n"
        "other commands: init, apply, solutions, field, report, doctor"
        " (each has its own -h)\nsteps: " + ", ".join(STEPS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("config", nargs="?", help="config file, Python or YAML (default: config.py in this folder,"
        " else the demonstration)")  # fmt: skip
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments",
        help="change a setting (imager=tclean) or a step's parameter (p1.solint=30s)")  # fmt: skip
    add("--workdir", help="work directory")
    add("--list", action="store_true", help="list the steps and their state, run nothing")
    add("--dry-run", action="store_true", help="say what would run and why, run nothing")
    add("--from", dest="start", default="", metavar="STEP", help="run this step and all after it")
    add("--until", default="", metavar="STEP", help="stop after this step")
    add("--only", default="", metavar="STEP", help="run this step alone")
    add("--restart", action="store_true", help="run every step anew")
    add("--cluster", help="where targets run side by side: local:N, tcp://host:port, slurm.yaml")
    add("--version", action="version", version=f"selfcal {__version__}")
    return parser


def _option_help(option: Option) -> str:
    default = option.default if option.default not in ("", {}) else "-"
    return f"  {option.name:<18} {option.meaning} (default {default})"


def command_run(argv: Sequence[str]) -> int:
    """``auto_selfcal.py [CONFIG]``: run the list of steps."""
    arguments = _run_parser().parse_args(argv)
    settings = _settings(arguments)
    steps = build_steps(settings["steps"] or STANDARD)
    names = {step.name for step in steps}
    others = [kind(name) for name, kind in STEPS.items() if name not in names]
    check_settings(settings, steps, others, measures=MEASURES)
    workdir = settings.workdir
    if settings["targets"]:
        return _run_targets(arguments, settings, steps)
    if settings["cluster"] != "inline":
        raise ConfigError(
            f"cluster = {settings['cluster']} shares out targets, and none are named",
            'add targets = "all", or leave cluster out',
        )
    if arguments.list or arguments.dry_run:
        return _show_plan(arguments, settings, steps)
    with hold_workdir(workdir):
        _start_logging(workdir, settings["quiet"])
        return _run(arguments, settings, steps)


def _settings(arguments: argparse.Namespace) -> Settings:
    path, config, assignments = _given(arguments)
    return run_settings(config, path, assignments)


def _given(arguments: argparse.Namespace) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The config file, what it assigns and what the command line does."""
    path = Path(arguments.config) if arguments.config else _default_config()
    assignments = parse_assignments(arguments.assignments)
    for name in ("workdir", "cluster"):
        if getattr(arguments, name):
            assignments[name] = getattr(arguments, name)
    return path, load_run_config(path), assignments


def _run_targets(arguments: argparse.Namespace, settings: Settings, steps: Sequence[Step]) -> int:
    """Run, list or plan every target, each as a run of its own."""
    from steps.commands.targets import plan_targets, run_targets

    _, config, assignments = _given(arguments)
    tasks = plan_targets(arguments, {**config, **assignments}, settings)
    if arguments.list or arguments.dry_run:
        for task in tasks:
            print("\n".join(task.lines))
            if not task.target.problem:
                _show_plan(arguments, task.settings, steps)
        return 0
    from reports.targets_report import finish_targets

    # steps that are not there are told before the first target runs
    _plan(arguments, _pipeline(tasks[0].settings, steps, None, Progress(quiet=True)))
    with hold_workdir(settings.workdir):
        _start_logging(settings.workdir, settings["quiet"])
        run_targets(tasks, settings, finish_targets)
    return 0


def _default_config() -> Path:
    """Return config.py of the current folder; where there is none, the demonstration's."""
    here = Path("config.py")
    if here.exists():
        return here
    shipped = DEMONSTRATION.resolve()  # in a checkout a link to its config.py
    print(f"no config.py in this folder: the demonstration is run, {shipped}", file=sys.stderr)
    return shipped


def _start_logging(workdir: Path, quiet: bool) -> None:
    """Everything goes to run.log; warnings of libraries go nowhere else."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    handler = logging.FileHandler(workdir / "run.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)


def _pipeline(
    settings: Settings,
    steps: Sequence[Step],
    tools: Any,
    progress: Progress,
    drawer: Drawer | None = None,
) -> Pipeline:
    workdir = settings.workdir
    context = Context(settings, workdir, tools, progress)
    state = State(workdir)

    last_round = next((step.name for step in reversed(steps) if step.from_template), "")

    def setup(context: Context) -> tuple[str, str]:
        return str(context.metric("instrument", "")), str(context.metric("band", ""))

    def after(context: Context, step: Step, result: StepResult) -> None:
        resolved = settings_record(context, steps, state)
        write_atomically(workdir / "resolved.yaml", yaml.safe_dump(dict(resolved), sort_keys=False))
        if drawer and "image" in result.products:
            drawer.prepare()
        if drawer and result.gains:
            drawer.round_done(step.name)
        if drawer and step.name == last_round:
            drawer.rounds_over()

    return Pipeline(steps, context, state, setup=setup, after=after, tool_modules=TOOL_MODULES)


def _show_plan(arguments: argparse.Namespace, settings: Settings, steps: Sequence[Step]) -> int:
    pipeline = _pipeline(settings, steps, None, Progress(quiet=True))
    if arguments.list:
        for step in steps:
            record = pipeline.state.get(step.name)
            status = f"{record.result.status}: {record.result.reason}" if record else "not run yet"
            print(f"{step.name:<17} {status}")
        return 0
    for item in _plan(arguments, pipeline):
        print(f"{item.name:<17} {item.action:<6} {item.why}")
    return 0


def _plan(arguments: argparse.Namespace, pipeline: Pipeline) -> list[PlannedStep]:
    return pipeline.plan(
        start=arguments.start, until=arguments.until, only=arguments.only,
        restart=arguments.restart,
    )  # fmt: skip


def _run(arguments: argparse.Namespace, settings: Settings, steps: Sequence[Step]) -> int:
    from reports.tables import final_table
    from steps.data_state import mend_working_copies

    workdir = settings.workdir
    progress = Progress(quiet=settings["quiet"])
    begin = time.monotonic()
    tools = make_tools(
        settings["imager"], settings["solver"], workdir / "logs",
        stall_s=settings["tool_stall"], on_wait=progress.tick,
    )  # fmt: skip
    drawer = Drawer(workdir)
    pipeline = _pipeline(settings, steps, tools, progress, drawer)
    progress.note(f"selfcal {__version__}: {', '.join(settings['vis'])} -> {workdir}")
    if tools.hint:
        progress.note(tools.hint)
    rows_before = pipeline.state.rows
    mended = mend_working_copies(workdir)
    if mended:
        progress.note(mended)
    try:
        pipeline.run(
            start=arguments.start, until=arguments.until, only=arguments.only,
            restart=arguments.restart,
        )  # fmt: skip
    except StepFailed:
        _finish(drawer, tools, progress, "failed", render=True)
        raise
    except BaseException:
        drawer.close()
        raise
    finally:
        pipeline.context.ahead.close()
        tools.close()
    ran = pipeline.state.rows > rows_before
    summary = _finish(drawer, tools, progress, "", render=ran or _report_is_old(workdir))
    print(final_table(summary), flush=True)
    for text in summary["warnings"]:
        print(f"WARNING: {text}")
    part = arguments.until or arguments.only or not any(step.from_template for step in steps)
    if summary["status"] == "unchanged" and not part:
        print("self-calibration did not help: the initial data stay as they were")
    progress.note(f"{time.monotonic() - begin:.1f} s; report: {workdir / 'report.html'}")
    return 0


def _report_is_old(workdir: Path) -> bool:
    """Whether the report is missing or was not finished since the last step."""
    report, steps = workdir / "report.html", workdir / "steps.csv"
    return not report.exists() or report.stat().st_mtime_ns < steps.stat().st_mtime_ns


def _finish(
    drawer: Drawer, tools: Any, progress: Progress, status: str, *, render: bool
) -> dict[str, Any]:
    """Write summary.json and, where something changed, the report."""
    from reports.summary import write_summary

    summary = write_summary(drawer.workdir, tools.versions(), status)
    if render:
        progress.begin("report")
        drawer.write_report(lambda text: progress.tick())
        progress.end("plots/ and report.html written")
    return summary


# -- the other commands -------------------------------------------------------------------------


def command_init(argv: Sequence[str]) -> int:
    """``init INSTRUMENT``: write a commented config to edit."""
    folder = TEMPLATE_DIR / "configs"
    known = sorted(path.stem for path in folder.glob("*.py"))
    parser = argparse.ArgumentParser(prog="auto_selfcal.py init", description=command_init.__doc__)
    parser.add_argument("instrument", help=", ".join(known))
    parser.add_argument("-o", "--output", default="config.py", help="file to write")
    arguments = parser.parse_args(argv)
    if arguments.instrument not in known:
        from selfcal.options import unknown_name

        raise unknown_name("instrument", arguments.instrument, known)
    target = Path(arguments.output)
    if target.exists():
        raise ConfigError(f"{target} exists", "name another file with -o, or remove it")
    target.write_text((folder / f"{arguments.instrument}.py").read_text())
    print(f"{target} written: set vis, then python auto_selfcal.py {target}")
    return 0


def command_report(argv: Sequence[str]) -> int:
    """``report WORKDIR``: draw the figures and write report.html anew."""
    from reports.field_report import write_field_report
    from reports.html import write_report
    from reports.targets_report import write_targets_report
    from steps.commands.apply_targets import has_targets

    parser = argparse.ArgumentParser(
        prog="auto_selfcal.py report", description=command_report.__doc__
    )
    parser.add_argument("workdir")
    workdir = Path(parser.parse_args(argv).workdir)
    if (workdir / "sources.json").exists():
        print(write_field_report(workdir))
    else:
        print((write_targets_report if has_targets(workdir) else write_report)(workdir))
    return 0


def command_doctor(argv: Sequence[str]) -> int:
    """``doctor``: what is installed, which imager is used, free disk."""
    from steps.commands.doctor import examine

    argparse.ArgumentParser(
        prog="auto_selfcal.py doctor", description=command_doctor.__doc__
    ).parse_args(argv)
    lines, healthy = examine()
    print("\n".join(lines))
    return 0 if healthy else 1


def command_apply(argv: Sequence[str]) -> int:
    """``apply WORKDIR [--to MS] [--field NAME]``: apply the final tables to the original data."""
    from steps.commands.apply_original import apply_to_original
    from steps.commands.apply_targets import apply_targets, has_targets

    parser = argparse.ArgumentParser(
        prog="auto_selfcal.py apply", description=command_apply.__doc__
    )
    parser.add_argument("workdir")
    parser.add_argument("--to", help="the measurement set to write (default: the run's input)")
    parser.add_argument("--field", default="", metavar="NAME[,NAME]|all",
                        help="fields whose rows are written (default: the run's)")  # fmt: skip
    arguments = parser.parse_args(argv)
    workdir = Path(arguments.workdir).absolute()
    apply = apply_targets if has_targets(workdir) else apply_to_original
    for line in apply(workdir, arguments.to, arguments.field):
        print(line)
    return 0


def command_field(argv: Sequence[str]) -> int:
    """``field CONFIG``: calibrate the sources of a LOFAR field, layer by layer."""
    from reports.field_report import write_field_report
    from steps.commands import field

    return field.command_field(list(argv), write_field_report)


def command_solutions(argv: Sequence[str]) -> int:
    """``solutions list|check|best|apply|combine|merge|export``: work with h5parms."""
    from steps.commands.apply_original import apply_solutions
    from steps.commands.solutions import main as solutions_main

    return solutions_main(list(argv), applier=apply_solutions)


if __name__ == "__main__":
    # a closed pipe (| head) ends the program as it does others
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
