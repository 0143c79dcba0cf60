"""Wide fields of small dishes and low frequencies: many sources, from `init` to the final image.

``python -m benchmarks.bench_wide meerkat gmrt askap`` simulates fields of 40 sources seen through a
primary beam by the antennas of MeerKAT and arrays like GMRT and ASKAP, writes the config with
``init``, runs it as it is, and sets every source beside its true apparent flux and place. The
arrays are shrunk so that an image of the whole beam has one or two million pixels.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import RESULTS
from benchmarks.campaign.arrays import array_of
from benchmarks.running import ROOT, run_command
from benchmarks.truth import image_alike
from libs.core.geometry import primary_beam_fwhm_arcsec
from libs.imaging.interface import open_image
from libs.imaging.primary_beam import PrimaryBeam, find_beam
from libs.imaging.statistics import grid_of
from libs.ms.create import SpectralWindow
from libs.simulation.gains import StationErrors
from libs.simulation.mosaic import PolarizedSource, simulate_mosaic
from libs.simulation.observation import Observation
from libs.simulation.sky import Source

__all__ = ["ARRAYS", "WideArray", "WideResult", "apparent_jy", "draw_field", "main", "run_array"]

_SOURCES = 40
_BRIGHTEST_JY, _FAINTEST_JY = 0.4, 0.004
_ERRORS = StationErrors(
    phase_walk_deg=40.0, phase_walk_s=600.0, phase_offset_deg=40.0, pol_offset_deg=10.0,
    amp_offset=0.05,
)  # fmt: skip


@dataclass(frozen=True)
class WideArray:
    """An array, its band and what it looks at.

    Attributes
    ----------
    configuration : str
        Name for `benchmarks.campaign.arrays.array_of`.
    telescope : str
        Name in the data.
    antennas : int
        Antennas, at most.
    shrink : float
        Factor on the distances between antennas.
    diameter_m : float
    bands_hz : tuple of (float, float, int)
        Centre and width (Hz) and channels of each window.
    hands : tuple of str
    integration_s : float
    declination_deg : float
    noise_jy : float
        Of one visibility.
    """

    configuration: str
    telescope: str
    antennas: int
    shrink: float
    diameter_m: float
    bands_hz: tuple[tuple[float, float, int], ...]
    hands: tuple[str, ...]
    integration_s: float
    declination_deg: float
    noise_jy: float


_LINEAR, _CIRCULAR = ("XX", "YY"), ("RR", "LL")
ARRAYS = {
    "meerkat": WideArray(
        "meerkat", "MeerKAT", 64, 0.12, 13.5, ((1.10e9, 32e6, 8), (1.40e9, 32e6, 8)),
        _LINEAR, 16.0, -35.0, 0.1,
    ),
    "gmrt": WideArray(
        "GMRT", "GMRT", 30, 0.15, 45.0, ((0.60e9, 32e6, 16), (0.70e9, 32e6, 16)),
        _CIRCULAR, 16.0, 25.0, 0.05,
    ),
    "askap": WideArray(
        "ASKAP", "ASKAP", 36, 0.15, 12.0, ((0.85e9, 32e6, 16), (0.98e9, 32e6, 16)),
        _LINEAR, 10.0, -40.0, 0.1,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class WideResult:
    """What a run made of a wide field; the units are in the names.

    ``seen`` counts the sources with an apparent flux above 10 times the noise of the perfect image,
    ``imaged`` those of them that lie within the final image, ``right`` those whose peak there is
    within 5 % or 5 times the noise of the truth, ``right_perfect`` the same of the perfect image.
    """

    array: str
    seed: int
    status: str
    imsize: int
    cell_arcsec: float
    width_fwhms: float
    dr_initial: float
    dr_final: float
    dr_perfect: float
    ratio: float
    rms_final_jy: float
    rms_perfect_jy: float
    seen: int
    imaged: int
    right: int
    right_perfect: int
    flux_ratio: float
    offset_beams: float
    rounds: str
    peeled: int
    warnings: tuple[str, ...]
    cpu_seconds: float
    seconds: float
    peak_mb: float


def _observation(array: WideArray) -> Observation:
    antennas = array_of(array.configuration).thinned(array.antennas)
    middle = antennas.position_m.mean(axis=0)
    antennas = dataclasses.replace(
        antennas, telescope=array.telescope,
        position_m=middle + array.shrink * (antennas.position_m - middle),
        diameter_m=np.full(len(antennas), array.diameter_m),
    )  # fmt: skip
    windows = tuple(SpectralWindow(*band) for band in array.bands_hz)
    return Observation(
        antennas, (60.0, array.declination_deg), _transit_s(antennas.position_m.mean(axis=0)),
        array.integration_s, 4 * array.integration_s, windows, scans=3, gap_s=2400.0,
        correlations=array.hands, noise_jy=array.noise_jy,
    )  # fmt: skip


def _transit_s(place_m: NDArray[np.float64]) -> float:
    """Return a start an hour before RA 60 deg culminates, UTC MJD seconds."""
    days = 58849.0
    sidereal_deg = 280.46 + 360.985647 * (days - 51544.5)
    sidereal_deg += math.degrees(math.atan2(place_m[1], place_m[0]))
    return 86400.0 * (days + ((60.0 - 15.0 - sidereal_deg) % 360.0) / 360.985647)


def _beam_of(name: str, array: WideArray, frequency_hz: float) -> PrimaryBeam:
    """Return the beam of the array; of one without a known beam, a Gaussian of the usual width."""
    known = find_beam(name, frequency_hz, array.diameter_m)
    if known is not None:
        return known

    def gaussian(angle: NDArray[np.float64], hz: float) -> NDArray[np.float64]:
        fwhm = math.radians(primary_beam_fwhm_arcsec(hz, array.diameter_m) / 3600.0)
        return np.asarray(np.exp(-4.0 * math.log(2.0) * (angle / fwhm) ** 2))

    return PrimaryBeam("Gaussian", gaussian)


def draw_field(width_arcsec: float, seed: int) -> list[PolarizedSource]:
    """Return 40 sources over a square whose number above S goes as 1/S."""
    rng = np.random.default_rng([seed, 40])
    share = (np.arange(_SOURCES) + rng.random(_SOURCES)) / _SOURCES
    flux = _FAINTEST_JY / (1.0 - share * (1.0 - _FAINTEST_JY / _BRIGHTEST_JY))
    place = rng.uniform(-0.5, 0.5, (_SOURCES, 2)) * width_arcsec
    return [
        PolarizedSource(
            Source(float(flux[k]), float(place[k, 0]), float(place[k, 1]),
                   spectral_index=float(rng.normal(-0.7, 0.2)))
        )
        for k in range(_SOURCES)
    ]  # fmt: skip


def apparent_jy(
    sky: Sequence[PolarizedSource], beam: PrimaryBeam, observation: Observation
) -> NDArray[np.float64]:
    """Return the flux density of each source through the beam, the mean over channels, (n,) Jy."""
    frequency = np.concatenate([window.frequency_hz for window in observation.spws])
    middle = _middle_hz(observation)
    angle = np.radians([math.hypot(s.source.l_arcsec, s.source.m_arcsec) / 3600 for s in sky])
    power = np.stack([np.nan_to_num(beam.power(angle, float(hz))) for hz in frequency], axis=1)
    flux = np.array([s.stokes_jy(frequency, middle)["I"] for s in sky])
    return np.asarray((flux * power).mean(axis=1))


def _middle_hz(observation: Observation) -> float:
    return float(np.mean([window.centre_hz for window in observation.spws]))


def run_array(name: str, folder: Path, seed: int, words: Sequence[str] = ()) -> WideResult:
    """Simulate, calibrate with the config that ``init`` writes, and compare.

    Parameters
    ----------
    name : str
        Array of `ARRAYS`.
    folder : Path
        Everything made is there.
    seed : int
    words : sequence of str
        Added to the command line.

    Raises
    ------
    RuntimeError
        ``init`` or the run failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    array = ARRAYS[name]
    observation = _observation(array)
    middle_hz = _middle_hz(observation)
    fwhm = primary_beam_fwhm_arcsec(middle_hz, array.diameter_m)
    beam, sky = _beam_of(name, array, middle_hz), draw_field(2.6 * fwhm, seed)
    for target, errors in (("data", _ERRORS), ("perfect_data", StationErrors())):
        simulate_mosaic(
            folder / f"{target}.ms", observation, ((0.0, 0.0),), sky, beam,
            reference_hz=middle_hz, errors=errors, seed=seed,
        )  # fmt: skip
    config = folder / "config.py"
    command: list[str | Path] = [sys.executable, ROOT / "auto_selfcal.py"]
    config.unlink(missing_ok=True)
    finished = run_command([*command, "init", name, "-o", config], folder / "init.log")
    if not finished.code:
        finished = run_command(
            [*command, config, "--set", f"vis={folder / 'data.ms'}", "--workdir", folder / "ours",
             "--restart", *words],
            folder / "ours.log",
        )  # fmt: skip
    if finished.code:
        raise RuntimeError(finished.log.read_text(errors="replace")[-500:])
    truth = apparent_jy(sky, beam, observation)
    return _judge(name, seed, folder, _Truth(sky, truth, fwhm), finished)


@dataclass(frozen=True)
class _Truth:
    sky: Sequence[PolarizedSource]
    apparent_jy: NDArray[np.float64]
    fwhm_arcsec: float


def _judge(name: str, seed: int, folder: Path, truth: _Truth, finished: Any) -> WideResult:
    """Set the final image beside the truth and beside the perfect data imaged alike."""
    work = folder / "ours"
    summary = json.loads((work / "summary.json").read_text())
    products, perfect = image_alike(work, folder / "perfect_data.ms", folder / "perfect")
    final = work / summary["final"]["image"]
    plane, header = open_image(final)
    cell = grid_of(header).cell_arcsec
    seen = truth.apparent_jy > 10.0 * perfect.rms_jy_beam
    found = _peaks(final, truth.sky)
    noise = float(summary["final"]["rms_jy_beam"])
    inside = seen & np.isfinite(found[:, 0])
    ratio = found[inside, 0] / truth.apparent_jy[inside]
    return WideResult(
        array=name, seed=seed, status=summary["status"], imsize=plane.shape[0], cell_arcsec=cell,
        width_fwhms=plane.shape[0] * cell / truth.fwhm_arcsec,
        dr_initial=float(summary["initial"]["dynamic_range"]),
        dr_final=float(summary["final"]["dynamic_range"]), dr_perfect=perfect.dynamic_range,
        ratio=float(summary["final"]["dynamic_range"]) / perfect.dynamic_range,
        rms_final_jy=noise, rms_perfect_jy=perfect.rms_jy_beam, seen=int(seen.sum()),
        imaged=int(inside.sum()), right=_right(found, truth.apparent_jy, seen, noise),
        right_perfect=_right(
            _peaks(products.image, truth.sky), truth.apparent_jy, seen, perfect.rms_jy_beam
        ),
        flux_ratio=float(np.median(ratio)) if len(ratio) else math.nan,
        offset_beams=float(np.median(found[inside, 1])) if inside.any() else math.nan,
        rounds=" ".join(summary["accepted"]) or "-", peeled=_peeled(work),
        warnings=tuple(summary["warnings"]), cpu_seconds=finished.cpu_seconds,
        seconds=finished.seconds, peak_mb=finished.peak_mb,
    )  # fmt: skip


def _peeled(work: Path) -> int:
    from reports.records import read_run

    rows = [row for row in read_run(work).steps if row.step == "peel"]
    return len(rows[0].metrics.get("peeled", ())) if rows else 0


def _peaks(image: Path, sky: Sequence[PolarizedSource]) -> NDArray[np.float64]:
    """Return the peak near each source's place (Jy/beam) and its distance (beams), (n, 2).

    NaN where the place is outside the image.
    """
    plane, header = open_image(image)
    grid = grid_of(header)
    found = np.full((len(sky), 2), np.nan)
    reach = math.ceil(1.5 * grid.beam_width_pixels)
    for number, one in enumerate(sky):
        x = header["CRPIX1"] - 1 - one.source.l_arcsec / grid.cell_arcsec
        y = header["CRPIX2"] - 1 + one.source.m_arcsec / grid.cell_arcsec
        low = np.array([round(y) - reach, round(x) - reach])
        if (low < 0).any() or (low + 2 * reach >= plane.shape).any():
            continue
        box = plane[low[0] : low[0] + 2 * reach + 1, low[1] : low[1] + 2 * reach + 1]
        row, column = np.unravel_index(int(np.argmax(box[1:-1, 1:-1])), (2 * reach - 1,) * 2)
        peak, (up, right) = _vertex(box[row : row + 3, column : column + 3])
        away = math.hypot(low[0] + row + 1 + up - y, low[1] + column + 1 + right - x)
        found[number] = peak, away / grid.beam_width_pixels
    return found


def _vertex(box: NDArray[Any]) -> tuple[float, tuple[float, float]]:
    """Return height and place (pixels from the middle) of the Gaussian through 3 x 3 pixels."""
    middle = float(box[1, 1])
    if not (box > 0).all():
        return middle, (0.0, 0.0)
    values = np.log(box.astype(float))
    places, rise = [], 0.0
    for before, at, after in (values[:, 1], values[1]):
        slope, bend = 0.5 * (after - before), before - 2.0 * at + after
        place = float(np.clip(-slope / bend, -0.5, 0.5)) if bend < 0 else 0.0
        places.append(place)
        rise += slope * place + 0.5 * bend * place**2
    return middle * math.exp(rise), (places[0], places[1])


def _right(
    found: NDArray[np.float64], truth: NDArray[np.float64], seen: NDArray[np.bool_], noise: float
) -> int:
    with np.errstate(invalid="ignore"):
        near = np.abs(found[:, 0] - truth) < np.maximum(0.05 * truth, 5.0 * noise)
    return int((near & seen).sum())


def _line(result: WideResult) -> str:
    return (
        f"{result.array} ({result.seed}): {result.status}, {result.imsize} px of"
        f" {result.cell_arcsec:.3g} arcsec ({result.width_fwhms:.2f} FWHM), DR"
        f" {result.dr_initial:.0f} -> {result.dr_final:.0f} of {result.dr_perfect:.0f}"
        f" ({result.ratio:.3f}), noise {1e6 * result.rms_final_jy:.0f} of"
        f" {1e6 * result.rms_perfect_jy:.0f} µJy, {result.right} of {result.seen} sources right"
        f" ({result.imaged} imaged, perfect: {result.right_perfect}), flux ratio"
        f" {result.flux_ratio:.3f}, offset {result.offset_beams:.3f} beams, {result.rounds},"
        f" {result.peeled} peeled, {result.cpu_seconds:.0f} CPU s, {result.peak_mb:.0f} MB"
        + "".join(f"\n    {warning}" for warning in result.warnings)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print; 1 where a run failed."""
    parser = argparse.ArgumentParser(prog="bench_wide", description=__doc__)
    add = parser.add_argument
    add("arrays", nargs="*", choices=[*ARRAYS, []], help="arrays; default: all")
    add("--seed", type=int, action="append", help="draw of the sky, gains and noise")
    add("--folder", type=Path, default=RESULTS / "wide")
    add("--keep", action="store_true", help="keep data and images")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="as of the command")
    given = parser.parse_args(argv)
    words = [word for value in given.set for word in ("--set", value)]
    results = []
    for name in given.arrays or list(ARRAYS):
        for seed in given.seed or [1]:
            folder = given.folder.absolute() / f"{name}_{seed}"
            shutil.rmtree(folder, ignore_errors=True)
            results.append(run_array(name, folder, seed, words))
            print(_line(results[-1]), flush=True)
            if not given.keep:
                shutil.rmtree(folder, ignore_errors=True)
    given.folder.mkdir(parents=True, exist_ok=True)
    (given.folder / "wide.json").write_text(
        json.dumps([asdict(result) for result in results], indent=1) + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
