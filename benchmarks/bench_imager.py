"""Single images of perfect data: the project's own imager beside WSClean and tclean.

Each image is made by a process of its own, the imagers in turn, so that what the machine does
meanwhile falls on all alike. The model's error is that of its visibilities against the exact
ones of the simulated sky, in units of the noise of one visibility.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.bench import RESULTS
from benchmarks.running import ROOT, run_command
from libs.core.errors import ConfigError
from libs.core.geometry import frequency_slices
from libs.directions.subtract import image_model
from libs.imaging.interface import ImageProducts, Imager, ImagingOptions, open_image
from libs.imaging.native.native import NativeImager
from libs.imaging.native.samples import Selection, read_blocks, read_set_layout
from libs.imaging.predict import ModelImage, model_visibilities, read_model
from libs.imaging.statistics import measure_products
from libs.imaging.wsclean import WSClean
from libs.simulation.scenarios import make_scenario, scenario
from libs.simulation.sky import sky_visibilities, source_table

__all__ = ["CASES", "Image", "fitted_exponent", "main", "model_error", "table"]

CASES = ("vla_a_5ghz", "vla_a_8ghz", "alma_230ghz", "lofar_hba")
_PIXELS = 512
_ROWS = (1e5, 1e6, 1e7)
_SIZES = (256, 1024, 4096)
_STRIDE = 7  # rows between those whose model is compared with the truth


@dataclass(frozen=True)
class Image:
    """One image: units are in the names; ``error`` is in the noise of one visibility."""

    case: str
    imager: str
    multiscale: bool
    cpu_s: float
    wall_s: float
    peak_mb: float
    rms_jy_beam: float
    dynamic_range: float
    flux_jy: float
    error: float


def imager_named(name: str, folder: Path) -> Imager:
    """Return an imager by name.

    Raises
    ------
    ConfigError
        There is none of that name.
    """
    if name == "native":
        return NativeImager()
    if name == "wsclean":
        return WSClean()
    if name == "tclean":
        from libs.casa.session import CasaSession
        from libs.imaging.tclean import Tclean

        return Tclean(CasaSession(folder))
    raise ConfigError(f"no imager {name}", "choose native, wsclean or tclean")


def options_of(case: str, vis: Path, folder: Path, name: str, multiscale: bool) -> ImagingOptions:
    """Return the options of a case's image: those of a run's test image, on one thread."""
    chosen = scenario(case)
    channel_hz = np.concatenate([spw.frequency_hz for spw in chosen.spws])
    slices, terms = frequency_slices(channel_hz.min(), channel_hz.max(), len(channel_hz))
    return ImagingOptions(
        vis=(vis,), folder=folder, basename=name, imsize=(_PIXELS, _PIXELS),
        cell_arcsec=chosen.cell_arcsec, robust=0.0, niter=100000, automask_nsigma=4.0,
        autothreshold_nsigma=0.3, multiscale=multiscale, channels_out=slices, nterms=terms,
        threads=1,
    )  # fmt: skip


def model_error(case: str, vis: Path, products: ImageProducts) -> float:
    """Return the rms error of a model's visibilities over the noise of one visibility."""
    chosen = scenario(case)
    reference = float(np.mean([spw.centre_hz for spw in chosen.spws]))
    predict = _predictor(products)
    wrong = noise = 0.0
    one = np.zeros(1, np.int64)
    for block in read_blocks(read_set_layout(vis), Selection("DATA"), 0, max_bytes=2**28):
        uvw, weight = block.uvw_m[::_STRIDE], block.weight[::_STRIDE]
        ends = np.stack([np.zeros_like(uvw), uvw], axis=1)
        sky = source_table(chosen.sky, block.frequency_hz, reference)
        true = sky_visibilities(ends, one, one + 1, block.frequency_hz, sky)[:, 0]
        found = predict(uvw, block.frequency_hz)
        wrong += float((weight * np.abs(found - true) ** 2).sum())
        noise += float((weight * np.abs(block.visibility[::_STRIDE] - true) ** 2).sum())
    return math.sqrt(wrong / noise)


def _predictor(products: ImageProducts):  # type: ignore[no-untyped-def]
    """Prediction from models that are Taylor terms, or images of frequency slices."""
    frequencies = {read_model([path]).frequency_hz for path in products.models}
    if len(frequencies) > 1 or len(products.models) == 1:
        return image_model(products.models)
    model: ModelImage = read_model(products.models)
    return lambda uvw, frequency: model_visibilities(model, uvw, frequency)


def make_one(case: str, name: str, vis: Path, folder: Path, multiscale: bool) -> Image:
    """Make one image in this process, measure it and return the figures."""
    options = options_of(case, vis, folder, f"{case}-{name}", multiscale)
    start = _cpu_s()
    products = imager_named(name, folder).image(options)
    cpu = _cpu_s() - start
    measured = measure_products(products)
    residual, _ = open_image(products.residual)
    model, _ = open_image(products.model)
    rms = float(residual.std())
    return Image(
        case, name, multiscale, cpu, products.seconds, 0.0, rms,
        measured.peak_jy_beam / rms, float(model.sum()), model_error(case, vis, products),
    )  # fmt: skip


def _cpu_s() -> float:
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        total += used.ru_utime + used.ru_stime
    return total


def _in_a_process(
    case: str, name: str, vis: Path, folder: Path, multiscale: bool, seed: int | None
) -> Image:
    """Make one image in a process of its own."""
    result = folder / "image.json"
    words = [
        sys.executable, "-m", "benchmarks.bench_imager", "--one", case, name, str(vis),
        "--folder", str(folder),
    ]  # fmt: skip
    finished = run_command(
        words + ["--multiscale"] * multiscale, folder / f"{case}-{name}.out", cwd=ROOT
    )
    if finished.code:
        raise RuntimeError(finished.log.read_text(errors="replace")[-2000:])
    # the kernel's own record: what getrusage says begins with the memory of the parent
    peak_mb = max(finished.peak_mb, finished.children_mb)
    image = dataclasses.replace(Image(**json.loads(result.read_text())), peak_mb=peak_mb)
    print(f"seed {seed}: {image}", file=sys.stderr, flush=True)
    return image


def run_cases(
    cases: Sequence[str], imagers: Sequence[str], repeats: int, folder: Path, *, multiscale: bool
) -> list[Image]:
    """Image every case with every imager, each repeat from another seed, in turn."""
    images = []
    for case in cases:
        for repeat in range(repeats):
            seed = scenario(case).seed + 1000 * repeat
            perfect = make_scenario(case, folder / f"{case}.ms", seed=seed).perfect_ms
            assert perfect is not None
            images += [
                _in_a_process(case, name, perfect, folder, multiscale, seed) for name in imagers
            ]
    return images


def table(images: Sequence[Image]) -> str:
    """Return medians as a Markdown table."""
    lines = [
        "| case | imager | CPU s | wall s | MB | rms, µJy | dynamic range | flux, Jy | error |",
        "|" + "---|" * 9,
    ]
    groups: dict[tuple[str, str], list[Image]] = {}
    for image in images:
        groups.setdefault((image.case, image.imager), []).append(image)

    def middle(some: Sequence[Image], name: str) -> float:
        return statistics.median(getattr(each, name) for each in some)

    for (case, imager), some in groups.items():
        lines.append(
            f"| {case} | {imager} | {middle(some, 'cpu_s'):.2f} | {middle(some, 'wall_s'):.1f} |"
            f" {middle(some, 'peak_mb'):.0f} | {1e6 * middle(some, 'rms_jy_beam'):.2f} |"
            f" {middle(some, 'dynamic_range'):.0f} | {middle(some, 'flux_jy'):.5f} |"
            f" {middle(some, 'error'):.4f} |"
        )
    return "\n".join(lines)


def fitted_exponent(size: Sequence[float], seconds: Sequence[float]) -> float:
    """Return b of seconds = a size^b by least squares of the logarithms."""
    return float(np.polyfit(np.log(size), np.log(seconds), 1)[0])


def scaling(folder: Path, rows: Sequence[float], sizes: Sequence[int]) -> str:
    """Time images of growing data and of growing size, on one and two threads."""
    lines = ["| axis | rows | pixels | threads | CPU s | wall s |", "|" + "---|" * 6]
    chosen = scenario(CASES[0])
    own = chosen.observation().rows
    points = [("rows", count, _PIXELS) for count in rows] + [("pixels", rows[0], n) for n in sizes]
    for threads in (1, 2):
        taken: dict[str, list[tuple[float, float]]] = {"rows": [], "pixels": []}
        for axis, count, pixels in points:
            factor = count / own
            made = make_scenario(chosen, folder / "data.ms", factor, perfect=False)
            options = dataclasses.replace(
                options_of(CASES[0], made.ms, folder, "scaling", False),
                imsize=(pixels, pixels), threads=threads, niter=2000, automask_nsigma=0.0,
                autothreshold_nsigma=3.0,
            )  # fmt: skip
            start = _cpu_s(), time.monotonic()
            NativeImager().image(options)
            cpu, wall = _cpu_s() - start[0], time.monotonic() - start[1]
            size = made.observation.rows if axis == "rows" else float(pixels) ** 2
            taken[axis].append((size, cpu))
            lines.append(
                f"| {axis} | {made.observation.rows} | {pixels}² | {threads} | {cpu:.2f} |"
                f" {wall:.1f} |"
            )
            print(lines[-1], file=sys.stderr, flush=True)
            shutil.rmtree(made.ms, ignore_errors=True)
        for axis, values in taken.items():
            if len(values) > 1:
                exponent = fitted_exponent(*zip(*values, strict=True))
                lines.append(f"| {axis}: CPU ∝ size^{exponent:.2f} | | | {threads} | | |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases, or the scaling, and print a table."""
    parser = argparse.ArgumentParser(prog="bench_imager", description=__doc__)
    parser.add_argument("--only", nargs="*", default=CASES, help="cases")
    parser.add_argument("--imagers", nargs="*", default=("native", "wsclean"))
    parser.add_argument("--repeats", type=int, default=3, help="seeds")
    parser.add_argument("--multiscale", action="store_true")
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--rows", nargs="*", type=float, default=_ROWS)
    parser.add_argument("--sizes", nargs="*", type=int, default=_SIZES)
    parser.add_argument("--folder", type=Path, default=RESULTS / "imager")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    folder = given.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if given.one:
        case, name, vis = given.one
        image = make_one(case, name, Path(vis), folder, given.multiscale)
        (folder / "image.json").write_text(json.dumps(asdict(image)))
        return 0
    if given.scaling:
        print(scaling(folder, given.rows, given.sizes))
        return 0
    images = run_cases(
        given.only, given.imagers, given.repeats, folder, multiscale=given.multiscale
    )
    (folder / "images.json").write_text(json.dumps([asdict(each) for each in images], indent=1))
    print(table(images))
    return 0


if __name__ == "__main__":
    sys.exit(main())
