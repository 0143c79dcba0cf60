"""Bright sources outside the image: solved for on their own, and subtracted with their gains."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.errors import ConfigError
from libs.core.geometry import primary_beam_fwhm_arcsec
from libs.core.numbers import format_number, format_quantity
from libs.directions.subtract import SkyModel, TableGains, image_model, subtract_in_place
from libs.heldout.evidence import CERTAIN, Evidence
from libs.imaging.interface import open_image, sky_position
from libs.imaging.statistics import grid_of, mad_std
from selfcal.options import Option
from selfcal.step import Skip, Step, StepResult
from steps.context import Context
from steps.data_changes import keep_data, kept_name
from steps.data_state import ensure_tables, measurement_sets
from steps.facts import startup_facts
from steps.flagging import weigh_by_noise
from steps.images import clean_folder, make_image
from steps.imaging import chosen_grid, coarse_grid, coarse_options
from steps.instruments import dish_diameter_m
from steps.mosaics import is_mosaic
from steps.peel_setting import direction_of
from steps.peel_source import Direction, PeeledSource, SourceGrid, solve_source

__all__ = ["Peel", "peeled_models"]

# of a uniformly lit dish: 1.22 lambda / D, where the FWHM is 1.02 lambda / D
_FIRST_NULL_FWHM = 1.2


class Peel(Step):
    """Find bright sources outside the image, calibrate each on its own, subtract it."""

    uses = ("imager", "imsize", "cell", "threads", "memory", "peel")
    options = (
        Option("robust", "float", 0.5, "Briggs' robust parameter of the search"),
        Option("niter", "int", 200, "CLEAN iterations of the search", minimum=0),
        Option("nsigma_automask", "float", 8.0, "CLEAN finds components down to this many sigma"),
        Option("nsigma_autothreshold", "float", 3.0, "CLEAN stops at this many sigma"),
        Option("imsize", "size", "auto", "pixels of the search; auto: by fwhms", words=("auto",)),
        Option("cell", "angle", "auto", "pixel size of the search; auto: by fwhms and max_pixels",
               words=("auto",)),
        Option("fwhms", "float", 1.5, "width searched in FWHM of the primary beam", minimum=0.1),
        Option("max_pixels", "int", 3000, "largest image of the search", minimum=128),
        Option("sigma_source", "float", 8.0, "a source is brighter than this many sigma"),
        Option("least_ratio", "float", 2.0, "a source is peeled where it is brighter than all"
               " within the image by this factor", minimum=1),
        Option("most", "int", 3, "most sources peeled", minimum=1),
        Option("cycles", "int", 3, "cycles of self-calibration of each", minimum=1),
        Option("passes", "int", 4, "times that sources and target are solved for in turn",
               minimum=0),
        Option("source_imsize", "int", 256, "pixels of its image", minimum=32),
    )  # fmt: skip

    def changes_data(self, context: Context) -> bool:
        """Unknown beforehand: work begun early knows its data by a digest of them."""
        return context.settings["peel"] not in ("auto", "never")

    def run(self, context: Context) -> StepResult:
        """Search, solve, subtract what held-out data want, again until there is nothing."""
        if context.settings["peel"] == "never":
            raise Skip("peel = never")
        if is_mosaic(context):
            if context.settings["peel"] != "auto":
                raise ConfigError(
                    "sources are peeled from one field, and this is a mosaic",
                    "set peel = 'never', or mosaic = 'never'",
                )
            raise Skip("sources are peeled from one field, and this is a mosaic")
        ensure_tables(context, ())
        folder = clean_folder(context, self.name)
        done: list[_Peeled] = []
        said = ""
        for candidate in self._candidates(context, folder):
            peeled = self._peel(context, candidate.name, candidate, folder)
            if isinstance(peeled, str):
                said = peeled
                break
            done.append(peeled)
            _subtract(context, done)
        if not done:
            raise Skip(said or "no source outside the image is brighter than all within it")
        done = self._again(context, done, folder)
        samples = context.metric("weighed_by_noise", 0)
        if samples:  # the source was in the noise
            for ms in measurement_sets(context):
                weigh_by_noise(context, ms, samples)
        return self._result(context, done, said)

    def _peel(
        self,
        context: Context,
        name: str,
        candidate: _Candidate,
        folder: Path,
        start: PeeledSource | None = None,
    ) -> _Peeled | str:
        """Solve for a source; say why it stays where held-out data do not want it taken."""
        size = context.options["source_imsize"]
        grid = SourceGrid((size, size), chosen_grid(context)[0])
        try:
            source = solve_source(context, name, candidate.direction_rad, folder, grid, start)
        except Skip as skip:
            return f"{candidate.said} stays: {skip}"
        _delete(source)
        gains, evidence = _better(source)
        if gains is None:
            return f"{candidate.said} stays: its model explains nothing of held-out baselines"
        return _Peeled(candidate, source, gains, evidence)

    def _again(self, context: Context, done: list[_Peeled], folder: Path) -> list[_Peeled]:
        """Solve for each source again with the target and the others out of the data.

        Gains solved while the target was in the data have taken up some of it. It comes back pass
        by pass, as target and sources are solved for in turn.
        """
        target: _Peeled | None = None
        for number in range(1, context.options["passes"] + 1):
            target = self._target(context, folder, number, target)
            if target is None:
                break
            for place, one in enumerate(done):
                others = [other for other in done if other is not one]
                _subtract(context, [target, *others])
                name = f"{one.candidate.name}_{number}"
                better = self._peel(context, name, one.candidate, folder, one.source)
                if not isinstance(better, str):
                    done = [*done[:place], better, *done[place + 1 :]]
            _subtract(context, done)
        return done

    def _target(
        self, context: Context, folder: Path, number: int, before: _Peeled | None
    ) -> _Peeled | None:
        """Solve for the target on the data that are left, None where its gains are not trusted."""
        data = startup_facts(context)
        centre = (data.right_ascension_rad, data.declination_rad)
        cell, imsize = chosen_grid(context)
        grid = SourceGrid(imsize, cell, keeps_centre=True)
        start = before.source if before else None
        try:
            found = solve_source(context, f"target{number}", centre, folder, grid, start)
        except Skip as skip:
            context.progress.activity(f"the target stays in the data: {skip}")
            return None
        _delete(found)
        gains, evidence = _better(found)
        if gains is None:
            return None
        return _Peeled(_Candidate("target", centre, "the target"), found, gains, evidence)

    def _candidates(self, context: Context, folder: Path) -> Iterator[_Candidate]:
        """Yield sources to peel, brightest first, each found after the one before was taken."""
        wanted = context.settings["peel"]
        if wanted != "auto":
            for number, words in enumerate(wanted):
                yield _Candidate(f"peel{number}", direction_of(words), f"the source at {words}")
            return
        for number in range(context.options["most"]):
            found = _search(context, folder, number)
            if found is None:
                return
            yield found

    def _result(self, context: Context, done: list[_Peeled], said: str) -> StepResult:
        products = {
            f"peeled_{number}_model_{term}": context.relative(path)
            for number, one in enumerate(done)
            for term, path in enumerate(one.source.models)
        }
        return StepResult(
            reason="; ".join([*(one.words() for one in done), *filter(None, [said])]),
            tables=context.tables,
            template=context.template,
            products=products,
            metrics={"peeled": [one.as_record() for one in done]},
        )


@dataclass(frozen=True)
class _Candidate:
    """A source that may be peeled."""

    name: str
    direction_rad: Direction
    said: str


@dataclass(frozen=True)
class _Peeled:
    """A source that is peeled, with gains of its own or of 1."""

    candidate: _Candidate
    source: PeeledSource
    gains: str
    evidence: Evidence

    def words(self) -> str:
        flux = format_quantity(self.source.flux_jy, "Jy", 3)
        how = "with gains of its own" if self.gains == "own" else "as it is, without gains"
        return (
            f"{self.candidate.said} ({flux}) is subtracted {how}: it explains held-out baselines by"
            f" {format_number(self.evidence.significance, 3)} sigma"
        )

    def as_record(self) -> dict[str, Any]:
        ra, dec = np.rad2deg(self.source.direction_rad)
        return {
            "name": self.candidate.name,
            "ra_deg": float(ra),
            "dec_deg": float(dec),
            "flux_jy": self.source.flux_jy,
            "gains": self.gains,
            "solved": list(self.source.forms),
            "significance": self.evidence.significance,
            "explained_own": self.source.own.explained,
            "explained_without_gains": self.source.plain.explained,
        }


def _search(context: Context, folder: Path, number: int) -> _Candidate | None:
    """The brightest place outside the image or in a sidelobe, if it outshines the rest.

    Bad phases spread a source over many beams, so that no list of sources would have it; what it
    is, held-out data say.
    """
    path = _field_image(context) if not number else None
    if path is not None:
        image = path
    else:
        options = coarse_options(context, folder, coarse_grid(context), f"search{number}")
        image = make_image(context, options).products.image
    plane, header = open_image(image)
    grid = grid_of(header)
    data = startup_facts(context)
    cell, imsize = chosen_grid(context)
    diameter = dish_diameter_m(data.instrument, data.dish_diameter_m)
    first_null = _FIRST_NULL_FWHM * primary_beam_fwhm_arcsec(data.frequency_hz, diameter)
    reach = min(0.5 * max(imsize) * cell, first_null)
    y, x = np.indices(plane.shape)
    apart = grid.cell_arcsec * np.hypot(y - plane.shape[0] // 2, x - plane.shape[1] // 2)
    bright = np.nan_to_num(plane)
    inside = float(bright[apart <= reach].max(initial=0.0))
    outside = np.where(apart > reach, bright, -np.inf)
    row, column = np.unravel_index(int(outside.argmax()), outside.shape)
    peak = float(outside[row, column])
    least = max(context.options["least_ratio"] * inside,
                context.options["sigma_source"] * mad_std(plane))  # fmt: skip
    if not peak > least:
        return None
    ra, dec = np.deg2rad(sky_position(header, float(column), float(row)))
    where = f"the source {apart[row, column]:.0f} arcsec from the centre"
    return _Candidate(f"peel{number}", (float(ra), float(dec)), where)


def _field_image(context: Context) -> Path | None:
    """The image of the field, which shows the data before anything was peeled."""
    done = context.results.get("fov_image")
    image = None if done is None else done.products.get("image")
    return None if image is None else context.workdir / image


def _better(source: PeeledSource) -> tuple[str | None, Evidence]:
    """Which gains explain more of held-out baselines, None where neither does for certain."""
    own = source.own.against(source.plain).difference > 0
    chosen = source.own if own else source.plain
    sure = chosen.significance > CERTAIN and chosen.explained > 0
    return (("own" if own else "plain") if sure else None), chosen


def _subtract(context: Context, done: list[_Peeled]) -> None:
    """Write DATA less some sources; the flags of the copies stay."""
    for number, ms in enumerate(measurement_sets(context)):
        context.progress.activity(f"subtracting from {ms.name}")
        keep_data(ms, "peel")
        models = [
            SkyModel(
                one.candidate.name,
                one.source.direction_rad,
                image_model(one.source.models),
                TableGains.open(ms, one.source.tables[number]) if one.gains == "own" else None,
            )
            for one in done
        ]
        subtract_in_place(ms, models, kept_name("peel"))


def _delete(source: PeeledSource) -> None:
    for copy in source.copies:
        shutil.rmtree(copy, ignore_errors=True)


def peeled_models(context: Context) -> list[SkyModel]:
    """Return the models of the sources that were peeled, without gains."""
    result = context.results.get("peel")
    if result is None or result.status != "done":
        return []
    found = []
    for number, record in enumerate(result.metrics["peeled"]):
        found.append(
            SkyModel(
                record["name"],
                (float(np.deg2rad(record["ra_deg"])), float(np.deg2rad(record["dec_deg"]))),
                image_model(_models(context, result.products, number)),
            )
        )
    return found


def _models(context: Context, products: Mapping[str, str], number: int) -> list[Path]:
    names = [name for name in products if name.startswith(f"peeled_{number}_model_")]
    names.sort(key=lambda name: int(name.rpartition("_")[2]))
    return [context.workdir / products[name] for name in names]
