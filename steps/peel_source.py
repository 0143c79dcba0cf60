"""The gains and the model of a source that is peeled, found on data of its own direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.closure.astrometry import place_by_band
from libs.closure.read import read_visibilities
from libs.core.coordinates import lm_to_radec
from libs.core.errors import SolveError
from libs.directions.phase_shift import ShiftOptions, shift_data
from libs.gains.normal_equations import accumulate
from libs.gains.solution_interval import PER_SCAN
from libs.gains.solver import AppliedTable, SolveOptions
from libs.heldout.evidence import Evidence, joined, model_evidence, unsolved_evidence
from libs.heldout.folds import Candidate
from libs.imaging.interface import (
    ImagingOptions,
    open_image,
    sky_position,
    write_image,
    write_masked_model,
)
from libs.imaging.statistics import mad_std
from libs.ms.columns import ensure_data_column
from libs.ms.rows import read_rows, row_pieces, write_rows
from libs.ms.summary import summarise
from libs.ms.tables import open_table
from selfcal.step import Skip
from steps.context import Context
from steps.data_state import measurement_sets
from steps.images import Imaged, make_image, memory_bytes
from steps.rounds.held_out import ask_held_out, chosen_options, shortest_interval

__all__ = ["Direction", "PeeledSource", "SourceGrid", "solve_source"]

_BLOCKS = 8
_BETTER_SIGMA = 3.0

Direction = tuple[float, float]
"""J2000 right ascension and declination, rad."""


@dataclass(frozen=True)
class SourceGrid:
    """The image of a source.

    Attributes
    ----------
    imsize : (int, int)
    cell_arcsec : float
    keeps_centre : bool
        True where the direction is the centre of a field, not the place of a source.
    """

    imsize: tuple[int, int]
    cell_arcsec: float
    keeps_centre: bool = False


@dataclass(frozen=True)
class PeeledSource:
    """A source with a model and gains of its own.

    Attributes
    ----------
    direction_rad : (float, float)
        Centre of its model.
    models : tuple of Path
        Model images.
    flux_jy : float
    tables : tuple of tuple of AppliedTable
        By working copy, its gains in order of application; empty where they are those of 1.
    copies : tuple of Path
        Data of its direction, which may be deleted.
    own, plain : Evidence
        What the model explains with gains of its own of baselines held out, and without gains.
    forms : tuple of str
        By working copy, how the phases were solved for.
    """

    direction_rad: Direction
    models: tuple[Path, ...]
    flux_jy: float
    tables: tuple[tuple[AppliedTable, ...], ...]
    copies: tuple[Path, ...]
    own: Evidence
    plain: Evidence
    forms: tuple[str, ...]


def solve_source(
    context: Context,
    name: str,
    direction_rad: Direction,
    folder: Path,
    grid: SourceGrid,
    start: PeeledSource | None = None,
) -> PeeledSource:
    """Self-calibrate a source on data that are shifted to it, from a point on.

    Parameters
    ----------
    context : Context
        Of a step with the option ``cycles``.
    name : str
        For the files made.
    direction_rad : (float, float)
        Where the source is, within some beams.
    folder : Path
        For images.
    grid : SourceGrid
    start : PeeledSource, optional
        What was found before, whose place and model are the start.

    Raises
    ------
    Skip
        Held-out data trust no gains towards the source.
    """
    if start is None:
        copies = _shifted(context, name, direction_rad)
        if not grid.keeps_centre:
            found = _imaged(context, copies, folder, f"{name}_raw", grid, corrected=False)
            copies = _shifted(context, name, _peak_direction(found))
            direction_rad = _placed(copies)
            copies = _shifted(context, name, direction_rad)
        for copy in copies:
            _fill_point(copy)
    else:
        direction_rad = start.direction_rad
        copies = _shifted(context, name, direction_rad)
        if not grid.keeps_centre:  # with less in the data than before the place is known better
            direction_rad = _placed(copies)
            copies = _shifted(context, name, direction_rad)
        _predict(context, copies, start.models, folder, name, grid)
    options = SolveOptions(solint=PER_SCAN, calmode="p", minsnr=0.0)
    for cycle in range(1, 2 if start else context.options["cycles"] + 1):
        late = cycle > 1 or start is not None
        tables = [_solve(context, copy, options, amplitudes=late) for copy in copies]
        for copy, own in zip(copies, tables, strict=True):
            context.tools.solver.apply(copy, own.tables, flag_unsolved=False)
        image = _imaged(context, copies, folder, f"{name}_{cycle}", grid, corrected=True)
        forms = [one.form for one in tables]
        models = _best_model(context, copies, image, folder, name, grid, forms)
    last = [_solve(context, copy, options, amplitudes=True) for copy in copies]
    pairs = [_evidence(copy, one.form) for copy, one in zip(copies, last, strict=True)]
    return PeeledSource(
        direction_rad,
        models,
        image.statistics.total_flux_jy,
        tuple(one.tables for one in last),
        tuple(copies),
        joined([own for own, _ in pairs]),
        joined([plain for _, plain in pairs]),
        tuple(str(one.form) for one in last),
    )


def _best_model(
    context: Context,
    copies: Sequence[Path],
    image: Imaged,
    folder: Path,
    name: str,
    grid: SourceGrid,
    forms: Sequence[Candidate],
) -> tuple[Path, ...]:
    """Fill MODEL_DATA from a point, or from CLEAN's model where that surely explains more.

    What CLEAN finds beside a point are at first artefacts of its gains.
    """
    models = image.products.models
    if grid.keeps_centre:
        _predict(context, copies, models, folder, name, grid)
        return models
    point = _point_model(models[0], image.statistics.peak_jy_beam, folder / f"{name}-point.fits")
    island = _island(image, folder, name)
    explained: dict[tuple[Path, ...], Evidence] = {}
    for tried in (island, (point,)):
        _predict(context, copies, tried, folder, name, grid)
        own = [_evidence(copy, form)[0] for copy, form in zip(copies, forms, strict=True)]
        explained[tried] = joined(own)
    if explained[island].against(explained[point,]).sigma < _BETTER_SIGMA:
        return (point,)
    _predict(context, copies, island, folder, name, grid)
    return island


def _island(image: Imaged, folder: Path, name: str) -> tuple[Path, ...]:
    """Return the model images without what lies outside the island of the brightest pixel.

    What is fainter than the deepest negative pixel may be an artefact, or the field's other
    sources, which the model may not take along.
    """
    from scipy import ndimage

    plane, header = open_image(image.products.image)
    plane = np.nan_to_num(plane)
    floor = max(5 * mad_std(plane), -1.2 * float(plane.min()), 0.01 * float(plane.max()))
    labels, _ = ndimage.label(plane > floor, np.ones((3, 3)))
    inside = labels == labels[np.unravel_index(int(plane.argmax()), plane.shape)]
    mask = write_image(inside.astype(np.float32), header, folder / f"{name}-island.fits")
    return tuple(
        write_masked_model(path, mask, folder / f"{name}-island-{number}.fits")
        for number, path in enumerate(image.products.models)
    )


def _point_model(like: Path, flux_jy: float, path: Path) -> Path:
    """Write a model image with a point at its centre."""
    plane, header = open_image(like)
    empty = np.zeros_like(plane)
    empty[plane.shape[0] // 2, plane.shape[1] // 2] = flux_jy
    return write_image(empty, header, path)


def _predict(
    context: Context,
    copies: Sequence[Path],
    models: Sequence[Path],
    folder: Path,
    name: str,
    grid: SourceGrid,
) -> None:
    """Fill MODEL_DATA from model images."""
    made = _options(context, copies, folder, name, grid, corrected=True)
    with context.clock.time("imaging"):
        context.tools.imager.predict(models, made)


@dataclass(frozen=True)
class _Solved:
    """Tables of one working copy, and how its phases were solved for."""

    tables: tuple[AppliedTable, ...]
    form: Candidate


def _solve(context: Context, copy: Path, options: SolveOptions, *, amplitudes: bool) -> _Solved:
    """Solve for phases, then for amplitudes on top where held-out data want them."""
    solver = context.tools.solver
    phases = context.workdir / "tables" / f"{copy.stem}.p.gcal"
    context.progress.activity(f"gains of {copy.name}")
    with context.clock.time("solving"):
        held_out = ask_held_out(context, copy, options, ())
        best = held_out.choice.best
        if best is None:
            raise Skip(f"no gains towards the source are trusted: {held_out.choice.reason}")
        result = solver.solve(copy, phases, chosen_options(options, best, ()), ())
        tables = [result.applied]
        if amplitudes:
            both = replace(options, calmode="ap")
            wanted = ask_held_out(context, copy, both, tables).choice.best
            if wanted is not None:
                target = phases.with_name(f"{copy.stem}.ap.gcal")
                try:
                    result = solver.solve(copy, target, chosen_options(both, wanted, ()), tables)
                    tables.append(result.applied)
                except SolveError as error:
                    context.progress.activity(f"{copy.name}: no amplitudes ({error.cause})")
    return _Solved(tuple(tables), best)


def _evidence(copy: Path, form: Candidate) -> tuple[Evidence, Evidence]:
    """What the model explains of held-out baselines with gains of its own, and with none."""
    summary = summarise(copy)
    block = form.channels_per_block
    options = SolveOptions(solint=shortest_interval(summary, block))
    equations = accumulate(copy, options, channels_per_block=block or None, corr_dep_flags=True)
    own = model_evidence(equations, (form,))
    return own, unsolved_evidence(equations, own.noise)


def _placed(copies: Sequence[Path]) -> Direction:
    """Return where the phases over the band put a point, near the phase centre of the data.

    Gains take up a wrong position at one frequency only. Windows are asked apart, because their
    gains may differ.
    """
    largest = max((summarise(copy) for copy in copies), key=lambda summary: summary.rows)
    centre = (float(largest.direction_rad[0]), float(largest.direction_rad[1]))
    offsets, weights = [], []
    for spw in largest.spws_used:
        width = float(np.ptp(largest.frequency_hz[spw])) / _BLOCKS
        if not width > 0:
            continue
        data = read_visibilities(largest.path, spws=(spw,), block_hz=width)
        typical = float(np.median(np.abs(data.vis)[np.abs(data.vis) > 0]))
        found = place_by_band(data, partial(_point, typical))
        if found is not None and found.error_rad > 0:
            offsets.append(found.offset_rad)
            weights.append(found.error_rad**-2)
    if not offsets:
        return centre
    l_rad, m_rad = np.average(offsets, axis=0, weights=weights)
    return lm_to_radec(float(l_rad), float(m_rad), *centre)


def _point(
    flux_jy: float, uvw_m: NDArray[np.float64], frequency_hz: NDArray[np.float64]
) -> NDArray[np.complex128]:
    """Return the visibilities of a point at the phase centre, (n, nfreq)."""
    return np.full((len(uvw_m), len(frequency_hz)), complex(flux_jy))


def _shifted(context: Context, name: str, direction_rad: Direction) -> list[Path]:
    """Make data with the phase centre on the source, at full resolution."""
    made = []
    for ms in measurement_sets(context):
        target = context.workdir / "data" / f"{ms.stem}.{name}.ms"
        context.progress.activity(f"{ms.name} towards {name}")
        shift_data(ms, target, ShiftOptions(direction_rad, field=name))
        ensure_data_column(target, "MODEL_DATA")
        ensure_data_column(target, "CORRECTED_DATA", copy="DATA")
        made.append(target)
    return made


def _fill_point(copy: Path) -> None:
    """Fill MODEL_DATA with a point of 1 Jy at the phase centre; phases ask for no flux."""
    with open_table(copy, write=True) as opened:
        for _, number in row_pieces(opened, ("MODEL_DATA",)):
            data = read_rows(opened, ("MODEL_DATA",), number)["MODEL_DATA"]
            write_rows(opened, number, {"MODEL_DATA": np.ones_like(data)})


def _options(
    context: Context,
    copies: Sequence[Path],
    folder: Path,
    name: str,
    grid: SourceGrid,
    *,
    corrected: bool,
) -> ImagingOptions:
    return ImagingOptions(
        vis=tuple(copies),
        folder=folder,
        basename=name,
        imsize=grid.imsize,
        cell_arcsec=grid.cell_arcsec,
        column="CORRECTED_DATA" if corrected else "DATA",
        robust=0.0,
        niter=100000,
        automask_nsigma=4.0 if corrected else 8.0,
        autothreshold_nsigma=1.0 if corrected else 3.0,
        threads=context.settings["threads"],
        memory_bytes=memory_bytes(context.settings),
    )


def _imaged(
    context: Context,
    copies: Sequence[Path],
    folder: Path,
    name: str,
    grid: SourceGrid,
    *,
    corrected: bool,
) -> Imaged:
    return make_image(context, _options(context, copies, folder, name, grid, corrected=corrected))


def _peak_direction(image: Imaged) -> Direction:
    """Return where the brightest pixel is."""
    plane, header = open_image(image.products.image)
    y, x = np.unravel_index(int(np.nanargmax(plane)), plane.shape)
    ra, dec = np.deg2rad(sky_position(header, float(x), float(y)))
    return float(ra), float(dec)
