"""Solutions over (time, frequency, antenna, direction, polarization): an h5parm in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from libs.core.angles import tec_phase_rad
from libs.core.errors import InputError
from libs.gains.gain_solutions import GainSolutions

__all__ = [
    "DIAGONAL",
    "FREQUENCY_TOLERANCE_HZ",
    "FULL_JONES",
    "SCALAR",
    "TIME_TOLERANCE_S",
    "Solset",
    "blank",
    "copy_stations",
    "from_gain_solutions",
    "neutral_amplitude",
]

Array = NDArray[np.float64]

SCALAR = ("I",)
DIAGONAL = ("XX", "YY")
FULL_JONES = ("XX", "XY", "YX", "YY")


TIME_TOLERANCE_S = 1e-3
FREQUENCY_TOLERANCE_HZ = 1.0
_WEIGHT_MAX = 1e30  # representable in the h5parm's float32


@dataclass(frozen=True)
class Solset:
    """Antenna gains in one or several directions.

    The gain ``amplitude * exp(i phase_rad)`` corrupts: V_observed = g_p conj(g_q) V_true. With
    ``tec_tecu`` its phase is ``phase_rad + TEC_PHASE_HZ * tec_tecu / frequency_hz``.

    Attributes
    ----------
    time_s : (ntime,) float64
        Times, MJD seconds, increasing. A single time stands for all times.
    frequency_hz : (nfreq,) float64
        Frequencies, increasing. A single frequency stands for all frequencies.
    antenna : tuple of str, length nant
    position_m : (nant, 3) float64
        ITRF positions, m.
    direction : tuple of str, length ndir
        Names without the brackets that an h5parm puts around them.
    direction_rad : (ndir, 2) float64
        Right ascension and declination (J2000), rad.
    polarization : tuple of str, length npol
        Kind of gains: ``("I",)`` one for both feeds, ``("XX", "YY")`` one for each feed (X and Y
        stand for R and L of circular feeds), or ``("XX", "XY", "YX", "YY")`` Jones matrices.
    phase_rad, amplitude : (ntime, nfreq, nant, ndir, npol) float64
        Phase and amplitude; 0 and 1 where there is no solution.
    weight : (ntime, nfreq, nant, ndir, npol) float64
        Inverse variance of the phase (rad^-2; equal to SNR^2), 0 where there is no solution.
    tec_tecu : (ntime, nant, ndir) float64 or None
        Total electron content, TECU; 0 where there is no solution.
    """

    time_s: Array
    frequency_hz: Array
    antenna: tuple[str, ...]
    position_m: Array
    direction: tuple[str, ...]
    direction_rad: Array
    polarization: tuple[str, ...]
    phase_rad: Array
    amplitude: Array
    weight: Array
    tec_tecu: Array | None = None

    def __post_init__(self) -> None:
        shape = (
            len(self.time_s),
            len(self.frequency_hz),
            len(self.antenna),
            len(self.direction),
            len(self.polarization),
        )
        for name in ("phase_rad", "amplitude", "weight"):
            array = getattr(self, name)
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, the axes say {shape}")
            if np.isnan(array).any():
                raise ValueError(f"{name} has NaN; a missing solution is weight 0")
        if self.tec_tecu is not None and self.tec_tecu.shape != (shape[0], shape[2], shape[3]):
            raise ValueError(f"tec_tecu has shape {self.tec_tecu.shape}, not (time, ant, dir)")
        if self.position_m.shape != (shape[2], 3) or self.direction_rad.shape != (shape[3], 2):
            raise ValueError("position_m must be (nant, 3) and direction_rad (ndir, 2)")
        self._check_axes()

    def _check_axes(self) -> None:
        if not self.phase_rad.size:
            raise ValueError(f"an axis is empty: {self.shape}")
        if self.polarization not in (SCALAR, DIAGONAL, FULL_JONES):
            raise ValueError(f"unknown polarization axis {self.polarization}")
        for name in ("antenna", "direction"):
            if len(set(getattr(self, name))) != len(getattr(self, name)):
                raise ValueError(f"an {name} appears twice: {getattr(self, name)}")
        for name in ("time_s", "frequency_hz"):
            axis = getattr(self, name)
            if not (np.isfinite(axis).all() and (np.diff(axis) > 0).all()):
                raise ValueError(f"{name} does not increase")

    @property
    def shape(self) -> tuple[int, ...]:
        """(ntime, nfreq, nant, ndir, npol)."""
        return self.phase_rad.shape

    @property
    def valid(self) -> NDArray[np.bool_]:
        """True where there is a solution, (ntime, nfreq, nant, ndir, npol)."""
        return self.weight > 0

    @property
    def full_jones(self) -> bool:
        """True for Jones matrices, False for gains of each feed or of both."""
        return self.polarization == FULL_JONES

    @property
    def good_fraction(self) -> Array:
        """Fraction of the solutions that are valid, (nant, ndir), 0 to 1."""
        return np.asarray(self.valid.mean(axis=(0, 1, 4)))

    @property
    def total_phase_rad(self) -> Array:
        """Phase of the gain including the TEC, (ntime, nfreq, nant, ndir, npol), rad."""
        if self.tec_tecu is None:
            return self.phase_rad
        tec = tec_phase_rad(self.tec_tecu, self.frequency_hz)[..., np.newaxis]
        return np.asarray(self.phase_rad + tec)

    @property
    def gain(self) -> NDArray[np.complex128]:
        """Complex gains, (ntime, nfreq, nant, ndir, npol); 1 (0 off the diagonal) where missing."""
        gain = self.amplitude * np.exp(1j * self.total_phase_rad)
        gain[~self.valid] = 1.0
        if self.full_jones:
            off = gain[..., 1:3]
            off[~self.valid[..., 1:3]] = 0.0
        return np.asarray(gain)

    def in_direction(self, direction: str) -> Solset:
        """Return the solutions of one direction.

        Raises
        ------
        InputError
            There is no direction of this name.
        """
        if direction not in self.direction:
            raise InputError(
                f"there is no direction {direction}", f"there are {', '.join(self.direction)}"
            )
        return self.select_directions([self.direction.index(direction)])

    def select_directions(self, index: Sequence[int]) -> Solset:
        """Return the directions of the given indices, in that order."""
        keep = list(index)
        return replace(
            self,
            direction=tuple(self.direction[i] for i in keep),
            direction_rad=self.direction_rad[keep],
            phase_rad=self.phase_rad[:, :, :, keep],
            amplitude=self.amplitude[:, :, :, keep],
            weight=self.weight[:, :, :, keep],
            tec_tecu=None if self.tec_tecu is None else self.tec_tecu[:, :, keep],
        )

    def with_polarization(self, polarization: tuple[str, ...]) -> Solset:
        """Return the same gains on a longer polarization axis.

        One gain for both feeds is repeated; gains of each feed become diagonal matrices.

        Raises
        ------
        ValueError
            The new axis is shorter than the present one.
        """
        if polarization == self.polarization:
            return self
        if len(polarization) < len(self.polarization):
            raise ValueError(f"{self.polarization} cannot become {polarization}")
        arrays = {name: getattr(self, name) for name in ("phase_rad", "amplitude", "weight")}
        if self.polarization == SCALAR:
            arrays = {name: np.repeat(a, 2, axis=-1) for name, a in arrays.items()}
        if polarization == FULL_JONES:
            arrays = {name: a[..., [0, 0, 1, 1]].copy() for name, a in arrays.items()}
            arrays["phase_rad"][..., 1:3] = 0.0
            arrays["amplitude"][..., 1:3] = 0.0
            arrays["weight"][:] = arrays["weight"].min(axis=-1, keepdims=True)
            missing = arrays["weight"] == 0
            arrays["phase_rad"][missing] = 0.0
            arrays["amplitude"][missing] = neutral_amplitude(missing.shape)[missing]
        return replace(self, polarization=polarization, **arrays)

    def to_gain_solutions(
        self,
        direction: str | None = None,
        *,
        polarization: tuple[str, ...] | None = None,
        spw: NDArray[np.int64] | None = None,
        interval_s: Array | None = None,
    ) -> GainSolutions:
        """Return the gains of one direction as `GainSolutions`.

        Parameters
        ----------
        direction : str, optional
            Name of the direction, needed when there are several.
        polarization : tuple of str, optional
            Names of the feeds, default ``("X", "Y")`` (``("I",)`` for a single gain).
        spw : (nfreq,) int64, optional
            Spectral window of each frequency, default 0, 1, 2...
        interval_s : (ntime,) float64, optional
            Solution intervals, s; default: the spacing of the times.

        Raises
        ------
        InputError
            Solutions are Jones matrices, or the direction is unknown or not given.
        """
        if self.full_jones:
            raise InputError(
                "full-Jones solutions cannot be antenna gains", "apply this h5parm with DP3"
            )
        if direction is None and len(self.direction) > 1:
            raise InputError(
                f"the table has {len(self.direction)} directions",
                f"name one of {', '.join(self.direction)}",
            )
        one = self.in_direction(direction or self.direction[0])
        feeds = polarization or (SCALAR if one.polarization == SCALAR else ("X", "Y"))
        if len(feeds) != len(one.polarization):
            one = one.with_polarization(DIAGONAL)
        valid = one.valid[:, :, :, 0]
        if interval_s is None:
            interval_s = np.gradient(self.time_s) if len(self.time_s) > 1 else np.zeros(1)
        return GainSolutions(
            time_s=self.time_s,
            interval_s=interval_s,
            frequency_hz=self.frequency_hz,
            spw=np.arange(len(self.frequency_hz)) if spw is None else spw,
            antenna=self.antenna,
            position_m=self.position_m,
            polarization=feeds,
            gain=one.gain[:, :, :, 0],
            flag=~valid,
            snr=np.sqrt(np.minimum(one.weight[:, :, :, 0], _WEIGHT_MAX)),
        )


def neutral_amplitude(shape: tuple[int, ...]) -> Array:
    """Return amplitudes of the gain that changes nothing: 1, and 0 off a Jones matrix's diagonal.

    Parameters
    ----------
    shape : (..., npol)
        Shape; four polarizations are those of Jones matrices.
    """
    amplitude = np.ones(shape)
    if shape[-1] == len(FULL_JONES):
        amplitude[..., 1:3] = 0.0
    return amplitude


def blank(
    like: Solset,
    antenna: tuple[str, ...],
    position_m: Array,
    direction: tuple[str, ...],
    direction_rad: Array,
) -> Solset:
    """Return a table like another, but without solutions, for other antennas and directions."""
    shape = (*like.shape[:2], len(antenna), len(direction), like.shape[4])
    return replace(
        like,
        antenna=antenna,
        position_m=position_m,
        direction=direction,
        direction_rad=direction_rad,
        phase_rad=np.zeros(shape),
        amplitude=neutral_amplitude(shape),
        weight=np.zeros(shape),
        tec_tecu=None if like.tec_tecu is None else np.zeros((shape[0], *shape[2:4])),
    )


def copy_stations(
    source: Solset,
    antennas: Sequence[int],
    direction: int,
    target: Solset,
    to_antennas: Sequence[int],
    to_direction: int,
) -> None:
    """Copy the solutions of some antennas in one direction into the arrays of another table.

    Both have the same times, frequencies and polarizations.
    """
    here, there = list(antennas), list(to_antennas)
    for name in ("phase_rad", "amplitude", "weight"):
        values = getattr(source, name)[:, :, :, direction]
        getattr(target, name)[:, :, there, to_direction] = values[:, :, here]
    if target.tec_tecu is not None:
        tec = source.tec_tecu
        target.tec_tecu[:, there, to_direction] = 0.0 if tec is None else tec[:, here, direction]


def from_gain_solutions(
    gains: GainSolutions, direction: str = "target", direction_rad: Sequence[float] = (0.0, 0.0)
) -> Solset:
    """Return antenna gains as solutions of one direction.

    The weight is SNR^2, the inverse variance of the phase. A gain of SNR 0 is no solution
    (`libs.gains.patch_gains` uses a gain of 1 to leave an antenna's data unchanged). It is missing
    in the result, so that another table's solution is used; in gains without any SNR all have a
    weight of 1. Blocks of the same frequency in several spectral windows (or solutions of the same
    time) become one: the best of each.

    Raises
    ------
    InputError
        There are no solutions, or feeds that an h5parm cannot name.
    """
    if not gains.gain.size:
        raise InputError("the gain table is empty", "solve again; see the log of the solve")
    if len(gains.polarization) > 2:
        raise InputError(
            f"an h5parm holds gains of two feeds, not {gains.polarization}", "solve for two"
        )
    polarization = SCALAR if len(gains.polarization) == 1 else DIAGONAL
    good = ~gains.flag & np.isfinite(gains.gain) & (gains.gain != 0)
    gain = np.where(good, gains.gain, 1.0)
    measured = np.isfinite(gains.snr) & (gains.snr > 0)
    snr = np.where(measured, gains.snr, 1.0)
    if measured.any():
        good &= gains.snr != 0
    gain = np.where(good, gain, 1.0)
    weight = np.where(good, np.minimum(snr**2, _WEIGHT_MAX), 0.0)
    time_s, gain, weight = _merge_equal(gains.time_s, gain, weight, 0, TIME_TOLERANCE_S)
    frequency_hz, gain, weight = _merge_equal(
        gains.frequency_hz, gain, weight, 1, FREQUENCY_TOLERANCE_HZ
    )
    return Solset(
        time_s=time_s,
        frequency_hz=frequency_hz,
        antenna=gains.antenna,
        position_m=gains.position_m,
        direction=(direction,),
        direction_rad=np.array([direction_rad], dtype=float),
        polarization=polarization,
        phase_rad=np.asarray(np.angle(gain), dtype=np.float64)[:, :, :, np.newaxis],
        amplitude=np.abs(gain)[:, :, :, np.newaxis],
        weight=weight[:, :, :, np.newaxis],
    )


def _merge_equal(
    axis_values: Array, gain: NDArray[np.complex128], weight: Array, axis: int, tolerance: float
) -> tuple[Array, NDArray[np.complex128], Array]:
    """Sort along ``axis``; of entries closer than ``tolerance`` keep the best of each."""
    order = np.argsort(axis_values, kind="stable")
    values = np.asarray(axis_values, dtype=float)[order]
    gain, weight = np.take(gain, order, axis), np.take(weight, order, axis)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(values) > tolerance) + 1])
    if len(starts) == len(values):
        return values, gain, weight
    gains, weights = [], []
    for first, last in zip(starts, [*starts[1:], len(values)], strict=True):
        group = np.arange(first, last)
        some_weight = np.take(weight, group, axis)
        best = np.expand_dims(some_weight.argmax(axis), axis)
        weights.append(np.take_along_axis(some_weight, best, axis))
        gains.append(np.take_along_axis(np.take(gain, group, axis), best, axis))
    return values[starts], np.concatenate(gains, axis), np.concatenate(weights, axis)
