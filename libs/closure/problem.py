"""Gaussian components and closure quantities in the units and the layout of the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from libs.closure.statistics import ClosureData, chord_variance

__all__ = ["Components", "FitProblem"]

Float = NDArray[np.float64]
Int = NDArray[np.int64]

LEAST_FIELD, MOST_FIELD = 16.0, 60.0  # half width of the field searched, shortest fringe spacings


@dataclass(frozen=True)
class Components:
    """Gaussian components in units of the shortest fringe spacing.

    Component 0 is the reference with flux 1 and position (0, 0), because closures fix neither.
    The sky covariance of a component is ``L L^T``, L lower triangular, so that every value is a
    possible shape and no position angle is ambiguous; it is zero for a point.

    Attributes
    ----------
    log_flux : (ncomp,) float64
        Natural logarithm of the flux over that of component 0.
    position : (ncomp, 2) float64
        Positions (l, m).
    shape : (ncomp, 3) float64
        Elements L_ll, L_ml, L_mm.
    extended : (ncomp,) bool
        False for a point, whose shape is not fitted.
    """

    log_flux: Float
    position: Float
    shape: Float
    extended: NDArray[np.bool_]

    @classmethod
    def single(cls, size: float = 0.0) -> Components:
        """Return one component: circular with standard deviation ``size``, or a point."""
        return cls(
            np.zeros(1), np.zeros((1, 2)), np.array([[size, 0.0, size]]), np.array([size > 0])
        )

    def __len__(self) -> int:
        return len(self.log_flux)

    @property
    def covariance(self) -> Float:
        """Return C_ll, C_lm, C_mm, (ncomp, 3)."""
        a, b, c = self.shape.T
        return np.stack([a * a, a * b, b * b + c * c], axis=1)

    def with_new(self, log_flux: float, position: Float, size: float) -> Components:
        """Return a copy with one more component: circular of sigma ``size``, or a point (0)."""
        return Components(
            np.append(self.log_flux, log_flux),
            np.vstack([self.position, position]),
            np.vstack([self.shape, [size, 0.0, size]]),
            np.append(self.extended, size > 0),
        )

    def widened(self, extended: NDArray[np.bool_], size: float) -> Components:
        """Return a copy with other components extended; former points start with ``size``."""
        fresh = extended & ~self.extended
        shape = np.where(fresh[:, None], [size, 0.0, size], self.shape)
        return replace(self, shape=shape, extended=extended)

    def referred_to(self, index: int) -> Components:
        """Return the same sky with component ``index`` as the reference, in first place."""
        order = np.r_[index, np.delete(np.arange(len(self)), index)]
        return Components(
            (self.log_flux - self.log_flux[index])[order],
            (self.position - self.position[index])[order],
            self.shape[order],
            self.extended[order],
        )

    def free(self) -> tuple[Int, Int]:
        """Return component and kind (ln flux, l, m, three of shape) of each free parameter."""
        pairs = []
        for k in range(len(self)):
            kinds = ([0, 1, 2] if k else []) + ([3, 4, 5] if self.extended[k] else [])
            pairs += [(k, kind) for kind in kinds]
        array = np.array(pairs, np.int64).reshape(-1, 2)
        return array[:, 0], array[:, 1]

    def table(self) -> Float:
        """Return the parameters as the kernels take them, (ncomp, 6)."""
        return np.hstack([self.log_flux[:, None], self.position, self.covariance])

    def vector(self) -> Float:
        """Return the values of the free parameters."""
        every = np.hstack([self.log_flux[:, None], self.position, self.shape])
        return every[self.free()]

    def with_vector(self, values: Float) -> Components:
        """Return the components with other values of the free parameters."""
        every = np.hstack([self.log_flux[:, None], self.position, self.shape])
        every[self.free()] = values
        return replace(self, log_flux=every[:, 0], position=every[:, 1:3], shape=every[:, 3:])

    def chain(self) -> Float:
        """Return derivatives of the kernel's parameters (rows) by the free parameters (columns)."""
        component, kind = self.free()
        matrix = np.eye(len(component))
        for k in np.flatnonzero(self.extended):
            first = int(np.flatnonzero((component == k) & (kind == 3))[0])
            a, b, c = self.shape[k]
            matrix[first : first + 3, first : first + 3] = [
                [2 * a, 0, 0],
                [b, a, 0],
                [0, 2 * b, 2 * c],
            ]
        return matrix


@dataclass(frozen=True)
class FitProblem:
    """Closure quantities laid out for the kernels; a cell is a (block, baseline) with data.

    Attributes
    ----------
    unit_rad : float
        Unit of angle in `Components`, 1 / (longest baseline in wavelengths), rad.
    u, v, log_amplitude, log_weight : (ncell,) float64
        Coordinates in units of the longest baseline, log amplitudes and their weights, which are
        0 where the amplitude is not used.
    ant1, ant2 : (ncell,) int64
    cell_start, triangle_start : (nblock + 1,) int64
        First cell and first triangle of each block, and the totals.
    triangle : (ntri, 3) int64
        Cells of each closure phase; the third enters with negative sign.
    phase, private : (ntri,) float64
        Closure phase (rad), and the part of its variance that it does not share (rad^2).
    load : (ntri, 3) float64; shared : (ntri, 3) int64
        Square root of the shared variance (with sign) and number in the block of the shared
        baseline, -1 where it belongs to this triangle only.
    nshared : (nblock,) int64
        Number of shared baselines in each block.
    nant : int
        Number of stations.
    n_phase : float
        Effective number of closure phases, the expectation of their chi2: 1 for each that is
        above the noise, 0 for each that is noise.
    n_amplitude : int
        Number of independent log closure amplitudes.
    field : float
        Largest offset a component may have, in units of ``unit_rad``.
    gain_weight : (nant,) or (0,) float64
        Inverse variance of each station's log gain in one block; empty when the gains are free.
    """

    unit_rad: float
    u: Float
    v: Float
    log_amplitude: Float
    log_weight: Float
    ant1: Int
    ant2: Int
    cell_start: Int
    triangle_start: Int
    triangle: Int
    phase: Float
    private: Float
    load: Float
    shared: Int
    nshared: Int
    nant: int
    n_phase: float
    n_amplitude: int
    field: float
    gain_weight: Float

    @property
    def n_data(self) -> float:
        """Effective number of independent closure quantities."""
        return self.n_phase + self.n_amplitude

    @classmethod
    def from_closures(
        cls,
        data: ClosureData,
        *,
        use_amplitudes: bool = True,
        phase_floor_rad: float = 0.02,
        amplitude_floor: float = 0.02,
        blocks: Int | None = None,
        field_rad: float = 0.0,
        gain_error: Sequence[float] = (),
    ) -> FitProblem:
        """Return the layout of all blocks, or of those numbered in ``blocks`` (ascending).

        The floors (rad; relative amplitude) are non-closing errors of real data; they are added in
        quadrature to the errors of closure phases and of baseline amplitudes. ``gain_error`` is the
        relative error of each station's amplitudes, the same at all times.
        """
        blocks = np.arange(len(data.uv)) if blocks is None else blocks
        phases = data.phases
        pick = np.flatnonzero(np.isin(phases.block, blocks))
        renumber = np.full(len(data.uv), -1, np.int64)
        renumber[blocks] = np.arange(len(blocks))
        nbl = len(data.ant1)
        used = np.isfinite(data.log_sigma[blocks]) if use_amplitudes else None
        occupied = np.zeros((len(blocks), nbl), bool) if used is None else used.copy()
        tri_block = renumber[phases.block[pick]]
        occupied[tri_block[:, None], phases.baseline[pick]] = True
        cell_of = np.cumsum(occupied.ravel()).reshape(occupied.shape) - 1
        where = np.nonzero(occupied)
        uv = data.uv[blocks][where]
        longest = float(np.hypot(*uv.T).max())
        weight = np.zeros(len(uv))
        n_amplitude = 0
        if used is not None:
            with np.errstate(invalid="ignore"):
                weight = 1 / (data.log_sigma[blocks][where] ** 2 + amplitude_floor**2)
            n_amplitude = _count_amplitudes(used, data.ant1, data.ant2, len(data.antenna))
        kappa = phases.concentration[pick]
        load, shared, nshared, private = _share(
            tri_block,
            phases.baseline[pick],
            1 / np.maximum(kappa, 1e-6),
            phases.fraction[pick],
            phase_floor_rad,
            len(blocks),
        )
        # The fringe spacing of the shortest baselines is the largest that a source seems to be;
        # parts of it may lie further apart than that, where many baselines tell them.
        shortest = float(np.percentile(np.hypot(*uv.T), 1))
        fringe = longest / max(shortest, 1e-9 * longest)
        field = field_rad * longest or min(max(fringe, LEAST_FIELD), MOST_FIELD)
        return cls(
            1 / longest,
            np.ascontiguousarray(uv[:, 0] / longest),
            np.ascontiguousarray(uv[:, 1] / longest),
            data.log_amplitude[blocks][where],
            weight,
            data.ant1[where[1]],
            data.ant2[where[1]],
            np.r_[0, np.cumsum(occupied.sum(axis=1))],
            np.searchsorted(tri_block, np.arange(len(blocks) + 1)),
            cell_of[tri_block[:, None], phases.baseline[pick]],
            phases.phase_rad[pick],
            private,
            load,
            shared,
            nshared,
            len(data.antenna),
            float((kappa * chord_variance(kappa)).sum()),
            n_amplitude,
            field,
            _gain_weight(
                gain_error, weight > 0, where[0], data.ant1[where[1]], data.ant2[where[1]]
            ),
        )


def _count_amplitudes(used: NDArray[np.bool_], ant1: Int, ant2: Int, nant: int) -> int:
    """Return the baselines minus the rank of their station gains, summed over blocks.

    The gains of connected stations are all determined where there is a loop of an odd number of
    baselines, otherwise all but one (van Nuffelen 1976: rank of the incidence matrix of a graph).
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    patterns, counts = np.unique(used, axis=0, return_counts=True)
    total = 0
    for pattern, count in zip(patterns, counts, strict=True):
        one, two = ant1[pattern], ant2[pattern]
        edges = np.ones(2 * len(one))
        # each station twice, once per colour: without odd loops the colours are not connected
        ends = np.concatenate([one, one + nant]), np.concatenate([two + nant, two])
        doubled = coo_matrix((edges, ends), shape=(2 * nant, 2 * nant))
        single = coo_matrix((edges[: len(one)], (one, two)), shape=(nant, nant))
        pieces = connected_components(single, directed=False, return_labels=False)
        colours = connected_components(doubled, directed=False, return_labels=False)
        rank = nant - (colours - pieces)
        total += int(count) * (len(one) - rank)
    return total


def _gain_weight(
    gain_error: Sequence[float], used: NDArray[np.bool_], block: Int, ant1: Int, ant2: Int
) -> Float:
    """Return 1 / variance of a station's log gain in one block, for one error common to all.

    Blocks are fitted separately. A gain that is the same in all n of them gets the prior's full
    weight when each block has an n-th of it; gains that change are hardly penalised.
    """
    blocks = np.zeros(len(gain_error))
    for station in range(len(gain_error)):
        here = used & ((ant1 == station) | (ant2 == station))
        blocks[station] = len(np.unique(block[here]))
    return np.asarray(1 / (np.square(gain_error) * np.maximum(blocks, 1)), dtype=np.float64)


def _share(
    block: Int, baseline: Int, variance: Float, fraction: Float, floor_rad: float, nblock: int
) -> tuple[Float, Int, Int, Float]:
    """Split the variance of closure phases into that of shared baselines and the rest."""
    nbl = int(baseline.max(initial=0)) + 1
    key = block[:, None] * nbl + baseline
    unique, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(key.shape)
    several = counts > 1
    owner = unique // nbl
    nshared = np.bincount(owner[several], minlength=nblock)
    number = np.full(len(unique), -1, np.int64)
    number[several] = np.arange(several.sum()) - np.r_[0, np.cumsum(nshared)][owner[several]]
    shared = number[inverse]
    part = np.where(shared >= 0, fraction * variance[:, None], 0.0)
    sign = np.array([1.0, 1.0, -1.0])
    # The guard keeps the matrix positive definite when a triangle's own baseline is noiseless.
    private = np.maximum(variance - part.sum(axis=1), 1e-3 * variance) + floor_rad**2
    return np.sqrt(part) * sign, shared, nshared.astype(np.int64), private
