"""The command in this process, without figures, which take as long as a small run does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import auto_selfcal
from selfcal.state import State
from selfcal.step import StepResult
from steps.commands import run


class NoDrawer:
    """A drawer of reports that draws nothing."""

    def __init__(self, workdir: Path, plots: bool = False) -> None:
        self.workdir = workdir

    def prepare(self) -> None: ...

    def round_done(self, step: str) -> None: ...

    def step_done(self) -> None: ...

    def rounds_over(self) -> None: ...

    def write_report(self, on_wait: Callable[[str], None]) -> None: ...

    def finish(self, on_wait: Callable[[str], None]) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class QuietRun:
    """A run that ended well."""

    workdir: Path

    @property
    def summary(self) -> dict[str, Any]:
        """Content of summary.json."""
        return dict(json.loads((self.workdir / "summary.json").read_text()))

    @property
    def order(self) -> dict[str, int]:
        """When each step last ran."""
        state = State(self.workdir)
        names = {name for name in self._names() if state.get(name) is not None}
        return {name: state.get(name).order for name in names}  # type: ignore[union-attr]

    def _names(self) -> Sequence[str]:
        from steps import STEPS

        return list(STEPS)

    def result(self, step: str) -> StepResult:
        """Result of a step."""
        record = State(self.workdir).get(step)
        assert record is not None
        return record.result


def quiet_run(folder: Path, sets: Sequence[Path], **config: Any) -> QuietRun:
    """Run the command on data in ``folder/run``, with a small image unless told otherwise."""
    folder.mkdir(exist_ok=True)
    values = {
        "vis": [str(ms) for ms in sets], "workdir": str(folder / "run"), "imager": "native",
        "imsize": 128, "cell": "1arcsec", "quiet": True, **config,
    }  # fmt: skip
    path = folder / "config.py"
    path.write_text("".join(f"{name} = {value!r}\n" for name, value in values.items()))
    reports = replace(auto_selfcal.REPORTS, drawer=NoDrawer)
    assert run.command([str(path)], reports, lambda: path, ()) == 0
    return QuietRun(folder / "run")
