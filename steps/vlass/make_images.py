"""Images of every group of windows, side by side; a group that fails does not lose the others."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.errors import InputError
from libs.core.files import fsync_tree, write_atomically
from libs.imaging.interface import Imager, ImagingOptions
from libs.imaging.tclean import Tclean
from selfcal.cluster import Outcome, run_all, shared_threads
from selfcal.state import State
from selfcal.step import Step, StepResult
from steps.context import Context
from steps.tools import make_tools
from steps.vlass.vlass_data import GROUPS, ImageTarget, as_record, cube_options, image_targets

__all__ = ["GroupTask", "MakeImages", "forget_others", "image_group", "marked_planes"]

_DONE = "done.json"
_IMAGES = "images"


@dataclass(frozen=True)
class GroupTask:
    """One group of windows to be imaged; it holds all that a worker needs.

    Attributes
    ----------
    target : ImageTarget
    options : ImagingOptions
    imager : str
        ``tclean`` or ``native``.
    arguments : mapping
        Arguments of tclean over those of the options.
    workdir : str
    stall_s : float
    """

    target: ImageTarget
    options: ImagingOptions
    imager: str
    arguments: Mapping[str, Any]
    workdir: str
    stall_s: float

    @property
    def fingerprint(self) -> str:
        """Return a hash of all that the images depend on but the data."""
        text = json.dumps(
            [dataclasses.asdict(self.options), dict(self.arguments), self.imager], default=str,
            sort_keys=True,
        )  # fmt: skip
        # a work directory may be moved
        return hashlib.sha256(text.replace(self.workdir, ".").encode()).hexdigest()


class MakeImages(Step):
    """Image each group in Stokes I, Q, U and V with the production run's masks and stages."""

    needs = ("restore_pims", "edit_image_list_ccip")
    uses = (
        "imager", "robust", "uvmax", "pb_limit", "scales", "smallscalebias", "psfcutoff",
        "cyclefactor", "niter", "nsigma_masked", "cycleniter_masked", "pb_mask", "nsigma_pb",
        "cycleniter_pb", "instrument", "flagged_most", "beam_most", "tool_stall",
    )  # fmt: skip

    def run(self, context: Context) -> StepResult:
        """Image the groups that are not there yet; write groups.json."""
        restored = State(context.workdir).get("restore_pims")
        stamp = restored.fingerprint if restored else ""
        tasks = [
            _task(context, target) for target in image_targets(context, "edit_image_list_ccip")
        ]
        forget_others(context.workdir / _IMAGES, tasks, stamp)
        rows: dict[str, dict[str, Any]] = {}

        def on_done(outcome: Outcome) -> None:
            row = _row(outcome)
            rows[row["label"]] = row
            text = row["error"] or f"imaged in {row['seconds']:.0f} s"
            context.progress.note(f"  {row['label']}: {text}", warning=bool(row["error"]))

        with context.clock.time("imaging"):
            run_all(
                image_group, tasks, context.settings["cluster"], on_done,
                on_wait=context.progress.tick,
            )  # fmt: skip
        ordered = [rows[task.target.label] for task in tasks]
        marked_planes(ordered, context.settings["flagged_most"], context.settings["beam_most"])
        write_atomically(context.workdir / GROUPS, json.dumps(ordered, indent=1) + "\n")
        return self._result(ordered)

    def _result(self, rows: Sequence[Mapping[str, Any]]) -> StepResult:
        failed = [f"{row['label']}: {row['error']}" for row in rows if row["error"]]
        marked = [f"{row['label']}: {row['mark']}" for row in rows if row["mark"]]
        if len(failed) == len(rows):
            raise InputError(f"no group could be imaged; {'; '.join(failed)}", "see the log")
        # a group that failed has a file on record that is missing, so that the next start of the
        # same command tries it again
        products = {f"done_{row['label']}": f"{_IMAGES}/{row['label']}/{_DONE}" for row in rows}
        said = f"{len(rows) - len(failed)} of {len(rows)} groups imaged"
        said += f"; FAILED: {'; '.join(failed)}" if failed else ""
        said += f"; marked: {'; '.join(marked)}" if marked else ""
        metrics: dict[str, Any] = {"failed": failed, "marked": marked}
        if failed:
            metrics["warning"] = f"{len(failed)} groups failed"
        return StepResult(reason=said, products={"groups": GROUPS, **products}, metrics=metrics)


def _task(context: Context, target: ImageTarget) -> GroupTask:
    settings = context.settings
    folder = context.workdir / _IMAGES / target.label
    options = cube_options(context, target, folder, context.metric("masks"))
    shared = shared_threads(settings["cluster"])
    if shared and not options.threads:
        options = options.but(threads=shared)
    arguments = {
        "smallscalebias": settings["smallscalebias"], "psfcutoff": settings["psfcutoff"],
        "cyclefactor": settings["cyclefactor"], "gain": options.gain,
        "reffreq": f"{target.frequency_hz / 1e9:.9f}GHz",
    }  # fmt: skip
    return GroupTask(
        target, options, settings["imager"],
        arguments if settings["imager"] == "tclean" else {}, str(context.workdir),
        settings["tool_stall"],
    )  # fmt: skip


def forget_others(folder: Path, tasks: Sequence[GroupTask], stamp: str) -> None:
    """Remove images of other settings, other data or groups that are no longer asked for.

    Parameters
    ----------
    folder : Path
        Folder of the groups' folders.
    tasks : sequence of GroupTask
    stamp : str
        Fingerprint of the restored data.
    """
    wanted = {task.target.label: task.fingerprint for task in tasks}
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / "data.json"
    same = known.exists() and known.read_text() == stamp
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        done = place / _DONE
        kept = same and done.exists()
        if not kept or json.loads(done.read_text())["fingerprint"] != wanted.get(place.name):
            shutil.rmtree(place)
    write_atomically(known, stamp)


def image_group(task: GroupTask) -> list[dict[str, Any]]:
    """Image one group, or return what an earlier call made; called in a worker.

    Returns
    -------
    list of dict
        A row for each Stokes parameter.
    """
    folder = task.options.folder
    done = folder / _DONE
    if done.exists():
        rows: list[dict[str, Any]] = json.loads(done.read_text())["planes"]
        return rows
    shutil.rmtree(folder, ignore_errors=True)
    tools = make_tools(task.imager, "native", folder / "logs", stall_s=task.stall_s)
    try:
        imager: Imager = tools.imager
        if isinstance(imager, Tclean):
            imager = dataclasses.replace(imager, arguments=task.arguments)
        products = imager.image(task.options)
    finally:
        tools.close()
    rows = as_record(products, Path(task.workdir))
    fsync_tree(folder)
    content = {"fingerprint": task.fingerprint, "planes": rows}
    write_atomically(done, json.dumps(content, indent=1) + "\n")
    return rows


def _row(outcome: Outcome) -> dict[str, Any]:
    """Return what came of a group, for groups.json."""
    target: ImageTarget = outcome.item.target
    planes = outcome.value or []
    return {
        "label": target.label, "name": target.name, "spws": list(target.spws),
        "frequency_hz": target.frequency_hz, "flagged": target.flagged, "mask": target.mask,
        "error": outcome.error, "planes": planes, "mark": "", "fields": len(target.fields),
        "seconds": max((plane["seconds"] for plane in planes), default=0.0),
        "attempts": outcome.attempts,
    }  # fmt: skip


def marked_planes(rows: Sequence[dict[str, Any]], flagged_most: float, beam_most: float) -> None:
    """Mark groups flagged too much, or with a beam off those of the others.

    Parameters
    ----------
    rows : sequence of dict
        Those of groups.json; ``mark`` is set.
    flagged_most : float
        Flagged fraction above which a group is marked.
    beam_most : float
        Part by which the geometric mean of a beam's axes, times frequency, may be off the median.
    """
    sizes = {
        row["label"]: float(
            np.sqrt(
                row["planes"][0]["beam_major_arcsec"] * row["planes"][0]["beam_minor_arcsec"]
            ) * row["frequency_hz"]
        )
        for row in rows if row["planes"]
    }  # fmt: skip
    middle = float(np.median(list(sizes.values()))) if sizes else 0.0
    for row in rows:
        marks = []
        if row["flagged"] > flagged_most:
            marks.append(f"{row['flagged']:.0%} flagged")
        size = sizes.get(row["label"])
        if size is not None and abs(size / middle - 1.0) > beam_most:
            marks.append(f"its beam is {size / middle:.2f} of the median's size")
        row["mark"] = ", ".join(marks)
