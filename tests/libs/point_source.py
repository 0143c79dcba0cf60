"""A small measurement set of one point source, from the demonstration data of casadata."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from libs.casa.session import CasaSession, demo_data
from libs.core.geometry import ARCSEC_PER_RAD, SPEED_OF_LIGHT_M_S
from libs.ms.tables import open_table

FLUX_JY = 2.5
CELL_ARCSEC = 0.4
# East and north of the phase centre, pixels.
OFFSET_PIXELS = (10, -7)


def expected(ms: Path) -> np.ndarray:
    """Return the visibilities of the source, (nrow,) complex."""
    with open_table(ms) as opened:
        uvw = opened.getcol("UVW")
    with open_table(f"{ms}::SPECTRAL_WINDOW") as windows:
        frequency = float(windows.getcell("CHAN_FREQ", 0)[0])
    east, north = (pixels * CELL_ARCSEC / ARCSEC_PER_RAD for pixels in OFFSET_PIXELS)
    direction = np.array([east, north, np.sqrt(1 - east**2 - north**2) - 1])
    phase = 2 * np.pi * frequency / SPEED_OF_LIGHT_M_S * (uvw @ direction)
    return np.asarray(FLUX_JY * np.exp(1j * phase))


def make(ms: Path, session: CasaSession, *, rms_jy: float = 0.05) -> Path:
    """Make the measurement set: 27 antennas, 1 channel, 4 correlations, real flags."""
    session.run("importuvfits", fitsfile=demo_data("3C273XC1.fits"), vis=ms)
    signal = expected(ms)
    noise = np.random.default_rng(1)
    with open_table(ms, write=True) as opened:
        shape = opened.getcol("DATA").shape
        data = rms_jy * (noise.normal(size=shape) + 1j * noise.normal(size=shape))
        data[:, :, [0, 3]] += signal[:, None, None]
        opened.putcol("DATA", data.astype(np.complex64))
    return ms


def model_error(ms: Path) -> float:
    """Return the largest difference of MODEL_DATA from the source, Jy; all rows, both hands."""
    with open_table(ms) as opened:
        model = opened.getcol("MODEL_DATA")
    return float(np.abs(model[:, 0][:, [0, 3]] - expected(ms)[:, None]).max())


def forget_model(ms: Path) -> None:
    """Fill MODEL_DATA, where there is one, with nonsense."""
    with open_table(ms, write=True) as opened:
        if "MODEL_DATA" in opened.colnames():
            opened.putcol("MODEL_DATA", np.full_like(opened.getcol("MODEL_DATA"), 7.0))
