"""CASA gaincal and applycal behind the solver interface."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.casa.session import CasaSession
from libs.core.errors import ConfigError, SolveError, ToolError
from libs.core.files import fsync_tree
from libs.gains.solver import AppliedTable, ApplyResult, SolveOptions, SolveResult
from libs.ms.subtables import Subtables
from libs.ms.summary import describe_ms, flagged_fraction
from libs.ms.tables import open_table

__all__ = [
    "CasaSolver",
    "antenna_selections",
    "applycal_arguments",
    "gaincal_arguments",
    "spwmap_for",
    "table_facts",
]


def _plain(length_m: float) -> str:
    """A length without an exponent, as selections are written."""
    return f"{length_m:.3f}".rstrip("0").rstrip(".")


def _ids(fields: Sequence[int]) -> str:
    """Fields by id as CASA selects them; empty: all."""
    return ",".join(map(str, fields))


def gaincal_arguments(
    ms: Path,
    table: Path,
    options: SolveOptions,
    prior: Sequence[AppliedTable],
    refants: Sequence[str],
) -> dict[str, Any]:
    """Return gaincal's keyword arguments for a solve; ``refants`` as CASA selections."""
    arguments: dict[str, Any] = {
        "vis": str(ms),
        "caltable": str(table),
        "solint": options.solint.for_gaincal,
        "combine": ",".join(sorted(options.combine)),
        "refant": ",".join(refants),
        "refantmode": "flex",
        "minblperant": options.minblperant,
        "minsnr": options.minsnr,
        "solnorm": options.solnorm,
        "gaintype": "K" if options.solution == "delay" else options.gaintype,
        "calmode": options.calmode,
        # a flagged cross hand says nothing against the parallel hands solved for here
        "corrdepflags": True,
        "gaintable": [str(item.path) for item in prior],
        "gainfield": [_ids(item.fields) for item in prior],
        "field": _ids(options.fields),
        "interp": [item.interp for item in prior],
        "spwmap": [list(item.spwmap) for item in prior],
        "parang": False,
    }
    if options.uvmin_m or options.uvmax_m:
        upper = f"<{_plain(options.uvmax_m)}m" if options.uvmax_m else ""
        lower = f">{_plain(options.uvmin_m)}m" if options.uvmin_m else ""
        both = f"{_plain(options.uvmin_m)}~{_plain(options.uvmax_m)}m"
        arguments["selectdata"] = True
        arguments["uvrange"] = both if upper and lower else upper or lower
    return arguments


def antenna_selections(ms: Path, names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return antennas as CASA selects them.

    A bare number is matched against names before ids, and ``2m`` or ``1c`` are read as lengths:
    a name goes in quotes, an antenna without a name by its id.
    """
    own = [antenna.own_name for antenna in Subtables(ms).antennas]
    known = [name for name in wanted if name in names]
    return [f'"{name}"' if name in own else str(names.index(name)) for name in known]


def applycal_arguments(
    ms: Path,
    tables: Sequence[AppliedTable],
    *,
    calwt: bool,
    flag_unsolved: bool,
    fields: Sequence[int] = (),
) -> dict[str, Any]:
    """Return applycal's keyword arguments."""
    return {
        "vis": str(ms),
        "field": _ids(fields),
        "gainfield": [_ids(item.fields) for item in tables],
        "gaintable": [str(item.path) for item in tables],
        "interp": [item.interp for item in tables],
        "spwmap": [list(item.spwmap) for item in tables],
        "calwt": [calwt] * len(tables),
        "applymode": "calflag" if flag_unsolved else "calonly",
        "parang": False,
        "flagbackup": False,
    }


def table_facts(table: Path) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
    """Return spw (nrow,), FLAG and SNR (nrow, npol), of the middle channel, of a gain table."""
    with open_table(table) as opened:
        if opened.nrows() == 0:
            raise SolveError(f"{table.name} is empty", "a longer solint or more data")
        spw = opened.getcol("SPECTRAL_WINDOW_ID")
        flag = _middle_channel(opened, "FLAG")
        snr = _middle_channel(opened, "SNR")
    return spw, flag, snr


def _middle_channel(opened: Any, name: str) -> NDArray[Any]:
    """Middle channel of a column whose windows may differ in channels, (nrow, npol)."""
    cells = [opened.getcell(name, row) for row in range(opened.nrows())]
    return np.array([cell[len(cell) // 2] for cell in cells])


def spwmap_for(
    spw: NDArray[np.int64], flag: NDArray[np.bool_], nspw: int, *, combined: bool
) -> tuple[int, ...]:
    """Return the spwmap a table needs.

    Parameters
    ----------
    spw : (nrow,) int
        Spectral window of each row of the table.
    flag : (nrow, npol) bool
    nspw : int
        Spectral windows of the data.
    combined : bool
        Whether the solve combined the spectral windows.

    Returns
    -------
    tuple of int
        Empty when every spw has its own solutions. With combined windows, the one that holds
        unflagged solutions for all of them: gaincal files them under the first spw with data,
        which need not be spw 0.
    """
    if not combined or nspw <= 1:
        return ()
    good = spw[~flag.all(axis=1)]
    if good.size == 0:
        return ()
    ids, counts = np.unique(good, return_counts=True)
    return (int(ids[np.argmax(counts)]),) * nspw


class CasaSolver:
    """gaincal and applycal in a CASA session.

    Parameters
    ----------
    session : CasaSession
    """

    name = "casa"

    def __init__(self, session: CasaSession) -> None:
        self.session = session

    def solve(
        self,
        ms: Path,
        table: Path,
        options: SolveOptions,
        prior: Sequence[AppliedTable] = (),
    ) -> SolveResult:
        """Run gaincal; see `libs.gains.solver.Solver.solve`."""
        start = time.monotonic()
        if options.solution not in ("gain", "delay") or options.channels_per_block > 1:
            raise ConfigError(
                "gaincal solves neither for TECs nor for blocks of channels",
                "set solver to native, or solution to gain and block to 0 or 1",
            )
        known = describe_ms(ms)
        refants = antenna_selections(ms, known.antenna, options.refant)
        part = table.with_name(table.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        arguments = gaincal_arguments(ms, part, options, prior, refants)
        task = "bandpass" if options.channels_per_block == 1 else "gaincal"
        if task == "bandpass":
            for name in ("gaintype", "calmode", "refantmode"):
                arguments.pop(name)
        self.session.run(task, log=self.session.log_dir / f"{task}.log", **arguments)
        if not part.exists():
            # gaincal writes no table and raises nothing when no interval can be solved
            raise SolveError(f"gaincal found no solution on {ms.name}", "a longer solint")
        spw, flag, snr = table_facts(part)
        if flag.all():
            raise SolveError(f"every solution on {ms.name} is flagged", "a longer solint")
        fsync_tree(part)
        shutil.rmtree(table, ignore_errors=True)
        part.rename(table)
        spwmap = spwmap_for(spw, flag, len(known.frequency_hz), combined="spw" in options.combine)
        return SolveResult(
            table=table,
            applied=AppliedTable(table, spwmap),
            flagged_fraction=float(flag.mean()),
            median_snr=float(np.median(snr[~flag])),
            seconds=time.monotonic() - start,
        )

    def apply(
        self,
        ms: Path,
        tables: Sequence[AppliedTable],
        *,
        calwt: bool = False,
        flag_unsolved: bool = True,
        fields: Sequence[int] = (),
    ) -> ApplyResult:
        """Run applycal; see `libs.gains.solver.Solver.apply`."""
        start = time.monotonic()
        if not tables:
            raise ToolError("no gain table to apply", "name at least one")
        before = flagged_fraction(ms)
        arguments = applycal_arguments(
            ms, tables, calwt=calwt, flag_unsolved=flag_unsolved, fields=fields
        )
        self.session.run("applycal", log=self.session.log_dir / "applycal.log", **arguments)
        return ApplyResult(before, flagged_fraction(ms), time.monotonic() - start)
