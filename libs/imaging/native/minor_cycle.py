"""CLEAN's minor cycle: components found among some pixels of images of several scales."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

__all__ = ["clean_active"]

# Components that make the residual so many times as high as it was are not worth going on with.
_DIVERGED = 4.0


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def clean_active(
    x, y, scale, residual, metric_factor, floor, inverse, psf, pair, gain, stop, niter, flux
):  # fmt: skip
    """Take components off the residuals of the active pixels of all scales, in turn the best.

    In each iteration the pixel and scale that lower chi squared most are found, the best
    spectrum there is solved for, and `gain` times it is taken off every active pixel with the
    full PSF.

    Parameters
    ----------
    x, y, scale : (n,) int32
        Pixel and scale of each active residual.
    residual : (nterms, n) float32
        Residual images convolved with their scale; changed.
    metric_factor : (nscale,) float32
        |residual| times this is compared between scales.
    floor : (nscale,) float32
        Pixels whose |residual| is below are left.
    inverse : (nscale, nterms, nterms) float32
        Inverse of the Hessian: residuals of the terms at a pixel to the terms' flux, Jy.
    psf : (npair, 2 nterms - 1, height, width) float32
        PSFs of the terms convolved with two scales, the peak at (height // 2, width // 2).
    pair : (nscale, nscale) int64
        Index into ``psf`` of each two scales.
    gain : float
        Fraction of a component taken off.
    stop : float
        The cycle ends when the largest |residual| times its factor is below.
    niter : int
        Most components.
    flux : (nterms, n) float32
        Jy found at each active pixel; added to.

    Returns
    -------
    components, peak : int, float
        Number of components; the largest |residual| times its factor left.
    """
    nterms, count = residual.shape
    height, width = psf.shape[2], psf.shape[3]
    cy, cx = height // 2, width // 2
    amount = np.zeros(nterms, np.float32)
    best, peak = -1, np.float32(0.0)
    for i in range(count):
        value = abs(residual[0, i])
        if value >= floor[scale[i]] and value * metric_factor[scale[i]] > peak:
            best, peak = i, value * metric_factor[scale[i]]
    components, most = 0, np.float32(_DIVERGED) * peak
    while components < niter and best >= 0 and stop < peak <= most:
        bx, by, bs = x[best], y[best], scale[best]
        for t in range(nterms):
            total = np.float32(0.0)
            for q in range(nterms):
                total += inverse[bs, t, q] * residual[q, best]
            amount[t] = np.float32(gain) * total
            flux[t, best] += amount[t]
        components += 1
        best, peak = -1, np.float32(0.0)
        for i in range(count):
            dy, dx = y[i] - by + cy, x[i] - bx + cx
            if 0 <= dy < height and 0 <= dx < width:
                k = pair[bs, scale[i]]
                for t in range(nterms):
                    total = np.float32(0.0)
                    for q in range(nterms):
                        total += psf[k, t + q, dy, dx] * amount[q]
                    residual[t, i] -= total
            value = abs(residual[0, i])
            if value >= floor[scale[i]] and value * metric_factor[scale[i]] > peak:
                best, peak = i, value * metric_factor[scale[i]]
    return components, float(peak) if math.isfinite(peak) else math.inf
