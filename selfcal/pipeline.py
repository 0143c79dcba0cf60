"""Execution of an ordered list of steps: order, reuse, rollback, and passing on of results."""

from __future__ import annotations

import hashlib
import json
import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from libs.core.disk import check_room, disk_error
from libs.core.errors import ConfigError, DiskError, SelfcalError
from libs.core.files import write_atomically
from selfcal.code_version import code_version, step_version
from selfcal.context import Context
from selfcal.heard import hear_warnings
from selfcal.options import unknown_name
from selfcal.state import Record, State, merge_rows
from selfcal.step import Skip, Step, StepResult
from selfcal.templates import Resolved, resolve_options

__all__ = ["Pipeline", "PlannedStep", "StepFailed", "StepRefused"]

log = logging.getLogger(__name__)


class StepFailed(SelfcalError):  # noqa: N818 - names an event, not a kind of error
    """A step failed; the failure is in its row and the run stops (exit code 1)."""


class StepRefused(StepFailed, ConfigError):  # noqa: N818 - as StepFailed
    """A step failed for what the config says, which only the data could show (exit code 2)."""


@dataclass(frozen=True)
class PlannedStep:
    """The treatment of a step at a start, ``reuse`` or ``run``, and the reason."""

    name: str
    action: str
    why: str


class Pipeline:
    """An ordered list of steps run in a work directory.

    Parameters
    ----------
    steps : sequence of Step
    context : Context
    state : State
    setup : callable, optional
        Function ``(context) -> (instrument, band)``, on which templates depend; called before each
        step.
    after : callable, optional
        Function ``(context, step, result)`` that is called when a step's row is written.
    tool_modules : mapping of str to sequence of str, optional
        Modules that may implement each attribute of the tools; their code counts as code of the
        steps that use it.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        context: Context,
        state: State,
        *,
        setup: Callable[[Context], tuple[str, str]] = lambda context: ("", ""),
        before: Callable[[Context, Step], None] | None = None,
        after: Callable[[Context, Step, StepResult], None] | None = None,
        tool_modules: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        names = [step.name for step in steps]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ConfigError(f"steps names {', '.join(sorted(twice))} twice", "name each once")
        if not steps:
            raise ConfigError("the list of steps is empty", "name at least one step")
        self.steps = list(steps)
        self.context = context
        self.state = state
        self.setup = setup
        self.before = before
        self.after = after
        self.tool_modules = dict(tool_modules or {})

    # -- what to do ---------------------------------------------------------------------------

    def plan(
        self, *, start: str = "", until: str = "", only: str = "", restart: bool = False
    ) -> list[PlannedStep]:
        """Return the treatment of each step at a start; nothing is run or written."""
        planned: list[PlannedStep] = []
        context = self.context
        results: dict[str, StepResult] = {}
        saved, context.results = context.results, results
        try:
            previous: Record | None = None
            forced = "--restart" if restart else ""
            for step in self._range(start, until, only):
                why = forced or self._why_run(step, previous, start, only)
                if why:
                    planned.append(PlannedStep(step.name, "run", why))
                    forced = forced or f"{step.name} runs"
                    if only and step.name != only:
                        forced = ""
                    continue
                previous = self.state.get(step.name)
                assert previous is not None
                results[step.name] = previous.result
                planned.append(PlannedStep(step.name, "reuse", previous.result.status))
        finally:
            context.results = saved
        return planned

    def _range(self, start: str, until: str, only: str) -> list[Step]:
        """Return the steps up to the last one wanted."""
        names = [step.name for step in self.steps]
        for option, name in (("--from", start), ("--until", until), ("--only", only)):
            if name and name not in names:
                raise unknown_name(f"step for {option}", name, names)
        if only and (start or until):
            raise ConfigError("--only stands alone", "leave out --from and --until")
        last = names.index(only or until) if (only or until) else len(names) - 1
        if start and names.index(start) > last:
            raise ConfigError(f"--from {start} comes after --until {until}", "swap them")
        return self.steps[: last + 1]

    def _why_run(self, step: Step, previous: Record | None, start: str, only: str) -> str:
        """Return why a step cannot be reused; empty when it can."""
        if step.name == start:
            return "--from"
        if step.name == only:
            return "--only"
        record = self.state.get(step.name)
        if record is None:
            return "not run yet"
        if record.result.status == "failed":
            return "failed before"
        if step.name in self.state.interrupted():
            return "was interrupted"
        if previous is not None and record.order < previous.order:
            return f"{previous.step} ran after it"
        if record.fingerprint != self._fingerprint(step, self._resolve(step), previous):
            return "options, input or code changed"
        for path in record.result.products.values():
            if not (self.context.workdir / path).exists():
                return f"{path} is missing"
        return ""

    def _resolve(self, step: Step) -> Resolved:
        instrument, band = self.setup(self.context)
        return resolve_options(step, self.context.settings, self.context.template, instrument, band)

    def _fingerprint(self, step: Step, resolved: Resolved, previous: Record | None) -> str:
        """Return a hash of the resolved options, the code and everything that came before."""
        settings = self.context.settings
        named = [Path(file).expanduser() for n in step.uses_files for file in _files(settings[n])]
        content = {
            "step": step.name,
            "class": type(step).__name__,
            "options": dict(resolved.values),
            "by_user": sorted(name for name, o in resolved.origin.items() if o.by_user),
            "absent": resolved.absent,
            "settings": {name: settings[name] for name in (*step.uses, *step.uses_files)},
            "identity": dict(step.identity(self.context)) if previous is None else {},
            "files": {str(path): _stamp(path) for path in [*step.files(resolved.values), *named]},
            "code": step_version(type(step).__module__, self.tool_modules),
            "before": previous.fingerprint if previous else "",
        }
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    # -- execution ----------------------------------------------------------------------------

    def run(
        self, *, start: str = "", until: str = "", only: str = "", restart: bool = False
    ) -> dict[str, StepResult]:
        """Run or reuse every step in turn; return the results by step.

        Raises
        ------
        StepFailed
            A step failed; the rows before it remain.
        """
        steps = self._range(start, until, only)
        if restart:
            self.state.forget()
        try:
            return self._run_each(steps, start, only)
        finally:
            self.context.progress.stop()

    def _run_each(self, steps: Sequence[Step], start: str, only: str) -> dict[str, StepResult]:
        context = self.context
        context.results.clear()
        previous: Record | None = None
        forced = False
        for number, step in enumerate(steps, start=1):
            label = f"[{number:2d}/{len(steps)}] {step.name:<17}"
            why = "forced" if forced else self._why_run(step, previous, start, only)
            if why:
                later = () if only else steps[number:]
                previous = self._run_step(step, label, previous, later)
                forced = not only or step.name == only
            else:
                previous = self.state.get(step.name)
                assert previous is not None
                context.progress.begin(label)
                context.progress.end(f"reused: {previous.result.status}")
            context.results[step.name] = previous.result
        return dict(context.results)

    def _run_step(
        self, step: Step, label: str, previous: Record | None, later: Sequence[Step]
    ) -> Record:
        context = self.context
        context.progress.begin(label)
        context.clock.reset()
        resolved = self._resolve(step)
        fingerprint = self._fingerprint(step, resolved, previous)
        try:
            check_room(context.workdir)
        except DiskError as error:
            raise _step_failed(step.name, error) from error
        self.state.begin(step.name)
        failure: Exception | None = None
        with context.clock.time("total"), hear_warnings() as heard:
            try:
                self._begin_ahead([step, *later])
                context.options, context.origin = resolved.values, resolved.origin
                if resolved.absent:
                    raise Skip(f"template {context.template} has no {step.name}")
                if self.before:
                    self.before(context, step)
                result = step.run(context)
            except Skip as skip:
                result = replace(self._carried("skipped", str(skip)), metrics=skip.metrics)
            except Exception as error:  # noqa: BLE001 - recorded, then raised as StepFailed
                failure = error
                result = self._carried("failed", f"{type(error).__name__}: {error}")
        if heard:
            result = replace(result, metrics={**result.metrics, "warnings": heard})
        seconds = dict(context.clock.seconds)
        settings = {**resolved.values, "origin": {n: str(o) for n, o in resolved.origin.items()}}
        try:
            self._save_rows(step.name, result)
            record = self.state.append(step.name, fingerprint, result, seconds, settings)
        except OSError as error:  # without its row the step counts as killed and runs again
            failure = failure or error
        if failure is not None:
            log.error("%s failed", step.name, exc_info=failure)
            raise _step_failed(step.name, failure) from failure
        context.progress.end(
            _summary(result), warning=bool(result.metrics.get("warning")), warnings=heard
        )
        if self.after:
            self.after(context, step, result)
        return record

    def _begin_ahead(self, steps: Sequence[Step]) -> None:
        """Let the steps after the first one to run begin work that it does not affect."""
        context = self.context
        able = [type(step).begin_ahead is not Step.begin_ahead for step in steps]
        if not context.results or not any(able[1:]):
            return
        for step, following in pairwise(steps[: len(able) - able[::-1].index(True)]):
            context.options = self._resolve(step).values
            if step.changes_data(context):
                return
            context.options = self._resolve(following).values
            try:
                following.begin_ahead(context)
            except (Skip, SelfcalError) as error:  # its own run will report it
                log.info("%s is not started early: %s", following.name, error)

    def _carried(self, status: Any, reason: str) -> StepResult:
        """Return a result that leaves the calibration and the template unchanged."""
        return StepResult(
            status, reason, tables=self.context.tables, template=self.context.template
        )

    def _save_rows(self, step: str, result: StepResult) -> None:
        """Write the step's rows, and rewrite images.csv and gains.csv from every step's rows."""
        workdir = self.context.workdir
        folder = workdir / "records"
        folder.mkdir(exist_ok=True)
        rows = {"images": list(result.images), "gains": list(result.gains)}
        write_atomically(folder / f"{step}.json", json.dumps(rows, default=str))
        names = [name for name in self.context.results if name != step] + [step]
        saved = []
        for name in names:
            path = folder / f"{name}.json"
            if path.exists():
                saved.append(json.loads(path.read_text()))
        for kind in ("images", "gains"):
            write_atomically(workdir / f"{kind}.csv", merge_rows([rows[kind] for rows in saved]))


def _stamp(path: Path) -> list[int]:
    """Return the size and time of a file; an empty list where it does not exist."""
    return [path.stat().st_size, path.stat().st_mtime_ns] if path.exists() else []


def _files(value: str | Sequence[str]) -> Sequence[str]:
    """Return the files that a setting names, one or a list of them."""
    return ([value] if value else []) if isinstance(value, str) else value


def _summary(result: StepResult) -> str:
    return f"{result.status}: {result.reason}" if result.reason else result.status


def _step_failed(name: str, error: Exception) -> StepFailed:
    if isinstance(error, SelfcalError):
        kind = StepRefused if isinstance(error, ConfigError) else StepFailed
        return kind(f"step {name} failed: {error.cause}", error.remedy)
    refused = disk_error(error)
    if refused is not None:
        return StepFailed(f"step {name} failed: {refused.cause}", refused.remedy)
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, (OSError, MemoryError)):  # of the machine
        return StepFailed(f"step {name} failed: {said}", "the traceback is in run.log")
    frames = traceback.extract_tb(error.__traceback__)
    place = f", {Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else ""
    return StepFailed(
        f"step {name} failed: {said} (a fault of the program{place})",
        "please report it, with run.log, which has the traceback",
    )


def settings_record(context: Context, steps: Sequence[Step], state: State) -> Mapping[str, Any]:
    """Return every setting used and its origin, for resolved.yaml."""
    run = {
        name: {"value": _plain(value), "from": context.settings.origin[name]}
        for name, value in context.settings.values.items()
    }
    options: dict[str, Any] = {}
    for step in steps:
        record = state.get(step.name)
        if record is None or "origin" not in record.settings:
            continue
        origin = record.settings["origin"]
        options[step.name] = {
            name: {"value": _plain(value), "from": origin[name]}
            for name, value in record.settings.items()
            if name != "origin"
        }
    return {"code": code_version(), **run, "options": options}


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
