"""The native gain solver: alternating direction solves of the normal equations of the data."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import SolveError
from libs.gains import kernels
from libs.gains.apply import apply_tables
from libs.gains.caltable import normalise_amplitude
from libs.gains.caltable_writer import write_caltable
from libs.gains.delay_table import solve_delay_table
from libs.gains.gain_solutions import GainSolutions
from libs.gains.normal_equations import NormalEquations, accumulate_batches
from libs.gains.referencing import antenna_ids, refant_choices, reference_phases
from libs.gains.solver import AppliedTable, ApplyResult, SolveOptions, SolveResult
from libs.gains.tec import TecFit, concatenate_fits, reference_tec, solve_tec
from libs.gains.tec_table import TecSolutions, store_tec, tec_blocks
from libs.ms.selection import RowChoice
from libs.ms.subtables import Subtables

__all__ = [
    "GainFit",
    "NativeSolver",
    "fit_normal_equations",
    "solve_gains",
]

logger = logging.getLogger(__name__)

_MODE = {"p": kernels.PHASE, "a": kernels.AMPLITUDE, "ap": kernels.BOTH}
MAX_ITERATIONS = 400
TOLERANCE = 1e-7  # relative change of the gains in one averaged step
STUDENT_FREEDOM = 4.0
_SHORTFALL_SIGMA = 3.0


@dataclass(frozen=True)
class GainFit:
    """Gains solved from normal equations.

    Attributes
    ----------
    gain : (ntime, nfreq, nant, ngain) complex128
        1 where not solved; their common phase is arbitrary until referenced. For ``calmode="p"``
        of unit amplitude only after `reference_phases`.
    flag : (ntime, nfreq, nant, ngain) bool
        Too few baselines or too low an SNR.
    snr : (ntime, nfreq, nant, ngain) float64
        0 where there is no solution at all.
    attempted : (ntime, nfreq) bool
        Whether any antenna had baselines enough.
    chi2 : (ntime, nfreq) float64
        Sum of weight |residual|^2 of the averaged visibilities.
    samples : (ntime, nfreq) int64
        Averaged visibilities that took part.
    """

    gain: NDArray[np.complex128]
    flag: NDArray[np.bool_]
    snr: NDArray[np.float64]
    attempted: NDArray[np.bool_]
    chi2: NDArray[np.float64]
    samples: NDArray[np.int64]


def solve_gains(
    vis: NDArray[np.complex128],
    weight: NDArray[np.float64],
    antenna1: NDArray[np.int64],
    antenna2: NDArray[np.int64],
    nant: int,
    *,
    calmode: Literal["p", "a", "ap"] = "p",
    gaintype: Literal["G", "T"] = "G",
    combine_blocks: bool = False,
    minblperant: int = 4,
    minsnr: float = 3.0,
    spare: Sequence[int] = (),
    outlier_weights: bool = False,
    guess_from: Sequence[int] = (),
    baseline_mask: NDArray[np.bool_] | None = None,
) -> GainFit:
    """Solve V_pq = g_p conj(g_q) M_pq for the antenna gains.

    The sums are divided into averaged visibilities V / M. Phase-only solves keep the phase of
    those and move their squared amplitude into the weight, amplitude-only solves keep the
    amplitude. The fit is then made for complex gains in all modes, as gaincal does, by StEFCal
    (Salvini & Wijnholds 2014, A&A 571, A97). SNR is |g| / err with err^2 = 2 chi2 / (dof h),
    h the sum of weight |g_q|^2 over the antenna's baselines, dof = 2 (visibilities - gains) and
    chi2 over both polarizations: gaincal's definition, which scales with the scatter of the data
    and not with the scale of the weights.

    Parameters
    ----------
    vis : (ntime, nblock, nbl, npol) complex128
        Sum of w V conj(M).
    weight : (ntime, nblock, nbl, npol) float64
        Sum of w |M|^2; 0 where there are no data.
    antenna1, antenna2 : (nbl,) int64
        Antennas p and q of each baseline; p != q.
    nant : int
    calmode, gaintype, minblperant, minsnr, outlier_weights
        As in `libs.gains.solver.SolveOptions`.
    combine_blocks : bool
        One gain for all blocks instead of one for each.
    spare : sequence of int
        Antennas whose solutions below ``minsnr`` stay unless they fall short of the model.
    guess_from : sequence of int
        Antennas whose baselines give the first guess, in order of preference.
    baseline_mask : (nbl,) bool, optional
        Baselines that take part; default all.

    Returns
    -------
    GainFit
        ngain is 1 for ``"T"``, else npol; nfreq 1 with ``combine_blocks``, else nblock.
    """
    ntime, nblock, nbl, npol = vis.shape
    nfreq, ngain = (1 if combine_blocks else nblock), (1 if gaintype == "T" else npol)
    shape = (ntime, nfreq, nant, ngain)
    gain, solved, snr = np.ones(shape, np.complex128), np.zeros(shape, bool), np.zeros(shape)
    chi2, samples = np.zeros(shape[:2]), np.zeros(shape[:2], np.int64)
    converged = np.zeros(shape[:2], bool)
    mask = np.ones(nbl, bool) if baseline_mask is None else np.asarray(baseline_mask, bool)
    order = list(dict.fromkeys([*guess_from, *range(nant)]))
    kernels.solve_kernel(
        vis, weight, mask, np.asarray(antenna1, np.int64), np.asarray(antenna2, np.int64),
        np.array(order, np.int64), _MODE[calmode], ngain == 1 and npol >= 1, combine_blocks,
        minblperant, STUDENT_FREEDOM if outlier_weights else 0.0, MAX_ITERATIONS, TOLERANCE,
        gain, solved, snr, chi2, samples, converged,
    )  # fmt: skip
    if not converged.all():
        logger.debug("%d solves stopped at %d iterations", (~converged).sum(), MAX_ITERATIONS)
    attempted = np.asarray(solved.any(axis=(2, 3)), bool)
    # gaincal flags what does not exceed minsnr
    flag = np.ones(shape, bool)
    flag[solved & (snr > minsnr)] = False
    if calmode == "p" and len(spare):
        own = np.zeros(nant, bool)
        own[list(spare)] = True
        freedom = 2.0 * np.maximum(samples - solved.sum(axis=(2, 3)), 1)
        scatter = 2 * chi2 / freedom
        promised = _promised_snr(
            np.where(mask[:, None], weight, 0.0), antenna1, antenna2, shape, scatter
        )
        flag[solved & own[:, None] & (promised - snr < _SHORTFALL_SIGMA)] = False
    return GainFit(
        np.where(solved, gain, 1), flag, np.where(solved, snr, 0), attempted, chi2, samples
    )


def _promised_snr(
    weight: NDArray[np.float64],
    antenna1: NDArray[np.int64],
    antenna2: NDArray[np.int64],
    shape: tuple[int, ...],
    scatter: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the SNR that gains of 1 would have by the model alone, (ntime, nfreq, nant, ngain).

    An antenna that sees nothing falls short of it. One whose baselines resolve the source has a
    low SNR because the model promises no more: its phase is as good as its data, and flagging it
    would only take these away.

    Parameters
    ----------
    weight : (ntime, nblock, nbl, npol)
        Sums of w |M|^2 of the baselines that take part.
    shape : tuple of int
        Of the result.
    scatter : (ntime, nfreq)
        Variance of the data in units of 1 / w, by the residuals of the solve.
    """
    if shape[1] == 1:
        weight = weight.sum(axis=1, keepdims=True)
    if shape[3] == 1:
        weight = weight.sum(axis=3, keepdims=True)
    total = np.zeros(shape)
    by_antenna, by_baseline = np.moveaxis(total, 2, 0), np.moveaxis(weight, 2, 0)
    np.add.at(by_antenna, antenna1, by_baseline)
    np.add.at(by_antenna, antenna2, by_baseline)
    return np.sqrt(total / np.maximum(scatter, 1e-300)[:, :, None, None])


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


def gains_of_tec(fit: TecFit, frequency_hz: NDArray[np.float64]) -> GainFit:
    """Return the gains that TECs make at frequencies; chi2 and samples are those of the band."""
    gain = fit.gain(frequency_hz)
    flag = np.broadcast_to(fit.flag[:, None], gain.shape)
    shape = (len(fit.chi2), len(frequency_hz))
    return GainFit(
        gain, flag.copy(), fit.snr(frequency_hz),
        np.broadcast_to(fit.attempted[:, None], shape),
        np.broadcast_to(fit.chi2[:, None], shape),
        np.broadcast_to(fit.samples[:, None], shape),
    )  # fmt: skip


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


class NativeSolver:
    """Solves and applies gains in this process; the protocol of `libs.gains.solver.Solver`.

    Parameters
    ----------
    corr_dep_flags : bool
        See `libs.gains.normal_equations.accumulate_batches`.
    channels_per_block : int, optional
        Frequency blocks of so many channels, written as a B Jones table; default one solution
        for each spw.
    """

    name = "native"

    def __init__(
        self, *, corr_dep_flags: bool = False, channels_per_block: int | None = None
    ) -> None:
        self.corr_dep_flags = corr_dep_flags
        self.channels_per_block = channels_per_block

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
            return solve_delay_table(ms, table, options, prior, corr_dep_flags=self.corr_dep_flags)
        start = time.monotonic()
        fits: list[GainFit] = []
        tecs: list[TecFit] = []
        blocks = None if options.solution == "gain" else tec_blocks(ms, options.channels_per_block)
        size = options.channels_per_block or self.channels_per_block
        axes: list[_Axis] = []
        used_spw: NDArray[np.bool_] = np.zeros(0, bool)
        for equations in accumulate_batches(
            ms, options, prior, channels_per_block=blocks.solved_channels if blocks else size,
            corr_dep_flags=self.corr_dep_flags,
        ):  # fmt: skip
            if blocks:
                tecs.append(fit_tec(equations, options))
                fits.append(gains_of_tec(tecs[-1], blocks.frequency_hz))
            else:
                refants = antenna_ids(options.refant, equations.antenna)
                fits.append(fit_normal_equations(equations, options, guess_from=refants))
            axes.append(
                _Axis(
                    equations.time_s,
                    equations.interval_s,
                    equations.scan,
                    equations.field,
                    equations.observation,
                )
            )
            present = np.asarray((equations.weight > 0).any(axis=(0, 2, 3)), bool)
            used_spw = np.asarray(used_spw | present if len(used_spw) else present, bool)
            # copies: views would keep the sums of a batch while the next one is made
            facts = replace(
                equations, vis=equations.vis[:0].copy(), weight=equations.weight[:0].copy()
            )
            del equations
        if blocks:
            facts = replace(facts, frequency_hz=blocks.frequency_hz, spw=blocks.spw)
        solutions, kept, used, axis = self._finish(fits, axes, facts, used_spw, options, ms)
        write_caltable(
            table, solutions, ms, kept=kept, scan=axis.scan, field=axis.field,
            observation=axis.observation, refant=used,
        )  # fmt: skip
        if tecs:
            rows = np.concatenate([fit.attempted.any(axis=1) for fit in fits])
            _store_tec(table, concatenate_fits(tecs), rows, used[:, 0], solutions)
        count = len(Subtables(ms).windows)
        one_spw = "spw" in options.combine and not blocks
        spwmap = (int(solutions.spw[0]),) * count if one_spw else ()
        good = ~solutions.flag[kept]
        return SolveResult(
            table=Path(table),
            applied=AppliedTable(Path(table), spwmap),
            flagged_fraction=float(1 - good.mean()),
            median_snr=float(np.median(solutions.snr[kept][good])) if good.any() else 0.0,
            seconds=time.monotonic() - start,
        )

    def _finish(
        self,
        fits: Sequence[GainFit],
        axes: Sequence[_Axis],
        facts: NormalEquations,
        used_spw: NDArray[np.bool_],
        options: SolveOptions,
        ms: Path,
    ) -> tuple[GainSolutions, NDArray[np.bool_], NDArray[np.int64], _Axis]:
        """Join the batches, drop intervals without data, reference and normalise."""
        fit = _concatenate(fits)
        if not fit.attempted.any():
            raise SolveError(
                f"no solution interval of {ms} has an antenna with {options.minblperant} baselines",
                "check flags, weights and the model, or lower minblperant",
            )
        names = ("time_s", "interval_s", "scan", "field", "observation")
        rows = fit.attempted.any(axis=1)
        axis = _Axis(*(np.concatenate([getattr(a, name) for a in axes])[rows] for name in names))
        kept = fit.attempted[rows]
        choices = refant_choices(
            antenna_ids(options.refant, facts.antenna), facts.position_m, fit.flag[rows]
        )
        gain, flag, used = reference_phases(
            fit.gain[rows], fit.flag[rows], choices, options.calmode, kept
        )
        if "spw" in options.combine and options.solution == "gain":
            spw = facts.spw[used_spw][:1]
            frequency = np.array([facts.frequency_hz[used_spw].mean()])
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
