"""The true sky as a run's image would show it, and whether the run's error bars hold it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ImageError
from libs.core.geometry import ARCSEC_PER_RAD, SPEED_OF_LIGHT_M_S
from libs.imaging.align import shift_plane
from libs.imaging.gaussian_fit import fit_gaussian
from libs.imaging.interface import open_image, write_image
from libs.imaging.statistics import grid_of, mad_std
from libs.simulation.scenarios import Scenario
from libs.simulation.sky import sky_visibilities, source_table

__all__ = ["deviations", "true_plane"]

_SHORTEST_BEAM = 1e-7  # of the beam's transform, beyond which nothing is seen


def true_plane(scenario: Scenario, image: Path) -> NDArray[np.float32]:
    """Return the drawn sky convolved with the beam of an image, on its grid, Jy/beam.

    The exact visibilities of the sky on a regular grid of (u, v), times the transform of the
    beam, are transformed back; the field is taken as flat.
    """
    plane, header = open_image(image)
    grid = grid_of(header)
    ny, nx = plane.shape
    cell_rad = grid.cell_arcsec / ARCSEC_PER_RAD
    v, u = np.meshgrid(np.fft.fftfreq(ny, cell_rad), np.fft.fftfreq(nx, cell_rad), indexing="ij")
    pa = math.radians(grid.beam_pa_deg)
    along, across = u * math.sin(pa) + v * math.cos(pa), u * math.cos(pa) - v * math.sin(pa)
    widths = grid.beam_major_arcsec / ARCSEC_PER_RAD, grid.beam_minor_arcsec / ARCSEC_PER_RAD
    exponent = (along * widths[0]) ** 2 + (across * widths[1]) ** 2
    beam = np.exp(-(math.pi**2) / (4 * math.log(2)) * exponent)
    seen = beam > _SHORTEST_BEAM
    hz = float(header["CRVAL3"])
    places = np.zeros((int(seen.sum()), 2, 3))
    places[:, 1, 0], places[:, 1, 1] = u[seen], v[seen]
    reference_hz = float(np.mean([window.centre_hz for window in scenario.spws]))
    table = source_table(scenario.sky, np.array([hz]), reference_hz)
    values = np.zeros(plane.shape, complex)
    values[seen] = sky_visibilities(
        places * SPEED_OF_LIGHT_M_S / hz, np.array([0]), np.array([1]), np.array([hz]), table
    )[:, 0, 0]
    # columns run to the west, rows to the north; the phase centre is pixel (nx / 2, ny / 2)
    shown = np.fft.fft(np.fft.ifft(values * beam, axis=1), axis=0) / ny
    return np.asarray(np.fft.fftshift(shown.real) * grid.beam_area_pixels, np.float32)


def deviations(scenario: Scenario, workdir: Path, summary: Mapping[str, Any],
               folder: Path) -> dict[str, float]:  # fmt: skip
    """Return (measured - true) / error of a run's main source, by quantity.

    Returns
    -------
    dict of str to float
        Empty where the run gives no errors, there is no source, or the true one has no Gaussian.
    """
    said = summary.get("main_source")
    if not said or not scenario.sky or said["ra_deg"]["value"] is None:
        return {}
    image = workdir / summary["final"]["image"]
    measured, header = open_image(image)
    truth = true_plane(scenario, image)
    path = write_image(truth, header, folder / "true.fits")
    try:
        own = fit_gaussian(path, noise_jy_beam=float(truth.max()) * 1e-6)
        seen = fit_gaussian(image)
    except ImageError:
        return {}
    moved = shift_plane(truth, seen.x_pixel - own.x_pixel, seen.y_pixel - own.y_pixel)
    residual, _ = open_image(workdir / said["image"].replace("-image", "-residual"))
    inside = measured > 5.0 * mad_std(residual)
    grid = grid_of(header)
    width = math.cos(math.radians(own.dec_deg))
    off = {
        "peak_jy_beam": said["peak_jy_beam"]["value"] - own.peak_jy_beam,
        "total_flux_jy": float(np.sum((measured - moved)[inside])) / grid.beam_area_pixels,
        "ra_deg": (said["ra_deg"]["value"] - own.ra_deg) * 3600.0 * width,
        "dec_deg": (said["dec_deg"]["value"] - own.dec_deg) * 3600.0,
        "major_arcsec": said["major_arcsec"]["value"] - own.major_arcsec,
        "minor_arcsec": said["minor_arcsec"]["value"] - own.minor_arcsec,
    }
    errors = {name: said[name]["error"] for name in off}
    return {name: off[name] / error for name, error in errors.items() if error}
