"""Where the CPU seconds of a run go: by step, and by the programs that work beside it.

The run is watched from outside: twenty times a second the CPU time of each of its processes is
read, and that of the main one is put down to the step that the run's log names last.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import psutil
import yaml

from benchmarks.bench import CASES, RESULTS, case_settings
from benchmarks.running import ROOT

__all__ = ["main", "table", "watch"]

_SAMPLE_S = 0.05
_STEP = re.compile(r"\[ *\d+/\d+\] (\w+):")
_BESIDE = {
    "selfcal.ahead": "closure model, fitted while the first images are made",
    "reports.drawer": "figures and report.html, most of them drawn beside the run",
    "libs.casa.worker": "CASA: rflag and tfcrop",
    "wsclean": "WSClean",
}
_OTHER = "other programs"
_START = "start: imports, settings"


class _Watch:
    """CPU seconds by stage, sample by sample."""

    def __init__(self, log: Path) -> None:
        self.log, self.place = log, 0
        self.step = _START
        self.seconds: dict[str, float] = defaultdict(float)
        self.seen: dict[tuple[int, float], float] = {}

    def sample(self, pid: int) -> None:
        """Read all processes once."""
        try:
            root = psutil.Process(pid)
            processes = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in processes:
            try:
                times, words = process.cpu_times(), process.cmdline()
                key = process.pid, process.create_time()
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            used = times.user + times.system
            stage = self.step if process.pid == pid else _stage_of(words)
            self.seconds[stage] += used - self.seen.get(key, 0.0)
            self.seen[key] = used
        self._follow()

    def _follow(self) -> None:
        """Read what the log has more, for the step of the next sample."""
        if not self.log.exists():
            return
        with self.log.open() as stream:
            stream.seek(self.place)
            found = _STEP.findall(stream.read())
            self.place = stream.tell()
        if found:
            self.step = found[-1]


def _stage_of(words: Sequence[str]) -> str:
    return next((name for key, name in _BESIDE.items() if any(key in w for w in words)), _OTHER)


def watch(config: Path, workdir: Path) -> dict[str, float]:
    """Run the command anew and return CPU seconds by stage, in the order they were met."""
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "run.log").unlink(missing_ok=True)
    watched = _Watch(workdir / "run.log")
    words = [sys.executable, str(ROOT / "auto_selfcal.py"), str(config), "--restart"]
    with (workdir.parent / "stages.log").open("wb") as stream:
        process = subprocess.Popen(
            [*words, "--workdir", str(workdir)], stdin=subprocess.DEVNULL, stdout=stream,
            stderr=subprocess.STDOUT, cwd=ROOT,
        )  # fmt: skip
        while process.poll() is None:
            watched.sample(process.pid)
            time.sleep(_SAMPLE_S)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}; see {stream.name}")
    return dict(watched.seconds)


def table(stages: dict[str, float]) -> str:
    """Return the stages as a Markdown table."""
    total = sum(stages.values())
    lines = ["| stage | CPU s | part |", "|---|---|---|"]
    lines += [f"| {name} | {s:.1f} | {100 * s / total:.0f} % |" for name, s in stages.items()]
    return "\n".join([*lines, f"| all | {total:.1f} | |"])


def main(argv: Sequence[str] | None = None) -> int:
    """Watch a run of each case."""
    parser = argparse.ArgumentParser(prog="bench_stages", description=__doc__)
    parser.add_argument("cases", nargs="+", choices=CASES)
    parser.add_argument("--imager", choices=["native", "wsclean"], default="native")
    parser.add_argument("--folder", type=Path, default=RESULTS / "stages")
    given = parser.parse_args(argv)
    for case in given.cases:
        folder = given.folder.absolute() / case.replace(":", "_")
        folder.mkdir(parents=True, exist_ok=True)
        settings, _ = case_settings(case, folder, 1.0, None)
        config = folder / "stages.yaml"
        config.write_text(yaml.safe_dump(settings | {"imager": given.imager}))
        print(f"{case}\n\n{table(watch(config, folder / 'run'))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
