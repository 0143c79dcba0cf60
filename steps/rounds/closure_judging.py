"""The closure quantities of the data against the model of an image: what no gains can touch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from libs.closure.agreement import ClosureAgreement, agreement, within_baselines
from libs.closure.formation import BaselineVisibilities
from libs.closure.read import hands_are_copies, read_visibilities
from libs.imaging.interface import open_image
from libs.ms.summary import describe_ms
from selfcal.options import Option
from steps.context import Context
from steps.data_state import ensure_tables, fill_model, measurement_sets
from steps.images import imaging_options, model_files
from steps.mosaics import is_mosaic

__all__ = ["CLOSURE_OPTIONS", "compared", "image_agreement", "image_visibilities", "read_closing"]

CLOSURE_OPTIONS = (
    Option("average", "time", "0s", "averaging before closures are formed; 0: none", minimum=0),
    Option("interval", "time", "60s", "averaging of the bispectra, short for the source's changes",
           minimum=0),
    Option("phase_floor", "float", 0.02, "non-closing error of the phases, rad", minimum=0),
    Option("amplitude_floor", "float", 0.02, "non-closing error of the amplitudes", minimum=0),
)  # fmt: skip


def read_closing(
    context: Context, judged_with: Mapping[str, Any]
) -> tuple[Path, BaselineVisibilities]:
    """Read DATA of the working copy with the most data, on the baselines of the judged images.

    Flags become those every round starts from, so that all images face the same data.

    Raises
    ------
    InputError
        There are no data on these baselines.
    """
    ensure_tables(context, ())
    ms = max(measurement_sets(context), key=lambda ms: describe_ms(ms).rows)
    context.progress.activity(f"closure quantities of {ms.name}")
    data = _read(context, ms, "DATA")
    return ms, within_baselines(data, judged_with["uvmin"], judged_with["uvmax"])


def _read(context: Context, ms: Path, column: str) -> BaselineVisibilities:
    return read_visibilities(
        ms,
        column=column,
        average_s=context.options["average"],
        # hands of a model are always alike: those of the data decide
        combine_hands=hands_are_copies(ms),
        noise_from_data=column == "DATA",
    )


def compared(context: Context, data: BaselineVisibilities, model: Any) -> ClosureAgreement:
    """Compare model visibilities with the closure quantities of data, as the options say."""
    return agreement(
        data,
        model,
        context.options["interval"],
        phase_floor_rad=context.options["phase_floor"],
        amplitude_floor=context.options["amplitude_floor"],
    )


def image_visibilities(
    context: Context, ms: Path, products: Mapping[str, str], judged_with: Mapping[str, Any]
) -> Any:
    """Visibilities of an image's CLEAN model, by way of MODEL_DATA; None where it is empty."""
    models = model_files(context, products)
    if not any(np.any(open_image(path)[0]) for path in models):
        return None
    options = imaging_options(context, judged_with, models[0].parent, "model", ())
    fill_model(context, models, options)
    return _read(context, ms, "MODEL_DATA").vis


def image_agreement(
    context: Context, products: Mapping[str, str], judged_with: Mapping[str, Any]
) -> ClosureAgreement | None:
    """Agreement of an image's model with the closure quantities.

    None for an empty model, and for a mosaic, of which each pointing sees another sky.

    Raises
    ------
    InputError
        The data have no closure quantities.
    """
    if is_mosaic(context):
        return None
    ms, data = read_closing(context, judged_with)
    model = image_visibilities(context, ms, products, judged_with)
    return None if model is None else compared(context, data, model)
