"""One source of a field: small data, best solutions so far, its own run, what comes of it.

`calibrate_source` runs on a worker, perhaps of another machine, and perhaps again after the
first worker died; all it needs is in its task and on disk.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from libs.core.errors import InputError
from libs.core.files import replacing, write_atomically
from libs.core.geometry import ARCSEC_PER_RAD, auto_cell_arcsec, good_size, smearing_limits
from libs.directions.phase_shift import ShiftOptions
from libs.directions.subtract import SkyModel, add_source, image_model
from libs.h5parm.direction_gains import DirectionGains
from libs.h5parm.start import StartLimits, find_start
from libs.imaging.interface import write_masked_model
from libs.imaging.masks import MaskOptions, make_mask
from libs.ms.summary import summarise
from selfcal.child_runs import ChildRun, run_child, wait_until_free
from selfcal.code_version import code_version
from selfcal.settings import Settings
from selfcal.state import State
from steps.field.field_data import give_to_members, make_data
from steps.field.field_settings import source_settings, threads_of
from steps.field.known_data import KnownData, know_data
from steps.images import is_judged

__all__ = ["SourceTask", "calibrate_source", "failed", "source_averaging"]

# However small the map: phases to be solved for turn meanwhile (long-baseline practice at HBA).
_LONGEST_AUTO_S, _WIDEST_AUTO_HZ = 8.0, 195.3125e3
_MASK_SIGMA = 6.0
_STATE_KEYS = ("peak_jy_beam", "rms_jy_beam", "snr", "dynamic_range", "total_flux_jy")


@dataclass(frozen=True)
class SourceTask:
    """What a worker is asked to do.

    Attributes
    ----------
    name : str
    ra_rad, dec_rad : float
        J2000.
    folder : str
        Where all of it goes, absolute.
    vis : tuple of str
        The field's data of this layer.
    column : str
    table : str
        Global table of the layers before, or empty.
    map_arcsec : float
        Width of its map.
    confusion : float
        Flux of the field's other sources not yet subtracted (root of the sum of squares),
        relative to its own.
    settings : Settings
        The field's.
    identity : str
        Tells these data and this table from others.
    entry : str
        What the catalogue says of it, as `libs.catalogues.entry.CatalogueEntry.as_json`; empty:
        only where it is.
    taken_with : str
        Table of the solutions with which it was taken from ``vis``, where it was.
    models : tuple of str
        The model images it was taken from ``vis`` with; empty: it was not.
    surveys : str
        Folder where `steps.field.known_data.know_data` keeps what it finds; empty: nowhere.
    """

    name: str
    ra_rad: float
    dec_rad: float
    folder: str
    vis: tuple[str, ...]
    column: str
    table: str
    map_arcsec: float
    confusion: float
    settings: Settings = field(repr=False)
    identity: str = ""
    entry: str = ""
    taken_with: str = ""
    models: tuple[str, ...] = ()
    surveys: str = ""

    @property
    def fingerprint(self) -> str:
        """Hash of all that the result depends on."""
        values = {
            k: v for k, v in asdict(self).items() if k not in ("settings", "folder", "surveys")
        }
        ignored = ("cluster", "quiet", "workdir", "threads", "layers", "tool_stall")
        values["settings"] = {k: v for k, v in self.settings.values.items() if k not in ignored}
        values["code"] = code_version()
        text = json.dumps(values, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def calibrate_source(task: SourceTask, on_wait: Callable[[], None] | None = None) -> dict[str, Any]:
    """Make a source's small data, run loop 2 on it, collect its solutions, map and model.

    Parameters
    ----------
    task : SourceTask
    on_wait : callable, optional
        Called often while its run goes on, for a progress display.

    Returns
    -------
    dict
        Plain values for the record; paths are relative to the source's folder.

    Raises
    ------
    SelfcalError
        Its data cannot be made, or its run failed.
    """
    folder = Path(task.folder)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    done = folder / "done.json"
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text())
        if found["fingerprint"] == task.fingerprint and _complete(folder, found):
            return found
        done.unlink()
    start = time.monotonic()
    wait_until_free(folder / "run")
    data, notes = _small_data(task)
    _run(task, data, on_wait)
    result = _collect(task, notes)
    result |= {"fingerprint": task.fingerprint, "seconds": round(time.monotonic() - start, 1)}
    write_atomically(done, json.dumps(result, indent=1))
    return result


def _complete(folder: Path, found: dict[str, Any]) -> bool:
    files = [found["h5parm"], found["image"], *found["models"]]
    return all((folder / name).exists() for name in files if name)


# -- the small data -------------------------------------------------------------------------------


def source_averaging(task: SourceTask, data: KnownData) -> tuple[float, float]:
    """Return integration (s) and channel width (Hz) of a source's data; 0: as they are."""
    settings = task.settings
    seconds, hertz = smearing_limits(
        data.longest_baseline_m, data.max_frequency_hz,
        0.5 * task.map_arcsec / ARCSEC_PER_RAD, settings["smearing"],
    )  # fmt: skip
    limits = {
        "average_time": min(seconds, _LONGEST_AUTO_S),
        "average_frequency": min(hertz, _WIDEST_AUTO_HZ),
    }
    chosen = [
        limit if settings[name] == "auto" else settings[name] for name, limit in limits.items()
    ]
    return chosen[0], chosen[1]


def _small_data(task: SourceTask) -> tuple[list[Path], list[str]]:
    """Make the small data, corrected with the best solutions, unless they are there."""
    folder = Path(task.folder)
    made = folder / "data" / "made.json"
    names = [f"{task.name}.ms" if not i else f"{task.name}_{i}.ms" for i in range(len(task.vis))]
    targets = [folder / "data" / name for name in names]
    if made.exists():
        found = json.loads(made.read_text())
        if found["fingerprint"] == task.fingerprint and all(t.exists() for t in targets):
            return targets, found["notes"]
        made.unlink()
    notes = _write_best(task)
    for ms, target in zip(task.vis, targets, strict=True):
        known = know_data(Path(ms), Path(task.surveys) if task.surveys else None)
        seconds, hertz = source_averaging(task, known)
        gains = None
        if (folder / "best.h5").exists():
            # before source_averaging, so that fast phases cost nothing
            gains = DirectionGains.read(folder / "best.h5", Path(ms), missing="unit")
        options = ShiftOptions(
            (task.ra_rad, task.dec_rad), task.name, seconds, hertz, task.column,
            task.settings["uvmin"],
        )  # fmt: skip
        plan, how = make_data(
            task.settings.values, Path(ms), target, options, gains, known.survey,
            threads=threads_of(task.settings),
        )  # fmt: skip
        if task.models:
            _put_back(task, target)
        notes.append(
            f"{target.name}: {plan.rows} rows of {plan.integration_s:g} s,"
            f" {plan.size_bytes / 1e6:.1f} MB, by {how}"
        )
    text = json.dumps({"fingerprint": task.fingerprint, "notes": notes})
    write_atomically(made, text)
    return targets, notes


def _put_back(task: SourceTask, target: Path) -> None:
    """Put the source back into its small data, which were made of data without it."""
    known = Path(task.folder) / "best.h5"
    place = (task.ra_rad, task.dec_rad)
    model = image_model([Path(name) for name in task.models], threads=threads_of(task.settings))
    gains = DirectionGains.read(Path(task.taken_with), target, task.name)
    beneath = DirectionGains.read(known, target, missing="unit") if known.exists() else None
    add_source(target, SkyModel(task.name, place, model, gains), beneath)


def _write_best(task: SourceTask) -> list[str]:
    """Write best.h5: what is known for this direction, which its run starts from."""
    target = Path(task.folder) / "best.h5"
    target.unlink(missing_ok=True)
    if not task.table:
        return []
    settings = task.settings
    farthest = settings["max_separation"]
    try:
        known = find_start(
            Path(task.table),
            (task.ra_rad, task.dec_rad),
            name=task.name,
            limits=StartLimits(
                settings["min_good_fraction"],
                settings["min_coherence"],
                math.inf if farthest == "inf" else farthest / 3600.0,
            ),
        )
    except InputError as error:
        return [f"not corrected beforehand: {error.cause}"]
    known.write(target)
    notes = [f"corrected with the solutions of {', '.join(known.directions)}"]
    if known.missing:
        notes.append(f"nothing good for {', '.join(known.missing)}")
    return notes


# -- loop 2 ---------------------------------------------------------------------------------------


def _run(task: SourceTask, data: list[Path], on_wait: Callable[[], None] | None = None) -> None:
    """Run the ordinary pipeline on the small data, in a process and a work directory of its own.

    Raises
    ------
    ToolError
        It failed; its own message is in the text.
    """
    folder = Path(task.folder)
    known = folder / "best.h5"
    start = (str(known), task.name) if known.exists() else ("", "")
    config = source_settings(
        task.settings, str(folder / "run"), data, *_grid(task, data), task.confusion, *start,
        _write_entry(task),
    )  # fmt: skip
    child = ChildRun(
        folder / "run", folder / "source.yaml", config, folder, task.settings["tool_stall"],
        threads=threads_of(task.settings),
    )  # fmt: skip
    run_child(child, on_wait)


def _write_entry(task: SourceTask) -> str:
    """Write what the catalogue says of the source, for its first model; return where."""
    path = Path(task.folder) / "catalogue.json"
    if not task.entry:
        path.unlink(missing_ok=True)
        return ""
    # the run looks at the file's time: the same entry stays as it is
    if not path.exists() or path.read_text() != task.entry:
        write_atomically(path, task.entry)
    return str(path)


def _grid(task: SourceTask, data: list[Path]) -> tuple[int, float]:
    """Pixels and pixel size (arcsec) of the source's map."""
    cell = task.settings["cell"]
    if cell == "auto":
        summaries = [summarise(ms) for ms in data]
        longest = max(summary.longest_baseline_m for summary in summaries)
        highest = max(summary.max_frequency_hz for summary in summaries)
        cell = auto_cell_arcsec(longest, highest)
    return good_size(task.map_arcsec / cell, least=128), cell


# -- what comes of it -----------------------------------------------------------------------------


def _collect(task: SourceTask, notes: list[str]) -> dict[str, Any]:
    """Return the result of the run; write the source's own h5parm."""
    folder = Path(task.folder)
    run = folder / "run"
    summary = json.loads((run / "summary.json").read_text())
    products = _judged_products(run, task)
    slices = sorted(
        (name for name in products if name.startswith("model_")),
        key=lambda name: int(name.removeprefix("model_")),
    )
    improved = bool(summary["accepted"])
    state = summary["final"] or summary["initial"]
    return {
        "name": task.name,
        "status": "calibrated" if improved else "unchanged",
        "reason": "; ".join([*_decisions(summary), *notes]),
        "h5parm": _own_solutions(folder, summary["h5parm"] if improved else ""),
        "image": f"run/{products['image']}" if "image" in products else "",
        "models": _own_models(folder, products, slices or ["model"]),
        "longest_baseline_km": (summary["longest_baseline_km"] or 0.0) if improved else 0.0,
        **{key: state.get(key) for key in _STATE_KEYS},
    }


def _own_models(folder: Path, products: dict[str, str], names: list[str]) -> list[str]:
    """Write what is subtracted of the source: the model within the mask rounds solve with.

    CLEAN also turns noise and what other sources leave in the map into components; faint as
    these are, over a whole map they leave more in the data than they take out. The whole model
    serves where nothing reaches the mask's threshold: ``subtract_snr`` decides about that.
    """
    run, target = folder / "run", folder / "models"
    shutil.rmtree(target, ignore_errors=True)
    if "image" not in products or not all(name in products for name in names):
        return []
    target.mkdir()
    made = make_mask(run / products["image"], target / "mask.fits", MaskOptions(_MASK_SIGMA))
    if made.path is None:
        return [f"run/{products[name]}" for name in names]
    models = [target / f"{name}.fits" for name in names]
    for name, model in zip(names, models, strict=True):
        write_masked_model(run / products[name], made.path, model)
    return [f"models/{model.name}" for model in models]


def _judged_products(run: Path, task: SourceTask) -> dict[str, str]:
    """The files of the last judged image that was accepted."""
    config = yaml.safe_load((Path(task.folder) / "source.yaml").read_text())
    state = State(run)
    for name in reversed(config["steps"]):
        record = state.get(name)
        if record and is_judged(record.result):
            return dict(record.result.products)
    return {}


def _decisions(summary: dict[str, Any]) -> list[str]:
    texts = []
    if summary["accepted"]:
        texts.append(f"accepted {', '.join(summary['accepted'])}")
    if summary["rejected"]:
        name, why = next(iter(summary["rejected"].items()))
        texts.append(f"rejected {name}: {why}")
    return texts or ["no round was tried"]


def _own_solutions(folder: Path, product: str) -> str:
    """Write solutions.h5: the run's, which hold what it started from; else only the latter."""
    target, known = folder / "solutions.h5", folder / "best.h5"
    target.unlink(missing_ok=True)
    source = folder / "run" / product if product else known
    if not source.exists():
        return ""
    with replacing(target) as beside:
        shutil.copyfile(source, beside)
    give_to_members(folder / "data", target)
    return target.name


def failed(name: str, error: str) -> dict[str, Any]:
    """Return the result of a source that failed."""
    return {
        "name": name, "status": "failed", "reason": error, "h5parm": "", "image": "",
        "models": [], "longest_baseline_km": 0.0, **dict.fromkeys(_STATE_KEYS),
    }  # fmt: skip
