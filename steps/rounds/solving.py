"""Solving a round, with the template's options or those that held-out data choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ConfigError
from libs.gains.caltable import read_solutions, write_caltable
from libs.gains.flux_scale import (
    GainTable,
    flux_factor,
    hold_common_flux_scale,
    sharing_a_site,
)
from libs.gains.patch_gains import keep_coherent
from libs.gains.solution_interval import PER_SCAN, SolutionInterval
from libs.gains.solver import AppliedTable, SolveOptions
from libs.gains.tec_table import keep_tec, read_tec, store_tec
from libs.ms.subtables import Subtables
from libs.ms.summary import describe_ms
from selfcal.origin import DEFAULT
from selfcal.step import Skip, TableRef
from steps.context import Context
from steps.data_state import applied_tables, measurement_sets, restore_base_flags
from steps.facts import recorded, refant_facts, start_facts
from steps.mosaics import common_to_fields
from steps.rounds.held_out import HeldOut, ask_held_out, chosen_options, curve
from steps.rounds.solve_record import Solved

__all__ = [
    "adaptive",
    "gain_options",
    "renew_tables",
    "set_by_user",
    "solve_round",
    "solved_before",
]


OptionsOf = Callable[
    [Context, Path, str, Sequence[AppliedTable], Sequence[int]],
    tuple[SolveOptions, HeldOut | None],
]


def adaptive(context: Context) -> bool:
    """Whether held-out data choose what the user left open."""
    return bool(context.settings["rounds"] == "adaptive")


def set_by_user(context: Context, name: str) -> bool:
    """Whether the user, not a default or a template, set a parameter: that always wins."""
    return context.origin.get(name, DEFAULT).by_user


def solve_round(
    context: Context,
    name: str,
    calmode: str,
    prior: Sequence[TableRef],
    suffix: str,
    options_of: OptionsOf,
    *,
    keeps_all: bool = False,
    fields: Sequence[int] = (),
) -> tuple[tuple[TableRef, ...], tuple[Solved, ...]]:
    """Solve every working copy; return the state with the new tables, and the results.

    ``options_of`` says how a working copy is solved.

    With ``keeps_all`` no antenna is flagged for its solutions: those that predict nothing are
    replaced by those of a longer interval, or by none. Of a mosaic only the pointings ``fields``
    take part.

    Raises
    ------
    SolveError
        A working copy has no solution.
    Skip
        Held-out data say that no gains are worth trusting.
    """
    refs, solved = list(prior), []
    left_alone: list[Skip] = []
    for ms in measurement_sets(context):
        restore_base_flags(context, ms)
        beneath = applied_tables(context, prior, ms)
        try:
            options, held_out = options_of(context, ms, calmode, beneath, fields)
            if keeps_all:
                options = replace(options, minsnr=0.0)
        except Skip as skip:
            # one execution may be too poor where another is not
            left_alone.append(skip)
            continue
        context.progress.activity(
            f"{context.tools.solver.name} solve {ms.name}: {options.calmode},"
            f" {options.gaintype}, solution interval {options.solint}"
        )
        table = context.workdir / "tables" / f"{name}{suffix}.{ms.stem}.gcal"
        with context.clock.time("solving"):
            result = context.tools.solver.solve(ms, table, options, beneath)
            replaced: tuple[str, ...] = ()
            dropped: tuple[str, ...] = ()
            tested = held_out is not None and held_out.coherence is not None
            if tested and (keeps_all or context.options.get("incoherent") == "keep"):
                assert held_out is not None
                replaced = tuple(held_out.fallback)
                dropped = _keep(context, ms, table, options, beneath, held_out, keeps_all)
        solved.append(Solved(ms.name, result, options, held_out, 1.0, replaced, dropped))
        refs.append(
            TableRef(
                ms=ms.name,
                path=context.relative(table),
                spwmap=tuple(context.options["spwmap"]) or result.applied.spwmap,
                interp=context.options["interp"],
                round=name,
            )
        )
    if not solved:
        raise left_alone[0]
    own = refs[len(prior) :]
    if calmode != "p":
        _hold_flux_scales(context, own)
        solved = [
            replace(one, flux_factor=flux_factor(context.workdir / ref.path))
            for one, ref in zip(solved, own, strict=True)
        ]
    return tuple(refs), tuple(solved)


def _hold_flux_scales(context: Context, refs: Sequence[TableRef]) -> None:
    """Hold the flux scale of a round's amplitude tables, those of all working copies together."""
    copies = {ms.name: ms for ms in measurement_sets(context)}
    hold_common_flux_scale(
        [
            GainTable(
                context.workdir / ref.path,
                {
                    number: (window.mean_hz, window.bandwidth_hz)
                    for number, window in enumerate(Subtables(copies[ref.ms]).windows)
                },
                _known_amplitudes(context, copies[ref.ms]),
            )
            for ref in refs
        ]
    )


def _known_amplitudes(context: Context, ms: Path) -> NDArray[np.bool_] | None:
    """The stations whose amplitudes fix the flux scale; None: all.

    Raises
    ------
    ConfigError
        Stations that share a site are asked for, and there are none.
    """
    if context.options.get("flux_from", "all") == "all":
        return None
    known = sharing_a_site(describe_ms(ms).position_m)
    if known.any():
        return known
    raise ConfigError(
        "flux_from is sites, and no station has another within 10 km", "set flux_from = 'all'"
    )


@dataclass(frozen=True)
class SolvedBefore:
    """How a recorded round was solved.

    Attributes
    ----------
    solve_options : mapping of str to mapping
        By working copy, as `SolveOptions.as_record` gives them.
    model_from : str
        What its model came from.
    replaced_stations : tuple of str
        Stations that have other solutions than those solved for.
    """

    solve_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    model_from: str = ""
    replaced_stations: tuple[str, ...] = ()


def solved_before(context: Context, name: str) -> SolvedBefore:
    """Return how a round of this run was solved; nothing for one of another run."""
    metrics = context.results[name].metrics if name in context.results else {}
    return recorded(SolvedBefore, metrics)


def renew_tables(
    context: Context, prior: Sequence[TableRef], name: str, suffix: str, model_from: str
) -> tuple[TableRef, ...]:
    """Solve the tables kept beneath a round anew, against the model now in MODEL_DATA.

    A table holds what its own, older model got wrong, at intervals shorter than those of the
    round above it can mend. Each is solved with the options it was solved with. Tables that were
    not made by a round of this run, that hold solutions of several intervals or that were solved
    against this very model stay.

    Parameters
    ----------
    context : Context
    prior : sequence of TableRef
        In order of application.
    name, suffix : str
        The round and its cycle, for the names of the tables.
    model_from : str
        What MODEL_DATA was filled from, as the rounds' metrics say it.

    Raises
    ------
    SolveError
        A working copy has no solution.
    """
    renewed: list[TableRef] = []
    for earlier in dict.fromkeys(ref.round for ref in prior):
        made = solved_before(context, earlier)
        amplitudes: list[TableRef] = []
        for ref in [ref for ref in prior if ref.round == earlier]:
            stored = made.solve_options.get(ref.ms)
            if stored is None or made.model_from == model_from or made.replaced_stations:
                renewed.append(ref)
                continue
            options = SolveOptions.from_record(stored)
            ms = next(ms for ms in measurement_sets(context) if ms.name == ref.ms)
            restore_base_flags(context, ms)
            context.progress.activity(
                f"{context.tools.solver.name} solve {ms.name}: {earlier} anew"
            )
            table = context.workdir / "tables" / f"{name}{suffix}.{earlier}.{ms.stem}.gcal"
            with context.clock.time("solving"):
                beneath = applied_tables(context, renewed, ms)
                context.tools.solver.solve(ms, table, options, beneath)
            renewed.append(replace(ref, path=context.relative(table)))
            if options.calmode != "p":
                amplitudes.append(renewed[-1])
        if amplitudes:
            _hold_flux_scales(context, amplitudes)
    return tuple(renewed)


def gain_options(
    context: Context,
    ms: Path,
    calmode: str,
    prior: Sequence[AppliedTable],
    fields: Sequence[int] = (),
) -> tuple[SolveOptions, HeldOut | None]:
    """The template's options, or what held-out data make of them."""
    values = context.options
    if values["outliers"] and context.tools.solver.name != "native":
        raise ConfigError("gaincal has no weights against outliers", "set outliers = false")
    auto = values["solint"] == "auto"
    options = SolveOptions(
        solint=PER_SCAN if auto else SolutionInterval.parse(values["solint"]),
        combine=frozenset(values["combine"]) | common_to_fields(context),
        calmode=calmode,  # type: ignore[arg-type]
        gaintype=values["gaintype"],
        refant=refant_facts(context).refant,
        minsnr=values["minsnr"],
        minblperant=values["minblperant"],
        uvmin_m=values["solve_uvmin"],
        uvmax_m=values["solve_uvmax"],
        outlier_weights=values["outliers"],
        solution=values["solution"] if calmode == "p" and values["solution"] != "auto" else "gain",
        channels_per_block=values["block"],
        fields=tuple(fields),
    )
    if not adaptive(context) and not auto:
        return options, None
    context.progress.activity(f"held-out data of {ms.name}")
    with context.clock.time("solving"):
        held_out = ask_held_out(context, ms, options, prior)
    best = held_out.choice.best
    if best is None:
        raise Skip(
            held_out.choice.reason,
            {"chosen": held_out.choice.reason, "held_out": curve(held_out.choice)},
        )
    names = ("solint", "combine", "gaintype", "solution", "block")
    fixed = [name for name in names if set_by_user(context, name) and values[name] != "auto"]
    options = replace(options, spare=_followed(context, held_out, calmode))
    return chosen_options(options, best, fixed), held_out


def _followed(context: Context, held_out: HeldOut, calmode: str) -> tuple[str, ...]:
    """Antennas whose phases predict held-out data, which a low SNR therefore does not flag.

    None where the user asks for a ``minsnr``, for amplitudes, which noise makes large or small,
    and for gaincal, which knows no such exception.
    """
    coherence = held_out.coherence
    native = context.tools.solver.name == "native"
    if coherence is None or calmode != "p" or not native or set_by_user(context, "minsnr"):
        return ()
    coherent = zip(coherence.antenna, coherence.coherent, strict=True)
    return tuple(name for name, good in coherent if good and name not in held_out.fallback)


def _keep(
    context: Context,
    ms: Path,
    table: Path,
    options: SolveOptions,
    prior: Sequence[AppliedTable],
    held_out: HeldOut,
    keeps_all: bool,
) -> tuple[str, ...]:
    """Give incoherent antennas a longer interval's solutions, or what they came with.

    Those without any are flagged and returned, but for ``keeps_all``.
    """
    assert held_out.coherence is not None
    gains, tec = read_solutions(table, ms), read_tec(table)
    longer, longer_tec = {}, {}
    for candidate in {c for c in held_out.fallback.values() if c is not None}:
        scratch = table.with_name(f"{table.name}.longer")
        context.tools.solver.solve(ms, scratch, chosen_options(options, candidate, ()), prior)
        solutions, tecs = read_solutions(scratch, ms), read_tec(scratch)
        for name, wanted in held_out.fallback.items():
            if wanted == candidate:
                longer[name], longer_tec[name] = solutions, tecs
    lost = list(held_out.fallback)
    corrected = lost if keeps_all else start_facts(context.results["startup"]).start_stations
    write_caltable(table, keep_coherent(gains, lost, longer, corrected), ms)
    if tec is not None:
        store_tec(table, keep_tec(tec, gains.antenna, lost, longer_tec))
    return tuple(name for name in lost if name not in longer and name not in corrected)
