"""The model of a round: what the best image holds within a mask, or closure quantities gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from libs.imaging import masks
from libs.imaging.interface import ImagingOptions, open_image, write_masked_model
from selfcal.step import Skip
from steps.closure_model import fill_component_model
from steps.context import Context
from steps.data_state import ensure_tables, fill_model
from steps.facts import model_facts
from steps.images import Imaged, imaging_options, make_image, model_files
from steps.rounds.ladder import judged_parameters, on_ladder
from steps.rounds.record import BestState
from steps.rounds.solving import adaptive, set_by_user
from steps.user_mask import write_user_mask

__all__ = ["RoundCycle", "RoundModel", "fill_round_model"]


@dataclass(frozen=True)
class RoundCycle:
    """A pass of a round.

    Attributes
    ----------
    step : str
        The round.
    number : int
        From 1.
    folder : Path
        Where its images go.
    """

    step: str
    number: int
    folder: Path

    @property
    def suffix(self) -> str:
        """What tells its files from those of the first cycle."""
        return "" if self.number == 1 else f"_{self.number}"


@dataclass(frozen=True)
class RoundModel:
    """What MODEL_DATA was filled from.

    Attributes
    ----------
    mask_file : Path or None
        None for components fitted to closure quantities, ...
    mask_reason : str
    start : Imaged or None
        An image made for the model's sake.
    origin : str
        ... whose origin is ``initial_model``; else the image within whose mask the model is.
    """

    mask_file: Path | None
    mask_reason: str
    start: Imaged | None
    origin: str

    @property
    def images(self) -> tuple[Imaged, ...]:
        """The image made for it, if there is one."""
        return (self.start,) if self.start else ()


def fill_round_model(
    context: Context, best: BestState, cycle: RoundCycle, amplitude: bool
) -> RoundModel:
    """Fill MODEL_DATA with what the best state's image holds within a mask.

    With a number for ``robust`` that image is made anew with the round's own parameters; with
    ``auto`` the judged image serves. Before any round was accepted, a model fitted to closure
    quantities is better than either; where it is complete, up the whole ladder.

    Raises
    ------
    Skip
        There is nothing in the image to calibrate against.
    """
    found = _closure_model(context, best, cycle, amplitude)
    if found is not None:
        return found
    mask, reason = _mask(context, best, cycle)
    start, models, options = _model_images(context, best, cycle, mask)
    masked = [
        write_masked_model(model, mask, cycle.folder / f"model{cycle.suffix}_{number}_masked.fits")
        for number, model in enumerate(models)
    ]
    if not any(np.any(open_image(path)[0]) for path in masked):
        raise Skip("CLEAN found nothing within the mask, so there is no model to calibrate against")
    fill_model(context, masked, options)
    return RoundModel(mask, reason, start, best.image.products["image"])


def _mask(context: Context, best: BestState, cycle: RoundCycle) -> tuple[Path, str]:
    """Write the mask of the model: the user's own, else where the best image has its sources.

    Raises
    ------
    Skip
        There is no source.
    """
    image = context.workdir / best.image.products["image"]
    path = cycle.folder / f"mask{cycle.suffix}.fits"
    own = write_user_mask(context, open_image(image)[1], path)
    if own is not None:
        return own
    made = masks.make_mask(
        image,
        path,
        masks.MaskOptions(
            sigma=_sigma_mask(context),
            floor=context.options["sigma_mask_floor"],
            dilate_beams=context.options["mask_dilation"],
        ),
    )
    if made.path is None:
        raise Skip(made.reason)
    return made.path, made.reason


def _closure_model(
    context: Context, best: BestState, cycle: RoundCycle, amplitude: bool
) -> RoundModel | None:
    """Fill MODEL_DATA from closure quantities where their model is the better one."""
    model = model_facts(context)
    # A complete model also starts the amplitudes off: CLEAN's has absorbed their errors.
    fresh = amplitude and cycle.number == 1 and model.closure_model_complete
    # An image of the shorter baselines would let the source drift, by its noise over a wide
    # beam, from where a model that describes all of them holds it.
    climbing = on_ladder(context) and model.closure_model_complete
    if not model.closure_model or not (fresh or climbing or not best.tables):
        return None
    fill_component_model(context, context.workdir / model.closure_model)
    return RoundModel(None, f"model of {model.model_origin}", None, "initial_model")


def _model_images(
    context: Context, best: BestState, cycle: RoundCycle, mask: Path
) -> tuple[Imaged | None, Sequence[Path], ImagingOptions]:
    """The image made for the model, if one is; the model images and what they were made with."""
    own = set_by_user(context, "robust") or not adaptive(context)
    judged_with = best.image.judged_with
    if context.options["robust"] == "auto" or not own:
        options = imaging_options(
            context, judged_with, cycle.folder, f"model{cycle.suffix}", best.tables
        )
        return None, model_files(context, best.image.products), options
    ensure_tables(context, best.tables)
    options = imaging_options(
        context,
        {**context.options, "uvmax": judged_parameters(context, judged_with)["uvmax"]},
        cycle.folder,
        f"start_{cycle.step}{cycle.suffix}",
        best.tables,
        mask=mask,
    )
    start = make_image(context, options, mask)
    return start, start.products.models, options


def _sigma_mask(context: Context) -> float:
    """The mask's threshold: with a model that needs no shielding from artefacts, the floor.

    High thresholds keep the artefacts of badly phased data out of the model. An adaptive run
    starts from a better one, and a mask that cuts real emission drains flux.
    """
    if adaptive(context) and not set_by_user(context, "sigma_mask"):
        return float(context.options["sigma_mask_floor"])
    return float(context.options["sigma_mask"])
