"""What the commands that run steps share: arguments, plans and lists, the log, how a run ends."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from libs.core.errors import ConfigError, SelfcalError
from selfcal.options import Option
from steps.commands.words import usage_name

if TYPE_CHECKING:
    from selfcal.context import Context
    from selfcal.pipeline import Pipeline
    from selfcal.progress import Progress
    from selfcal.settings import Settings
    from selfcal.step import Step, StepResult

__all__ = [
    "Reports",
    "RunArguments",
    "RunDrawer",
    "add_run_arguments",
    "config_parser",
    "make_pipeline",
    "option_list",
    "outcome_to",
    "parse_run_words",
    "pipeline_of",
    "run_with_config",
    "show_plan",
]

Row = Mapping[str, Any]


class RunDrawer(Protocol):
    """Draws a run's figures beside it and writes its report; `reports.drawer.Drawer`."""

    workdir: Path

    def prepare(self) -> None:
        """Begin what every figure needs."""

    def round_done(self, step: str) -> None:
        """Draw the figures of a round."""

    def step_done(self) -> None:
        """Write the live page."""

    def rounds_over(self) -> None:
        """Draw what needs all rounds."""

    def write_report(self, on_wait: Callable[[str], None]) -> Any:
        """Write report.html."""

    def finish(self, on_wait: Callable[[str], None]) -> Any:
        """Draw the figures that are left."""

    def close(self) -> None:
        """Give up what is not drawn yet."""


@dataclass(frozen=True)
class Reports:
    """The reports that commands write; steps know none of them.

    Attributes
    ----------
    drawer : callable
        ``(workdir, plots) -> RunDrawer``: with ``plots`` it draws figures for papers too.
    summary : callable
        ``(workdir, versions, status) -> dict``: writes summary.json of a run.
    table : callable
        ``(summary) -> str``: the table printed at its end.
    targets : callable
        ``(workdir, results) -> str``: writes summary and report of several targets; their table.
    field : callable
        ``(workdir) -> Path``: writes the report of a field.
    session : callable
        ``(workdir) -> Path``: writes the report of a session's calibration.
    vlass : callable
        ``(workdir) -> Path``: writes the report of ``vlass_cube``.
    any_run : callable
        ``(workdir) -> Path``: draws the figures and writes the report of whatever was run there.
    """

    drawer: Callable[[Path, bool], RunDrawer]
    summary: Callable[[Path, Mapping[str, str], str], dict[str, Any]]
    table: Callable[[Row], str]
    targets: Callable[[Path, Sequence[Row]], str]
    field: Callable[[Path], Path]
    session: Callable[[Path], Path]
    vlass: Callable[[Path], Path]
    any_run: Callable[[Path], Path]


# -- arguments ------------------------------------------------------------------------------------


def option_list(options: Sequence[Option]) -> str:
    """Return a line for each config key, for the help."""
    return "\n".join(
        f"  {option.name:<18} {option.meaning}"
        f" (default {option.default if option.default not in ('', {}) else '-'})"
        for option in options
    )


def config_parser(
    command: str, description: str, example: str, options: Sequence[Option]
) -> argparse.ArgumentParser:
    """Return the parser of a command that takes a config of its own.

    Parameters
    ----------
    command : str
        Its name.
    description : str
        What it does.
    example : str
        Text of an example config.
    options : sequence of Option
        The keys of its config.
    """
    parser = argparse.ArgumentParser(
        prog=usage_name(command),
        description=description,
        epilog=f"an example:\n{example}\nconfig keys:\n{option_list(options)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", help="config file, Python or YAML")
    add_run_arguments(parser)
    return parser


def run_with_config(
    parser: argparse.ArgumentParser,
    argv: Sequence[str],
    options: Sequence[Option],
    run: Callable[[Path, RunArguments, Reports | None], object],
    reports: Reports | None,
) -> int:
    """Run a command that takes a config of its own; failures are raised.

    Parameters
    ----------
    parser : ArgumentParser
        Of `config_parser`.
    argv : sequence of str
        Words after the command's name.
    options : sequence of Option
        The keys of its config.
    run : callable
        Function ``(path, arguments, reports)`` that does the work.
    reports : Reports or None
        Without them no report is written.

    Returns
    -------
    int
        Exit code 0.
    """
    parsed = parse_run_words(parser, argv, options)
    with outcome_to(parsed.outcome):
        run(Path(parsed.config), RunArguments.read(parsed), reports)
    return 0


def parse_run_words(
    parser: argparse.ArgumentParser, argv: Sequence[str], options: Sequence[Option]
) -> argparse.Namespace:
    """Return the arguments; a key of the config given as one (``--field X``) is explained.

    Raises
    ------
    ConfigError
        A word is a key of the config.
    """
    parsed, unknown = parser.parse_known_args(list(argv))
    for place, word in enumerate(unknown):
        name, _, value = word.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if word.startswith("--") and name in {option.name for option in options}:
            value = value or next(iter(unknown[place + 1 :]), "VALUE")
            raise ConfigError(
                f"{name} is a key of the config, not an argument",
                f"give --set {shlex.quote(f'{name}={value}')}, or write it into the config",
            )
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return parsed


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of every command that runs steps."""
    add = parser.add_argument
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments",
        help="change a setting (imager=tclean) or a step's parameter (p1.solint=30s)")  # fmt: skip
    add("--workdir", help="work directory")
    add("--cluster", metavar="WHERE", help="where targets, or the sources of a field, run side by"
        " side: inline, local:N, tcp://host:port or slurm.yaml")  # fmt: skip
    add("--quiet", action="store_true", help="print warnings and the result only")
    add("-v", "--verbose", action="store_true", help="on a terminal, show reasons whole")
    add("--list", action="store_true", help="list the steps and their state, run nothing")
    add("--dry-run", action="store_true", help="say what would run and why, run nothing")
    add("--from", dest="start", default="", metavar="STEP", help="run this step and all after it")
    add("--until", default="", metavar="STEP", help="stop after this step")
    add("--only", default="", metavar="STEP", help="run this step alone")
    add("--restart", action="store_true", help="run every step anew; finished targets' and"
        " sources' own runs decide for themselves")  # fmt: skip
    add("--outcome", metavar="FILE", type=Path, help="also write how it ended to a file, as JSON:"
        " code, cause and remedy")  # fmt: skip
    add("--log-json", metavar="FILE", type=Path, help="also write the log to a file, a line of"
        " JSON for each message")  # fmt: skip


@dataclass(frozen=True)
class RunArguments:
    """What the shared arguments ask for.

    Attributes
    ----------
    assignments : mapping
        Settings given on the command line; names with a dot are parameters of steps.
    steps : mapping
        Keyword arguments of `selfcal.pipeline.Pipeline.plan` and ``run``: ``start``, ``until``,
        ``only``, ``restart``.
    listed, planned : bool
        Only list the steps; only tell what would run.
    outcome : Path or None
        File for how the run ended.
    log_json : Path or None
        File for the log as lines of JSON.
    verbose : bool
        True shows reasons whole on a terminal.
    stream : text stream or None
        Where progress and results are shown; None: standard output.
    """

    assignments: Mapping[str, Any]
    steps: Mapping[str, Any]
    listed: bool
    planned: bool
    outcome: Path | None
    log_json: Path | None = None
    verbose: bool = False
    stream: TextIO | None = None

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> RunArguments:
        """Return them from what was parsed.

        Raises
        ------
        ConfigError
            What ``--set`` gives is no ``KEY=VALUE``.
        """
        from selfcal.settings import parse_assignments

        assignments = parse_assignments(arguments.assignments)
        for name in ("workdir", "cluster", "quiet"):
            if getattr(arguments, name):
                assignments[name] = getattr(arguments, name)
        steps = {name: getattr(arguments, name) for name in ("start", "until", "only", "restart")}
        return cls(
            assignments, steps, arguments.list, arguments.dry_run, arguments.outcome,
            arguments.log_json, arguments.verbose,
        )  # fmt: skip

    def progress(self, *, quiet: bool) -> Progress:
        """Return the display of a run's progress."""
        from selfcal.progress import Progress

        return Progress(quiet=quiet, verbose=self.verbose, stream=self.stream)

    @property
    def words(self) -> tuple[str, ...]:
        """The words that ask a child for the same steps: ``--from=p1``."""
        names = {"start": "from", "until": "until", "only": "only"}
        found = [f"--{word}={self.steps[key]}" for key, word in names.items() if self.steps[key]]
        return (*found, *(["--restart"] if self.steps["restart"] else []))


@contextmanager
def outcome_to(path: Path | None) -> Iterator[None]:
    """Write how the block ended to a file, where one is given; failures are raised on."""
    from selfcal.child_runs import write_outcome

    try:
        yield
    except SelfcalError as error:
        if path:
            write_outcome(path, error)
        raise
    if path:
        write_outcome(path)


# -- running --------------------------------------------------------------------------------------


def make_pipeline(
    settings: Settings,
    steps: Sequence[Step],
    progress: Progress,
    *,
    tools: Any = None,
    setup: Callable[[Context], tuple[str, str]] = lambda context: ("", ""),
    before: Callable[[Context, Step], None] | None = None,
    after: Callable[[Step, StepResult], None] = lambda step, result: None,
) -> Pipeline:
    """Return the pipeline of a command, which keeps resolved.yaml up to date.

    Parameters
    ----------
    settings : Settings
    steps : sequence of Step
    progress : Progress
    tools : object, optional
        For the steps' context.
    setup : callable, optional
        As in `selfcal.pipeline.Pipeline`.
    before : callable, optional
        ``(context, step)``: called before a step runs.
    after : callable, optional
        ``(step, result)``: called when a step's row is written.

    """
    import yaml

    from libs.core.files import write_atomically
    from selfcal.context import Context
    from selfcal.pipeline import Pipeline, settings_record
    from selfcal.state import State
    from steps.tools import TOOL_MODULES

    workdir = settings.workdir
    state = State(workdir)

    def finished(context: Context, step: Step, result: StepResult) -> None:
        resolved = settings_record(context, steps, state)
        write_atomically(workdir / "resolved.yaml", yaml.safe_dump(dict(resolved), sort_keys=False))
        after(step, result)

    context = Context(settings, workdir, tools, progress)
    return Pipeline(
        steps, context, state, setup=setup, before=before, after=finished,
        tool_modules=TOOL_MODULES,
    )  # fmt: skip


def pipeline_of(
    settings: Settings,
    steps: Sequence[Step],
    progress: Progress,
    tools: Any = None,
    drawer: RunDrawer | None = None,
) -> Pipeline:
    """Return the pipeline of one target, whose figures are drawn while it runs."""
    last_round = next((step.name for step in reversed(steps) if step.from_template), "")

    def setup(context: Context) -> tuple[str, str]:
        from steps.facts import setup_facts

        known = setup_facts(context)
        return known.instrument, known.band

    def after(step: Step, result: StepResult) -> None:
        if drawer and "image" in result.products:
            drawer.prepare()
        if drawer and result.gains:
            drawer.round_done(step.name)
        if drawer and step.name == last_round:
            drawer.rounds_over()
        if drawer:
            drawer.step_done()

    def before(context: Context, step: Step) -> None:
        from steps.data_changes import undo_changes

        undo_changes(context, step)

    return make_pipeline(
        settings, steps, progress, tools=tools, setup=setup, before=before, after=after
    )


def show_plan(pipeline: Pipeline, arguments: RunArguments) -> None:
    """Print the steps of a pipeline and how they ended, or what would be done with each."""
    if arguments.listed:
        for step in pipeline.steps:
            record = pipeline.state.get(step.name)
            status = f"{record.result.status}: {record.result.reason}" if record else "not run yet"
            print(f"{step.name:<17} {status}")
        return
    for item in pipeline.plan(**arguments.steps):
        print(f"{item.name:<17} {item.action:<6} {item.why}")
