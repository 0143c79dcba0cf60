"""Delays as CASA's K Jones tables: solved from a measurement set and written, evaluated as gains.

The phase of such a delay is 0 at the frequency that the table gives for the spectral window
(CHAN_FREQ of its only channel), as CASA applies it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError, SolveError
from libs.gains.caltable_writer import write_delay_table
from libs.gains.delay import DelayFit, DelaySolutions, reference_delays, solve_delays
from libs.gains.normal_equations import NormalEquations, accumulate_batches
from libs.gains.referencing import antenna_ids, refant_choices
from libs.gains.solver import AppliedTable, SolveOptions, SolveResult
from libs.ms.kept_subtables import kept_subtables

__all__ = ["solve_delay_table"]


def solve_delay_table(
    ms: Path,
    table: Path,
    options: SolveOptions,
    prior: Sequence[AppliedTable] = (),
    *,
    corr_dep_flags: bool = False,
    equations: NormalEquations | None = None,
) -> SolveResult:
    """Solve DATA against MODEL_DATA for delays and write them as a K Jones table.

    Parameters
    ----------
    ms, table, options, prior
        As in `libs.gains.native.NativeSolver.solve`. With combine spw there is one delay for the
        whole band, filed under the first window with data, as gaincal does.
    corr_dep_flags : bool
        As in `libs.gains.normal_equations.accumulate_batches`.
    equations : NormalEquations, optional
        The normal equations, if known; otherwise the data are read.

    Raises
    ------
    InputError
        A window has a single channel.
    SolveError
        No interval gave a delay.
    """
    start = time.monotonic()
    batches = [equations] if equations is not None else accumulate_batches(
        ms, options, prior, channels_per_block=options.channels_per_block or 1,
        corr_dep_flags=corr_dep_flags,
    )  # fmt: skip
    parts = [_solve_batch(batch, options) for batch in batches]
    found = [one for one in parts if len(one.time_s)]
    if not found or all(one.flag.all() for one in found):
        raise SolveError(
            f"no solution interval of {ms} gives a delay above an SNR of {options.minsnr:g}",
            "check flags and the model, use a longer solution interval or lower minblperant",
        )
    solutions = _joined(found)
    write_delay_table(table, solutions, ms)
    count = len(kept_subtables(ms).windows)
    spwmap = (int(solutions.spw[0]),) * count if "spw" in options.combine else ()
    good = ~solutions.flag
    return SolveResult(
        Path(table), AppliedTable(Path(table), spwmap), float(1 - good.mean()),
        float(np.median(solutions.snr[good])), time.monotonic() - start,
    )  # fmt: skip


def _solve_batch(equations: NormalEquations, options: SolveOptions) -> DelaySolutions:
    """Solve the intervals of a batch, window by window; those without any solution are left out."""
    seen = (equations.weight > 0).any(axis=(0, 2, 3))
    used = np.unique(equations.spw[seen]) if seen.any() else np.unique(equations.spw)
    groups = [np.isin(equations.spw, used)] if "spw" in options.combine else [
        equations.spw == spw for spw in used
    ]  # fmt: skip
    fits, parts = [], []
    for mine in groups:
        fit = _about(_solve_window(equations, mine, options), _middle(equations, mine))
        refants = antenna_ids(options.refant, equations.antenna)
        choices = refant_choices(refants, equations.position_m, fit.flag[:, None])
        fits.append(fit)
        parts.append(reference_delays(fit, choices))
    delay, phase, flag, refant = (np.stack(item, axis=1) for item in zip(*parts, strict=True))
    rows = np.any([fit.attempted for fit in fits], axis=0)
    snr = np.where(flag, 0, np.stack([fit.snr for fit in fits], axis=1))
    error = np.stack([fit.error_ns for fit in fits], axis=1)
    return DelaySolutions(
        equations.time_s[rows], equations.interval_s[rows], equations.scan[rows],
        equations.field[rows], equations.observation[rows],
        used[: len(groups)], np.array([fit.reference_hz for fit in fits]), equations.antenna,
        equations.position_m, equations.polarization, delay[rows], phase[rows], error[rows],
        flag[rows], snr[rows], refant[rows],
    )  # fmt: skip


def _solve_window(
    equations: NormalEquations, mine: NDArray[np.bool_], options: SolveOptions
) -> DelayFit:
    if mine.sum() < 2:
        raise InputError(
            f"spectral window {equations.spw[mine][0]} has a single channel, which tells no delay",
            "leave delays out, or combine spectral windows",
        )
    return solve_delays(
        equations.vis[:, mine], equations.weight[:, mine], equations.antenna1,
        equations.antenna2, len(equations.antenna), equations.frequency_hz[mine],
        minblperant=options.minblperant, minsnr=options.minsnr,
    )  # fmt: skip


def _middle(equations: NormalEquations, mine: NDArray[np.bool_]) -> float:
    """Mean of the centres of windows, where gaincal has the reference."""
    hz, spw = equations.frequency_hz[mine], equations.spw[mine]
    return float(np.mean([hz[spw == one].mean() for one in np.unique(spw)]))


def _about(fit: DelayFit, reference_hz: float) -> DelayFit:
    """Refer the phases of a fit to another frequency."""
    turns = 1e-9 * fit.delay_ns * (reference_hz - fit.reference_hz)
    return replace(fit, phase_rad=fit.phase_rad + 2 * np.pi * turns, reference_hz=reference_hz)


def _joined(parts: Sequence[DelaySolutions]) -> DelaySolutions:
    """Join batches along time; windows that one of them lacks are flagged there."""
    spws = np.unique(np.concatenate([part.spw for part in parts]))
    reference = np.zeros(len(spws))
    for part in parts:
        reference[np.searchsorted(spws, part.spw)] = part.reference_hz
    wide = [_on_windows(part, spws) for part in parts]
    along = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("time_s", "interval_s", "scan", "field", "observation")
    }
    grids = {name: np.concatenate([one[name] for one in wide]) for name in wide[0]}
    first = parts[0]
    return DelaySolutions(
        spw=spws, reference_hz=reference, antenna=first.antenna, position_m=first.position_m,
        polarization=first.polarization, **along, **grids,
    )  # fmt: skip


def _on_windows(part: DelaySolutions, spws: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
    shape = (len(part.time_s), len(spws), *part.delay_ns.shape[2:])
    place = np.searchsorted(spws, part.spw)
    found: dict[str, NDArray[np.generic]] = {}
    empty = {"delay_ns": 0.0, "phase_rad": 0.0, "error_ns": np.inf, "flag": True, "snr": 0.0}
    for name, value in empty.items():
        found[name] = np.full(shape, value)
        found[name][:, place] = getattr(part, name)
    found["refant"] = np.full(shape[:2], -1)
    found["refant"][:, place] = part.refant
    return found
