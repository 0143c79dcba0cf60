"""Least squares of Gaussian components against closure quantities: kernels and minimiser.

Closure phases of a block share baselines, so their covariance is not diagonal:
``C = diag(private) + G G^T`` with one column of G for each shared baseline. Log amplitudes
contain the gains of their two stations, which are marginalised with a flat prior; this equals a
fit to all log closure amplitudes with their full covariance. Where the errors of the stations'
amplitudes are known, the prior has their width, and a common factor of all amplitudes, the
model's flux, is marginalised as well. Both systems are solved with the Woodbury identity, in
matrices no larger than the number of stations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from libs.closure.problem import Components, FitProblem

__all__ = ["Fitted", "gradient_map", "minimise", "objective"]

Float = NDArray[np.float64]
Int = NDArray[np.int64]


@njit(cache=True, nogil=True)
def _solve_small(matrix, size, right, columns):  # pragma: no cover
    """Set right := L^-1 right in place, with matrix = L L^T; matrix is overwritten by L."""
    for i in range(size):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            if i == j:
                matrix[i, i] = np.sqrt(max(total, 1e-300))
            else:
                matrix[i, j] = total / matrix[j, j]
    for i in range(size):
        for k in range(i):
            factor = matrix[i, k]
            for c in range(columns):
                right[i, c] -= factor * right[k, c]
        for c in range(columns):
            right[i, c] /= matrix[i, i]


@njit(cache=True, nogil=True)
def _back_substitute(factor, size, right, column):  # pragma: no cover
    """Return L^-T right[:, column], after `_solve_small`."""
    result = np.empty(size)
    for i in range(size - 1, -1, -1):
        total = right[i, column]
        for k in range(i + 1, size):
            total -= factor[k, i] * result[k]
        result[i] = total / factor[i, i]
    return result


@njit(cache=True, nogil=True)
def _model_cell(table, component, kind, u, v, derivative):  # pragma: no cover
    """Return the visibility; set derivative[j] = d ln V / d parameter j."""
    value = 0j
    for k in range(len(table)):
        exponent = table[k, 0] - 2 * np.pi**2 * (
            table[k, 3] * u * u + 2 * table[k, 4] * u * v + table[k, 5] * v * v
        )
        angle = 2 * np.pi * (u * table[k, 1] + v * table[k, 2])
        part = np.exp(exponent) * complex(np.cos(angle), np.sin(angle))
        value += part
        for j in range(len(component)):
            if component[j] != k:
                continue
            if kind[j] == 0:
                derivative[j] = part
            elif kind[j] == 1:
                derivative[j] = part * complex(0.0, 2 * np.pi * u)
            elif kind[j] == 2:
                derivative[j] = part * complex(0.0, 2 * np.pi * v)
            elif kind[j] == 3:
                derivative[j] = part * (-2 * np.pi**2 * u * u)
            elif kind[j] == 4:
                derivative[j] = part * (-4 * np.pi**2 * u * v)
            else:
                derivative[j] = part * (-2 * np.pi**2 * v * v)
    if abs(value) < 1e-30:
        value = 1e-30 + 0j
    for j in range(len(component)):
        derivative[j] /= value
    return value


@njit(cache=True, nogil=True)
def _accumulate(rows, residual, weight, normal, gradient):  # pragma: no cover
    """Add rows^T w rows (lower triangle) to normal, and rows^T w residual to gradient."""
    p = len(gradient)
    for n in range(len(residual)):
        w = weight[n]
        if w == 0.0:
            continue
        for a in range(p):
            x = w * rows[n, a]
            gradient[a] += x * residual[n]
            for b in range(a + 1):
                normal[a, b] += x * rows[n, b]


@njit(cache=True, nogil=True)
def _subtract(work, size, p, normal, gradient):  # pragma: no cover
    """Subtract T^T T, where T is work[:, :p] and y is work[:, p]; return y^T y."""
    loss = 0.0
    for i in range(size):
        y = work[i, p]
        loss += y * y
        for a in range(p):
            gradient[a] -= work[i, a] * y
            for b in range(a + 1):
                normal[a, b] -= work[i, a] * work[i, b]
    return loss


@njit(cache=True, nogil=True)
def _phase_block(
    dlog, angle, cells, phase, private, load, shared, nshared, robust, normal, gradient
):  # pragma: no cover
    """Return chi2 of the closure phases of one block; add to normal and gradient."""
    p = len(gradient)
    n = len(phase)
    rows = np.empty((n, p))
    residual = np.empty(n)
    weight = np.empty(n)
    chi2 = 0.0
    for t in range(n):
        x, y, z = cells[t, 0], cells[t, 1], cells[t, 2]
        difference = phase[t] - (angle[x] + angle[y] - angle[z])
        # Wrapped, so that the sign is right: the covariance mixes residuals.
        half = 0.5 * (difference - 2 * np.pi * np.round(difference / (2 * np.pi)))
        residual[t] = 2 * np.sin(half)
        slope = np.cos(half)
        for a in range(p):
            rows[t, a] = slope * (dlog[x, a].imag + dlog[y, a].imag - dlog[z, a].imag)
        if robust:
            variance = private[t] + load[t, 0] ** 2 + load[t, 1] ** 2 + load[t, 2] ** 2
            root = np.sqrt(1 + residual[t] ** 2 / variance)
            chi2 += 2 * (root - 1)
            weight[t] = 1 / (variance * root)
        else:
            weight[t] = 1 / private[t]
            chi2 += residual[t] ** 2 * weight[t]
    _accumulate(rows, residual, weight, normal, gradient)
    if robust or nshared == 0:
        return chi2
    matrix = np.eye(nshared)
    work = np.zeros((nshared, p + 1))
    for t in range(n):
        for e in range(3):
            i = shared[t, e]
            if i < 0:
                continue
            x = load[t, e] * weight[t]
            work[i, p] += x * residual[t]
            for a in range(p):
                work[i, a] += x * rows[t, a]
            for d in range(3):
                if shared[t, d] >= 0:
                    matrix[i, shared[t, d]] += x * load[t, d]
    _solve_small(matrix, nshared, work, p + 1)
    return chi2 - _subtract(work, nshared, p, normal, gradient)


@njit(cache=True, nogil=True)
def _gain_system(rows, residual, weight, ant1, ant2, nant, p, prior):  # pragma: no cover
    """Return normal equations of station gains and, with a prior, a factor of all amplitudes."""
    size = nant + 1 if len(prior) else nant
    matrix = np.zeros((size, size))
    work = np.zeros((size, p + 1))
    for n in range(len(residual)):
        w = weight[n]
        if w == 0.0:
            continue
        i, j = ant1[n], ant2[n]
        matrix[i, i] += w
        matrix[j, j] += w
        matrix[i, j] += w
        matrix[j, i] += w
        for a in range(p):
            x = w * rows[n, a]
            work[i, a] += x
            work[j, a] += x
        work[i, p] += w * residual[n]
        work[j, p] += w * residual[n]
        if size > nant:
            matrix[nant, nant] += w
            for k in (i, j):
                matrix[nant, k] += w
                matrix[k, nant] += w
            for a in range(p):
                work[nant, a] += w * rows[n, a]
            work[nant, p] += w * residual[n]
    largest = 1e-300
    for i in range(size):
        largest = max(largest, matrix[i, i])
    for i in range(size):
        # A wide prior keeps stations without data, and chains without a loop, solvable.
        matrix[i, i] += 1e-8 * largest
    for i in range(len(prior)):
        matrix[i, i] += prior[i]
    return matrix, work


@njit(cache=True, nogil=True)
def _amplitude_block(
    dlog, log_model, log_amplitude, base_weight, ant1, ant2, nant, prior, robust, normal, gradient
):  # pragma: no cover
    """Return chi2 of the log amplitudes of one block, station gains marginalised."""
    p = len(gradient)
    n = len(log_amplitude)
    rows = np.empty((n, p))
    residual = np.empty(n)
    for c in range(n):
        residual[c] = log_amplitude[c] - log_model[c]
        for a in range(p):
            rows[c, a] = dlog[c, a].real
    weight = base_weight.copy()
    passes = 2 if robust else 1
    chi2 = 0.0
    for step in range(passes):
        matrix, work = _gain_system(rows, residual, weight, ant1, ant2, nant, p, prior)
        size = len(matrix)
        _solve_small(matrix, size, work, p + 1)
        if robust:
            gain = _back_substitute(matrix, size, work, p)
            factor = gain[nant] if size > nant else 0.0
            chi2 = 0.0
            for i in range(len(prior)):
                chi2 += prior[i] * gain[i] ** 2
            for c in range(n):
                left = residual[c] - gain[ant1[c]] - gain[ant2[c]] - factor
                root = np.sqrt(1 + left * left * base_weight[c])
                chi2 += 2 * (root - 1)
                if step == 0:
                    weight[c] = base_weight[c] / root
    _accumulate(rows, residual, weight, normal, gradient)
    loss = _subtract(work, size, p, normal, gradient)
    if not robust:
        for c in range(n):
            chi2 += weight[c] * residual[c] ** 2
        chi2 -= loss
    return chi2


@njit(cache=True, nogil=True)
def _evaluate(
    table, component, kind, u, v, log_amplitude, log_weight, ant1, ant2, cell_start,
    triangle_start, triangle, phase, private, load, shared, nshared, nant, prior, robust,
):  # fmt: skip # pragma: no cover
    """Return objective (phases, amplitudes), gradient and normal matrix in kernel parameters."""
    p = len(component)
    normal = np.zeros((p, p))
    gradient = np.zeros(p)
    chi2_phase, chi2_amplitude = 0.0, 0.0
    for b in range(len(cell_start) - 1):
        first, last = cell_start[b], cell_start[b + 1]
        dlog = np.zeros((last - first, p), np.complex128)
        angle = np.empty(last - first)
        log_model = np.empty(last - first)
        any_amplitude = False
        for c in range(first, last):
            value = _model_cell(table, component, kind, u[c], v[c], dlog[c - first])
            angle[c - first] = np.arctan2(value.imag, value.real)
            log_model[c - first] = np.log(abs(value))
            any_amplitude |= log_weight[c] > 0
        s = slice(triangle_start[b], triangle_start[b + 1])
        chi2_phase += _phase_block(
            dlog, angle, triangle[s] - first, phase[s], private[s], load[s], shared[s],
            nshared[b], robust, normal, gradient,
        )  # fmt: skip
        if any_amplitude:
            s = slice(first, last)
            chi2_amplitude += _amplitude_block(
                dlog, log_model, log_amplitude[s], log_weight[s], ant1[s], ant2[s], nant,
                prior, robust, normal, gradient,
            )  # fmt: skip
    for a in range(p):
        for b in range(a):
            normal[b, a] = normal[a, b]
    return chi2_phase, chi2_amplitude, gradient, normal


def _run(
    problem: FitProblem, model: Components, free: tuple[Int, Int], robust: bool
) -> tuple[float, float, Float, Float]:
    return _evaluate(
        model.table(), *free, problem.u, problem.v, problem.log_amplitude, problem.log_weight,
        problem.ant1, problem.ant2, problem.cell_start, problem.triangle_start, problem.triangle,
        problem.phase, problem.private, problem.load, problem.shared, problem.nshared,
        problem.nant, problem.gain_weight, robust,
    )  # fmt: skip


def objective(
    problem: FitProblem, model: Components, *, robust: bool = False
) -> tuple[float, float]:
    """Return chi2 of closure phases and of log closure amplitudes (or their soft-L1 loss)."""
    none = np.zeros(0, np.int64)
    chi2_phase, chi2_amplitude, _, _ = _run(problem, model, (none, none), robust)
    return float(chi2_phase), float(chi2_amplitude)


@dataclass(frozen=True)
class Fitted:
    """Result of a minimisation.

    Attributes
    ----------
    model : Components
    chi2_phase, chi2_amplitude : float
        Chi2 of each kind, or the soft-L1 loss when that was minimised.
    normal : (6 per free component, ...) float64
        Half the second derivatives of chi2 by the kernel's parameters (ln flux, l, m, and the
        three elements of the sky covariance): the Fisher matrix.
    penalty : float
        Contribution of the prior: of models that fit equally well, one within the field is better.
    """

    model: Components
    chi2_phase: float
    chi2_amplitude: float
    normal: Float
    penalty: float = 0.0

    @property
    def objective(self) -> float:
        """The minimised quantity: chi2 plus the prior's contribution."""
        return self.chi2 + self.penalty

    @property
    def chi2(self) -> float:
        """Sum of both chi2."""
        return self.chi2_phase + self.chi2_amplitude


def _prior(problem: FitProblem, kind: Int) -> Float:
    """Return weights of a very wide prior about 0, which bounds what closures do not fix."""
    width = np.array([4.0, problem.field, problem.field, *3 * [problem.field / 2]])
    return width[kind] ** -2.0


def minimise(
    problem: FitProblem,
    model: Components,
    *,
    robust: bool = False,
    iterations: int = 40,
    tolerance: float = 1e-3,
) -> Fitted:
    """Minimise by Levenberg-Marquardt until the objective falls by less than ``tolerance``.

    The loss with ``robust`` is soft-L1 on single errors, ``2 (sqrt(1 + z^2) - 1)``.
    """
    free = model.free()
    prior = _prior(problem, free[1])
    damping = 1e-2
    state = _run(problem, model, free, robust)
    vector = model.vector()
    value = state[0] + state[1] + float(prior @ vector**2)
    small = 0
    for _ in range(iterations):
        if not len(vector):
            break
        chain = model.chain()
        normal = chain.T @ state[3] @ chain + np.diag(prior)
        slope = chain.T @ state[2] - prior * vector
        diagonal = np.diag(normal) + 1e-12 * normal.diagonal().max()
        step = np.linalg.solve(normal + damping * np.diag(diagonal), slope)
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        trial = model.with_vector(vector + step)
        trial_state = _run(problem, trial, free, robust)
        trial_value = trial_state[0] + trial_state[1] + float(prior @ (vector + step) ** 2)
        if np.isfinite(trial_value) and trial_value < value:
            small = small + 1 if value - trial_value < tolerance else 0
            model, vector, state, value = trial, vector + step, trial_state, trial_value
            damping = max(damping * 0.2, 1e-9)
        else:
            small += 1 if damping > 1e3 else 0
            damping *= 8.0
        if small >= 2 or damping > 1e8:
            break
    penalty = float(prior @ vector**2)
    return Fitted(model, float(state[0]), float(state[1]), state[3], penalty)


@njit(cache=True, nogil=True)
def _backproject(
    table, u, v, log_amplitude, log_weight, ant1, ant2, cell_start, triangle_start, triangle,
    phase, private, load, nant, prior,
):  # fmt: skip # pragma: no cover
    """Return Fourier coefficients of the objective's slope by a point's flux, and its curvature."""
    none = np.zeros(0, np.int64)
    coefficient = np.zeros(len(u), np.complex128)
    curvature = 0.0
    for b in range(len(cell_start) - 1):
        first, last = cell_start[b], cell_start[b + 1]
        n = last - first
        if n == 0:  # a window that is flagged for a time
            continue
        value = np.empty(n, np.complex128)
        residual = np.empty(n)
        pull = np.zeros(n, np.complex128)
        empty = np.zeros((n, 0))
        blank = np.zeros(0, np.complex128)
        for c in range(n):
            value[c] = _model_cell(table, none, none, u[first + c], v[first + c], blank)
            residual[c] = log_amplitude[first + c] - np.log(abs(value[c]))
        for t in range(triangle_start[b], triangle_start[b + 1]):
            x, y, z = triangle[t, 0] - first, triangle[t, 1] - first, triangle[t, 2] - first
            product = value[x] * value[y] * np.conj(value[z])
            half = 0.5 * (phase[t] - np.arctan2(product.imag, product.real))
            variance = private[t] + load[t, 0] ** 2 + load[t, 1] ** 2 + load[t, 2] ** 2
            r = 2 * np.sin(half)
            w = 1 / (variance * np.sqrt(1 + r * r / variance))
            drive = w * r * np.cos(half)
            pull[x] += complex(0.0, -drive)
            pull[y] += complex(0.0, -drive)
            pull[z] -= complex(0.0, -drive)
            for e in (x, y, z):
                curvature += 0.5 * w / (abs(value[e]) ** 2)
        weight = log_weight[first:last]
        if weight.max() > 0:
            a1, a2 = ant1[first:last], ant2[first:last]
            matrix, work = _gain_system(empty, residual, weight, a1, a2, nant, 0, prior)
            size = len(matrix)
            _solve_small(matrix, size, work, 1)
            gain = _back_substitute(matrix, size, work, 0)
            factor = gain[nant] if size > nant else 0.0
            for c in range(n):
                left = residual[c] - gain[a1[c]] - gain[a2[c]] - factor
                w = weight[c] / np.sqrt(1 + left * left * weight[c])
                pull[c] += w * left
                curvature += 0.5 * w / (abs(value[c]) ** 2)
        coefficient[first:last] = pull / value
    return coefficient, curvature


def _powers(frequency: Float, axis: Float) -> NDArray[np.complex64]:
    """Return exp(2 pi i axis frequency), (n, ncell), by products along a regular axis."""
    result = np.empty((len(axis), len(frequency)), np.complex64)
    current = np.exp(2j * np.pi * axis[0] * frequency)
    step = np.exp(2j * np.pi * (axis[1] - axis[0]) * frequency)
    for row in result:
        row[:] = current
        current *= step
    return result


def gradient_map(problem: FitProblem, model: Components, axis: Float) -> Float:
    """Return the expected fall of the soft-L1 loss by one more point source, on an (l, m) grid.

    It is the closure counterpart of a residual dirty image: slope of the objective by the flux of
    a point at each position, squared, over its mean curvature; 0 where the slope is negative.

    Parameters
    ----------
    axis : (n,) float64
        Regular coordinates of the grid in both l and m, in units of ``problem.unit_rad``.

    Returns
    -------
    (n, n) float64, first axis l.
    """
    coefficient, curvature = _backproject(
        model.table(), problem.u, problem.v, problem.log_amplitude, problem.log_weight,
        problem.ant1, problem.ant2, problem.cell_start, problem.triangle_start, problem.triangle,
        problem.phase, problem.private, problem.load, problem.nant, problem.gain_weight,
    )  # fmt: skip
    # Single precision and real products are enough to choose starting positions.
    along_l = _powers(problem.u, axis) * coefficient.astype(np.complex64)
    along_m = _powers(problem.v, axis).T
    slope = along_l.real @ along_m.real - along_l.imag @ along_m.imag
    return np.maximum(slope, 0.0).astype(float) ** 2 / curvature
