"""Loop 1 on the simulated field of nine sources: how much of what is subtracted is left.

Run from the project's root: ``python -m benchmarks.bench_field [FOLDER] [--cluster dask:2]
[--kill] [--compare] [--scale 1] [--noise 0.6] [--seed 29]``. For each bright source the
subtracted data are turned to its place and imaged (natural weights, no CLEAN); the rms there over
the thermal noise should be at most 1.3. Entries of the global table are counted, its phases
compared with the true ones, and each source's place with the true one. ``dask:N`` starts a Dask
scheduler with N workers; ``--kill`` kills one worker while a source runs; ``--compare`` runs the
field in line as well and sets the two side by side. Averaging and the maps are the program's own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.field_compare import compare_runs
from benchmarks.field_workers import Watch, place, run_watched
from benchmarks.running import ROOT
from libs.directions.phase_shift import ShiftOptions, shift_data
from libs.h5parm.global_table import list_entries
from libs.h5parm.reader import read_h5parm
from libs.imaging.interface import open_image
from libs.ms.create import read_layout
from libs.ms.tables import open_table
from libs.simulation.observation import Simulation
from libs.simulation.scenarios import make_scenario, scenario
from steps.field.field_list import read_sources

TARGET = 1.3
_PIXELS, _CELL_ARCSEC = 256, 0.05
_STEPS = (
    "startup", "save_init_flags", "closure_stats", "test_image", "select_refant",
    "initial_model", "l1", "l2", "l3", "l4", "l5",
)  # fmt: skip


def write_config(made: Simulation, folder: Path, **changes: Any) -> Path:
    """Write the list of the true sources and the field's config."""
    lines = ["name,ra_deg,dec_deg,flux_Jy"]
    for source in made.sky:
        place = source.radec_rad(*made.observation.direction_rad)
        ra, dec = (math.degrees(angle) for angle in place)
        lines.append(f"{source.name},{ra:.9f},{dec:.9f},{source.flux_jy}")
    (folder / "sources.csv").write_text("\n".join(lines) + "\n")
    config = {
        "vis": str(made.ms), "workdir": str(folder / "work"),
        "sources": str(folder / "sources.csv"), "layers": ["300mJy", "50mJy"],
        "source_steps": list(_STEPS),
        # sums in the same order wherever a source runs
        "threads": 1, **changes,
    }  # fmt: skip
    path = folder / "field.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def dirty_image(ms: Path, direction_rad: tuple[float, float], scratch: Path) -> tuple[Any, float]:
    """Return a natural dirty image (Jy/beam) at a place and its thermal noise."""
    from ducc0.wgridder import vis2dirty

    shift_data(ms, scratch, ShiftOptions(direction_rad))
    frequency = read_layout(scratch).frequency_hz[0]
    with open_table(scratch) as opened:
        data, flag = opened.getcol("DATA")[:, :, [0, -1]], opened.getcol("FLAG")[:, :, [0, -1]]
        weight = np.where(flag, 0.0, opened.getcol("WEIGHT_SPECTRUM")[:, :, [0, -1]])
        uvw = opened.getcol("UVW")
    total = weight.sum(axis=2, dtype=np.float64)
    mean = np.divide((data * weight).sum(axis=2), total, out=np.zeros(total.shape, complex),
                     where=total > 0)  # fmt: skip
    cell = _CELL_ARCSEC / 206264.80625
    image = vis2dirty(
        uvw=uvw * np.array([1.0, -1.0, 1.0]), freq=np.ascontiguousarray(frequency),
        vis=mean.astype(np.complex128), wgt=total.astype(np.float64),
        npix_x=_PIXELS, npix_y=_PIXELS, pixsize_x=cell, pixsize_y=cell,
        epsilon=1e-5, do_wgridding=True, divide_by_n=False,
    )  # fmt: skip
    return image / total.sum(), float(total.sum() ** -0.5)


def phase_errors_deg(made: Simulation, table: Path) -> dict[str, float]:
    """Return for each direction the rms of phase differences between stations and the true."""
    solset = read_h5parm(table)
    errors = {}
    for name, truth in made.direction_gains.items():
        if name not in solset.direction:
            continue
        j = solset.direction.index(name)
        solved = np.exp(1j * solset.total_phase_rad[:, :, :, j, 0])
        near = [int(np.argmin(np.abs(truth.time_s - t))) for t in solset.time_s]
        block = len(truth.frequency_hz) // 2
        order = [truth.antenna.index(antenna) for antenna in solset.antenna]
        true = truth.gain[near][:, block : block + 1, :, 0][:, :, order]
        ratio = solved.mean(axis=1, keepdims=True) * np.conj(true / np.abs(true))
        ratio = ratio * np.conj(ratio.mean(axis=2, keepdims=True))
        errors[name] = float(np.rad2deg(np.sqrt(np.mean(np.angle(ratio) ** 2))))
    return errors


def offsets_arcsec(work: Path) -> dict[str, float]:
    """Return for each source how far the peak of its map lies from its true place.

    The sources are symmetric and listed where they are, at their maps' centres.
    """
    offsets = {}
    for row in read_sources(work):
        if not row.get("image"):
            continue
        plane, header = open_image(work / "sources" / row["name"] / row["image"])
        y, x = (int(i) for i in np.unravel_index(int(plane.argmax()), plane.shape))
        place = []
        for axis, index, line in ((1, x, plane[y]), (2, y, plane[:, x])):
            before, at, after = (float(value) for value in line[index - 1 : index + 2])
            vertex = index + 0.5 * (before - after) / (before - 2 * at + after)
            centre = float(header[f"CRPIX{axis}"]) - 1.0
            place.append((vertex - centre) * float(header[f"CDELT{axis}"]) * 3600.0)
        offsets[row["name"]] = round(math.hypot(*place), 4)
    return offsets


def measure(made: Simulation, work: Path, folder: Path) -> dict[str, Any]:
    """Return residuals over thermal noise, entries, phase errors and places."""
    found: dict[str, Any] = {"residual_over_thermal": {}}
    last = sorted(work.glob("data/after_layer_*"))[-1]
    for label, ms in (("before", made.ms), ("after", next(last.iterdir()))):
        for source in [s for s in made.sky if s.flux_jy >= 0.3]:
            place = source.radec_rad(*made.observation.direction_rad)
            image, thermal = dirty_image(ms, place, folder / "scratch.ms")
            ratio = float(image.std() / thermal)
            found["residual_over_thermal"].setdefault(source.name, {})[label] = round(ratio, 3)
            found["thermal_jy_beam"] = thermal
    entries = list_entries(work / "solutions.h5")
    found["entries"] = len(entries)
    found["expected_entries"] = len(made.sky) * len(made.observation.array)
    found["phase_error_deg"] = phase_errors_deg(made, work / "solutions.h5")
    found["offset_arcsec"] = offsets_arcsec(work)
    return found


def calibrate(
    config: Path, work: Path, cluster: str, words: Sequence[str], *, kill: bool = False
) -> tuple[int, float, Watch]:
    """Run the field's command; return its exit code, the seconds and what became of workers."""
    start = time.monotonic()
    with place(cluster) as where:
        code, watch = run_watched(
            [sys.executable, ROOT / "auto_selfcal.py", "field", config, "--workdir", work,
             "--cluster", where, *words],
            work, kill=kill,
        )  # fmt: skip
    return code, time.monotonic() - start, watch


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", nargs="?", default="bench_field")
    parser.add_argument("--cluster", default="inline", help="as of the field, or dask:N")
    parser.add_argument("--kill", action="store_true", help="kill a worker while a source runs")
    parser.add_argument("--compare", action="store_true", help="run in line as well and compare")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the length")
    parser.add_argument("--noise", type=float, help="Jy of a visibility; default the scenario's")
    parser.add_argument("--seed", type=int, help="another draw of screen, offsets and noise")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE for the field")
    arguments = parser.parse_args(argv)
    if arguments.kill and arguments.cluster == "inline":
        parser.error("--kill needs workers: --cluster dask:2 or local:2")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate, calibrate, measure; 0 when every bright source is gone and all else as asked."""
    arguments = parse_arguments(argv)
    folder = Path(arguments.folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    chosen = scenario("lofar_field")
    if arguments.noise is not None:
        chosen = dataclasses.replace(chosen, noise_jy=arguments.noise)
    made = make_scenario(
        chosen, folder / "field.ms", arguments.scale, seed=arguments.seed, perfect=False
    )
    config = write_config(made, folder)
    work = folder / "work"
    words = [word for text in arguments.set for word in ("--set", text)]
    code, seconds, watch = calibrate(config, work, arguments.cluster, words, kill=arguments.kill)
    if code:
        return code
    found = {"seconds": round(seconds, 1), **measure(made, work, folder)}
    worst = max(ratio["after"] for ratio in found["residual_over_thermal"].values())
    good = worst <= TARGET and found["entries"] == found["expected_entries"]
    if arguments.kill:
        again = watch.workers.get(watch.killed.get("source", ""), [])
        found["killed"] = {**watch.killed, "workers_of_the_source": again}
        good &= watch.retried
    if arguments.compare:
        code, seconds, _ = calibrate(config, folder / "inline", "inline", words)
        if code:
            return code
        found["seconds_inline"] = round(seconds, 1)
        found["compared"] = compare_runs(folder / "inline", work)
        good &= found["compared"]["same"]
    print(json.dumps(found, indent=2))
    (folder / "bench_field.json").write_text(json.dumps(found, indent=2) + "\n")
    print(f"worst residual over thermal noise at a bright source: {worst:.2f} (<= {TARGET})")
    if arguments.compare:
        largest = found["compared"]["largest_phase_difference_deg"]
        print(f"largest difference of phases from the run in line: {largest:.3g} deg")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
