"""One random observation: simulated, self-calibrated with the defaults and scored."""

from __future__ import annotations

import math
import shutil
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.campaign.draw import Case, draw, flag_drawn
from benchmarks.campaign.true_source import deviations, true_plane
from benchmarks.running import ROOT, run_selfcal
from benchmarks.truth import compare_with_truth, image_alike
from libs.core.errors import InputError, SelfcalError
from libs.imaging.align import compare
from libs.imaging.interface import open_image, write_image
from libs.imaging.statistics import ImageStatistics
from libs.simulation.scenarios import make_scenario
from steps.run_options import load_run_config

__all__ = ["Drawing", "Score", "run_drawn", "score"]


@dataclass(frozen=True)
class Drawing:
    """A case that is to be run.

    Attributes
    ----------
    seed : int
    folder : Path
        The case has a folder of its own within this one.
    keep : bool
        Whether that folder stays.
    """

    seed: int
    folder: Path
    keep: bool = False


@dataclass(frozen=True)
class Score:
    """One case and what came of it.

    Attributes
    ----------
    seed : int
    title, status, rounds : str
        ``status`` is that of the run, or ``not run``.
    kinds : dict of str to str
    snr_perfect : float
        Peak over noise of the image of perfect data.
    antenna_snr : float
        As drawn, see `benchmarks.campaign.draw.Case`.
    dr_start, dr_final, dr_perfect, ratio : float
        Dynamic ranges, imaged alike; ``ratio`` is final over perfect.
    flux_ratio, flux_error : float
        Flux over that of the perfect image, and its error (1 sigma): that of the perfect image's
        flux and that which the run gives for its own.
    error_start, error_final, error_perfect, error_sigma : float
        rms error against the true sky, seen with each image's beam, before, after and of perfect
        data, Jy/beam; and the error of the change.
    cpu_seconds : float
        Of the run.
    rejected : dict of str to str
        Rounds that were refused, and why.
    deviations : dict of str to float
        (measured - true) / error of the main source, by quantity.
    fault : str
        Why a case could not be run.
    """

    seed: int
    title: str
    status: str
    kinds: dict[str, str]
    snr_perfect: float = math.nan
    antenna_snr: float = math.nan
    dr_start: float = math.nan
    dr_final: float = math.nan
    dr_perfect: float = math.nan
    ratio: float = math.nan
    flux_ratio: float = math.nan
    flux_error: float = math.nan
    error_start: float = math.nan
    error_final: float = math.nan
    error_perfect: float = math.nan
    error_sigma: float = math.nan
    cpu_seconds: float = math.nan
    rounds: str = ""
    rejected: dict[str, str] = field(default_factory=dict)
    deviations: dict[str, float] = field(default_factory=dict)
    fault: str = ""


def _settings(case: Case, ms: Path) -> dict[str, Any]:
    """The config of a case: what ``init`` writes, and the data."""
    settings: dict[str, Any] = {}
    if case.kinds["array"] == "LOFAR":
        settings = load_run_config(ROOT / "templates" / "configs" / "lofar.py")
    return settings | {"vis": str(ms)}


def run_drawn(drawing: Drawing) -> Score:
    """Simulate, self-calibrate and score the case of a seed; a failure is part of its score."""
    case = draw(drawing.seed)
    place = drawing.folder / case.scenario.name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        return score(case, place)
    # one case that fails must not cost the others' figures
    except (RuntimeError, SelfcalError, OSError, KeyError, ValueError) as error:
        (place / "fault.txt").write_text(traceback.format_exc())
        said = f"{type(error).__name__}: {error}"
        return Score(drawing.seed, case.scenario.title, "not run", case.kinds, fault=said[:600])
    finally:
        if not drawing.keep:
            shutil.rmtree(place, ignore_errors=True)


def score(case: Case, place: Path) -> Score:
    """Run one case within a folder of its own and set it beside its truth."""
    made = make_scenario(case.scenario, place / "draw.ms")
    assert made.perfect_ms is not None
    for ms in (made.ms, made.perfect_ms):
        flag_drawn(case, ms)
    finished, summary = run_selfcal(place, _settings(case, made.ms))
    workdir = place / "ours"
    perfect, ideal = image_alike(workdir, made.perfect_ms, place / "perfect")
    start, before = image_alike(workdir, made.ms, place / "start", "start")
    final = workdir / summary["final"]["image"]
    reached = float(summary["final"]["dynamic_range"])
    flux = compare_with_truth(perfect, final)
    errors = _errors(case, ideal, (start.image, final, perfect.image), place)
    return Score(
        seed=case.seed,
        title=case.scenario.title,
        status=summary["status"],
        kinds=case.kinds,
        snr_perfect=ideal.snr,
        antenna_snr=case.antenna_snr,
        dr_start=before.dynamic_range,
        dr_final=reached,
        dr_perfect=ideal.dynamic_range,
        ratio=reached / ideal.dynamic_range,
        flux_ratio=flux.flux_ratio,
        flux_error=_flux_error(ideal, summary),
        error_start=errors[0],
        error_final=errors[1],
        error_perfect=errors[2],
        error_sigma=errors[3],
        cpu_seconds=finished.cpu_seconds,
        rounds=" ".join(summary["accepted"]) or "-",
        rejected={name: str(why)[:300] for name, why in summary["rejected"].items()},
        deviations=deviations(case.scenario, workdir, summary, place),
    )


def _flux_error(ideal: ImageStatistics, summary: Mapping[str, Any]) -> float:
    """Return the error of the ratio of two fluxes, the run's over the perfect image's."""
    said = (summary.get("main_source") or {}).get("total_flux_jy") or {}
    own = float(said.get("error") or 0.0)
    total = ideal.total_flux_jy
    return math.hypot(ideal.flux_error_jy, own) / total if total else math.nan


def _errors(
    case: Case, ideal: ImageStatistics, images: tuple[Path, Path, Path], place: Path
) -> tuple[float, float, float, float]:
    """Return the errors against the true sky before, after and of perfect data.

    The last is the error of the change from the first to the second: an rms over N beams is known
    to 1 / sqrt(2 N) of itself.
    """
    before, after, least = (_error(case, image, place / "true_sky.fits") for image in images)
    beams = max(1.0, _beams(images[1], ideal))
    return before, after, least, math.hypot(before, after) / math.sqrt(2.0 * beams)


def _error(case: Case, image: Path, scratch: Path) -> float:
    """Return the rms difference of an image from the true sky, aligned if it can be, Jy/beam.

    Artefacts of badly phased data can correlate best where no alignment is possible; such an
    image is taken as it lies.
    """
    truth = true_plane(case.scenario, image)
    plane, header = open_image(image)
    try:
        path = write_image(truth, header, scratch)
        return compare(path, image).rms_difference_jy_beam
    except InputError:
        return float(np.sqrt(np.mean((plane - truth) ** 2)))


def _beams(image: Path, ideal: ImageStatistics) -> float:
    plane, _ = open_image(image)
    return plane.size * ideal.cell_arcsec**2 / ideal.beam_area_arcsec2
