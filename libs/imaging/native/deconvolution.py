"""CLEAN: minor cycles on image-domain residuals, checked against exact ones from visibilities."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ImageError
from libs.imaging.native.convolution import Convolver
from libs.imaging.native.minor_cycle import clean_active
from libs.imaging.statistics import mad_std

__all__ = ["CleanResult", "CleanSettings", "Cycle", "clean"]

Residual = Callable[[NDArray[np.float32]], NDArray[np.floating]]

# Cleaning is gone through at most so often, an exact residual at the end of each time.
_MOST_EXACT = 8

# The residual of the image domain is taken for exact when it differs by less than this fraction
# of the noise.
_AGREEMENT = 0.5

# No unmasked peak may be left above this many sigma, or above this factor times the threshold
# at which components begin. At the threshold itself each look finds another peak of the noise,
# whose components make the model worse: simulated skies that were not used to choose the factor
# have a larger error at 1.0 on five of six (2 % smaller on one), and at 1.6 a fifth more on one.
_LEFT_NSIGMA = 4.0
_LEFT_FACTOR = 1.25

# Active pixels are those above this fraction of where a cycle stops, so that one that rises as
# others are taken off is seen.
_ACTIVE = 0.7
_MOST_ACTIVE = 20000

# CLEAN has diverged when the largest residual is this many times that of the dirty image.
_DIVERGED = 2.0

# Where the noise of a residual is this many times that of the visibilities alone, sidelobes make
# up more of it than noise.
_SIDELOBES = math.sqrt(2)

# Each time CLEAN goes on, its thresholds are this many times as high.
_DEEPER = 0.7

# The sky is not negative, and components that take up errors of gains are so as often as not. Where
# the sum of those found is more than this part of the sum of their absolute values, more of them
# are of the sky than not.
_MOSTLY_SKY = 0.5

# Sidelobes of sky that is still to be found fall with the thresholds, noise does not: of what there
# is beyond the visibilities' noise no more than this part may be left, which is half-way.
_LEFT_OF_SIDELOBES = 0.5 * (1.0 + _DEEPER)

# Components that leave the image noisier by this factor are taken back: within a mask CLEAN can
# go on to fit what sparse data leave open there, at the cost of what is outside.
_NOISIER = 1.05

# CLEAN that the visibilities' noise stopped goes on when that has fallen by this factor since.
_SURER = 0.9

# Larger scales hold the residuals of many pixels: without a bias toward small ones extended
# components are laid over points.
_SCALE_BIAS = 0.9


@dataclass(frozen=True)
class CleanSettings:
    """How to CLEAN.

    Attributes
    ----------
    niter : int
        Most components.
    gain : float
        Fraction of a component taken off at once.
    mgain : float
        Fraction of the peak cleaned in one cycle.
    nmajor : int
        Most cycles; 0: no limit.
    automask_nsigma, autothreshold_nsigma, threshold_jy_beam : float
        As in `ImagingOptions`.
    mask : (ny, nx) bool or None
        Where components may be; None: everywhere.
    image_domain : bool
        Whether residuals between cycles may be computed by convolution with the PSF.
    seen : (ny, nx) bool or None
        Where the image is not blank, for the noise; None: everywhere.
    deeper : bool
        Whether CLEAN goes on below its thresholds where the noise of the residual is sidelobes.
    """

    niter: int
    gain: float
    mgain: float
    nmajor: int
    automask_nsigma: float
    autothreshold_nsigma: float
    mask: NDArray[np.bool_] | None = None
    image_domain: bool = True
    threshold_jy_beam: float = 0.0
    seen: NDArray[np.bool_] | None = None
    deeper: bool = False


@dataclass(frozen=True)
class Cycle:
    """One cycle, for progress and log.

    Attributes
    ----------
    number : int
        From 1.
    exact : bool
        Whether the residual was computed from the visibilities.
    peak_jy_beam, noise_jy_beam : float
        Largest |residual| within the mask, and the robust noise.
    components : int
        Found so far.
    seconds_left : float
        Estimate; NaN where nothing is known.
    """

    number: int
    exact: bool
    peak_jy_beam: float
    noise_jy_beam: float
    components: int
    seconds_left: float


@dataclass(frozen=True)
class CleanResult:
    """What CLEAN found.

    Attributes
    ----------
    model : (nterms, ny, nx) float32
        Jy/pixel.
    residual : (nterms, ny, nx) float64
        Exact, Jy/beam.
    components, cycles, exact_cycles : int
    agreement_nsigma : float
        Largest difference of the last two kinds of residuals over the noise; NaN: one kind only.
    depth : float
        What the thresholds were multiplied by, 1 or less.
    """

    model: NDArray[np.float32]
    residual: NDArray[np.float64]
    components: int
    cycles: int
    exact_cycles: int
    agreement_nsigma: float
    depth: float = 1.0


@dataclass
class _State:
    """What changes from cycle to cycle."""

    model: NDArray[np.float32]
    residual: NDArray[np.floating]
    found: NDArray[np.bool_]  # (nscale, ny, nx): where components were found
    components: int = 0
    cycles: int = 0
    exact: int = 0
    start: float = field(default_factory=time.monotonic)
    first_peak: float = 0.0

    def take_back(self, earlier: _State) -> None:
        """Return to what had been found before; the work that was done since is still counted."""
        self.model, self.residual = earlier.model, earlier.residual
        self.found, self.components = earlier.found, earlier.components


def clean(
    dirty: NDArray[np.floating],
    convolver: Convolver,
    settings: CleanSettings,
    residual_of: Residual,
    report: Callable[[Cycle], None] = lambda cycle: None,
    before: CleanResult | None = None,
    thermal_jy_beam: Callable[[], float] = lambda: math.nan,
) -> CleanResult:
    """Deconvolve a dirty image, from an empty model or from where another stage ended.

    Parameters
    ----------
    dirty : (nterms, ny, nx) array
        Jy/beam.
    convolver : Convolver
        The PSFs and scales.
    settings : CleanSettings
    residual_of : callable
        Model (nterms, ny, nx) -> exact residual.
    report : callable
        Called after each cycle.
    before : CleanResult, optional
        Result of the stage before; its components count among those of ``settings.niter``.
    thermal_jy_beam : callable
        Noise that the visibilities alone give the image, by the last call of ``residual_of``.

    Raises
    ------
    ImageError
        It diverges.
    """
    found = np.zeros((len(convolver.scales), *convolver.shape), bool)
    state = _State(np.zeros(dirty.shape, np.float32), dirty.astype(np.float32), found)
    if before is not None:
        state.model, state.components = before.model.copy(), before.components
        state.residual, state.cycles = before.residual.astype(np.float32), before.cycles
    worker = _Cleaner(convolver, settings, residual_of, report, state, thermal_jy_beam)
    agreement = worker.settle(dirty)
    if settings.deeper:
        agreement = worker.deepen(agreement)
    return CleanResult(
        state.model, np.asarray(state.residual, np.float64), state.components, state.cycles,
        state.exact, agreement, worker.depth,
    )  # fmt: skip


class _Cleaner:
    """The cycles of one deconvolution."""

    def __init__(
        self,
        convolver: Convolver,
        settings: CleanSettings,
        residual_of: Residual,
        report: Callable[[Cycle], None],
        state: _State,
        thermal_jy_beam: Callable[[], float],
    ) -> None:
        self.convolver, self.settings = convolver, settings
        self.residual_of, self.report, self.state = residual_of, report, state
        self.thermal_jy_beam = thermal_jy_beam
        self.dirty_peak = float(np.abs(state.residual[0]).max())
        hessian = convolver.hessian()
        self.inverse = np.linalg.inv(hessian).astype(np.float32)
        response = hessian[:, 0, 0]
        bias = _SCALE_BIAS ** np.arange(len(response))
        self.metric = (bias * np.sqrt(response[0] / response)).astype(np.float32)
        self.far_sidelobe = convolver.far_sidelobe
        self.depth = 1.0
        self.earlier_cycles = 0  # those of lesser depths do not count against nmajor
        self.before: _State | None = None  # at the beginning of this depth

    def settle(self, dirty: NDArray[np.floating]) -> float:
        """CLEAN until an exact residual confirms that no more is to be found.

        Returns
        -------
        float
            Largest difference of that residual from the image domain's, in sigma.
        """
        state = self.state
        agreement = math.nan
        for _ in range(_MOST_EXACT):
            earlier, thermal = state.components, self.thermal()
            self.clean_down()
            convolved = state.residual
            checked = self.settings.image_domain and state.components > earlier
            if checked or not state.exact:
                state.residual = self.residual_of(state.model) if state.components else dirty
                state.exact += 1
                self.check()
            noise = self.noise(state.residual[0])
            agreement = float(np.abs(state.residual[0] - convolved[0]).max()) / max(noise, 1e-300)
            self.tell(exact=True)
            if self.is_spent() or state.components == earlier or not self.finds_sky():
                break
            # a source turns between neighbouring visibilities: without it they tell less noise
            stopped_early = self.depth * noise < thermal and self.thermal() < _SURER * thermal
            if self.is_done(agreement) and not stopped_early:
                break
        return agreement

    def deepen(self, agreement: float) -> float:
        """Go on with lower thresholds while the noise is mostly sidelobes of the sky.

        With few stations and resolved sources the noise of the residual, by which CLEAN stops,
        is made of sidelobes of what is left. The noise of the visibilities alone tells that. They
        are the sky's when they fall with the thresholds and what is found further is positive.

        Parameters
        ----------
        agreement : float
            Of the residual so far.

        Returns
        -------
        float
            As `settle`.
        """
        state = self.state
        while self.thermal():
            self.earlier_cycles = state.cycles
            noise, depth = self.noise(state.residual[0]), self.depth
            if not noise > _SIDELOBES * self.thermal():
                break
            self.before = replace(state, found=state.found.copy())
            # a source may be lost in its own sidelobes
            self.depth *= _DEEPER if state.components else _DEEPER * min(1.0, self._highest())
            try:
                reached = self.settle(state.residual)
                left = self._sidelobes(self.noise(state.residual[0]))
                helps = left <= _LEFT_OF_SIDELOBES * self._sidelobes(noise) and self.finds_sky()
            except ImageError:  # what was found before is kept
                helps = False
            if not helps:
                self.depth = depth
                state.take_back(self.before)
                break
            agreement = reached
        return agreement

    def finds_sky(self) -> bool:
        """Whether what was found at this depth is mostly positive; true at the first."""
        if self.before is None:
            return True
        found = self.state.model[0].astype(np.float64) - self.before.model[0]
        return bool(found.sum() >= _MOSTLY_SKY * np.abs(found).sum())

    def thermal(self) -> float:
        """Return the noise of the visibilities alone, Jy/beam; 0 where it is not known."""
        known = self.thermal_jy_beam()
        return known if math.isfinite(known) else 0.0

    def _highest(self) -> float:
        """Return the residual's highest pixel over the threshold where CLEAN begins."""
        plane = self.state.residual[0] * (1.0 if self.settings.mask is None else self.settings.mask)
        begin = max(self.settings.automask_nsigma, self.settings.autothreshold_nsigma)
        return float(np.max(plane)) / max(begin * self.noise(self.state.residual[0]), 1e-300)

    def _sidelobes(self, noise: float) -> float:
        """Return what of a noise is not that of the visibilities, Jy/beam."""
        return math.sqrt(max(noise**2 - self.thermal() ** 2, 0.0))

    def noise(self, plane: NDArray[np.floating]) -> float:
        """Return the robust noise of a residual where it is not blank."""
        return _noise(plane, self.settings.seen)

    def clean_down(self) -> None:
        """Find components everywhere, then deeper where there are some."""
        settings = self.settings
        everywhere = settings.mask
        automask, threshold = settings.automask_nsigma, settings.autothreshold_nsigma
        if automask > threshold:
            self._down_to(automask, everywhere)
            self._down_to(threshold, self.state.found)
        else:
            self._down_to(threshold, everywhere)

    def check(self) -> None:
        """Raise ImageError when more is left than there was at the beginning."""
        highest = float(np.abs(self.state.residual[0]).max())
        if not highest <= _DIVERGED * self.dirty_peak:
            raise ImageError(
                f"CLEAN diverged: the largest residual went from {self.dirty_peak:.3g} to"
                f" {highest:.3g} Jy/beam",
                "CLEAN less deeply, or within a smaller radius (clean_radius)",
            )

    def is_spent(self) -> bool:
        """Whether no more components or cycles are allowed."""
        state, settings = self.state, self.settings
        return state.components >= settings.niter or bool(
            settings.nmajor and state.cycles - self.earlier_cycles >= settings.nmajor
        )

    def is_done(self, agreement: float) -> bool:
        """Whether the exact residual confirms that of the image domain."""
        if agreement > _AGREEMENT and self.state.components:
            return False
        settings = self.settings
        begin = max(settings.automask_nsigma, settings.autothreshold_nsigma)
        noise = max(self.noise(self.state.residual[0]), self.thermal())
        limit = max(_LEFT_NSIGMA, _LEFT_FACTOR * begin) * noise
        limit = max(limit, _LEFT_FACTOR * settings.threshold_jy_beam)
        plane = np.abs(self.state.residual[0])
        if settings.mask is not None:
            plane = plane * settings.mask
        return bool(plane.max() <= limit)

    def tell(self, *, exact: bool, peak: float | None = None, left: float = math.nan) -> None:
        """Report a cycle."""
        state = self.state
        noise = self.noise(state.residual[0])
        highest = float(np.abs(state.residual[0]).max()) if peak is None else peak
        self.report(Cycle(state.cycles, exact, highest, noise, state.components, left))

    def _down_to(self, nsigma: float, mask: NDArray[np.bool_] | None) -> None:
        """Clean until no pixel within the mask is above the threshold.

        The threshold falls with the noise from cycle to cycle; once it was reached, what is only
        just above the new one is left.
        """
        last = math.inf
        reached = False
        while not self.is_spent():
            smooth = self.convolver.with_scales(self.state.residual)
            noise = np.array([self.noise(plane[0]) for plane in smooth])
            # sparse data let CLEAN fit noise: less than the visibilities' is none that it stops by
            least = max(self.depth, self.thermal() / max(noise[0], 1e-300))
            floor = least * nsigma * noise
            floor = np.maximum(floor, self.settings.threshold_jy_beam).astype(np.float32)
            peak, delta, count, at_floor = self._minor(
                smooth, floor, mask, _LEFT_FACTOR if reached else 1.0
            )
            reached = reached or at_floor
            if not count:
                return
            earlier = replace(self.state)
            self.state.components += count
            self.state.cycles += 1
            self.state.model = self.state.model + delta
            if self.settings.image_domain:
                self.state.residual = self.state.residual - self.convolver.with_psf(delta)
            else:
                self.state.residual = self.residual_of(self.state.model)
                self.state.exact += 1
            self.tell(
                exact=not self.settings.image_domain, peak=peak, left=self._left(peak, floor[0])
            )
            self.check()
            if not self.finds_sky():
                return
            if not self.noise(self.state.residual[0]) <= _NOISIER * noise[0]:
                self.state.take_back(earlier)
                return
            if peak > _DIVERGED * last:  # the exact residual tells whether that is so
                return
            last = min(last, peak)

    def _left(self, peak: float, floor: float) -> float:
        """Estimate the seconds left: the peak falls by the same factor in every cycle."""
        state = self.state
        state.first_peak = max(state.first_peak, peak)
        if not (peak > floor > 0 and state.first_peak > peak):
            return math.nan
        rate = math.log(state.first_peak / peak) / (time.monotonic() - state.start)
        return math.log(peak / floor) / rate

    def _minor(
        self, smooth: NDArray[np.float32], floor: NDArray[np.float32],
        mask: NDArray[np.bool_] | None, factor: float,
    ) -> tuple[float, NDArray[np.float32], int, bool]:  # fmt: skip
        """One minor cycle, begun where a pixel is above ``factor`` times the floor.

        Returns the peak before it, the model found, the number of components, and whether it
        went down to the floor.
        """
        nterms = smooth.shape[1]
        metric = np.abs(smooth[:, 0])
        for plane, border in zip(metric, self.convolver.borders, strict=True):
            plane[:border] = plane[plane.shape[0] - border :] = 0.0
            plane[:, :border] = plane[:, plane.shape[1] - border :] = 0.0
        if mask is not None:
            metric = metric * mask
        highest = metric.reshape(len(floor), -1).max(axis=1)
        metric *= self.metric[:, None, None]
        peak = float(np.max(highest * self.metric, where=highest >= floor, initial=0.0))
        if not np.any(highest >= factor * floor) or not peak > 0.0:
            return 0.0, self.state.model, 0, True
        stop = peak * max(1.0 - self.settings.mgain, self.far_sidelobe)
        limit = _ACTIVE * np.maximum(stop, floor * self.metric)
        active = np.flatnonzero(metric >= limit[:, None, None])
        if active.size > _MOST_ACTIVE:
            values = metric.ravel()[active]
            lowest = float(np.partition(values, -_MOST_ACTIVE)[-_MOST_ACTIVE])
            active = active[values >= lowest]
            stop = max(stop, lowest)
        scale, y, x = np.unravel_index(active, metric.shape)
        residual = np.ascontiguousarray(np.stack([smooth[scale, t, y, x] for t in range(nterms)]))
        flux = np.zeros_like(residual)
        count, _ = clean_active(
            x.astype(np.int32), y.astype(np.int32), scale.astype(np.int32), residual, self.metric,
            floor, self.inverse, self.convolver.lag_psf, self.convolver.pair, self.settings.gain,
            stop, self.settings.niter - self.state.components, flux,
        )  # fmt: skip
        planes = np.zeros((len(floor), nterms, *metric.shape[1:]), np.float32)
        for t in range(nterms):
            planes[scale, t, y, x] = flux[t]
        self.state.found |= planes[:, 0] != 0
        at_floor = bool(stop <= (floor * self.metric).min())
        return peak, self.convolver.components(planes), count, at_floor


def _noise(plane: NDArray[np.floating], seen: NDArray[np.bool_] | None) -> float:
    """Return the robust noise; every second pixel, of which a beam has several, tells it."""
    part = plane[::2, ::2]
    return mad_std(part if seen is None else part[seen[::2, ::2]])
