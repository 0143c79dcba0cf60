"""Images of a set like the VLA Sky Survey's by groups of windows: time, quality, and the full size.

``python -m benchmarks.bench_vlass`` images one group in Stokes I, Q, U and V with the quick mode
and with tclean's mosaic, in turn, each in a process of its own. ``--cost`` measures one gridding
of a pointing at the survey's pixels, and works the full image out from it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import resource
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.bench import RESULTS
from benchmarks.bench_imager import imager_named
from benchmarks.running import ROOT, run_command
from libs.imaging.interface import CleanStage, ImagingOptions, Mosaic, open_image
from libs.imaging.mosaic import correct_by_response
from libs.imaging.native.measurement import Measurement
from libs.imaging.native.pointings import open_views
from libs.imaging.native.samples import Selection
from libs.imaging.native.weighting import make_weighting
from libs.imaging.tclean import Tclean
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from libs.simulation.survey import (
    CENTRE_DEG,
    REFERENCE_HZ,
    SURVEY_SKY,
    simulate_survey,
    survey_observation,
)

__all__ = ["GroupImage", "main"]

_IMSIZE, _CELL = 800, 6.0
_FULL_IMSIZE, _FULL_CELL = 12500, 0.6
# pointings of one epoch within 0.5 deg and the buffer of 1000 arcsec, 7.2 arcmin apart
_FULL_POINTINGS = round((2 * (1800.0 + 1000.0) / 432.0) ** 2)


@dataclass(frozen=True)
class GroupImage:
    """One group imaged: CPU seconds, memory, and the largest error of a source's flux."""

    imager: str
    cpu_s: float
    wall_s: float
    peak_mb: float
    flux_error: float
    rms_jy_beam: float


def _options(
    vis: Path, folder: Path, spws: tuple[int, ...], stokes: str = "IQUV"
) -> ImagingOptions:
    stages = (CleanStage(20.0, 1000, response=0.3), CleanStage(4.5, 1000, response=0.4))
    return ImagingOptions(
        vis=(vis,), folder=folder, basename="group", imsize=(_IMSIZE, _IMSIZE),
        cell_arcsec=_CELL, robust=1.0, niter=2000, stokes=stokes, spws=spws,
        phase_centre_deg=CENTRE_DEG, mosaic=Mosaic((0, 1, 2), "vla", 25.0), stages=stages,
        gain=0.1, threads=1,
    )  # fmt: skip


def _make_one(name: str, vis: Path, folder: Path, stokes: str) -> GroupImage:
    """Image the group in this process."""
    imager = imager_named(name, folder)
    try:
        products = imager.image(_options(vis, folder / name, (2,), stokes))
    finally:
        if isinstance(imager, Tclean):
            imager.session.close()  # type: ignore[attr-defined]
    worst = 0.0
    for one in stokes:
        plane, header = open_image(correct_by_response(products.plane(one), 0.1))
        axis = next(n for n in (3, 4) if str(header[f"CTYPE{n}"]).startswith("FREQ"))
        for source in SURVEY_SKY:
            x = _IMSIZE // 2 - source.source.l_arcsec / _CELL
            y = _IMSIZE // 2 + source.source.m_arcsec / _CELL
            near = plane[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2]
            flux = source.stokes_jy(np.array([header[f"CRVAL{axis}"]]), REFERENCE_HZ)
            truth, total = float(flux[one][0]), float(flux["I"][0])
            found = float(near.ravel()[int(np.argmax(np.abs(near)))])
            if truth:
                worst = max(worst, abs(found - truth) / total)
    residual = open_image(products.residual)[0]
    return GroupImage(name, 0.0, products.seconds, 0.0, worst, float(np.nanstd(residual)))


def _compare(imagers: Sequence[str], repeats: int, folder: Path, stokes: str) -> list[GroupImage]:
    """Image the group with each imager in turn, each repeat of another seed."""
    images = []
    for repeat in range(repeats):
        vis = folder / "survey.ms"
        simulate_survey(vis, survey_observation((2, 3), integrations=10), seed=repeat)
        for name in imagers:
            words = [sys.executable, "-m", "benchmarks.bench_vlass", "--one", name, str(vis),
                     "--stokes", stokes, "--folder", str(folder)]  # fmt: skip
            done = run_command(words, folder / f"{name}.out", cwd=ROOT)
            if done.code:
                raise RuntimeError(done.log.read_text(errors="replace")[-2000:])
            one = GroupImage(**json.loads((folder / "group.json").read_text()))
            peak = max(done.peak_mb, done.children_mb)
            images.append(dataclasses.replace(one, cpu_s=done.cpu_seconds, peak_mb=peak))
            print(f"seed {repeat}: {images[-1]}", file=sys.stderr, flush=True)
    return images


@dataclass(frozen=True)
class Cost:
    """What the full image of a group takes, from what one gridding takes."""

    gridding_s: float
    part_pixels: int
    visibilities: int
    passes: float
    hours: float
    memory_gb: float


def _cost(folder: Path, threads: int) -> Cost:
    """Measure one gridding of a pointing at the survey's pixels; work out the full image.

    A stage of CLEAN takes some residuals, each two griddings of each pointing and window, on the
    part of the image that its beam covers: time goes with the number of pointings and windows.
    """
    vis = folder / "pointing.ms"
    seen = survey_observation((9,), configuration="vla.b", integrations=1, channels=64, scans=3)
    simulate_survey(vis, seen)
    options = _options(vis, folder, (2,)).but(
        imsize=(6400, 6400), cell_arcsec=_FULL_CELL, mosaic=Mosaic((0,), "vla", 25.0),
        threads=threads,
    )  # fmt: skip
    (view,) = open_views(
        options, Selection("DATA", stokes="I", together="IQUV"), memory_bytes=1e10,
        threads=threads,
    )  # fmt: skip
    assert view.store is not None
    cell_rad = math.radians(_FULL_CELL / 3600.0)
    view.store.weigh(
        make_weighting(view.store.blocks(), options.imsize, cell_rad, briggs=True, robust=1.0)
    )
    measurement = Measurement(view.store, view.gridder, view.frequencies_hz[0], average=False)
    measurement.first_images((2048, 2048))
    model = np.zeros((1, *view.gridder.imsize[::-1]))
    model[0, ::97, ::89] = 1e-3
    start = _cpu_s()
    measurement.residual(model)
    each = 0.5 * (_cpu_s() - start)
    # dirty image, then about four residuals in each of three stages; the PSF's grid is small
    passes = 1.0 + 2.0 * 12.0
    total = 4 * passes * _FULL_POINTINGS * each
    return Cost(
        each, int(np.prod(view.gridder.imsize)), view.store.facts.visibilities, passes,
        total / 3600.0, _full_memory_bytes() / 1e9,
    )  # fmt: skip


def _full_memory_bytes() -> float:
    """Return the memory of the full image's planes, bytes, as the imager reckons it."""
    from libs.imaging.native.memory import image_bytes

    return image_bytes((_FULL_IMSIZE, _FULL_IMSIZE), 1, 3, convolved=False)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _table(images: Sequence[GroupImage]) -> str:
    lines = ["| imager | CPU s | wall s | MB | worst flux error / I | residual, µJy |",
             "|" + "---|" * 6]  # fmt: skip
    for name in dict.fromkeys(image.imager for image in images):
        own = [image for image in images if image.imager == name]
        values = [
            statistics.median(getattr(image, key) for image in own)
            for key in ("cpu_s", "wall_s", "peak_mb", "flux_error", "rms_jy_beam")
        ]
        lines.append(
            f"| {name} | {values[0]:.1f} | {values[1]:.1f} | {values[2]:.0f} | {values[3]:.4f} |"
            f" {1e6 * values[4]:.1f} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="bench_vlass", description=__doc__)
    parser.add_argument("--imagers", nargs="*", default=("native", "tclean"))
    parser.add_argument("--repeats", type=int, default=2, help="seeds")
    parser.add_argument("--stokes", default="IQUV", help="parameters imaged")
    parser.add_argument("--cost", action="store_true", help="work out the full image's cost")
    parser.add_argument("--full", action="store_true", help="simulate the set of full size only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=RESULTS / "vlass")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    folder = given.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if given.one:
        image = _make_one(given.one[0], Path(given.one[1]), folder, given.stokes)
        (folder / "group.json").write_text(json.dumps(asdict(image)))
        return 0
    if given.full:
        start = _cpu_s()
        made = simulate_survey(folder / "full.ms", survey_observation())
        windows = len(Subtables(made.ms).windows)
        with open_table(made.ms) as opened:
            rows = opened.nrows()
        print(f"{rows} rows, {windows} windows, {_cpu_s() - start:.1f} CPU s")
        return 0
    if given.cost:
        cost = _cost(folder, given.threads)
        (folder / "cost.json").write_text(json.dumps(asdict(cost), indent=1))
        print(json.dumps(asdict(cost), indent=1))
        return 0
    images = _compare(given.imagers, given.repeats, folder, given.stokes)
    (folder / "images.json").write_text(json.dumps([asdict(each) for each in images], indent=1))
    print(_table(images))
    return 0


if __name__ == "__main__":
    sys.exit(main())
