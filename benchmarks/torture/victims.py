"""What is killed: runs of several kinds, and commands that write into data or tables that exist.

Runs are of one target, of two executions, of several targets, of a session and of a field.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.torture.observation import DOUBLE, make_observation, small_array, small_config
from benchmarks.torture.outcomes import attempt
from libs.catalogues.flux_standards import named_standard
from libs.h5parm.reader import read_h5parm
from libs.h5parm.solset import Solset
from libs.h5parm.writer import write_h5parm
from libs.ms.tables import open_table
from libs.simulation.observation import Observation, Source, SpectralWindow
from libs.simulation.session import SessionErrors, SessionField, simulate_session

__all__ = ["VICTIMS", "Victim", "make_victim", "random_solset", "small_run"]

_KEPT = ("status", "initial", "final", "accepted", "rejected", "tables", "warnings")
_CHANGING = ("startup", "save_init_flags", "peel", "align", "test_image", "p0", "split_trial_1")
_SESSION_STEPS = ("combine", "identify", "flag_calibrators", "set_model", "calibrate",
                  "apply_calibration", "calibrator_images")  # fmt: skip
_FIELD_STEPS = ("startup", "save_init_flags", "test_image", "select_refant", "l1")
_TARGET_STEPS = ("startup", "save_init_flags", "test_image", "p0", "split_trial_1")


@dataclass(frozen=True)
class Victim:
    """A command that is killed.

    Attributes
    ----------
    name : str
    inputs : tuple of Path
        What it may not change.
    words : callable
        Function of a work directory that returns the command line, and writes the config it names.
    result : callable
        Function of a work directory that returns what the run came to, without times and paths.
    prepare : callable
        Function of a work directory that makes what has to be there before the first start.
    """

    name: str
    inputs: tuple[Path, ...]
    words: Callable[[Path], list[str | Path]]
    result: Callable[[Path], Mapping[str, Any]]
    prepare: Callable[[Path], None] = lambda workdir: workdir.parent.mkdir(
        parents=True, exist_ok=True
    )


def _with_config(
    command: Sequence[str], settings: Mapping[str, Any]
) -> Callable[[Path], list[str | Path]]:
    """Return how a command line is made whose last word is a config beside the work directory."""

    def words(workdir: Path) -> list[str | Path]:
        path = workdir.with_suffix(".yaml")
        path.write_text(json.dumps({**settings, "workdir": str(workdir)}))
        return [*command, path]

    return words


def _summary(workdir: Path) -> Mapping[str, Any]:
    summary = json.loads((workdir / "summary.json").read_text())
    return {name: summary[name] for name in _KEPT}


def _of_targets(workdir: Path) -> Mapping[str, Any]:
    targets = json.loads((workdir / "summary.json").read_text())["targets"]
    return {
        name: {key: entry[key] for key in ("status", "initial", "final") if key in entry}
        for name, entry in targets.items()
    }


def _of_session(workdir: Path) -> Mapping[str, Any]:
    records = json.loads((workdir / "tables" / "calibration.json").read_text())
    with open_table(workdir / records[0]["tables"]["G1flux"]) as opened:
        gains = opened.getcol("CPARAM")
    images = (workdir / "fluxes.csv").read_text()
    return {
        "fluxes": [record["fluxes"] for record in records],
        "gains": np.round(gains, 5).tolist(),
        "images": images,
    }


def _single(folder: Path) -> Victim:
    origin = make_observation(folder / "origin.ms")
    settings = {**small_config(origin, folder), "plots": True}
    return Victim("single", (origin,), _with_config((), settings), _summary)


def small_run(folder: Path, imager: str) -> Victim:
    """Return a run of one round, which does not draw its gains."""
    origin = make_observation(folder / "origin.ms")
    settings = {**small_config(origin, folder, until="p0"), "imager": imager}
    return Victim(f"run with {imager}", (origin,), _with_config((), settings), _summary)


def _executions(folder: Path) -> Victim:
    """Two executions, the second moved and brighter, with a bright source outside the image."""
    moved = tuple(Source(1.1 * s.flux_jy, s.l_arcsec + 2.0, s.m_arcsec - 1.5) for s in DOUBLE)
    bright = (Source(20.0, 150.0, 90.0),)
    made = []
    for number, sky in enumerate((DOUBLE, moved)):
        path = make_observation(
            folder / f"execution{number}.ms", 5 + number, sky=sky, later_s=9000.0 * number
        )
        beside = make_observation(
            folder / f"bright{number}.ms", 15 + number, sky=bright, later_s=9000.0 * number,
            noise_jy=0.0,
        )  # fmt: skip
        with open_table(path, write=True) as opened, open_table(beside) as other:
            opened.putcol("DATA", opened.getcol("DATA") + other.getcol("DATA"))
        made.append(path)
    settings = {
        **small_config(made[0], folder), "vis": [str(path) for path in made],
        "steps": list(_CHANGING),
        "overrides": {"peel": {"max_pixels": 512, "cycles": 2, "passes": 1, "source_imsize": 64}},
    }  # fmt: skip
    return Victim("executions", tuple(made), _with_config((), settings), _summary)


def _targets(folder: Path) -> Victim:
    template = Observation(
        small_array(), (0, 0), 5.0844e9, 10.0, 40.0,
        (SpectralWindow(4.97e9, 3.2e7, 4), SpectralWindow(5.11e9, 3.2e7, 4)), noise_jy=0.02,
    )  # fmt: skip
    fields = [
        SessionField("north", (225.0, 30.0), DOUBLE, (0.0, 400.0), 40.0),
        SessionField("south", (226.0, 29.0), (Source(0.8),), (200.0, 600.0), 40.0),
    ]
    made = simulate_session(
        folder / "targets.ms", template, fields, SessionErrors(drift_deg_h=60.0), seed=3
    )
    settings = {
        **small_config(made.ms, folder), "steps": list(_TARGET_STEPS),
        "targets": ["north", "south"], "cluster": "local:2", "neighbours": "never",
    }  # fmt: skip
    return Victim("targets", (made.ms,), _with_config((), settings), _of_targets)


def _session(folder: Path) -> Victim:
    known = named_standard("3C147")
    assert known is not None
    window = SpectralWindow(1.4e9, 64e6, 16)
    template = Observation(small_array(), (0, 0), 5.0844e9, 10.0, 60.0, (window,), noise_jy=0.2)
    flux = float(known.flux_jy(np.array([1.4e9]))[0])
    place = (known.right_ascension_deg, known.declination_deg)
    fields = [
        SessionField("3C147", place, (Source(flux),), (0.0,), 120.0),
        SessionField("phase", (88.9, 49.0), (Source(2.5),), (200.0, 500.0), 60.0),
        SessionField("target", (90.0, 48.0), (Source(0.5),), (300.0,), 120.0),
    ]
    errors = SessionErrors((1.0, 20.0), 0.1, 0.2, 30.0)
    made = simulate_session(folder / "session.ms", template, fields, errors, seed=4)
    settings = {"vis": [str(made.ms)], "steps": list(_SESSION_STEPS), "imsize": 128}
    words = _with_config(("calibrate", "--quiet"), settings)
    return Victim("session", (made.ms,), words, _of_session)


def _of_field(workdir: Path) -> Mapping[str, Any]:
    """Return the counts, the sources' decisions and the global table's phases."""
    summary = json.loads((workdir / "summary.json").read_text())
    kept = ("name", "layer", "status", "snr", "rms_jy_beam", "total_flux_jy", "reason")
    sources = [{key: row.get(key) for key in kept} for row in summary["sources"]]
    table = read_h5parm(workdir / "solutions.h5")
    return {
        "counts": summary["counts"], "sources": sources, "directions": sorted(table.direction),
        "phases": np.round(np.nan_to_num(table.phase_rad), 4).tolist(),
    }  # fmt: skip


def _field(folder: Path) -> Victim:
    """Two sources apart, one in each layer, the first subtracted before the second is solved."""
    sky = (Source(1.0), Source(0.4, 240.0, -180.0))
    origin = make_observation(folder / "field.ms", 7, sky=sky)
    lines = ["name,ra_deg,dec_deg,flux_Jy"]
    for number, source in enumerate(sky):
        ra, dec = np.rad2deg(source.radec_rad(*np.deg2rad((225.0, 30.0))))
        lines.append(f"source{number},{ra:.9f},{dec:.9f},{source.flux_jy}")
    listed = folder / "sources.csv"
    listed.write_text("\n".join(lines) + "\n")
    settings = {
        "vis": str(origin), "sources": str(listed), "layers": ["700mJy", "100mJy"],
        "source_steps": list(_FIELD_STEPS), "uvmin": "0km", "map_size": "60arcsec",
        "cell": "1arcsec", "prepare": "native", "again": "never", "threads": 1, "quiet": True,
    }  # fmt: skip
    return Victim("field", (origin, listed), _with_config(("field",), settings), _of_field)


def _finished(folder: Path) -> tuple[Path, Path]:
    """Make an observation and a run of it that ended; return both."""
    origin, work = make_observation(folder / "origin.ms"), folder / "finished"
    found = attempt("run", _with_config((), small_config(origin, work))(work), folder)
    if found.code:
        raise RuntimeError(f"the run to be applied failed: {found.output[-500:]}")
    return origin, work


def _copied(origin: Path) -> Callable[[Path], None]:
    """Return what gives a work directory a copy of the data, to be written."""

    def prepare(workdir: Path) -> None:
        shutil.copytree(origin, workdir / "import.ms")

    return prepare


def _of_written(workdir: Path) -> Mapping[str, Any]:
    """Digests of what applying writes, and how many flag versions there are."""
    with open_table(workdir / "import.ms") as opened:
        columns = {
            name: hashlib.sha256(np.ascontiguousarray(opened.getcol(name)).tobytes()).hexdigest()
            for name in ("DATA", "CORRECTED_DATA", "FLAG", "FLAG_ROW")
        }
    versions = workdir / "import.ms.flagversions"
    return {**columns, "versions": sorted(path.name for path in versions.glob("flags.*"))}


def _applied(folder: Path) -> Victim:
    origin, work = _finished(folder)
    return Victim(
        "apply", (origin,),
        lambda workdir: ["apply", work, "--to", workdir / "import.ms", "--overwrite"],
        _of_written, _copied(origin),
    )  # fmt: skip


def _restored(folder: Path) -> Victim:
    origin, work = _finished(folder)
    bundle = folder / "finished.selfcal.tgz"
    found = attempt("bundle", ["bundle", work, "-o", bundle], folder)
    if found.code:
        raise RuntimeError(f"no bundle: {found.output[-500:]}")
    return Victim(
        "restore", (origin, bundle),
        lambda workdir: ["restore", bundle, "--to", workdir / "import.ms", "--overwrite"],
        _of_written, _copied(origin),
    )  # fmt: skip


def random_solset(name: str, ra_deg: float, seed: int, times: int = 4000) -> Solset:
    """Return random gains of ten antennas in one direction, some megabytes of them by default."""
    rng, array = np.random.default_rng(seed), small_array()
    shape = (times, 4, len(array), 1, 2)
    return Solset(
        np.asarray(5.0e9 + 10.0 * np.arange(shape[0]), np.float64),
        np.asarray(1.4e9 + 1e6 * np.arange(shape[1]), np.float64), array.name,
        array.position_m, (name,), np.radians([[ra_deg, 30.0]]), ("XX", "YY"),
        rng.uniform(-3.0, 3.0, shape), rng.uniform(0.5, 2.0, shape), np.ones(shape),
    )  # fmt: skip


def _merged(folder: Path) -> Victim:
    """The solutions of two directions in one file."""
    sources = []
    for number, (ra_deg, name) in enumerate(((225.0, "east"), (224.0, "west"))):
        path = folder / f"{name}.h5"
        write_h5parm(path, random_solset(name, ra_deg, number))
        sources.append(path)

    def prepare(workdir: Path) -> None:
        workdir.mkdir(parents=True)
        shutil.copy2(sources[0], workdir / "into.h5")

    def result(workdir: Path) -> Mapping[str, Any]:
        found = read_h5parm(workdir / "into.h5")
        values = np.nan_to_num(found.phase_rad)
        digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
        return {"directions": sorted(found.direction), "phases": digest}

    return Victim(
        "merge", (sources[1],),
        lambda workdir: ["solutions", "merge", workdir / "into.h5", sources[1], "--force"],
        result, prepare,
    )  # fmt: skip


VICTIMS: Mapping[str, Callable[[Path], Victim]] = {
    "single": _single,
    "executions": _executions,
    "targets": _targets,
    "session": _session,
    "field": _field,
    "apply": _applied,
    "restore": _restored,
    "merge": _merged,
}


def make_victim(name: str, folder: Path) -> Victim:
    """Make the data of a victim in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return VICTIMS[name](folder)
