"""Phases that are a constant of each window and polarization times one common to all of them.

The electronics give each window and each polarization of an antenna a phase that hardly changes in
an execution; the atmosphere turns all of them alike, and fast. One gain a window and polarization
at the atmosphere's pace has many times the unknowns that this needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.gains.native_solve import GainFit, solve_gains
from libs.gains.normal_equations import NormalEquations
from libs.gains.windows_apart import LEAST_SNR, donors

__all__ = ["LONGEST_CONSTANT_S", "TwoFactorFit", "constant_spans", "fit_two_factors"]

LONGEST_CONSTANT_S = 4500.0
"""Length of an execution beyond which its constants are solved in parts."""

_MOST_ROUNDS = 30
_STEADY_RAD = 1e-3  # rms change of the constants in a round at which they hold

Complex = NDArray[np.complex128]
Float = NDArray[np.float64]


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
        (ntime, 1, nant, 1).
    span : (ntime,) int64
        Part of the execution that each interval belongs to.
    rounds : int
        How often the factors were solved in turn.
    """

    constant: Complex
    constant_snr: Float
    common: GainFit
    span: NDArray[np.int64]
    rounds: int

    @property
    def gain(self) -> Complex:
        """Products, (ntime, nblock, nant, npol)."""
        return np.asarray(_unit(self.common.gain) * self.constant[self.span])

    @property
    def flag(self) -> NDArray[np.bool_]:
        """Where a factor has no solution, (ntime, nblock, nant, npol)."""
        return np.asarray(self.common.flag | ~(self.constant_snr[self.span] > 0))

    def as_gains(self, weight: Float) -> GainFit:
        """Return the products as gains of each window and polarization.

        Parameters
        ----------
        weight : (ntime, nblock, nbl, npol) float64
            Of the normal equations; an interval without any is not attempted.
        """
        snr = np.minimum(self.common.snr, self.constant_snr[self.span])
        shape = snr.shape[:2]
        there = (weight > 0).any(axis=(2, 3)) & self.common.attempted
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
) -> TwoFactorFit:
    """Solve for both factors in turn, until the constants hold.

    Each solve has the other factor divided out of the sums. A window whose data promise constants
    of an SNR below 3 takes those of the nearest window in frequency with a better one; where no
    window has, all windows have one constant for each polarization.

    Parameters
    ----------
    equations : NormalEquations
        One block for each window, at the interval of the common phase.
    minblperant : int
        Fewest baselines of an antenna.
    minsnr : float
        Common phases below this SNR are flagged.
    spare, guess_from : sequence of int
        As in `libs.gains.native_solve.solve_gains`, for the common phases.
    baseline_mask : (nbl,) bool, optional
        Baselines that take part; default all.
    start : TwoFactorFit, optional
        Solution to start from; default no phases at all.
    """
    one, two, nant = equations.antenna1, equations.antenna2, len(equations.antenna)
    span = constant_spans(equations.time_s, equations.scan)
    shape = (int(span.max()) + 1, equations.vis.shape[1], nant, equations.vis.shape[3])
    constant = np.ones(shape, np.complex128) if start is None else start.constant
    mask = np.ones(len(one), bool) if baseline_mask is None else baseline_mask
    reference = guess_from[0] if len(guess_from) else 0
    rounds, steady = 0, False
    while rounds < _MOST_ROUNDS and not steady:
        rounds += 1
        turned = equations.vis * _between(constant, one, two).conj()[span]
        common = solve_gains(
            turned, equations.weight, one, two, nant, calmode="p", gaintype="T",
            combine_blocks=True, minblperant=minblperant, minsnr=minsnr, spare=spare,
            guess_from=guess_from, baseline_mask=mask,
        )  # fmt: skip
        phase = np.where(common.flag, 1, _unit(common.gain))
        seen = ~(common.flag[:, :, one] | common.flag[:, :, two])
        turned = equations.vis * _between(phase, one, two).conj() * seen
        sums = _by_span(turned, span), _by_span(equations.weight * seen, span)
        again, snr = _constants(equations, *sums, minblperant, guess_from, mask)
        again = _centred(again, snr, reference)
        change = np.angle(again * constant.conj())[snr > 0]
        constant = again
        steady = not change.size or bool(np.sqrt(np.mean(change**2)) < _STEADY_RAD)
    return TwoFactorFit(constant, snr, common, span, rounds)


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
