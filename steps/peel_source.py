"""The gains and the model of a source that is peeled, found on data of its own direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from libs.core.errors import SolveError
from libs.directions.phase_shift import ShiftOptions, shift_data
from libs.gains.normal_equations import accumulate
from libs.gains.solution_interval import PER_SCAN
from libs.gains.solver import AppliedTable, SolveOptions
from libs.heldout.evidence import Evidence, joined, model_evidence, unsolved_evidence
from libs.heldout.folds import Candidate
from libs.imaging.interface import ImagingOptions, open_image, sky_position
from libs.ms.columns import ensure_data_column
from libs.ms.rows import read_rows, row_pieces, write_rows
from libs.ms.summary import summarise
from libs.ms.tables import open_table
from selfcal.step import Skip
from steps.context import Context
from steps.data_state import measurement_sets
from steps.images import Imaged, make_image, memory_bytes
from steps.rounds.held_out import ask_held_out, chosen_options, shortest_interval

__all__ = ["Direction", "PeeledSource", "solve_source"]

Direction = tuple[float, float]
"""J2000 right ascension and declination, rad."""


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
    context: Context, name: str, direction_rad: Direction, folder: Path, cell_arcsec: float
) -> PeeledSource:
    """Self-calibrate a source on data that are shifted to it, from a point on.

    Parameters
    ----------
    context : Context
        Of a step with the options ``cycles`` and ``source_imsize``.
    name : str
        For the files made.
    direction_rad : (float, float)
        Where the source is, within some beams.
    folder : Path
        For images.
    cell_arcsec : float

    Raises
    ------
    Skip
        Held-out data trust no gains towards the source.
    """
    copies = _shifted(context, name, direction_rad)
    found = _imaged(context, copies, folder, f"{name}_raw", cell_arcsec, corrected=False)
    direction = _peak_direction(found)
    copies = _shifted(context, name, direction)
    for copy in copies:
        _fill_point(copy)
    image = found
    options = SolveOptions(solint=PER_SCAN, calmode="p", minsnr=0.0)
    for cycle in range(1, context.options["cycles"] + 1):
        tables = [_solve(context, copy, options, amplitudes=cycle > 1) for copy in copies]
        for copy, own in zip(copies, tables, strict=True):
            context.tools.solver.apply(copy, own.tables, flag_unsolved=False)
        image = _imaged(context, copies, folder, f"{name}_{cycle}", cell_arcsec, corrected=True)
        made = _options(context, copies, folder, f"{name}_{cycle}", cell_arcsec, corrected=True)
        with context.clock.time("imaging"):
            context.tools.imager.predict(image.products.models, made)
    last = [_solve(context, copy, options, amplitudes=True) for copy in copies]
    pairs = [_evidence(copy, one.form) for copy, one in zip(copies, last, strict=True)]
    return PeeledSource(
        direction,
        image.products.models,
        image.statistics.total_flux_jy,
        tuple(one.tables for one in last),
        tuple(copies),
        joined([own for own, _ in pairs]),
        joined([plain for _, plain in pairs]),
        tuple(str(one.form) for one in last),
    )


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
    own = model_evidence(equations, form)
    return own, unsolved_evidence(equations, own.noise)


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
    cell_arcsec: float,
    *,
    corrected: bool,
) -> ImagingOptions:
    size = context.options["source_imsize"]
    return ImagingOptions(
        vis=tuple(copies),
        folder=folder,
        basename=name,
        imsize=(size, size),
        cell_arcsec=cell_arcsec,
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
    cell_arcsec: float,
    *,
    corrected: bool,
) -> Imaged:
    return make_image(
        context, _options(context, copies, folder, name, cell_arcsec, corrected=corrected)
    )


def _peak_direction(image: Imaged) -> Direction:
    """Return where the brightest pixel is."""
    plane, header = open_image(image.products.image)
    y, x = np.unravel_index(int(np.nanargmax(plane)), plane.shape)
    ra, dec = np.deg2rad(sky_position(header, float(x), float(y)))
    return float(ra), float(dec)
