"""A stand-in for a source's own run that solves perfectly, at no cost."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.io import fits

from libs.core.errors import ToolError
from libs.h5parm.reader import read_h5parm
from libs.h5parm.run_rounds import INPUT, accumulate_round, start_from
from libs.h5parm.solset import Solset, from_gain_solutions
from libs.simulation.observation import Simulation
from selfcal.state import State
from selfcal.step import StepResult
from steps.field.field_source import SourceTask

PIXELS, CELL_DEG = 64, 1e-5


def point_model(path: Path, flux_jy: float, direction_rad: tuple[float, float]) -> Path:
    """Write a model image with all flux in its central pixel."""
    plane = np.zeros((1, 1, PIXELS, PIXELS), np.float32)
    plane[0, 0, PIXELS // 2, PIXELS // 2] = flux_jy
    hdu = fits.PrimaryHDU(plane)
    ra, dec = (math.degrees(angle) for angle in direction_rad)
    axes = (("RA---SIN", ra, -CELL_DEG), ("DEC--SIN", dec, CELL_DEG), ("FREQ", 144e6, 1e6),
            ("STOKES", 1.0, 1.0))  # fmt: skip
    for axis, (kind, value, step) in enumerate(axes, 1):
        hdu.header[f"CTYPE{axis}"], hdu.header[f"CRVAL{axis}"] = kind, value
        hdu.header[f"CDELT{axis}"] = step
        hdu.header[f"CRPIX{axis}"] = PIXELS // 2 + 1.0 if axis < 3 else 1.0
    hdu.header["BUNIT"] = "Jy/pixel"
    # it serves as the restored image too, whose mask asks for the beam
    hdu.header["BMAJ"], hdu.header["BMIN"], hdu.header["BPA"] = 3 * CELL_DEG, 3 * CELL_DEG, 0.0
    path.parent.mkdir(parents=True, exist_ok=True)
    hdu.writeto(path, overwrite=True)
    return path


class FakeRun:
    """Takes the place of `steps.field.field_source._run`.

    Parameters
    ----------
    made : Simulation
        The field, whose true gains toward each source it hands over.
    fails, unsolved : sets of str
        Sources whose run fails, or ends without an accepted round.
    blind : dict of str to int
        Sources and a station that has no solutions there.
    """

    def __init__(self, made: Simulation) -> None:
        self.made = made
        self.fails: set[str] = set()
        self.unsolved: set[str] = set()
        self.blind: dict[str, int] = {}
        self.calls: list[str] = []

    def __call__(self, task: SourceTask, data: list[Path], on_wait: Any = None) -> None:
        self.calls.append(task.name)
        if task.name in self.fails:
            raise ToolError("the source is cursed", "choose another")
        folder = Path(task.folder)
        run = folder / "run"
        (folder / "source.yaml").write_text(yaml.safe_dump({"steps": ["test_image", "l1"]}))
        source = next(s for s in self.made.sky if s.name == task.name)
        point_model(run / "images" / "model.fits", source.flux_jy, (task.ra_rad, task.dec_rad))
        solved = task.name not in self.unsolved
        if solved:
            self._solutions(task, run / "solutions.h5")
        state = {"snr": 50.0, "rms_jy_beam": 1e-3, "peak_jy_beam": source.flux_jy,
                 "dynamic_range": 40.0, "total_flux_jy": source.flux_jy}  # fmt: skip
        summary = {
            "accepted": {"l1": "good"} if solved else {},
            "rejected": {} if solved else {"l1": "no"},
            "initial": state, "final": state, "h5parm": "solutions.h5" if solved else "",
            "longest_baseline_km": 900.0,
        }  # fmt: skip
        (run / "summary.json").write_text(json.dumps(summary))
        products = {"image": "images/model.fits", "model": "images/model.fits"}
        seconds = {"total": 1.0, "imaging": 0.0, "solving": 0.0}
        result = StepResult(products=products, metrics={"judged": "test_image"})
        State(run).append("test_image", "x", result, seconds, {})

    def _solutions(self, task: SourceTask, path: Path) -> None:
        """The true gains over those the data were corrected with."""
        truth = from_gain_solutions(
            self.made.direction_gains[task.name], task.name, (task.ra_rad, task.dec_rad)
        )
        applied = Path(task.folder) / "best.h5"
        phase, amplitude = truth.phase_rad, truth.amplitude
        if applied.exists():
            known = read_h5parm(applied)
            assert known.shape == truth.shape
            order = [known.antenna.index(name) for name in truth.antenna]
            phase = phase - known.phase_rad[:, :, order]
            amplitude = amplitude / known.amplitude[:, :, order]
        weight = truth.weight.copy()
        if task.name in self.blind:
            weight[:, :, self.blind[task.name]] = 0.0
        increment = Solset(
            truth.time_s, truth.frequency_hz, truth.antenna, truth.position_m,
            truth.direction, truth.direction_rad, truth.polarization, phase, amplitude, weight,
        )  # fmt: skip
        path.unlink(missing_ok=True)
        if applied.exists():
            start_from(path, applied, run="run")
        on = [INPUT] if applied.exists() else []
        accumulate_round(path, "l1", increment, on=on, run="run")
