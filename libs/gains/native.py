"""The native gain solver: alternating direction solves of the normal equations of the data."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import SolveError
from libs.gains.apply import apply_tables
from libs.gains.caltable import normalise_amplitude
from libs.gains.caltable_writer import write_caltable
from libs.gains.delay import solve_delays
from libs.gains.delay_table import solve_delay_table
from libs.gains.gain_solutions import GainSolutions
from libs.gains.native_solve import GainFit, solve_gains
from libs.gains.noise_followed import unknown_phases
from libs.gains.normal_equations import NormalEquations, accumulate, accumulate_batches
from libs.gains.referencing import antenna_ids, refant_choices, reference_phases
from libs.gains.relative_bandpass import finish_relative_bandpass
from libs.gains.shared_sums import SharedSums
from libs.gains.solver import AppliedTable, ApplyResult, SolveOptions, SolveResult
from libs.gains.tec import TecFit, concatenate_fits, reference_tec, solve_tec
from libs.gains.tec_gains import gains_of_tec
from libs.gains.tec_table import TecBlocks, TecSolutions, solution_blocks, store_tec
from libs.gains.two_factors import FACTORS, fit_two_factors
from libs.gains.windows_apart import LEAST_SNR, by_bandwidth, donors, median_snr
from libs.ms.kept_subtables import kept_subtables
from libs.ms.selection import RowChoice

__all__ = ["NativeSolver", "fit_normal_equations"]

logger = logging.getLogger(__name__)


def fit_normal_equations(
    equations: NormalEquations,
    options: SolveOptions,
    *,
    guess_from: Sequence[int] = (),
    baseline_mask: NDArray[np.bool_] | None = None,
) -> GainFit:
    """Solve accumulated normal equations as the options say; see `solve_gains`."""
    return solve_gains(
        equations.vis, equations.weight, equations.antenna1, equations.antenna2,
        len(equations.antenna),
        calmode=options.calmode, gaintype=options.gaintype,
        combine_blocks="spw" in options.combine, minblperant=options.minblperant,
        minsnr=options.minsnr, outlier_weights=options.outlier_weights, guess_from=guess_from,
        spare=[i for i, name in enumerate(equations.antenna) if name in options.spare],
        baseline_mask=baseline_mask,
    )  # fmt: skip


def fit_tec(equations: NormalEquations, options: SolveOptions) -> TecFit:
    """Solve accumulated normal equations for TECs; see `libs.gains.tec.solve_tec`.

    Raises
    ------
    InputError
        The sums have too few frequency blocks.
    """
    return solve_tec(
        equations.vis, equations.weight, equations.antenna1, equations.antenna2,
        len(equations.antenna),
        equations.frequency_hz, with_phase=options.solution == "tec+phase",
        gaintype=options.gaintype, minblperant=options.minblperant, minsnr=options.minsnr,
    )  # fmt: skip


def fit_delays(equations: NormalEquations, options: SolveOptions, blocks: TecBlocks) -> GainFit:
    """Solve accumulated normal equations for the delay and phase of each window; their gains.

    Raises
    ------
    InputError
        A window has a single frequency block.
    """
    parts = []
    for spw in np.unique(equations.spw):
        mine = equations.spw == spw
        hz = blocks.frequency_hz[blocks.spw == spw]
        fit = solve_delays(
            equations.vis[:, mine], equations.weight[:, mine], equations.antenna1,
            equations.antenna2, len(equations.antenna), equations.frequency_hz[mine],
            gaintype=options.gaintype, minblperant=options.minblperant, minsnr=options.minsnr,
        )  # fmt: skip
        shape = (*fit.flag.shape[:1], len(hz), *fit.flag.shape[1:])
        parts.append(
            GainFit(
                fit.gain(hz), np.broadcast_to(fit.flag[:, None], shape).copy(),
                np.broadcast_to(fit.snr[:, None], shape),
                np.broadcast_to(fit.attempted[:, None], shape[:2]),
                np.broadcast_to(fit.chi2[:, None], shape[:2]),
                np.broadcast_to(fit.samples[:, None], shape[:2]),
            )
        )  # fmt: skip
    names = ("gain", "flag", "snr", "attempted", "chi2", "samples")
    joined = {n: np.concatenate([getattr(part, n) for part in parts], axis=1) for n in names}
    if options.gaintype == "T":  # both polarizations have the same
        joined |= {n: joined[n][..., :1] for n in ("gain", "flag", "snr")}
    return GainFit(**joined)


def _store_tec(
    table: Path,
    fit: TecFit,
    rows: NDArray[np.bool_],
    used: NDArray[np.int64],
    solutions: GainSolutions,
) -> None:
    """Keep the TECs of the intervals written beside the gains they make."""
    tec, phase = reference_tec(fit.tec_tecu[rows], fit.phase_rad[rows], used)
    middle = fit.snr(np.array([fit.centre_hz]))[rows, 0]
    weight = np.where(solutions.flag[:, 0], 0, middle**2)
    store_tec(table, TecSolutions(solutions.time_s, tec, phase, weight))


def _concatenate(fits: Sequence[GainFit]) -> GainFit:
    names = ("gain", "flag", "snr", "attempted", "chi2", "samples")
    return GainFit(**{n: np.concatenate([getattr(fit, n) for fit in fits]) for n in names})


@dataclass(frozen=True)
class _Axis:
    """What a batch of normal equations says about its intervals, without the sums."""

    time_s: NDArray[np.float64]
    interval_s: NDArray[np.float64]
    scan: NDArray[np.int64]
    field: NDArray[np.int64]
    observation: NDArray[np.int64]


_AXIS_NAMES = ("time_s", "interval_s", "scan", "field", "observation")


def _with_donors(
    fit: GainFit, facts: NormalEquations, weight: NDArray[np.float64], options: SolveOptions
) -> GainFit:
    """Give windows that are too weak for phases of their own those of the nearest good window."""
    apart = "spw" not in options.combine and not options.channels_per_block
    if options.calmode != "p" or options.solution != "gain" or not apart:
        return fit
    strength = by_bandwidth(median_snr(fit.snr), weight)
    source = donors(strength, facts.frequency_hz, fit.attempted)
    own = np.arange(len(source))
    if (source == own).all():
        return fit
    logger.info(
        "windows %s have an SNR below %g and take the phases of %s",
        facts.spw[source != own].tolist(), LEAST_SNR, facts.spw[source[source != own]].tolist(),
    )  # fmt: skip
    return replace(fit, gain=fit.gain[:, source], flag=fit.flag[:, source], snr=fit.snr[:, source])


def _result(
    table: Path,
    solutions: GainSolutions,
    kept: NDArray[np.bool_],
    spwmap: tuple[int, ...],
    start_s: float,
    solution: str,
) -> SolveResult:
    """Sum up a solve that began at a time of the monotonic clock, s."""
    good = ~solutions.flag[kept]
    return SolveResult(
        table=Path(table),
        applied=AppliedTable(Path(table), spwmap),
        flagged_fraction=float(1 - good.mean()),
        median_snr=float(np.median(solutions.snr[kept][good])) if good.any() else 0.0,
        seconds=time.monotonic() - start_s,
        unknown_phases=unknown_phases(solutions, solution),
    )


class NativeSolver:
    """Solves and applies gains in this process; the protocol of `libs.gains.solver.Solver`.

    Parameters
    ----------
    corr_dep_flags : bool
        See `libs.gains.normal_equations.accumulate_batches`.
    channels_per_block : int, optional
        Frequency blocks of so many channels, written as a B Jones table; default one solution
        for each spw.
    sums : SharedSums, optional
        Sums of the data read before, which serve the solves that they can; see `reading_once`.
    """

    name = "native"

    def __init__(
        self,
        *,
        corr_dep_flags: bool = False,
        channels_per_block: int | None = None,
        sums: SharedSums | None = None,
    ) -> None:
        self.corr_dep_flags = corr_dep_flags
        self.channels_per_block = channels_per_block
        self.sums = sums

    def reading_once(self, ms: Path, options: SolveOptions) -> NativeSolver:
        """Return a solver for several solves of data that do not change between them.

        Parameters
        ----------
        ms : Path
        options : SolveOptions
            Of these ``solint``, the shortest interval of the solves to come, and the fields count.
        """
        sums = SharedSums.read(ms, options, corr_dep_flags=self.corr_dep_flags)
        return NativeSolver(
            corr_dep_flags=self.corr_dep_flags,
            channels_per_block=self.channels_per_block,
            sums=sums,
        )

    def _batches(
        self, ms: Path, options: SolveOptions, prior: Sequence[AppliedTable], size: int | None
    ) -> Iterable[NormalEquations]:
        """Normal equations of a solve, from sums read before where these serve."""
        served = self.sums.serve(ms, options, prior, size) if self.sums else None
        if served is not None:
            return [served]
        return accumulate_batches(
            ms, options, prior, channels_per_block=size, corr_dep_flags=self.corr_dep_flags
        )

    def solve(
        self,
        ms: Path,
        table: Path,
        options: SolveOptions,
        prior: Sequence[AppliedTable] = (),
    ) -> SolveResult:
        """Solve DATA against MODEL_DATA with ``prior`` applied beforehand; write ``table``.

        Raises
        ------
        SolveError
            No interval gave a solution.
        InputError
            The data lack a needed column.
        """
        if options.solution == "delay":
            served = (
                self.sums.serve(ms, options, prior, options.channels_per_block or 1)
                if self.sums
                else None
            )
            return solve_delay_table(
                ms, table, options, prior, corr_dep_flags=self.corr_dep_flags, equations=served
            )
        if options.solution in FACTORS:
            return self._solve_two_factors(ms, table, options, prior)
        start = time.monotonic()
        fits: list[GainFit] = []
        tecs: list[TecFit] = []
        by_block = options.solution in ("gain", "bandpass")
        blocks = None if by_block else solution_blocks(ms, options)
        size = options.block_channels or self.channels_per_block
        axes: list[_Axis] = []
        total: NDArray[np.float64] = np.zeros(0)
        width = blocks.solved_channels if blocks else size
        for equations in self._batches(ms, options, prior, width):
            if blocks and options.solution == "delay+phase":
                fits.append(fit_delays(equations, options, blocks))
            elif blocks:
                tecs.append(fit_tec(equations, options))
                fits.append(gains_of_tec(tecs[-1], blocks.frequency_hz))
            else:
                refants = antenna_ids(options.refant, equations.antenna)
                fits.append(fit_normal_equations(equations, options, guess_from=refants))
            axes.append(_Axis(*(getattr(equations, name) for name in _AXIS_NAMES)))
            own = equations.weight.sum(axis=(0, 2, 3))
            total = total + own if len(total) else own
            # copies: views would keep the sums of a batch while the next one is made
            facts = replace(
                equations, vis=equations.vis[:0].copy(), weight=equations.weight[:0].copy()
            )
            del equations
        if blocks:
            facts = replace(facts, frequency_hz=blocks.frequency_hz, spw=blocks.spw)
        solutions, kept, used, axis = self._finish(fits, axes, facts, total, options, ms)
        write_caltable(
            table, solutions, ms, kept=kept, scan=axis.scan, field=axis.field,
            observation=axis.observation, refant=used,
        )  # fmt: skip
        if tecs:
            rows = np.concatenate([fit.attempted.any(axis=1) for fit in fits])
            _store_tec(table, concatenate_fits(tecs), rows, used[:, 0], solutions)
        count = len(kept_subtables(ms).windows)
        one_spw = "spw" in options.combine and not blocks
        spwmap = (int(solutions.spw[0]),) * count if one_spw else ()
        return _result(table, solutions, kept, spwmap, start, options.solution)

    def _solve_two_factors(
        self, ms: Path, table: Path, options: SolveOptions, prior: Sequence[AppliedTable]
    ) -> SolveResult:
        """Solve constants of windows and hands and a factor common to them; write the products."""
        start = time.monotonic()
        constant, common = FACTORS[options.solution]
        blocks = solution_blocks(ms, options) if constant == "delay" else None
        equations = accumulate(
            ms, replace(options, combine=options.combine & {"field"}), prior,
            channels_per_block=blocks.solved_channels if blocks else None,
            corr_dep_flags=self.corr_dep_flags,
        )  # fmt: skip
        refants = antenna_ids(options.refant, equations.antenna)
        fit = fit_two_factors(
            equations, minblperant=options.minblperant, minsnr=options.minsnr, guess_from=refants,
            spare=[i for i, name in enumerate(equations.antenna) if name in options.spare],
            constant=constant, common=common,
        )  # fmt: skip
        logger.info("%s: constants and common factor solved %d times in turn", ms, fit.rounds)
        axis = _Axis(*(getattr(equations, name) for name in _AXIS_NAMES))
        there = np.asarray((equations.weight > 0).any(axis=(2, 3)), bool)
        total = equations.weight.sum(axis=(0, 2, 3))
        facts = equations
        if blocks:
            fit = fit.at(blocks.frequency_hz, blocks.spw)
            of_window = [there[:, equations.spw == spw].any(axis=1) for spw in blocks.spw]
            there, total = np.stack(of_window, axis=1), np.ones(len(blocks.spw))
            facts = replace(equations, frequency_hz=blocks.frequency_hz, spw=blocks.spw)
        fits = [fit.as_gains(there)]
        solutions, kept, used, axis = self._finish(fits, [axis], facts, total, options, ms)
        write_caltable(
            table, solutions, ms, kept=kept, scan=axis.scan, field=axis.field,
            observation=axis.observation, refant=used,
        )  # fmt: skip
        return _result(table, solutions, kept, (), start, options.solution)

    def _finish(
        self,
        fits: Sequence[GainFit],
        axes: Sequence[_Axis],
        facts: NormalEquations,
        weight: NDArray[np.float64],
        options: SolveOptions,
        ms: Path,
    ) -> tuple[GainSolutions, NDArray[np.bool_], NDArray[np.int64], _Axis]:
        """Join the batches, drop intervals without data, reference and normalise."""
        fit = _with_donors(_concatenate(fits), facts, weight, options)
        if not fit.attempted.any():
            raise SolveError(
                f"no solution interval of {ms} has an antenna with {options.minblperant} baselines",
                "check flags, weights and the model, or lower minblperant",
            )
        rows = fit.attempted.any(axis=1)
        axis = _Axis(
            *(np.concatenate([getattr(a, name) for a in axes])[rows] for name in _AXIS_NAMES)
        )
        kept = fit.attempted[rows]
        choices = refant_choices(
            antenna_ids(options.refant, facts.antenna), facts.position_m, fit.flag[rows]
        )
        gain, flag, used = reference_phases(
            fit.gain[rows], fit.flag[rows], choices, options.calmode, kept
        )
        if "spw" in options.combine and options.solution == "gain":
            spw = facts.spw[weight > 0][:1]
            frequency = np.array([facts.frequency_hz[weight > 0].mean()])
        else:
            spw, frequency = facts.spw, facts.frequency_hz
        if flag[kept].all():
            raise SolveError(
                f"every solution of {ms} is below an SNR of {options.minsnr:g} or without a "
                "reference antenna",
                "use a longer solution interval or combine spectral windows",
            )
        solutions = GainSolutions(
            axis.time_s, axis.interval_s, frequency, spw, facts.antenna, facts.position_m,
            ("I",) if options.gaintype == "T" else facts.polarization,
            gain, flag, np.where(flag, 0, fit.snr[rows]),
        )  # fmt: skip
        if options.solution == "bandpass":
            solutions = finish_relative_bandpass(solutions)
        if options.solnorm:
            solutions, factor = normalise_amplitude(solutions)
            logger.info("amplitudes divided by %s", np.array2string(factor, precision=4))
        return solutions, kept, used, axis

    def apply(
        self,
        ms: Path,
        tables: Sequence[AppliedTable],
        *,
        calwt: bool = False,
        flag_unsolved: bool = True,
        fields: Sequence[int] = (),
    ) -> ApplyResult:
        """CORRECTED_DATA = DATA / gains; visibilities without a solution are flagged."""
        rows = RowChoice(frozenset(fields)) if fields else None
        return apply_tables(ms, tables, calwt=calwt, flag_unsolved=flag_unsolved, rows=rows)
