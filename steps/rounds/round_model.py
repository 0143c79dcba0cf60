"""The model of a round: what the best image holds within a mask, or closure quantities gave."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from libs.core.gaussian import GaussianComponent
from libs.gains.solver import SolveOptions
from libs.heldout.choose import ADVANTAGE
from libs.heldout.evidence import CERTAIN
from libs.heldout.folds import Candidate
from libs.imaging import masks
from libs.imaging.interface import ImagingOptions, open_image, write_masked_model
from libs.ms.summary import describe_ms
from selfcal.step import Skip
from steps.closure_data import FEW_STATIONS, read_closure_data
from steps.closure_refit import refitted_model
from steps.context import Context
from steps.data_state import ensure_tables, fill_model, measurement_sets
from steps.facts import grid_facts, model_facts
from steps.images import Imaged, imaging_options, make_image, model_files, options_of_model
from steps.model_components import fill_component_model, fill_components
from steps.mosaics import is_mosaic
from steps.rounds.ladder import judged_parameters, on_ladder
from steps.rounds.model_evidence import ModelEvidence, evidence_of_model
from steps.rounds.record import BestState
from steps.rounds.solving import adaptive, set_by_user
from steps.source_place import POINT, SURE_SNR, brightest_pixel, place_before_calibration
from steps.start_model import ORIGIN
from steps.user_mask import MASK_SETTING, write_user_mask

__all__ = ["ModelCandidate", "RoundCycle", "RoundModel", "round_models"]

_SAME_PLACE = 3.0  # pixels, about a beam


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
    model : int
        Which of its models is tried, from 1.
    keeps_all : bool
        Antennas whose phases cannot be told keep the data they came with, in place of being
        flagged.
    """

    step: str
    number: int
    folder: Path
    model: int = 1
    keeps_all: bool = False

    @property
    def suffix(self) -> str:
        """What tells its files from those of the first cycle."""
        own = "" if self.number == 1 else f"_{self.number}"
        own += "" if self.model == 1 else f"_model_{self.model}"
        return f"{own}_all_kept" if self.keeps_all else own


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
        ... whose origin is ``initial_model``; else the image that the model is of.
    """

    mask_file: Path | None
    mask_reason: str
    start: Imaged | None
    origin: str

    @property
    def images(self) -> tuple[Imaged, ...]:
        """The image made for it, if there is one."""
        return (self.start,) if self.start else ()


@dataclass(frozen=True)
class ModelCandidate:
    """A model to fill MODEL_DATA from, what it is called, and the record of it."""

    name: str
    fill: Callable[[], object]
    model: RoundModel


def round_models(
    context: Context, best: BestState, cycle: RoundCycle, amplitude: bool
) -> list[ModelCandidate]:
    """Return the models that a cycle may solve against, that which explains the most first.

    They are what the best state's image holds within a mask, and all that CLEAN found in it;
    before any round was accepted, components fitted to closure quantities, and, where nothing
    stands out of the image, a point. Components that describe the data wholly also start the
    amplitudes off, and stand alone on the ladder. With a number for ``robust`` the image is made
    anew with the round's own parameters. Where the user gives the model, or the user or a template
    without held-out data sets the mask, that decides.

    Raises
    ------
    Skip
        There is nothing to calibrate against.
    """
    closure = _closure_model(context, best, cycle, amplitude)
    given = model_facts(context).model_origin == ORIGIN
    if closure is not None and (given or on_ladder(context) or not adaptive(context)):
        return [closure]
    images: list[ModelCandidate] = []
    try:
        images = _image_models(context, best, cycle)
    except Skip:
        if closure is None and (not adaptive(context) or best.tables or is_mosaic(context)):
            raise
    if closure is None and images and cycle.number == 1:
        refitted = _refitted(context, best, images[0])
        if refitted is not None:
            return [refitted, *images]
    candidates = [*([closure] if closure else []), *images]
    if is_mosaic(context) and candidates:
        return candidates
    if not candidates:
        points = _points(context, best)
        return [_certain(context, points[0] if len(points) == 1 else _ranked(context, points)[0])]
    if not best.tables and closure is None and adaptive(context) and not _drawn_by_user(context):
        # of badly phased data CLEAN finds artefacts; one point may explain more than all of them
        points = _points(context, best)
        return [*candidates, *(replace(each, fill=partial(_check_certain, context, each))
                               for each in points)]  # fmt: skip
    sure = model_facts(context).closure_model_complete and not _few_stations(context)
    if closure is None or best.tables or len(candidates) == 1 or sure:
        # CLEAN's components explain errors of the gains they were found with, so that held-out
        # baselines tell components from images, but not one image's parts from the whole
        return candidates
    return [*_ranked(context, candidates[:2]), *candidates[2:]]


def _refitted(context: Context, best: BestState, image: ModelCandidate) -> ModelCandidate | None:
    """The image's components fitted to closure quantities, where these speak for them.

    Held-out baselines cannot decide between them and CLEAN's model, which was found in data that
    all baselines had calibrated; closure quantities know no gains. With many stations CLEAN's
    model is as good.
    """
    if not (best.tables and adaptive(context) and _few_stations(context)) or is_mosaic(context):
        return None
    name = best.image.products["image"]
    found = refitted_model(context, context.workdir / name, image.fill)
    if found is None or not found.better:
        return None
    said = (
        f"{len(found.components)} components of the image fitted to closure quantities: reduced"
        f" chi2 {found.chi2:.3g}, of CLEAN's model {found.image_chi2:.3g}"
    )
    return ModelCandidate(
        "components fitted to closure quantities",
        lambda: fill_components(context, found.components, found.centre_rad),
        RoundModel(None, said, None, f"closures, from {name}"),
    )


def _few_stations(context: Context) -> bool:
    """Whether a model may fit the closure quantities of so few stations and be wrong."""
    most = max(len(describe_ms(ms).antenna) for ms in measurement_sets(context))
    return most <= FEW_STATIONS


def _certain(context: Context, candidate: ModelCandidate) -> ModelCandidate:
    """Return a candidate that predicts held-out baselines better than noise.

    Raises
    ------
    Skip
        It does not.
    """
    sigma = _check_certain(context, candidate)
    return _noted(candidate, f"{candidate.name}, which predicts held-out baselines by {sigma:.0f}"
                             " sigma")  # fmt: skip


def _check_certain(context: Context, candidate: ModelCandidate) -> float:
    """Fill MODEL_DATA; return by how many sigma the model predicts held-out baselines.

    Raises
    ------
    Skip
        By too few.
    """
    sigma = _asked(context, candidate, None).evidence.significance
    if not sigma >= CERTAIN:
        raise Skip(
            f"nothing stands out of the image, and {candidate.name} predicts held-out baselines"
            f" by {sigma:.1f} sigma only; {CERTAIN:.0f} are asked for"
        )
    return sigma


def _ranked(context: Context, candidates: Sequence[ModelCandidate]) -> list[ModelCandidate]:
    """Return candidates in order of what they explain; a later one must be surely better."""
    order: list[tuple[ModelCandidate, ModelEvidence]] = []
    said: list[str] = []
    forms = None
    for one in candidates:
        found = _asked(context, one, forms)
        forms = found.near
        place = 0
        if order:
            step = found.evidence.against(order[0][1].evidence)
            said.append(
                f"{one.name} against {order[0][0].name}: chi2 of held-out baselines"
                f" {-step.chi2:+.4g} ({step.sigma:+.1f} sigma)"
            )
            place = 0 if step.sigma > ADVANTAGE else len(order)
        order.insert(place, (one, found))
    return [_noted(one, f"{one.name} ({'; '.join(said)})") for one, _ in order]


def _asked(
    context: Context,
    candidate: ModelCandidate,
    forms: Mapping[str, Sequence[Candidate]] | None,
) -> ModelEvidence:
    candidate.fill()
    context.progress.activity(f"held-out data: {candidate.name}")
    options = SolveOptions(
        uvmin_m=context.options["solve_uvmin"],
        uvmax_m=context.options["solve_uvmax"],
        minblperant=context.options["minblperant"],
    )
    return evidence_of_model(context, options, forms)


def _noted(candidate: ModelCandidate, why: str) -> ModelCandidate:
    reason = "; ".join(part for part in (candidate.model.mask_reason, why) if part)
    return replace(candidate, model=replace(candidate.model, mask_reason=reason))


def _image_models(context: Context, best: BestState, cycle: RoundCycle) -> list[ModelCandidate]:
    """What the best state's image holds within a mask, and all of it where that is more.

    Raises
    ------
    Skip
        There is nothing in the image to calibrate against.
    """
    mask, reason = _mask(context, best, cycle)
    start, models, options = _model_images(context, best, cycle, mask)
    masked = [
        write_masked_model(model, mask, cycle.folder / f"model{cycle.suffix}_{number}_masked.fits")
        for number, model in enumerate(models)
    ]
    if not any(np.any(open_image(path)[0]) for path in masked):
        raise Skip("CLEAN found nothing within the mask, so there is no model to calibrate against")
    origin = best.image.products["image"]
    found = [
        ModelCandidate("CLEAN's model within the mask",
                       lambda: fill_model(context, masked, options),
                       RoundModel(mask, reason, start, origin))
    ]  # fmt: skip
    more = any(
        not np.array_equal(open_image(a)[0], open_image(b)[0])
        for a, b in zip(models, masked, strict=True)
    )
    if more and adaptive(context) and not _drawn_by_user(context):
        found.append(
            ModelCandidate("all of CLEAN's model",
                           lambda: fill_model(context, models, options),
                           RoundModel(None, "", start, origin))
        )  # fmt: skip
    return found


def _drawn_by_user(context: Context) -> bool:
    """Whether the user says what the model is made of."""
    return set_by_user(context, "sigma_mask") or bool(context.settings[MASK_SETTING])


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


def _points(context: Context, best: BestState) -> list[ModelCandidate]:
    """A point at the image's brightest pixel; where phases are wild, where fringes place it first.

    The brightest pixel of badly phased data may lie anywhere. Gains absorb a wrong place only as
    long as the fringes do not turn, which spoils longer intervals.
    """
    image = best.image.statistics
    grid = grid_facts(context)
    assert grid.imsize and grid.cell_arcsec, "test_image chooses a grid"
    brightest = brightest_pixel(image, grid.imsize)
    at_peak = _point(context, best, brightest, "the brightest pixel")
    if best.tables or is_mosaic(context) or image.snr >= SURE_SNR:
        return [at_peak]
    place = place_before_calibration(context, read_closure_data(context), image, (POINT,))
    cell_rad = math.radians(grid.cell_arcsec / 3600)
    if math.dist(place.offset_rad, brightest) < _SAME_PLACE * cell_rad:
        return [at_peak]
    return [_point(context, best, place.offset_rad, place.name, place.said), at_peak]


def _point(
    context: Context, best: BestState, place_rad: tuple[float, float], name: str, said: str = ""
) -> ModelCandidate:
    flux_jy = best.image.statistics.peak_jy_beam
    point = GaussianComponent(flux_jy, 0.0, 0.0, 0.0, 0.0, 0.0, point=True)
    return ModelCandidate(
        f"a point at {name}",
        lambda: fill_components(context, (point,), place_rad),
        RoundModel(None, said, None, "point"),
    )


def _closure_model(
    context: Context, best: BestState, cycle: RoundCycle, amplitude: bool
) -> ModelCandidate | None:
    """The model fitted to closure quantities, where it may serve."""
    model = model_facts(context)
    # A complete model also starts the amplitudes off: CLEAN's has absorbed their errors.
    fresh = amplitude and cycle.number == 1 and model.closure_model_complete
    # An image of the shorter baselines would let the source drift, by its noise over a wide
    # beam, from where a model that describes all of them holds it.
    climbing = on_ladder(context) and model.closure_model_complete
    if not model.closure_model or not (fresh or climbing or not best.tables):
        return None
    path = context.workdir / model.closure_model
    return ModelCandidate(
        "the components",
        lambda: fill_component_model(context, path),
        RoundModel(None, f"model of {model.model_origin}", None, "initial_model"),
    )


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
        if options.mosaic:  # its response lies beside the image
            options = options_of_model(context, best.image)
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
