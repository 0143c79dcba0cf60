"""Steps without tools, and a run made of them: what the engine does can be seen in files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from selfcal.context import Context
from selfcal.options import Option
from selfcal.pipeline import Pipeline
from selfcal.progress import Progress
from selfcal.settings import build_settings
from selfcal.state import State
from selfcal.step import Skip, Step, StepResult, TableRef
from steps.run_options import RUN_OPTIONS

NAMES = ("first", "second", "third", "fourth")


class Killed(BaseException):
    """Stands for kill -9: nothing of the engine may catch it."""


class Fake(Step):
    """Writes a file made of its option and of its predecessor's file."""

    uses = ("threads",)
    options = (
        Option("number", "int", 1, "a number"),
        Option("solint", "time", "30s", "a time"),
        Option("other", "float", 0.5, "a number of another kind"),
    )
    # name -> what is done in the middle of the step
    trouble: ClassVar[dict[str, Callable[[], None]]] = {}
    ran: ClassVar[list[str]] = []

    def identity(self, context: Context) -> Mapping[str, Any]:
        """The input is a word in the settings."""
        return {"vis": context.settings["vis"]}

    def run(self, context: Context) -> StepResult:
        """Change what earlier steps left in place, then write a product and a table."""
        before = context.product("file")
        text = before.read_text() if before else "input"
        shared = context.workdir / "in_place"
        shared.write_text(f"{self.name} at work")
        Fake.ran.append(self.name)
        if self.name in Fake.trouble:
            Fake.trouble[self.name]()
        target = context.workdir / f"{self.name}.txt"
        target.write_text(f"{text} > {self.name}({context.options['number']})")
        shared.write_text(f"{self.name} done")
        return StepResult(
            reason=f"number {context.options['number']}",
            tables=(*context.tables, TableRef("a.ms", f"{self.name}.cal", (0, 0), round=self.name)),
            products={"file": target.name},
            metrics={"length": len(target.read_text()), "options": dict(context.options)},
            images=({"step": self.name, "snr": 3.0},),
            gains=({"step": self.name, "phase_deg": 1.0},),
        )


class Skipping(Fake):
    """Has nothing to do."""

    def run(self, context: Context) -> StepResult:
        """Say so."""
        Fake.ran.append(self.name)
        raise Skip("nothing to do")


def make_pipeline(
    workdir: Path,
    names: Sequence[str] = NAMES,
    *,
    config: Mapping[str, Any] | None = None,
    assignments: Mapping[str, Any] | None = None,
    classes: Mapping[str, type[Step]] | None = None,
) -> Pipeline:
    """Return a pipeline of fake steps on a work directory, as a new process would make it."""
    workdir.mkdir(exist_ok=True)
    settings = build_settings(config or {}, None, assignments or {}, list(names), RUN_OPTIONS)
    steps = [(classes or {}).get(name, Fake)(name) for name in names]
    context = Context(settings, workdir, None, Progress(quiet=True))
    return Pipeline(steps, context, State(workdir))


def run(workdir: Path, names: Sequence[str] = NAMES, **how: Any) -> list[str]:
    """Run a pipeline and return the steps that ran."""
    selection = {key: how.pop(key) for key in ("start", "until", "only", "restart") if key in how}
    Fake.ran.clear()
    make_pipeline(workdir, names, **how).run(**selection)
    return list(Fake.ran)
