"""What a round does with each pointing of a mosaic: whether it takes part, and what it keeps."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.errors import ImageError
from libs.core.numbers import format_number
from libs.imaging.interface import open_image, write_image, write_masked_model
from libs.imaging.masks import MaskOptions, make_mask
from libs.imaging.pointing_check import (
    JointModel,
    measure_pointing,
    pointing_options,
)
from libs.ms.model_share import model_share
from selfcal.step import Skip, TableRef
from steps.context import Context
from steps.data_state import ensure_tables, fill_model, measurement_sets
from steps.facts import model_facts, startup_facts
from steps.images import (
    ImageRecord,
    image_products,
    imaging_options,
    judged_image,
    options_of_model,
)
from steps.mosaics import is_mosaic
from steps.rounds.record import BestState, Trial
from steps.start_model import ORIGIN, fill_start_model

__all__ = ["measured_pointings", "newest", "restricted", "settled", "taking_part"]

LEAST_SNR = 3.0
"""Peak of the joint model in a pointing's image, in sigma, from which it takes part."""

MOST_MISSED = {"vla": 0.5}
OTHERWISE_MISSED = 0.25
"""Part of a pointing's flux that the joint model may lack, by instrument and otherwise.

It has to be surpassed by more than its error (1 sigma). Antenna phases do not matter to it, so that
a pointing is not left out for the artefacts of its own bad phases.
"""

Pointings = tuple[Mapping[str, Any] | None, ...]


def measured_pointings(context: Context, state: BestState, folder: Path, name: str) -> Pointings:
    """Image each pointing of a mosaic by itself in a state; empty for a single field.

    A pointing without usable data is None.
    """
    if not is_mosaic(context):
        return ()
    ensure_tables(context, state.tables)
    image = state.image
    mosaic = imaging_options(context, image.judged_with, folder, name, state.tables)
    joint = JointModel(
        _certain_model(context, image, folder, name),
        context.workdir / image.products["response"],
        options_of_model(context, image),
    )
    fill_model(context, [joint.model], joint.options)
    found: list[Any] = []
    for number in range(len(startup_facts(context).pointings)):
        own = pointing_options(mosaic, number, folder, f"{name}_pointing{number}")
        context.progress.activity(f"{context.tools.imager.name} {own.basename}")
        try:
            with context.clock.time("imaging"):
                products = context.tools.imager.image(own)
            measure = measure_pointing(products, own, joint, number)
            share = model_share(measurement_sets(context), number)
            found.append({
                **asdict(measure), "model_share": share.share, "model_share_error": share.error,
                "image": context.relative(products.image),
            })  # fmt: skip
        except ImageError as error:
            context.progress.activity(f"{own.basename}: {error.cause}")
            found.append(None)
    return tuple(found)


def _certain_model(context: Context, image: ImageRecord, folder: Path, name: str) -> Path:
    """Write the model of an image within the mask that rounds make of it, and return its path.

    CLEAN puts components on noise too, which say nothing of a pointing without sources.
    """
    mask = folder / f"{name}-certain-mask.fits"
    options = context.options
    floor = options["sigma_mask_floor"]
    made = make_mask(
        context.workdir / image.products["image"], mask,
        MaskOptions(sigma=floor, floor=floor, dilate_beams=options["mask_dilation"]),
    )  # fmt: skip
    model, path = context.workdir / image.products["model"], folder / f"{name}-certain-model.fits"
    if made.path is not None:
        return write_masked_model(model, mask, path)
    plane, header = open_image(model)
    return write_image(np.zeros_like(plane), header, path)


def taking_part(context: Context, state: BestState) -> tuple[int, ...]:
    """Return the field ids of a mosaic's pointings that a round solves with; empty: a single field.

    Raises
    ------
    Skip
        None can.
    """
    if not is_mosaic(context):
        return ()
    most = MOST_MISSED.get(startup_facts(context).instrument, OTHERWISE_MISSED)
    found, said = [], []
    for number, values in enumerate(_with_users_model(context, state)):
        if values is None:
            said.append(f"pointing {number} has no data")
            continue
        missed = 1.0 - values["model_share"]
        if values["model_snr"] < LEAST_SNR:
            said.append(f"the model is {format_number(values['model_snr'], 2)} sigma in {number}")
        elif missed - values["model_share_error"] > most:
            said.append(f"the model lacks {missed:.0%} of the flux of {number}")
        else:
            found.append(number)
    if not found:
        raise Skip(
            f"no pointing of the mosaic can be calibrated: {'; '.join(said)} ({LEAST_SNR:g} sigma"
            f" and at most {most:.0%} are asked for)"
        )
    if said:
        context.progress.activity(f"without some pointings: {'; '.join(said)}")
    return tuple(found)


def _with_users_model(context: Context, state: BestState) -> Pointings:
    """Return the pointings as measured, with the user's model where that is solved against first.

    Whether it is seen in a pointing is told by the flux of the data, not by an image, which phases
    may have scattered.
    """
    model = model_facts(context)
    if model.model_origin != ORIGIN or state.tables:
        return state.pointings
    fill_start_model(context, context.workdir / model.closure_model)
    found: list[Any] = []
    for number, values in enumerate(state.pointings):
        share = model_share(measurement_sets(context), number)
        # the share's relative error is half of that of the flux squared, by which it is seen
        sigma = 0.5 * share.share / share.error if share.error > 0 else math.inf
        found.append(values and {
            **values, "model_snr": sigma if share.share > 0 else 0.0,
            "model_share": share.share, "model_share_error": share.error,
        })  # fmt: skip
    return tuple(found)


def settled(
    context: Context,
    best: BestState,
    trial: Trial,
    new: Sequence[TableRef],
    taking: Sequence[int],
    folder: Path,
) -> Trial:
    """Return a trial in which pointings whose own image became worse keep their last state.

    Their SNR may fall by no more than ``max_snr_loss``. Where some keep their last state, and
    others do not, the mosaic is imaged again.

    Parameters
    ----------
    context : Context
    best : BestState
    trial : Trial
        Imaged with the new tables in all pointings that took part.
    new : sequence of TableRef
        The new tables, without those that others keep.
    taking : sequence of int
        Pointings that took part.
    folder : Path
        Of the images of the cycle.
    """
    name = trial.image.name
    measured = _of_trial(context, trial, folder)
    kept = 1 - context.options["max_snr_loss"]
    better, worse = set(), []
    for number in taking:
        before, after = best.pointings[number], measured[number]
        assert before is not None, "a pointing without an image takes no part"
        if after is not None and after["snr"] >= kept * before["snr"]:
            better.add(number)
            continue
        found = "no image" if after is None else format_number(after["snr"], 4)
        worse.append(f"{number} (SNR {format_number(before['snr'], 4)} to {found})")
    out = sorted(set(range(len(best.pointings))) - set(taking))
    said = [f"pointings {', '.join(worse)} keep their last state"] if worse else []
    said += [f"pointings {', '.join(map(str, out))} take no part"] if out else []
    trial = replace(trial, pointings=measured, pointings_said="; ".join(said))
    if not worse or not better:
        return trial
    refs = restricted(new, better, best.tables, len(best.pointings))
    flagged = ensure_tables(context, refs)
    image = judged_image(context, folder, f"{name}_kept", refs, trial.judged_with)
    mixed = tuple(
        best.pointings[number] if number in taking and number not in better else one
        for number, one in enumerate(measured)
    )
    return replace(
        trial, refs=refs, flagged=flagged, images=(*trial.images, image), pointings=mixed
    )


def _of_trial(context: Context, trial: Trial, folder: Path) -> Pointings:
    image = trial.image
    products = image_products(context, image)
    record = ImageRecord(image.statistics, image.name, trial.judged_with, products)
    return measured_pointings(context, BestState(record, trial.refs), folder, image.name)


def newest(refs: Iterable[TableRef]) -> tuple[TableRef, ...]:
    """Return the newest table of each round and working copy, for all fields.

    Pointings of a mosaic may have kept tables of earlier cycles; what is solved anew lies over
    the newest, which come first.
    """
    found: dict[tuple[str, str], TableRef] = {}
    for ref in refs:
        found.setdefault((ref.round, ref.ms), replace(ref, fields=()))
    return tuple(found.values())


def restricted(
    new: Sequence[TableRef],
    fields: Collection[int],
    old: Sequence[TableRef],
    count: int,
) -> tuple[TableRef, ...]:
    """Return a state in which some pointings have new tables, the others what they had.

    Parameters
    ----------
    new, old : sequence of TableRef
        In order of application.
    fields : collection of int
        Pointings that have the new ones.
    count : int
        Number of pointings.
    """
    every = frozenset(range(count))
    rest = every - frozenset(fields)
    found: dict[tuple[str, str], TableRef] = {}
    for refs, mine in ((new, every - rest), (old, rest)):
        for ref in refs:
            own = (frozenset(ref.fields) or every) & mine if refs is old else mine
            earlier = found.get((ref.ms, ref.path))
            if earlier is not None:
                own |= frozenset(earlier.fields)
            if own:
                found[ref.ms, ref.path] = replace(ref, fields=tuple(sorted(own)))
    return tuple(
        replace(ref, fields=() if frozenset(ref.fields) == every else ref.fields)
        for ref in found.values()
    )
