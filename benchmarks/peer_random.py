"""Cases of the random campaign through the peer and through this program, imaged alike.

The cases are those of the campaign's drawing that count by `counts`, in the order of their seeds:
none is picked by hand, and none left out for its result.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.campaign.draw import Case, draw, flag_drawn
from benchmarks.peer import (
    PACKAGE,
    PeerMissingError,
    data_for_peer,
    image_pixels,
    install_peer,
    run_peer,
)
from benchmarks.running import run_selfcal
from benchmarks.truth import compare_with_truth, image_alike
from libs.simulation.scenarios import make_scenario

__all__ = ["Compared", "Reached", "chosen", "compare_random", "counts", "random_table"]

LEAST_SNR = 20.0
"""Of perfect data, below which the campaign asks for no improvement either."""
MOST_PIXELS = 1500
"""Of the peer's images, so that a case ends within minutes."""
SAME = 0.01
"""Dynamic ranges and fluxes that differ by less, as parts of the perfect ones, are called equal."""

_TELESCOPES = {"ALMA compact": "ALMA", "ALMA long": "ALMA", "ACA": "ACA",
               "VLA A": "VLA", "VLA B": "VLA", "VLA C, D": "VLA"}  # fmt: skip
_VLA_BANDS = ((2e9, "EVLA_L"), (4e9, "EVLA_S"), (8e9, "EVLA_C"), (12e9, "EVLA_X"),
              (18e9, "EVLA_KU"), (26.5e9, "EVLA_K"))  # fmt: skip


@dataclass(frozen=True)
class Reached:
    """What one program made of a case; ``ratio`` is its dynamic range over the perfect one.

    ``flux_ratio`` is the flux within the perfect image's sources over that of the perfect image.
    Both are NaN where there is no result.
    """

    ratio: float
    flux_ratio: float
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Compared:
    """A case and both results; ``fault`` says why the peer has none."""

    seed: int
    title: str
    dr_start: float
    dr_perfect: float
    flux_error: float
    ours: Reached
    peer: Reached
    peer_solint: str
    fault: str = ""

    @property
    def better(self) -> str:
        """Which program is better: ``this program``, the peer's name, or ``equal``.

        Dynamic range decides; where both reach the same, the flux, if it differs by more than its
        error.
        """
        if math.isnan(self.peer.ratio):
            return "this program"
        if abs(self.ours.ratio - self.peer.ratio) > SAME * max(self.ours.ratio, self.peer.ratio):
            return "this program" if self.ours.ratio > self.peer.ratio else PACKAGE
        off = abs(self.peer.flux_ratio - 1.0) - abs(self.ours.flux_ratio - 1.0)
        if abs(off) > max(SAME, self.flux_error):
            return "this program" if off > 0 else PACKAGE
        return "equal"


def _frequency_hz(case: Case) -> float:
    windows = case.scenario.spws
    return sum(window.centre_hz for window in windows) / len(windows)


def counts(case: Case) -> bool:
    """Whether a case is one that the peer can do, with something to calibrate on, in minutes."""
    telescope = _TELESCOPES.get(case.kinds["array"])
    if telescope is None or case.aimed_snr < LEAST_SNR:
        return False
    longest_m = case.scenario.array().longest_baseline_m
    return image_pixels(telescope, _frequency_hz(case), longest_m) <= MOST_PIXELS


def chosen(seed: int, count: int) -> Iterator[Case]:
    """Yield the first cases from a seed on that count."""
    found = 0
    while found < count:
        case = draw(seed)
        if counts(case):
            found += 1
            yield case
        seed += 1


def _band(case: Case) -> str:
    """Name of the band as the VLA's windows have it; empty for ALMA."""
    if _TELESCOPES[case.kinds["array"]] != "VLA":
        return ""
    frequency = _frequency_hz(case)
    return next(name for edge, name in _VLA_BANDS if frequency < edge)


def compare_random(case: Case, folder: Path, limit_s: float) -> Compared:
    """Run both programs with their defaults on one case, and image the calibrated sets alike."""
    python = install_peer(folder)
    place = folder / "peers" / case.scenario.name
    shutil.rmtree(place, ignore_errors=True)
    (place / "peer").mkdir(parents=True)
    made = make_scenario(case.scenario, place / "draw.ms")
    assert made.perfect_ms is not None
    for ms in (made.ms, made.perfect_ms):
        flag_drawn(case, ms)
    finished, summary = run_selfcal(place, {"vis": str(made.ms)})
    images, workdir = place / "images", place / "ours"
    perfect, ideal = image_alike(workdir, made.perfect_ms, images)
    before = image_alike(workdir, made.ms, images, "start")[1]

    def reached(ms: Path, name: str, seconds: float, cpu_seconds: float) -> Reached:
        products, found = image_alike(workdir, ms, images, name)
        flux = compare_with_truth(perfect, products.image).flux_ratio
        return Reached(found.dynamic_range / ideal.dynamic_range, flux, seconds, cpu_seconds)

    assert summary["column"] == "DATA", "the calibrated data are split off"
    calibrated = workdir / summary["calibrated_ms"]
    ours = reached(calibrated, "ours", finished.seconds, finished.cpu_seconds)
    theirs, solint, fault = Reached(*[math.nan] * 4), "", ""
    given = data_for_peer(made.ms, place / "peer", _band(case))
    try:
        run = run_peer([given], place / "peer", python, limit_s)
    except PeerMissingError as error:
        fault = str(error)[:400]
    else:
        theirs = reached(run.sets[0], "peer", run.finished.seconds, run.finished.cpu_seconds)
        solint = next(iter(run.targets.values()))["final_solint"]
    flux_error = ideal.flux_error_jy / ideal.total_flux_jy if ideal.total_flux_jy else math.nan
    return Compared(
        case.seed, case.scenario.title, before.dynamic_range / ideal.dynamic_range,
        ideal.dynamic_range, flux_error, ours, theirs, solint, fault,
    )  # fmt: skip


def read_record(path: Path) -> dict[int, Compared]:
    """Return the cases on record by seed."""
    found = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        row = json.loads(line)
        row |= {name: Reached(**row[name]) for name in ("ours", "peer")}
        found[row["seed"]] = Compared(**row)
    return found


def compare_drawn(
    seed: int, count: int, folder: Path, limit_s: float, *, keep: bool = False
) -> list[Compared]:
    """Compare on drawn cases; those on record, in ``peers_random.jsonl``, are not run again."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "peers_random.jsonl"
    done = read_record(path)
    results = []
    for case in chosen(seed, count):
        if case.seed not in done:
            done[case.seed] = compare_random(case, folder, limit_s)
            with path.open("a") as stream:
                stream.write(json.dumps(asdict(done[case.seed])) + "\n")
            if not keep:
                shutil.rmtree(folder / "peers" / case.scenario.name, ignore_errors=True)
        results.append(done[case.seed])
        print(random_table(results[-1:]).splitlines()[-1], flush=True)
    text = random_table(results)
    (folder / "peers_random.md").write_text(text + "\n")
    return results


def random_table(rows: Sequence[Compared]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| seed | case | start | of perfect | flux | CPU s | peer: of perfect | flux | CPU s |"
        " its last interval | better |",
        "|" + "---|" * 11,
    ]
    for row in rows:
        one, two = row.ours, row.peer
        theirs = (
            f"{two.ratio:.3f} | {two.flux_ratio:.3f} | {two.cpu_seconds:.0f} | {row.peer_solint}"
            if not row.fault
            else f"- | - | - | {row.fault.split(':')[0]}"
        )
        lines.append(
            f"| {row.seed} | {row.title} | {row.dr_start:.3f} | {one.ratio:.3f} |"
            f" {one.flux_ratio:.3f} | {one.cpu_seconds:.0f} | {theirs} | {row.better} |"
        )
    return "\n".join(lines)


def tally(rows: Sequence[Compared]) -> Mapping[str, int]:
    """Return how many cases each program is better in."""
    names = ("this program", "equal", PACKAGE)
    return {name: sum(row.better == name for row in rows) for name in names}
