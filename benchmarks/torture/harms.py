"""Runs on a machine that gives trouble: two at once, clocks that jump, disks that fill, rights.

Each draw does one such thing to a run, which may end with a message; then the trouble is over, the
same command is given again, and the result must be that of a run that nothing happened to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.torture.kills import Reference
from benchmarks.torture.outcomes import Attempt, Running, attempt

__all__ = ["HARMS", "unable"]

_YEAR_S = 3.156e7
_ROOM_BYTES = 16 * 2**20  # with less a step does not begin


def unable(name: str) -> str:
    """Return why a harm cannot be done here; empty where it can."""
    if name == "disk" and os.geteuid() != 0:
        return "root alone may mount a small disk"
    if name == "imager" and shutil.which("wsclean") is None:
        return "WSClean is not installed"
    return ""


def _end(reference: Reference, workdir: Path, found: Attempt) -> tuple[Attempt, str]:
    """Let the run end in peace and compare, unless it came off badly before."""
    if found.fault:
        return found, ""
    words = reference.victim.words(workdir)
    last = attempt(found.what, words, workdir.parent, harm={"no_report": True})
    if last.code or last.fault:
        return last, "failed"
    result = reference.victim.result(workdir)
    different = [name for name, value in result.items() if value != reference.result[name]]
    if different:
        return last, f"difference in {', '.join(different)}"
    shutil.rmtree(workdir)
    return last, ""


def _together(rng: np.random.Generator, workdir: Path, reference: Reference) -> tuple[Attempt, str]:
    """Start a second run, some time after the first, in the same work directory."""
    delay = float(rng.choice([0.0, rng.uniform(0.0, 1.1 * reference.seconds)]))
    words = reference.victim.words(workdir)
    first = Running(f"two runs, the second {delay:.2f} s later", words, workdir.parent)
    ended = first.wait(delay)
    second = attempt(first.what, words, workdir.parent)
    ended = ended or first.wait_or_kill(300.0)
    for one in (second, ended):
        if one.fault:
            return one, ""
    refused = [one for one in (ended, second) if one.code]
    if len(refused) == 2:
        return second, "both refused"
    if refused and "is in use by" not in refused[0].output:
        return refused[0], "refused without the reason"
    return _end(reference, workdir, ended)


def _clock(rng: np.random.Generator, workdir: Path, reference: Reference) -> tuple[Attempt, str]:
    """Let the clock jump, kill the run, and go on with a clock that jumps elsewhere."""
    words, told = reference.victim.words(workdir), []
    for _ in range(int(rng.integers(1, 3))):
        jumps = [
            [rng.uniform(0.0, reference.seconds), rng.choice([-1, 1]) * _YEAR_S * 10**-p]
            for p in rng.uniform(-1.0, 7.0, int(rng.integers(1, 4)))
        ]
        told.append(" and ".join(f"{jump:+.0f} s at {at:.2f} s" for at, jump in jumps))
        running = Running(
            f"clock {'; '.join(told)}", words, workdir.parent, {"clock": jumps, "no_report": True}
        )
        found = running.wait(float(rng.uniform(0.0, 1.3 * reference.seconds)))
        if found is None:
            running.kill()
        elif found.fault or found.code:
            return found, "failed" * bool(found.code)
        _shift(workdir, sum(jump for _, jump in jumps))
    return _end(reference, workdir, Attempt(running.what, 0, ""))


def _shift(workdir: Path, by_s: float) -> None:
    """Give files the times that a clock which was off had given them."""
    for path in workdir.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_mtime > 0:
            shifted = max(path.stat().st_mtime_ns + int(1e9 * by_s), 10**9)
            os.utime(path, ns=(shifted, shifted))


def _disk(rng: np.random.Generator, workdir: Path, reference: Reference) -> tuple[Attempt, str]:
    """Run on a disk that is too small, and again when it has grown."""
    needed = sum(path.stat().st_size for path in (reference.folder / "reference").rglob("*"))
    size = int(rng.uniform(0.0, 1.1 * (needed + _ROOM_BYTES)))
    words = reference.victim.words(workdir)
    workdir.mkdir()
    with _small_disk(workdir, size):
        found = attempt(f"a disk of {size / 2**20:.2f} MiB", words, workdir.parent)
        subprocess.run(["mount", "-o", "remount,size=1g", workdir], check=True)
        if found.fault:
            return found, ""
        last = attempt(found.what, words, workdir.parent)
        if last.code or last.fault:
            return last, "failed"
        result = reference.victim.result(workdir)
    different = [name for name, value in result.items() if value != reference.result[name]]
    return last, f"difference in {', '.join(different)}" if different else ""


@contextmanager
def _small_disk(folder: Path, size: int) -> Iterator[None]:
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={max(size, 4096)}", "none", folder], check=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _rights(rng: np.random.Generator, workdir: Path, reference: Reference) -> tuple[Attempt, str]:
    """Run where something may not be written or read, and again where it may."""
    words = reference.victim.words(workdir)
    harm: Mapping[str, Any] = {"plain_user": True, "no_report": rng.random() < 0.5}
    kind = str(rng.choice(["input", "work directory", "parent", "part", "hidden"]))
    if kind in ("part", "hidden"):
        running = Running("", words, workdir.parent)
        if running.wait(float(rng.uniform(0.0, 1.1 * reference.seconds))) is None:
            running.kill()
    spoilt = _spoilt(rng, kind, workdir, reference)
    modes = {path: path.stat().st_mode for path in spoilt}
    for path, mode in modes.items():
        path.chmod(mode & (0o111 if kind == "hidden" else 0o555))
    what = f"{kind} that may not be {'read' if kind == 'hidden' else 'written'}: {spoilt[-1]}"
    try:
        found = attempt(what, words, workdir.parent, harm=harm)
    finally:
        for path, mode in modes.items():
            if path.exists():  # the run may have replaced what it owns
                path.chmod(mode)
    if kind == "input" and found.code:
        return found, "failed"
    if kind in ("work directory", "parent") and found.code != 1:
        return found, "not refused"
    return _end(reference, workdir, found)


def _spoilt(rng: np.random.Generator, kind: str, workdir: Path, reference: Reference) -> list[Path]:
    """Return the files and folders of a kind."""
    if kind == "input":
        (origin,) = reference.victim.inputs
        return [*origin.rglob("*"), origin, origin.parent]
    if kind == "parent":
        return [workdir.parent]
    workdir.mkdir(exist_ok=True)
    inside = sorted(path for path in workdir.rglob("*") if not path.is_symlink())
    if kind == "work directory" or not inside:
        return [workdir]
    return [inside[int(place)] for place in rng.integers(0, len(inside), int(rng.integers(1, 4)))]


def _imager(rng: np.random.Generator, workdir: Path, reference: Reference) -> tuple[Attempt, str]:
    """Run with an imager that dies, hangs or tells something else at one of its calls."""
    from benchmarks.torture.false_imager import HOW, calls_of, put_imager

    most = calls_of(reference.folder / "reference_imager")
    how, call = str(rng.choice(HOW)), int(rng.integers(1, most + 1))
    programs = put_imager(workdir.with_name(f"{workdir.name}_imager"), how, call)
    path = f"{programs}:{os.environ['PATH']}"
    words = [*reference.victim.words(workdir), "--set", "tool_stall=3s"]
    what = f"WSClean {how} at call {call} of {most}"
    found = attempt(what, words, workdir.parent, harm={"env": {"PATH": path}})
    if not found.fault and not found.code:  # went on without it: the numbers may be others
        result = reference.victim.result(workdir)
        numbers = [*result["initial"].values(), *result["final"].values()]
        if not all(np.isfinite(n) for n in numbers if isinstance(n, float)):
            return found, "numbers that are none"
        return found, ""
    return _end(reference, workdir, found)


Harm = Callable[[np.random.Generator, Path, Reference], tuple[Attempt, str]]
HARMS: Mapping[str, Harm] = {
    "together": _together,
    "clock": _clock,
    "disk": _disk,
    "rights": _rights,
    "imager": _imager,
}
