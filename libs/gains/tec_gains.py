"""Gains that TECs make."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from libs.gains.native_solve import GainFit
from libs.gains.tec import TecFit

__all__ = ["gains_of_tec"]


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
