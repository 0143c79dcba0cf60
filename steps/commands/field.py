"""``field CONFIG``: calibrate the sources of a LOFAR field (loop 1)."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from libs.core.files import replacing, write_atomically
from libs.h5parm.global_table import list_entries
from selfcal.context import Context
from selfcal.options import Option
from selfcal.pipeline import Pipeline, StepFailed, settings_record
from selfcal.progress import Progress
from selfcal.settings import Settings, parse_assignments
from selfcal.state import State, hold_workdir
from selfcal.step import Step, StepResult
from steps.field.field_list import read_sources
from steps.field.field_settings import FIELD_OPTIONS, load_field_settings
from steps.field.plan import field_steps
from steps.tools import TOOL_MODULES

__all__ = ["command_field", "write_field_summary"]

Report = Callable[[Path], Path]

_EXAMPLE = """\
  vis: field.ms                  # not averaged, core phased up, Dutch stations calibrated
  sources: [lotss.vot]           # or lotss: ask LoTSS
  lbcs: lbcs.csv                 # or lbcs: ask LBCS
  layers: [100mJy, 10mJy]        # LBCS calibrators and sources of 100 mJy first
  cluster: local:4
"""


def command_field(argv: Sequence[str], write_report: Report | None = None) -> int:
    """Calibrate a field: sources in layers, one global table of solutions.

    Parameters
    ----------
    argv : sequence of str
        Without the program's and the command's name.
    write_report : callable, optional
        (work directory) -> the page written; `reports.field_report.write_field_report`.

    Returns
    -------
    int
        0; failures are raised.
    """
    arguments = _parser().parse_args(list(argv))
    assignments = parse_assignments(arguments.assignments)
    for name in ("workdir", "cluster"):
        if getattr(arguments, name):
            assignments[name] = getattr(arguments, name)
    if arguments.quiet:
        assignments["quiet"] = True
    settings = load_field_settings(Path(arguments.config), assignments)
    steps = field_steps(settings)
    chosen = {"start": arguments.start, "until": arguments.until, "only": arguments.only}
    if arguments.list or arguments.dry_run:
        return _show(settings, steps, chosen, restart=arguments.restart, listed=arguments.list)
    workdir = settings.workdir
    with hold_workdir(workdir):
        _log_to(workdir / "run.log")
        progress = Progress(quiet=settings["quiet"])
        pipeline = _pipeline(settings, steps, progress)
        try:
            pipeline.run(**chosen, restart=arguments.restart)
        except StepFailed:
            _finish(workdir, "failed", write_report, progress)
            raise
        _finish(workdir, "", write_report, progress)
    return 0


def _parser() -> argparse.ArgumentParser:
    keys = "\n".join(_option_help(option) for option in FIELD_OPTIONS)
    parser = argparse.ArgumentParser(
        prog="auto_selfcal.py field",
        description="Calibrate the sources of a LOFAR field in layers, the brightest first: each"
        " source's small data, its own calibration, one global table of solutions, subtraction."
        " What is done is reused, by step and by source.",
        epilog=f"an example, field.yaml:\n{_EXAMPLE}\nconfig keys:\n{keys}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("config", help="config file, Python or YAML")
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments",
        help="change a setting")  # fmt: skip
    add("--workdir", help="work directory")
    add("--cluster", help="inline, local:N, tcp://host:port or slurm.yaml")
    add("--quiet", action="store_true", help="print warnings and the result only")
    add("--list", action="store_true", help="list the steps and their state, run nothing")
    add("--dry-run", action="store_true", help="say what would run and why, run nothing")
    add("--from", dest="start", default="", metavar="STEP", help="run this step and all after it")
    add("--until", default="", metavar="STEP", help="stop after this step")
    add("--only", default="", metavar="STEP", help="run this step alone")
    add("--restart", action="store_true", help="run every step anew; finished sources are reused")
    return parser


def _option_help(option: Option) -> str:
    default = option.default if option.default not in ("", {}) else "-"
    return f"  {option.name:<18} {option.meaning} (default {default})"


def _log_to(path: Path) -> None:
    """Everything goes to run.log; warnings of libraries go nowhere else."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)


def _pipeline(settings: Settings, steps: Sequence[Step], progress: Progress) -> Pipeline:
    workdir = settings.workdir
    state = State(workdir)

    def after(context: Context, step: Step, result: StepResult) -> None:
        resolved = settings_record(context, steps, state)
        write_atomically(workdir / "resolved.yaml", yaml.safe_dump(dict(resolved), sort_keys=False))

    context = Context(settings, workdir, None, progress)
    return Pipeline(steps, context, state, after=after, tool_modules=TOOL_MODULES)


def _show(
    settings: Settings,
    steps: Sequence[Step],
    chosen: Mapping[str, str],
    *,
    restart: bool,
    listed: bool,
) -> int:
    pipeline = _pipeline(settings, steps, Progress(quiet=True))
    if listed:
        for step in steps:
            record = pipeline.state.get(step.name)
            text = f"{record.result.status}: {record.result.reason}" if record else "not run yet"
            print(f"{step.name:<14} {text}")
        return 0
    for item in pipeline.plan(**chosen, restart=restart):
        print(f"{item.name:<14} {item.action:<6} {item.why}")
    return 0


def _finish(workdir: Path, status: str, write_report: Report | None, progress: Progress) -> None:
    """Write summary.json and the report; print a table of the sources."""
    if not (workdir / "sources.json").exists():
        return
    summary = write_field_summary(workdir, status)
    print(_table(summary["sources"]), flush=True)
    if write_report:
        progress.note(f"report: {write_report(workdir)}")


def _table(sources: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"{'source':<22} {'layer':>5} {'status':<11} {'longest km':>10} {'SNR':>8}"]
    for row in sources:
        snr = f"{row['snr']:.1f}" if row.get("snr") else "-"
        km = f"{row.get('longest_baseline_km') or 0:.0f}"
        lines.append(f"{row['name']:<22} {row['layer']:>5} {row['status']:<11} {km:>10} {snr:>8}")
    return "\n".join(lines)


def write_field_summary(workdir: Path, status: str = "") -> dict[str, Any]:
    """Write ``summary.json`` of a field and return its content."""
    sources = read_sources(workdir)
    table = workdir / "solutions.h5"
    entries = list_entries(table) if table.exists() else []
    counts = {
        name: sum(row["status"] == name for row in sources)
        for name in ("calibrated", "unchanged", "failed", "waiting")
    }
    summary = {
        "status": status or ("improved" if counts["calibrated"] else "unchanged"),
        "counts": counts,
        "h5parm": table.name if entries else "",
        "directions": sorted({item.entry.direction for item in entries}),
        "stations": sorted({item.entry.station for item in entries}),
        "entries": len(entries),
        "sources": sources,
    }
    with replacing(workdir / "summary.json") as beside:
        beside.write_text(json.dumps(summary, indent=2) + "\n")
    return summary
