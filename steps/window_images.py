"""Images of each spectral window by itself (config key ``per_spw``), before and after."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libs.core.errors import ImageError
from libs.core.numbers import format_number
from libs.ms.subset import choose_subset
from libs.ms.subset_copy import copy_subset
from libs.ms.summary import summarise
from selfcal.step import TableRef
from steps.context import Context
from steps.data_state import ensure_tables, measurement_sets
from steps.images import Imaged, ImageRecord, image_row, imaging_options, make_image
from steps.record.collect import FinishedRun, window_key
from steps.record.products import WINDOW_KEY

__all__ = ["PER_WINDOW_SETTING", "WindowImages", "image_windows"]

PER_WINDOW_SETTING = "per_spw"
LARGEST_SNR_LOSS = 0.1
"""Fraction of a window's SNR that self-calibration may cost without a warning."""

_KEPT = ("peak_jy_beam", "rms_jy_beam", "snr", "total_flux_jy")


@dataclass
class WindowImages:
    """What was imaged.

    Attributes
    ----------
    products : dict of str to str
        Images, relative to the work directory, ``window_16_initial``.
    measured : dict of str to dict
        By number of the window: its statistics ``initial`` and ``final``.
    rows : list of mapping
        Rows of images.csv.
    warnings : list of str
    """

    products: dict[str, str] = field(default_factory=dict)
    measured: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def metrics(self) -> dict[str, Any]:
        """What the step records."""
        found: dict[str, Any] = {"windows": self.measured} if self.measured else {}
        return found | ({"warning": "; ".join(self.warnings)} if self.warnings else {})

    def add(self, context: Context, step: str, number: int, state: str, image: Imaged) -> None:
        """Record the image of a window in a state."""
        name = f"{WINDOW_KEY}{number}"
        self.products[f"{name}_{state}"] = context.relative(image.products.image)
        dirty = image.products.dirty
        if state == "initial" and dirty is not None:
            self.products[f"{name}_dirty"] = context.relative(dirty)
        values = image.statistics.as_row()
        self.measured.setdefault(str(number), {})[state] = {key: values[key] for key in _KEPT}
        self.rows.append(image_row(context, step, image))

    def compare(self) -> None:
        """Warn of windows that self-calibration made worse."""
        for number, states in self.measured.items():
            if "final" not in states:
                continue
            before, after = states["initial"]["snr"], states["final"]["snr"]
            if after < (1 - LARGEST_SNR_LOSS) * before:
                self.warnings.append(
                    f"the SNR of spectral window {number} fell by {1 - after / before:.0%}, from"
                    f" {format_number(before, 4)} to {format_number(after, 4)}"
                )


def image_windows(context: Context, step: str, folder: Path) -> WindowImages:
    """Image every spectral window by itself without any solutions, and with those that hold.

    Parameters
    ----------
    context : Context
        Its working copies are left with the solutions that hold.
    step : str
        Step that asks, for the records.
    folder : Path
        Folder of the images.
    """
    found = WindowImages()
    states: list[tuple[str, Sequence[TableRef]]] = [("initial", ())]
    if context.tables:
        states.append(("final", context.tables))
    for state, tables in states:
        ensure_tables(context, tables)
        for number, places in _windows(context).items():
            try:
                image = _image(context, folder, number, state, places, bool(tables))
            except ImageError as error:
                found.warnings.append(f"spectral window {number} is not imaged: {error.cause}")
                continue
            found.add(context, step, number, state, image)
    if not context.tables:
        for key, path in list(found.products.items()):
            if key.endswith("_initial"):  # nothing came of the rounds: the last image is the first
                found.products[f"{key.removesuffix('_initial')}_final"] = path
    ensure_tables(context, context.tables)
    found.compare()
    return found


def _windows(context: Context) -> dict[int, list[tuple[Path, int]]]:
    """Return working copies and their own ids of each window with unflagged data, by number."""
    run = FinishedRun.read(context.workdir)
    numbers = run.window_numbers()
    found: dict[int, list[tuple[Path, int]]] = {}
    for ms, labels in zip(measurement_sets(context), run.copied, strict=True):
        for own in summarise(ms).spws_used:
            found.setdefault(numbers[window_key(labels[own])], []).append((ms, own))
    return dict(sorted(found.items()))


def _image(
    context: Context,
    folder: Path,
    number: int,
    state: str,
    places: Sequence[tuple[Path, int]],
    calibrated: bool,
) -> Imaged:
    """Image one window of all executions with the parameters of the first image."""
    scratch = folder / ".window"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    column = "CORRECTED_DATA" if calibrated else "DATA"
    parts = []
    for ms, own in places:
        part = scratch / ms.name
        if copy_subset(ms, part, choose_subset(ms, spw=str(own), column=column)):
            parts.append(part)
    judged_with = ImageRecord.of(context.results["test_image"]).judged_with
    options = imaging_options(
        context, judged_with, folder, f"spw{number}_{state}", (), vis=tuple(parts),
        channels_out=1, nterms=1,
    )  # fmt: skip
    try:
        return make_image(context, options)
    finally:
        shutil.rmtree(scratch)
