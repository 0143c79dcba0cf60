"""The run's h5parm: the product of the gain tables that hold, written anew after each round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from libs.gains.caltable import apply_spwmap, read_solutions
from libs.gains.gain_solutions import GainSolutions, concatenate
from libs.gains.tec_table import read_tec
from libs.h5parm.reader import write_h5parm
from libs.h5parm.run_rounds import INPUT, accumulate_round, start_from
from libs.h5parm.solset import Solset, from_gain_solutions
from libs.h5parm.tec import with_tec
from libs.ms.summary import describe_ms
from selfcal.step import TableRef
from steps.context import Context
from steps.facts import recorded, startup_facts

__all__ = ["round_solset", "solutions_of", "write_solutions"]


def solutions_of(context: Context, ref: TableRef) -> GainSolutions:
    """Return a table's gains for every spectral window of its data."""
    ms = context.workdir / "data" / ref.ms
    gains = read_solutions(context.workdir / ref.path, ms)
    if not ref.spwmap:
        return gains
    frequencies = [float(f.mean()) for f in describe_ms(ms).frequency_hz]
    return apply_spwmap(gains, ref.spwmap, frequencies)


def round_solset(context: Context, name: str, refs: Sequence[TableRef]) -> Solset:
    """Return a round's own solutions, of all working copies, with TECs where it solved for them."""
    own = [ref for ref in refs if ref.round == name]
    gains = [solutions_of(context, ref) for ref in own]
    data = startup_facts(context)
    solset = from_gain_solutions(
        concatenate(gains),
        data.field,
        (data.right_ascension_rad, data.declination_rad),
    )
    tecs = [read_tec(context.workdir / ref.path) for ref in own]
    return with_tec(solset, [(t, one.antenna) for t, one in zip(tecs, gains, strict=True)])


def of_most_pointings(refs: Sequence[TableRef]) -> tuple[TableRef, ...]:
    """Return the tables that most pointings of a mosaic have; all of them for a single field.

    An h5parm has no axis for pointings.
    """
    counts: dict[tuple[TableRef, ...], int] = {}
    for number in {number for ref in refs for number in ref.fields}:
        own = tuple(ref for ref in refs if not ref.fields or number in ref.fields)
        counts[own] = counts.get(own, 0) + 1
    return max(counts, key=lambda own: counts[own]) if counts else tuple(refs)


@dataclass(frozen=True)
class _Stations:
    """Coherence of the stations in a recorded round; None where it was not tested."""

    station_coherence: Mapping[str, float] | None = None


def _coherence(context: Context, name: str) -> Mapping[str, float] | None:
    return recorded(_Stations, context.results[name].metrics).station_coherence


def write_solutions(
    context: Context,
    refs: Sequence[TableRef],
    newest: str = "",
    coherence: Mapping[str, float] | None = None,
) -> Path | None:
    """Write ``solutions.h5``: gains of all tables multiplied, on the union of their grids.

    Of a mosaic whose pointings have different tables these are the ones of most pointings. The
    solutions that the run started from are the first factor. The file is made from the
    tables each time, so that a round killed and repeated, or one that drops an earlier round's
    table, leaves nothing behind. The coherence of each station goes with it, so that a global
    table knows which entries to trust. Each round's own solutions are beside its gain tables,
    ``tables/ROUND.h5``.

    Parameters
    ----------
    context : Context
    refs : sequence of TableRef
        All tables, in order of application.
    newest : str
        The round being accepted; ``coherence`` is its own.
    coherence : mapping of str to float, optional
        Of each station; None where it was not tested.

    Returns
    -------
    Path or None
        None, and no file, when there are neither tables nor solutions to start from.
    """
    refs = of_most_pointings(refs)
    path = context.workdir / "solutions.h5"
    initial = context.results["startup"].products.get("start_solutions")
    if not refs and not initial:
        path.unlink(missing_ok=True)
        return None
    part = path.with_name(".solutions.part.h5")
    part.unlink(missing_ok=True)
    rounds = list(dict.fromkeys(ref.round for ref in refs))
    beneath = [INPUT] if initial else []
    if initial:
        start_from(part, context.workdir / initial, run=context.workdir.name)
    for number, name in enumerate(rounds):
        measured = coherence if name == newest else _coherence(context, name)
        solset = round_solset(context, name, refs)
        accumulate_round(
            part,
            name,
            solset,
            on=[*beneath, *rounds[:number]],
            run=context.workdir.name,
            coherence=measured,
        )
        write_h5parm(context.workdir / "tables" / f"{name}.h5", solset)
    part.replace(path)
    part.with_name(part.name + ".lock").unlink(missing_ok=True)
    return path
