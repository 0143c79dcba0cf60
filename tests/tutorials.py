"""The tutorials of the documentation as a reader would follow them: commands run, output compared.

A block of the language ``console`` holds commands after ``$`` and what they print. ``...`` stands
for anything. Numbers may differ by `TOLERANCE`: they change a little with every change of method.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

__all__ = ["Command", "commands_of", "follow", "same_output"]

TOLERANCE = 0.3
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Command:
    """A command of a tutorial and the lines that it should print."""

    words: str
    output: str


def commands_of(page: Path) -> Iterator[Command]:
    """Yield the commands of a page in order."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            words, _, output = part.partition("\n")
            while words.endswith("\\"):
                more, _, output = output.partition("\n")
                words = words[:-1] + more.removeprefix("> ")
            yield Command(words, output)


def same_output(wanted: str, found: str) -> bool:
    """Return True where lines agree word by word, numbers within the tolerance."""
    return _same(wanted.split(), found.split())


def _same(wanted: Sequence[str], found: Sequence[str]) -> bool:
    """Return True where words agree; each run of words between ``...`` is sought in turn."""
    runs: list[list[str]] = [[]]
    for word in wanted:
        if word == "...":
            runs.append([])
        else:
            runs[-1].append(word)
    first, *others = runs
    if not _agree(first, found[: len(first)]):
        return False
    place = len(first)
    for number, run in enumerate(others):
        last = number == len(others) - 1
        starts = [len(found) - len(run)] if last else range(place, len(found) - len(run) + 1)
        start = next(
            (s for s in starts if s >= place and _agree(run, found[s : s + len(run)])), None
        )
        if start is None:
            return False
        place = start + len(run)
    return bool(others) or place == len(found)


def _agree(wanted: Sequence[str], found: Sequence[str]) -> bool:
    return len(wanted) == len(found) and all(map(_same_word, wanted, found))


def _same_word(wanted: str, found: str) -> bool:
    if _NUMBER.fullmatch(wanted) and _NUMBER.fullmatch(found):
        return abs(float(wanted) - float(found)) <= TOLERANCE * abs(float(wanted))
    return wanted == found


def follow(page: Path, folder: Path, data: Path) -> None:
    """Run the commands of a page in a folder; fail where one fails or prints something else.

    Parameters
    ----------
    page, folder : Path
    data : Path
        Folder of real observations, ``$SELFCAL_DATA`` to the commands.
    """
    programs = folder / ".programs"
    programs.mkdir()
    command = programs / "auto-selfcal"
    # as an installation makes it
    command.write_text(
        f"#!{sys.executable}\nimport sys\nimport auto_selfcal\nsys.exit(auto_selfcal.main())\n"
    )
    command.chmod(0o755)
    paths = [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {
        **os.environ, "PATH": os.pathsep.join(paths), "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8",
        "SELFCAL_DATA": str(data.resolve()),
    }  # fmt: skip
    for each in commands_of(page):
        done = subprocess.run(
            each.words, shell=True, cwd=folder, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"$ {each.words}\n{said}"
        if each.output.strip():
            assert same_output(each.output, done.stdout), f"$ {each.words}\n{done.stdout}"
