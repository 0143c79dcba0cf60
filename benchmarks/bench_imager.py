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
import statistics
import sys
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

__all__ = ["CASES", "Image", "cpu_s", "imager_named", "main", "model_error", "options_of", "table"]

CASES = ("vla_a_5ghz", "vla_a_8ghz", "alma_230ghz", "lofar_hba")
_PIXELS = 512
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
    slices, terms = frequency_slices(channel_hz)
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
    start = cpu_s()
    products = imager_named(name, folder).image(options)
    cpu = cpu_s() - start
    measured = measure_products(products)
    residual, _ = open_image(products.residual)
    model, _ = open_image(products.model)
    rms = float(residual.std())
    return Image(
        case, name, multiscale, cpu, products.seconds, 0.0, rms,
        measured.peak_jy_beam / rms, float(model.sum()), model_error(case, vis, products),
    )  # fmt: skip


def cpu_s() -> float:
    """Return the CPU time of this process and of those it waited for."""
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases and print a table."""
    parser = argparse.ArgumentParser(prog="bench_imager", description=__doc__)
    parser.add_argument("--only", nargs="*", default=CASES, help="cases")
    parser.add_argument("--imagers", nargs="*", default=("native", "wsclean"))
    parser.add_argument("--repeats", type=int, default=3, help="seeds")
    parser.add_argument("--multiscale", action="store_true")
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
    images = run_cases(
        given.only, given.imagers, given.repeats, folder, multiscale=given.multiscale
    )
    (folder / "images.json").write_text(json.dumps([asdict(each) for each in images], indent=1))
    print(table(images))
    return 0


if __name__ == "__main__":
    sys.exit(main())
