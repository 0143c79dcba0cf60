"""A run of the real steps and the native solver in which only the imager is scripted."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from libs.gains.native import NativeSolver
from libs.imaging.interface import ImageProducts, ImagingOptions
from libs.inputs.working_copy import WorkingCopy
from libs.ms import tables
from libs.ms.sanitise import Repairs, add_scratch_columns
from libs.ms.summary import summarise
from selfcal.context import Context
from selfcal.pipeline import Pipeline
from selfcal.progress import Progress
from selfcal.state import State
from selfcal.step import Step, StepResult
from steps import build_steps
from steps.run_options import run_settings
from steps.startup import Startup, _describe
from steps.tools import Tools
from tests.libs.fake_images import gaussian, write
from tests.libs.small_ms import make_ms

LIST = ("startup", "test_image", "select_refant", "p0", "p1", "p2", "ap1")
SIZE = (256, 256)


@dataclass(frozen=True)
class Looks:
    """What an image looks like: peak and noise of a point source in the middle.

    ``hidden_jy`` is a component of the model that no mask holds, ``halo_jy_beam`` the peak of a
    wider source around the point.
    """

    peak_jy: float = 1.0
    noise_jy: float = 0.01
    flux_scale: float = 1.0
    hidden_jy: float = 0.0
    halo_jy_beam: float = 0.0


@dataclass
class ScriptedImager:
    """Makes images that look as a script says, by the beginning of their names."""

    script: Mapping[str, Looks]
    asked: list[ImagingOptions] = field(default_factory=list)
    predicted: list[Path] = field(default_factory=list)
    name: str = "scripted"
    goes_deeper: bool = False

    def version(self) -> str:
        """Return a version."""
        return "1"

    def image(self, options: ImagingOptions) -> ImageProducts:
        """Write restored image, residual, model and PSF."""
        self.asked.append(options)
        matches = [key for key in self.script if options.basename.startswith(key)]
        looks = self.script[max(matches, key=len)] if matches else Looks()
        noise = np.random.default_rng(3).normal(0, looks.noise_jy, SIZE)
        point = np.zeros(SIZE)
        point[128, 128], point[40, 40] = looks.peak_jy, looks.hidden_jy
        planes = {
            "image": gaussian(SIZE, 128, 128, looks.peak_jy * looks.flux_scale)
            + gaussian(SIZE, 128, 128, looks.halo_jy_beam, fwhm_pixels=20.0)
            + noise,
            "residual": noise,
            "model": point,
            "psf": gaussian(SIZE, 128, 128, 1.0),
        }
        paths = {
            kind: write(options.folder / f"{options.basename}-{kind}.fits", plane)
            for kind, plane in planes.items()
        }
        return ImageProducts(
            **paths, dirty=None, models=(paths["model"],), beam_major_arcsec=2.5,
            beam_minor_arcsec=2.5, beam_pa_deg=0.0, seconds=0.1,
        )  # fmt: skip

    def predict(self, models: Sequence[Path], options: ImagingOptions) -> float:
        """Leave the point of 1 Jy that MODEL_DATA holds from the beginning."""
        self.predicted += models
        return 0.1


class NoCasa:
    """Stands where the CASA session would; no step of these runs may ask it for anything."""

    def close(self) -> None:
        """Nothing to end."""


class MadeUp(Startup):
    """Puts a simulated measurement set where a working copy would be."""

    flagged_antenna: int | None = None

    def identity(self, context: Context) -> Mapping[str, Any]:
        """Return nothing: there is no input."""
        return {}

    def run(self, context: Context) -> StepResult:
        """Make a point source behind antenna phases."""
        for name in ("data", "images", "tables"):
            shutil.rmtree(context.workdir / name, ignore_errors=True)
            (context.workdir / name).mkdir()
        ms = make_ms(
            context.workdir / "data" / "point.ms",
            antennas=7, times=24, channels=2, interval_s=10.0, noise_jy=0.05,
        )  # fmt: skip
        with tables.open_table(ms, write=True) as opened:
            phase_rad = np.linspace(0, 2, 7)
            one, two = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
            turn = np.exp(1j * (phase_rad[one] - phase_rad[two]))
            opened.putcol("DATA", opened.getcol("DATA") * turn[:, None, None].astype(np.complex64))
        add_scratch_columns(ms)
        copy = WorkingCopy(ms, "DATA", Repairs(), (), None, None, 0, 0.0)
        return _describe(context, [copy], [summarise(ms)])


def make_run(
    workdir: Path,
    script: Mapping[str, Looks],
    *,
    names: Sequence[str] = LIST,
    config: Mapping[str, Any] | None = None,
    assignments: Mapping[str, Any] | None = None,
) -> tuple[Pipeline, ScriptedImager]:
    """Return a pipeline of real steps with scripted images."""
    workdir.mkdir(exist_ok=True)
    values = {
        "vis": "made up", "rounds": "template", "imsize": 256, "cell": "0.5arcsec",
        "overrides": {"ap1": {"split_before": False}}, "threads": 1, **(config or {}),
    }  # fmt: skip
    settings = run_settings(values, None, assignments or {})
    imager = ScriptedImager(script)
    tools = Tools(NoCasa(), imager, NativeSolver(corr_dep_flags=True))  # type: ignore[arg-type]
    context = Context(settings, workdir, tools, Progress(quiet=True))
    steps: list[Step] = [
        MadeUp("startup") if step.name == "startup" else step for step in build_steps(names)
    ]

    def setup(context: Context) -> tuple[str, str]:
        return str(context.metric("instrument", "")), str(context.metric("band", ""))

    return Pipeline(steps, context, State(workdir), setup=setup), imager
