"""``field CONFIG``: calibrate the sources of a LOFAR field (loop 1)."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from libs.core.text_table import aligned
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
from steps.field.field_options import FIELD_OPTIONS

__all__ = ["command", "field_parser", "run_field"]

_DESCRIPTION = (
    "Calibrate the sources of a LOFAR field in layers, the brightest first: each"
    " source's small data, its own calibration, one global table of solutions, subtraction."
    " What is done is reused, by step and by source."
)
_EXAMPLE = """\
  vis: field.ms                  # not averaged, core phased up, Dutch stations calibrated
  sources: [lotss.vot]           # or lotss: ask LoTSS
  lbcs: lbcs.csv                 # or lbcs: ask LBCS
  layers: [100mJy, 10mJy]        # LBCS calibrators and sources of 100 mJy first
  cluster: local:4
"""


def field_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    return config_parser("field", _DESCRIPTION, _EXAMPLE, FIELD_OPTIONS)


def command(argv: Sequence[str], reports: Reports | None = None) -> int:
    """Calibrate a field: sources in layers, one global table of solutions; failures are raised.

    Parameters
    ----------
    argv : sequence of str
        Without the program's and the command's name.
    reports : Reports, optional
        Without them no report is written.
    """
    return run_with_config(field_parser(), argv, FIELD_OPTIONS, run_field, reports)


def run_field(path: Path, arguments: RunArguments, reports: Reports | None) -> Settings:
    """Run, list or plan what a field's config asks for; return its settings."""
    from selfcal.pipeline import StepFailed
    from selfcal.state import hold_workdir
    from steps.field.field_settings import load_field_settings
    from steps.field.plan import field_steps
    from steps.work_directory import check_owner, note_owner

    settings = load_field_settings(path, arguments.assignments)
    check_owner(settings, arguments.steps)
    steps = field_steps(settings)
    if arguments.listed or arguments.planned:
        show_plan(make_pipeline(settings, steps, Progress(quiet=True)), arguments)
        return settings
    workdir = settings.workdir
    with hold_workdir(workdir), log_to(workdir / "run.log", arguments.log_json):
        note_owner(settings)
        progress = arguments.progress(quiet=settings["quiet"])
        pipeline = make_pipeline(settings, steps, progress)
        try:
            pipeline.run(**arguments.steps)
        except StepFailed:
            _finish(workdir, "failed", reports, progress)
            raise
        _finish(workdir, "", reports, progress)
    return settings


def _finish(workdir: Path, status: str, reports: Reports | None, progress: Progress) -> None:
    """Write summary.json and the report; print a table of the sources."""
    from steps.field.field_summary import write_field_summary

    if not (workdir / "sources.json").exists():
        return
    summary = write_field_summary(workdir, status)
    progress.result(_table(summary["sources"]))
    if reports:
        progress.note(f"report: {reports.field(workdir)}")


def _table(sources: Sequence[Mapping[str, Any]]) -> str:
    rows = [("source", "layer", "status", "longest km", "SNR")]
    for row in sources:
        snr = f"{row['snr']:.1f}" if row.get("snr") else "-"
        km = f"{row.get('longest_baseline_km') or 0:.0f}"
        rows.append((row["name"], str(row["layer"]), row["status"], km, snr))
    return "\n".join(aligned(rows, left=(0, 2), ruled=True))
