"""New sessions of a project: found, converted, flagged at full resolution, averaged."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.core.errors import InputError, SelfcalError
from libs.core.files import fsync_tree, write_atomically
from libs.core.numbers import counted
from libs.flagging.aoflagger import check_installed, program, run_aoflagger
from libs.flagging.rflag import RflagOptions, run_rflag
from libs.inputs.working_copy import make_working_copy, resolve_inputs
from libs.ms.split import SplitOptions, averaging, split_calibrated
from libs.ms.summary import summarise
from selfcal.step import Step, StepResult
from steps.calibrate.project import Project, ScanFolder, SessionFolder, read_project
from steps.context import Context

__all__ = ["FindSessions", "IngestScans", "Ingested", "ingested_sets"]

_RECORD = "ingested.json"


def _project(context: Context) -> Project:
    settings = context.settings
    return read_project(Path(settings["project"]), settings["sessions"])


def _stamps(files: Sequence[Path]) -> list[list[Any]]:
    """Return name, size and time of change of files; of one that has gone meanwhile, its name."""
    found: list[list[Any]] = []
    for path in files:
        try:
            status = path.stat()
        except OSError:
            found.append([path.name])
        else:
            found.append([path.name, status.st_size, status.st_mtime_ns])
    return found


class FindSessions(Step):
    """List the sessions of a project and which of their scans are new."""

    uses = ("project", "sessions")

    def identity(self, context: Context) -> Mapping[str, Any]:
        """Return what tells these files from others."""
        return {
            session.name: {
                scan.name: {key: _stamps(files) for key, files in scan.parts.items()}
                for scan in session.scans
            }
            for session in _project(context).sessions
        }

    def run(self, context: Context) -> StepResult:
        """Write sessions.json."""
        project = _project(context)
        listed = {
            session.name: [f"{scan.name}: {', '.join(scan.parts)}" for scan in session.scans]
            for session in project.sessions
        }
        write_atomically(context.workdir / "sessions.json", json.dumps(listed, indent=1) + "\n")
        folder = Path(context.settings["project"])
        left_out = [
            f"{one.path.relative_to(folder)} is left out: {one.why}" for one in project.left_out
        ]
        for text in left_out:
            context.progress.note(f"  {text}", warning=True)
        scans = sum(len(session.scans) for session in project.sessions)
        said = [counted(len(project.sessions), "session"), counted(scans, "scan")]
        if left_out:
            said.append(f"{counted(len(left_out), 'other entry', 'other entries')} left out")
        return StepResult(
            reason=", ".join(said),
            products={"sessions": "sessions.json"},
            metrics={"left_out": left_out},
        )


@dataclass(frozen=True)
class Ingested:
    """What came of a scan of one local oscillator.

    Attributes
    ----------
    ms : str
        Relative to the work directory; empty where it is broken.
    fingerprint : str
    notes : list of str
    error : str
        Why it is broken.
    """

    ms: str
    fingerprint: str
    notes: list[str]
    error: str = ""


class IngestScans(Step):
    """Convert, flag and average each new scan; broken ones are told, the others go on."""

    needs = ("find_sessions",)
    uses = ("flagger", "average_channels", "average_time", "tool_stall")

    def run(self, context: Context) -> StepResult:
        """Write SESSION/SCAN_measure_sets/SCAN_b_averaged.ms and so on."""
        _check_flagger(context.settings["flagger"])
        done = new = 0
        broken: list[str] = []
        lost: list[str] = []
        notes: list[str] = []
        for session in _project(context).sessions:
            for scan in session.scans:
                for letter, files in scan.parts.items():
                    label = f"{session.name}/{scan.name} {letter}"
                    kept = _known(context, session, scan, letter, files)
                    if kept:
                        done += 1
                        continue
                    context.progress.activity(label)
                    made = _ingest(context, session, scan, letter, files)
                    notes += [f"{label}: {note}" for note in made.notes]
                    if made.error:
                        broken.append(f"{label}: {made.error}")
                    new += not made.error
                lost += _copy_texts(context, session, scan)
        for text in [*notes, *lost, *broken]:
            context.progress.note(f"  {text}", warning=text not in notes)
        if broken and not done + new:
            raise InputError(f"no scan could be read; {broken[0]}", "copy the files again")
        return StepResult(
            reason=f"{new} new, {done} there already, {len(broken)} broken",
            metrics={"notes": notes, "broken": broken, "new": new, "texts_not_copied": lost},
        )


def _check_flagger(name: str) -> None:
    if name == "aoflagger":
        check_installed("flagger = aoflagger")


def _folder(context: Context, session: SessionFolder, scan: ScanFolder) -> Path:
    return context.workdir / session.name / f"{scan.name}_measure_sets"


def _fingerprint(context: Context, stamps: list[list[Any]]) -> str:
    names = ("flagger", "average_channels", "average_time")
    values = {"files": stamps, **{name: context.settings[name] for name in names}}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _records(folder: Path) -> dict[str, Any]:
    path = folder / _RECORD
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _known(
    context: Context,
    session: SessionFolder,
    scan: ScanFolder,
    letter: str,
    files: tuple[Path, ...],
) -> bool:
    """Whether a scan was finished with these files and settings: by its record, not its folder."""
    record = _records(_folder(context, session, scan)).get(letter)
    return bool(
        record
        and not record["error"]
        and record["fingerprint"] == _fingerprint(context, _stamps(files))
        and (context.workdir / record["ms"] / "table.dat").exists()
    )


def _ingest(
    context: Context,
    session: SessionFolder,
    scan: ScanFolder,
    letter: str,
    files: tuple[Path, ...],
) -> Ingested:
    """Convert, flag and average a scan; record what came of it."""
    folder = _folder(context, session, scan)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{scan.name}_{letter}_averaged.ms"
    full = folder / f".{scan.name}_{letter}_full.ms"
    notes: list[str] = []
    error = ""
    before = _stamps(files)
    fingerprint = _fingerprint(context, before)
    try:
        _check_files(files)
        sources = resolve_inputs([str(path) for path in files])
        if len(sources) != 1:
            raise InputError(
                f"{len(files)} files are {len(sources)} observations", "give a folder to each scan"
            )
        made = make_working_copy(
            sources[0], full, datacolumn="data", one_target=False, session=context.tools.session,
            progress=context.progress.activity,
        )  # fmt: skip
        notes += made.notes
        _check_unchanged(files, before)
        notes.append(_flag(context, full))
        _average(context, full, target)
    except SelfcalError as why:
        error = str(why)
    finally:
        # only what was averaged and recorded may lose its full resolution
        for leftover in (full, Path(f"{full}.flagversions"), Path(f"{full}.headers")):
            shutil.rmtree(leftover, ignore_errors=True)
    result = Ingested("" if error else context.relative(target), fingerprint, notes, error)
    records = _records(folder) | {letter: vars(result)}
    write_atomically(folder / _RECORD, json.dumps(records, indent=1) + "\n")
    return result


def _check_files(files: Sequence[Path]) -> None:
    """Check each file of a scan by itself, so that all that are broken are named at once.

    Raises
    ------
    InputError
        Some are broken.
    """
    reasons = []
    for path in files:
        try:
            resolve_inputs([str(path)])
        except SelfcalError as error:
            reasons.append(error.cause.replace(str(path), path.name))
    if reasons:
        raise InputError(
            f"{len(reasons)} of {counted(len(files), 'file')} cannot be used: "
            + "; ".join(reasons),
            "copy them again; the same command takes them then",
        )


def _check_unchanged(files: Sequence[Path], before: list[list[Any]]) -> None:
    """Check that nothing was written to the files while they were read.

    Raises
    ------
    InputError
        Some have another size or time of change, or are gone.
    """
    changed = [old[0] for old, new in zip(before, _stamps(files), strict=True) if old != new]
    if changed:
        raise InputError(
            f"{', '.join(changed)} changed while it was read",
            "run the same command again when the copy is complete",
        )


def _flag(context: Context, ms: Path) -> str:
    wanted = context.settings["flagger"]
    if wanted == "none":
        return "not flagged at full resolution"
    if wanted == "aoflagger" or (wanted == "auto" and program()):
        return run_aoflagger(
            ms, version="full_resolution", log=context.workdir / "logs" / "aoflagger.log",
            stall_s=context.settings["tool_stall"],
        ).reason  # fmt: skip
    result = run_rflag(
        ms, context.tools.session, options=RflagOptions(methods=("tfcrop", "clip")),
        version="full_resolution", log=context.workdir / "logs" / "flagging.log",
        progress=context.progress.activity,
    )  # fmt: skip
    return result.reason


def _average(context: Context, full: Path, target: Path) -> None:
    """Average the data, or keep them as they are; ``target`` is complete or not there."""
    settings = context.settings
    seconds, width = averaging(
        summarise(full), settings["average_time"], settings["average_channels"], 0.0
    )
    options = SplitOptions("data", timebin_s=seconds, width=width)
    if options.averages:
        split_calibrated(full, target, context.tools.session, options=options)
        return
    fsync_tree(full)
    shutil.rmtree(target, ignore_errors=True)
    full.rename(target)


def _copy_texts(context: Context, session: SessionFolder, scan: ScanFolder) -> list[str]:
    """Copy the texts of a scan, in folders as they were; return which could not be and why."""
    folder = _folder(context, session, scan)
    failed = []
    for path in scan.texts:
        place = path.relative_to(scan.path)
        if str(place) == _RECORD:
            place = Path(f"original_{_RECORD}")
        target = folder / place
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        except OSError as error:
            failed.append(f"{session.name}/{scan.name}/{place} was not copied: {error.strerror}")
    return failed


def ingested_sets(workdir: Path) -> dict[str, list[Path]]:
    """Return the measurement sets of each session that was ingested, in order of their names."""
    found: dict[str, list[Path]] = {}
    listed = workdir / "sessions.json"
    for name in json.loads(listed.read_text()) if listed.exists() else []:
        sets = []
        for record in sorted((workdir / name).glob(f"*_measure_sets/{_RECORD}")):
            for item in json.loads(record.read_text()).values():
                if item["ms"]:
                    sets.append(workdir / item["ms"])
        found[name] = sets
    return found
