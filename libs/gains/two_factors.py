"""Phases that are constants of windows and polarizations times one factor common to all of them.

The electronics give each window and each polarization of an antenna a phase that hardly changes in
an execution; the atmosphere turns all of them alike, and fast. One gain a window and polarization
at the atmosphere's pace has many times the unknowns that this needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from libs.gains.constant_delays import (
    ConstantDelays,
    first_delays,
    fit_delays_and_tec,
    solve_constant_delays,
)
from libs.gains.native_solve import GainFit, solve_gains
from libs.gains.normal_equations import NormalEquations
from libs.gains.tec import TecFit, solve_tec
from libs.gains.tec_gains import gains_of_tec
from libs.gains.windows_apart import LEAST_SNR, donors

__all__ = ["FACTORS", "LONGEST_CONSTANT_S", "TwoFactorFit", "constant_spans", "fit_two_factors"]

LONGEST_CONSTANT_S = 4500.0
"""Length of an execution beyond which its constants are solved in parts."""

_MOST_ROUNDS = 30
_STEADY_RAD = 1e-3  # rms change of the constants in a round at which they hold

Complex = NDArray[np.complex128]
Float = NDArray[np.float64]


Constant = Literal["phase", "delay"]
Common = Literal["phase", "tec"]

FACTORS: dict[str, tuple[Constant, Common]] = {
    "constants+phase": ("phase", "phase"),
    "constant_delay+phase": ("delay", "phase"),
    "delay+tec": ("delay", "tec"),
}
"""Kind of the constants and of the common factor, by what is solved for."""


@dataclass(frozen=True)
class TwoFactorFit:
    """Both factors; gains of an antenna are their products.

    Attributes
    ----------
    constant : (nspan, nblock, nant, npol) complex128
        Of unit amplitude.
    constant_snr : (nspan, nblock, nant, npol) float64
        0 where there is no solution.
    common : GainFit
        (ntime, 1, nant, 1), of TECs (ntime, nblock, nant, 1).
    span : (ntime,) int64
        Part of the execution that each interval belongs to.
    rounds : int
        How often the factors were solved in turn.
    delays : ConstantDelays or None
        What the constants are made of; None for a phase of each block.
    tec : TecFit or None
        What the common factor is made of; None for one phase.
    """

    constant: Complex
    constant_snr: Float
    common: GainFit
    span: NDArray[np.int64]
    rounds: int
    delays: ConstantDelays | None = None
    tec: TecFit | None = None

    @property
    def gain(self) -> Complex:
        """Products, (ntime, nblock, nant, npol)."""
        return np.asarray(_unit(self.common.gain) * self.constant[self.span])

    @property
    def flag(self) -> NDArray[np.bool_]:
        """Where a factor has no solution, (ntime, nblock, nant, npol)."""
        return np.asarray(self.common.flag | ~(self.constant_snr[self.span] > 0))

    def at(self, frequency_hz: Float, spw: NDArray[np.int64]) -> TwoFactorFit:
        """Return the same delays at other frequencies of their windows."""
        if self.delays is None:
            raise ValueError("phases of blocks are known at these blocks only")
        common = self.common if self.tec is None else gains_of_tec(self.tec, frequency_hz)
        constant = self.delays.gain(frequency_hz, spw)
        return replace(self, constant=constant, constant_snr=self.delays.snr_of(spw), common=common)

    def as_gains(self, there: NDArray[np.bool_]) -> GainFit:
        """Return the products as gains of each block and polarization.

        Parameters
        ----------
        there : (ntime, nblock) bool
            Where there are data; others are not attempted.
        """
        snr = np.minimum(self.common.snr, self.constant_snr[self.span])
        shape = snr.shape[:2]
        there = there & self.common.attempted
        return GainFit(
            self.gain, self.flag | ~there[:, :, None, None], snr, there,
            np.broadcast_to(self.common.chi2, shape), np.broadcast_to(self.common.samples, shape),
        )  # fmt: skip


def constant_spans(time_s: Float, scan: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the part of an execution that each interval belongs to, (ntime,).

    An execution longer than `LONGEST_CONSTANT_S` is cut into equal parts no longer than that,
    between scans where a scan is shorter than a part.
    """
    length = float(time_s.max() - time_s.min())
    count = max(1, int(np.ceil(length / LONGEST_CONSTANT_S)))
    part = length / count if length > 0 else 1.0
    middle = time_s.copy()
    for number in np.unique(scan):
        own = scan == number
        if np.ptp(time_s[own]) < part:
            middle[own] = time_s[own].mean()
    place = np.clip(((middle - time_s.min()) / part).astype(np.int64), 0, count - 1)
    return np.asarray(np.unique(place, return_inverse=True)[1], np.int64)


def fit_two_factors(
    equations: NormalEquations,
    *,
    minblperant: int = 4,
    minsnr: float = 0.0,
    spare: Sequence[int] = (),
    guess_from: Sequence[int] = (),
    baseline_mask: NDArray[np.bool_] | None = None,
    start: TwoFactorFit | None = None,
    constant: Constant = "phase",
    common: Common = "phase",
    most_rounds: int = _MOST_ROUNDS,
) -> TwoFactorFit:
    """Solve for both factors in turn, until the constants hold.

    Each solve has the other factor divided out of the sums. A window whose data promise constants
    of an SNR below 3 takes those of the nearest window in frequency with a better one; where no
    window has, all windows have one constant phase for each polarization.

    Parameters
    ----------
    equations : NormalEquations
        At the interval of the common factor; for phases one block for each window, else several.
    minblperant : int
        Fewest baselines of an antenna.
    minsnr : float
        Common factors below this SNR are flagged.
    spare, guess_from : sequence of int
        As in `libs.gains.native_solve.solve_gains`, for the common phases.
    baseline_mask : (nbl,) bool, optional
        Baselines that take part; default all.
    start : TwoFactorFit, optional
        Solution to start from; default no phases at all.
    constant : str
        ``phase`` of each block and polarization, or a ``delay`` and a phase of each window and
        polarization.
    common : str
        ``phase`` of all windows and polarizations, or their ``tec``.
    most_rounds : int
        Largest number of rounds in which both factors are solved for; on noise the constants never
        settle.
    """
    one, two = equations.antenna1, equations.antenna2
    span = constant_spans(equations.time_s, equations.scan)
    mask = np.ones(len(one), bool) if baseline_mask is None else baseline_mask
    reference = guess_from[0] if len(guess_from) else 0
    state = _State.first(equations, span, constant, minblperant, mask, start)
    factor: GainFit | None = None
    for rounds in range(1, most_rounds + 1):
        turned = equations.vis * _between(state.constant, one, two).conj()[span]
        how: dict[str, Any] = {
            "minblperant": minblperant, "minsnr": minsnr, "baseline_mask": mask
        }  # fmt: skip
        if common == "tec":
            factor = _common_tec(equations, turned, state, how)
        else:
            how |= {"spare": spare, "guess_from": guess_from}
            factor = solve_gains(
                turned, equations.weight, one, two, len(equations.antenna), calmode="p",
                gaintype="T", combine_blocks=True, **how,
            )  # fmt: skip
        phase = np.where(factor.flag, 1, _unit(factor.gain))
        seen = ~(factor.flag[:, :, one] | factor.flag[:, :, two])
        turned = equations.vis * _between(phase, one, two).conj() * seen
        sums = _by_span(turned, span), _by_span(equations.weight * seen, span)
        before = state.constant
        if constant == "delay":
            # the first delays are those of some intervals only: another search has all data
            known = state.delays if rounds > 1 or start is not None else None
            state.delays = solve_constant_delays(equations, *sums, minblperant, mask, known)
            if state.tec is not None:
                _share_with_tec(equations, sums, state, span, minblperant, mask, reference)
            state.constant = state.delays.gain(equations.frequency_hz, equations.spw)
            state.snr = state.delays.snr_of(equations.spw)
        else:
            state.constant, state.snr = _constants(equations, *sums, minblperant, guess_from, mask)
            state.constant = _centred(state.constant, state.snr, reference)
        if _steady(before, state, reference):
            break
    assert factor is not None
    if state.tec is not None:  # the last round may have moved it
        factor = gains_of_tec(state.tec, equations.frequency_hz)
    return TwoFactorFit(state.constant, state.snr, factor, span, rounds, state.delays, state.tec)


@dataclass
class _State:
    """The factors between two solves.

    Attributes
    ----------
    constant : (nspan, nblock, nant, npol) complex128
    snr : same shape, float64
    delays : ConstantDelays or None
    tec : TecFit or None
    """

    constant: Complex
    snr: Float
    delays: ConstantDelays | None = None
    tec: TecFit | None = None

    @classmethod
    def first(
        cls, equations: NormalEquations, span: NDArray[np.int64], constant: Constant,
        minblperant: int, mask: NDArray[np.bool_], start: TwoFactorFit | None,
    ) -> _State:  # fmt: skip
        """Return what the solves start from."""
        if start is not None:
            return cls(start.constant, start.constant_snr, start.delays, start.tec)
        if constant == "delay":
            delays = first_delays(equations, span, minblperant, mask)
            gain = delays.gain(equations.frequency_hz, equations.spw)
            return cls(gain, np.zeros(gain.shape), delays)
        shape = (
            int(span.max()) + 1, equations.vis.shape[1], len(equations.antenna),
            equations.vis.shape[3],
        )  # fmt: skip
        return cls(np.ones(shape, np.complex128), np.zeros(shape))


def _common_tec(
    equations: NormalEquations, vis: Complex, state: _State, how: Mapping[str, Any]
) -> GainFit:
    """Solve for the common TECs, from those before on; the gains they make.

    At first the constants have no phases yet, so that each interval has some of its own.
    """
    first = state.tec is None
    state.tec = solve_tec(
        vis, equations.weight, equations.antenna1, equations.antenna2, len(equations.antenna),
        equations.frequency_hz, start=state.tec, with_phase=first, gaintype="G" if first else "T",
        **how,
    )  # fmt: skip
    if first:
        state.tec = state.tec.without_phases()
    return gains_of_tec(state.tec, equations.frequency_hz)


def _share_with_tec(
    equations: NormalEquations, sums: tuple[Complex, Float], state: _State,
    span: NDArray[np.int64], minblperant: int, mask: NDArray[np.bool_], reference: int,
) -> None:  # fmt: skip
    """Move what delays and a constant TEC leave together of the phases of blocks, in one fit.

    Over a narrow band a constant TEC is a delay and a phase but for a slight bend. Solved for in
    turn, they would come to rest after hundreds of rounds.
    """
    assert state.delays is not None and state.tec is not None
    one, two = equations.antenna1, equations.antenna2
    gain = state.delays.gain(equations.frequency_hz, equations.spw)
    left = solve_gains(
        sums[0] * _between(gain, one, two).conj(), sums[1], one, two, len(equations.antenna),
        calmode="p", gaintype="G", minblperant=minblperant, minsnr=0.0, guess_from=(reference,),
        baseline_mask=mask,
    )  # fmt: skip
    phase = np.asarray(np.angle(left.gain * left.gain[:, :, [reference]].conj()), np.float64)
    shared = fit_delays_and_tec(
        phase, np.where(left.flag, 0.0, left.snr), equations.frequency_hz, equations.spw,
        state.delays,
    )  # fmt: skip
    state.delays = shared.delays
    state.tec = replace(state.tec, tec_tecu=state.tec.tec_tecu + shared.tec_tecu[span])


def _steady(before: Complex, state: _State, reference: int) -> bool:
    """Whether the constants hardly changed, but for a phase of all antennas."""
    change = state.constant * before.conj()
    turned = np.angle(change * change[:, :, [reference]].conj())[state.snr > 0]
    return not turned.size or bool(np.sqrt(np.mean(turned**2)) < _STEADY_RAD)


def _constants(
    equations: NormalEquations, vis: Complex, weight: Float, minblperant: int,
    guess_from: Sequence[int], mask: NDArray[np.bool_],
) -> tuple[Complex, Float]:  # fmt: skip
    """Constants and their SNR, (nspan, nblock, nant, npol), those of weak windows borrowed."""
    one, two, nant = equations.antenna1, equations.antenna2, len(equations.antenna)

    def solved(*, together: bool) -> GainFit:
        return solve_gains(
            vis, weight, one, two, nant, calmode="p", gaintype="G", combine_blocks=together,
            minblperant=minblperant, minsnr=0.0, guess_from=guess_from, baseline_mask=mask,
        )  # fmt: skip

    fit = solved(together=False)
    gain, snr = _unit(fit.gain), fit.snr
    strength = _promised(vis, weight, _between(gain, one, two), equations, mask)
    if not (strength >= LEAST_SNR).any():
        whole = solved(together=True)
        return (
            np.broadcast_to(_unit(whole.gain), gain.shape).copy(),
            np.broadcast_to(whole.snr, snr.shape).copy(),
        )
    there = np.asarray((equations.weight > 0).any(axis=(2, 3)), bool)
    source = donors(strength, equations.frequency_hz, there)
    return gain[:, source], snr[:, source]


def _promised(
    vis: Complex, weight: Float, gain: Complex, equations: NormalEquations, mask: NDArray[np.bool_]
) -> Float:
    """SNR that the model promises for the constants of each window, median of the antennas.

    The solutions' own SNR is 2 or 3 where there is only noise, because they fit it; the noise of
    the data is therefore taken from all windows together, as the scatter about the solutions.
    """
    used = (weight > 0) & mask[:, None]
    each = np.where(used, weight, 1.0)
    residual = np.where(used, np.abs(vis / each - gain) ** 2 * each, 0.0)
    unknowns = gain.shape[0] * gain.shape[1] * gain.shape[3] * len(equations.antenna)
    variance = residual.sum() / max(1.0, 2.0 * used.sum() - unknowns)
    power = np.zeros((gain.shape[1], len(equations.antenna)))
    mean = np.where(used, weight, 0.0).sum(axis=(0, 3)) / (gain.shape[0] * gain.shape[3])
    for ends in (equations.antenna1, equations.antenna2):
        np.add.at(power.T, ends, mean.T)
    return np.asarray(np.median(np.sqrt(power / max(variance, 1e-300)), axis=1))


def _unit(gain: Complex) -> Complex:
    size = np.abs(gain)
    return np.where(size > 0, gain / np.where(size > 0, size, 1), 1)


def _between(gain: Complex, one: NDArray[np.int64], two: NDArray[np.int64]) -> Complex:
    """Gains of baselines, on the antennas' axis, the last but one."""
    return np.asarray(gain[..., one, :] * gain[..., two, :].conj())


def _by_span(sums: NDArray[Any], span: NDArray[np.int64]) -> NDArray[Any]:
    return np.add.reduceat(sums, np.flatnonzero(np.diff(span, prepend=-1)), axis=0)


def _centred(constant: Complex, snr: Float, reference: int) -> Complex:
    """Take out what constants cannot tell: a phase of all antennas, one of all windows.

    The first is set by the reference antenna; the second belongs to the common phase.
    """
    turned = constant * constant[:, :, [reference]].conj()
    mean = (turned * snr**2).sum(axis=(1, 3), keepdims=True)
    return np.asarray(turned * _unit(mean).conj())
