"""Functions that workers import by name."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from libs.core.errors import InputError


@dataclass(frozen=True)
class Sides:
    """An item of a class of this project, which every process that unpacks it has to import."""

    width: int
    height: int


def area(sides: Sides) -> int:
    return sides.width * sides.height


def square(number: int) -> int:
    return number * number


def fails_on_two(number: int) -> int:
    if number == 2:
        raise InputError("two is not liked", "take three")
    if number == 3:
        raise ValueError("three neither")
    return number


def dies_once(item: tuple[str, int]) -> int:
    """The piece numbered 1 kills its worker the first time."""
    folder, number = item
    mark = Path(folder) / f"died_{number}"
    if number == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * 10


def always_dies(number: int) -> int:
    if number == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def slow(item: tuple[str, int]) -> int:
    folder, number = item
    (Path(folder) / f"started_{number}").write_text(str(os.getpid()))
    time.sleep(60)
    return number


def unsendable(number: int) -> object:
    return lambda: number


def slurm_job(item: int) -> str:
    """Return the id of the job of Slurm that it runs in."""
    return os.environ.get("SLURM_JOB_ID", "none")


def cancels_its_job_once(item: tuple[str, int]) -> int:
    """Cancel the job of Slurm that it runs in, at the first call for this item."""
    folder, number = item
    mark = Path(folder) / f"cancelled_{number}"
    if not mark.exists():
        mark.touch()
        subprocess.run(["scancel", os.environ["SLURM_JOB_ID"]], check=True)
        time.sleep(120)
    return 10 * number
