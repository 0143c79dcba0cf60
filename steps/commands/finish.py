"""The end of a run: what was made and what to do next, and the user's own command."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from libs.core.errors import ConfigError
from selfcal.progress import Progress

__all__ = ["check_on_finish", "next_steps", "run_on_finish"]

log = logging.getLogger("steps")


def next_steps(summary: Mapping[str, Any], workdir: Path) -> list[str]:
    """Return lines that name the results of a run and the commands that come next.

    Parameters
    ----------
    summary : mapping
        Content of summary.json.
    workdir : Path
    """
    lines = []
    calibrated = summary.get("calibrated_ms") or []
    names = [calibrated] if isinstance(calibrated, str) else list(calibrated)
    if names and summary.get("status") == "improved":
        where = ", ".join(str(workdir / name) for name in names)
        lines.append(f"calibrated data: {where} (column {summary.get('column')})")
    image = (summary.get("final") or {}).get("image")
    if image:
        lines.append(f"image: {workdir / image}")
    lines.append(f"report: {workdir / 'report.html'}")
    if summary.get("tables"):
        command = f"auto-selfcal apply {shlex.quote(str(workdir))}"
        lines.append(f"solutions to the original data: {command}")
    return lines


def check_on_finish(command: str) -> None:
    """Check that a command can be split into words.

    Raises
    ------
    ConfigError
        It cannot.
    """
    try:
        shlex.split(command)
    except ValueError as error:
        raise ConfigError(
            f"on_finish = {command!r} does not parse ({error})", "close its quotes"
        ) from error


def run_on_finish(command: str, status: str, workdir: Path, progress: Progress) -> None:
    """Run the user's command, which learns of the run from two variables.

    It gets ``SELFCAL_STATUS`` and ``SELFCAL_WORKDIR``. Its failure is a warning: the run is over.
    """
    words = shlex.split(command)
    if not words:
        return
    environment = {**os.environ, "SELFCAL_STATUS": status, "SELFCAL_WORKDIR": str(workdir)}
    try:
        code = subprocess.run(words, env=environment, check=False).returncode
    except OSError as error:
        progress.note(f"on_finish: {words[0]} cannot be run ({error.strerror})", warning=True)
        return
    if code:
        progress.note(f"on_finish: {words[0]} ended with exit code {code}", warning=True)
    else:
        log.info("on_finish: %s", command)
