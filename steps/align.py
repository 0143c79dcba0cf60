"""Executions of one target brought to one position and one flux scale before they are joined."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.coordinates import uvw_sign
from libs.core.geometry import ARCSEC_PER_RAD
from libs.core.numbers import format_number
from libs.gains.normal_equations import accumulate
from libs.gains.solution_interval import SolutionInterval
from libs.gains.solver import SolveOptions
from libs.heldout.executions import FEWEST_ANTENNAS, ExecutionSums, Offset, measure_offset
from libs.ms.kept_column import move_and_scale, scale_weights
from libs.ms.rows import sample_baselines
from libs.ms.summary import describe_ms, summarise
from libs.ms.tables import open_table
from selfcal.step import Skip, Step, StepResult
from steps.context import Context
from steps.data_changes import keep_data, kept_name
from steps.data_state import ensure_tables, fill_model, measurement_sets
from steps.images import IMAGING_OPTIONS, clean_folder, imaging_options, make_image
from steps.imaging import chosen_grid
from steps.mosaics import is_mosaic
from steps.user_mask import MASK_SETTING

__all__ = ["Align"]

_INTERVAL_S = 60.0
_BLOCKS = 8  # of frequency, in a window


class Align(Step):
    """Measure how executions differ in position and flux scale; mend it where they do."""

    uses = ("imager", "imsize", "cell", "threads", "memory", "align")
    uses_files = (MASK_SETTING,)
    options = IMAGING_OPTIONS

    def changes_data(self, context: Context) -> bool:
        """Where there are several executions."""
        return context.settings["align"] == "auto" and len(context.settings["vis"]) > 1

    def run(self, context: Context) -> StepResult:
        """Image the execution with the most data, compare the others with its model."""
        copies = measurement_sets(context)
        if len(copies) < 2:
            raise Skip("there is one execution")
        if context.settings["align"] == "never":
            raise Skip("align = never")
        if is_mosaic(context):
            raise Skip("offsets between executions are measured on one field, this is a mosaic")
        few = [ms.name for ms in copies if len(summarise(ms).antennas_used) < FEWEST_ANTENNAS]
        if few:
            raise Skip(
                f"{', '.join(few)}: offsets are told from errors of antennas by"
                f" {FEWEST_ANTENNAS} antennas or more"
            )
        ensure_tables(context, ())
        reference = max(copies, key=lambda ms: describe_ms(ms).rows)
        snr = self._fill_model(context, reference)
        context.progress.activity(f"offsets from {reference.name}")
        with context.clock.time("solving"):
            sums = {ms: _sums(ms) for ms in copies}
            if not all(one.weight.any() for one in sums.values()):
                raise Skip(f"the model of {reference.name} predicts nothing where there are data")
            found = {
                ms: measure_offset(sums[reference], sums[ms]) for ms in copies if ms != reference
            }
        for ms, offset in found.items():
            if offset.moved or offset.scaled:
                context.progress.activity(f"aligning {ms.name}")
                _apply(ms, offset)
        return self._result(context, reference, found, snr)

    def _fill_model(self, context: Context, reference: Path) -> float:
        """Fill MODEL_DATA of all executions from an image of one; return its SNR."""
        folder = clean_folder(context, self.name)
        cell, imsize = chosen_grid(context)
        made = imaging_options(
            context, context.options, folder, "reference", (), imsize=imsize, cell_arcsec=cell
        )
        image = make_image(context, made.but(vis=(reference,)))
        if image.fault:
            raise Skip(f"the image of {reference.name} has no model: {image.fault}")
        fill_model(context, image.products.models, made)
        return image.statistics.snr

    def _result(
        self, context: Context, reference: Path, found: dict[Path, Offset], snr: float
    ) -> StepResult:
        aligned = [ms.name for ms, offset in found.items() if offset.moved or offset.scaled]
        said = [f"{ms.name}: {_said(offset)}" for ms, offset in found.items()]
        return StepResult(
            reason=f"compared with {reference.name} (SNR {format_number(snr, 3)}): "
            + "; ".join(said),
            tables=context.tables,
            template=context.template,
            metrics={
                "align_reference": reference.name,
                "aligned": aligned,
                "offsets": [_as_record(ms, offset) for ms, offset in found.items()],
            },
        )


@dataclass(frozen=True)
class _Words:
    """An offset in arcsec."""

    east: float
    north: float
    error: float

    @classmethod
    def of(cls, offset: Offset) -> _Words:
        east, north = (ARCSEC_PER_RAD * value for value in offset.offset_rad)
        return cls(east, north, ARCSEC_PER_RAD * float(np.hypot(*offset.offset_error_rad)))


def _said(offset: Offset) -> str:
    """The offset and what was done about it, in words."""
    words = _Words.of(offset)
    beams = float(np.hypot(*offset.offset_rad)) / offset.beam_rad
    place = (
        f"{words.east:+.3g}, {words.north:+.3g} arcsec east and north"
        f" ({beams:.2g} beams, error {words.error:.2g} arcsec)"
    )
    scale = f"fluxes {100 * (offset.scale - 1):+.1f} % (error {100 * offset.scale_error:.1f} %)"
    mended = [text for text, done in ((place, offset.moved), (scale, offset.scaled)) if done]
    left = [text for text, done in ((place, offset.moved), (scale, offset.scaled)) if not done]
    parts = [f"mended {' and '.join(mended)}"] if mended else []
    return "; ".join(parts + ([f"left as it is: {' and '.join(left)}"] if left else []))


def _as_record(ms: Path, offset: Offset) -> dict[str, Any]:
    words = _Words.of(offset)
    return {
        "ms": ms.name,
        "east_arcsec": words.east,
        "north_arcsec": words.north,
        "position_error_arcsec": words.error,
        "flux_ratio": offset.scale,
        "flux_ratio_error": offset.scale_error,
        "moved": offset.moved,
        "scaled": offset.scaled,
    }


def _sums(ms: Path) -> ExecutionSums:
    """Return the sums of an execution against MODEL_DATA."""
    summary = summarise(ms)
    channels = max(len(summary.frequency_hz[spw]) for spw in summary.spws_used)
    interval = max(_INTERVAL_S, summary.integration_s)
    equations = accumulate(
        ms, SolveOptions(solint=SolutionInterval(interval)),
        channels_per_block=max(1, channels // _BLOCKS),
    )  # fmt: skip
    row = _long_baseline(ms)
    direction = (float(summary.direction_rad[0]), float(summary.direction_rad[1]))
    return ExecutionSums.of(
        equations, direction, uvw_sign(*row[:3], equations.position_m, direction, row[3])
    )


def _long_baseline(ms: Path) -> tuple[np.ndarray, int, int, float]:
    """Return UVW, the antennas and the time of a long baseline."""
    with open_table(ms) as opened:
        rows = sample_baselines(opened, ("UVW", "ANTENNA1", "ANTENNA2", "TIME"))
    longest = int(np.argmax(np.hypot(*rows["UVW"][:, :2].T)))
    return (
        np.asarray(rows["UVW"][longest], float), int(rows["ANTENNA1"][longest]),
        int(rows["ANTENNA2"][longest]), float(rows["TIME"][longest]),
    )  # fmt: skip


def _apply(ms: Path, offset: Offset) -> None:
    """Mend DATA of an execution and its weights; both are kept aside first."""
    keep_data(ms, "align")
    scale = offset.scale if offset.scaled else 1.0
    move_and_scale(ms, kept_name("align"), offset.offset_rad if offset.moved else (0.0, 0.0), scale)
    if scale != 1.0:
        scale_weights(ms, scale)
