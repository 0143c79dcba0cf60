"""A model of the sky that a user brings, and its visibilities: components, or an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from libs.core.coordinates import radec_to_lm, rotation, to_j2000
from libs.core.errors import InputError
from libs.core.gaussian import GaussianComponent
from libs.core.geometry import ARCSEC_PER_RAD, SPEED_OF_LIGHT_M_S
from libs.imaging.interface import open_image
from libs.imaging.native.gridding import Gridder, cropped
from libs.imaging.native.model_column import GriddedModel, degridded
from libs.imaging.native.samples import turn_phases

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = ["ComponentSky", "ImageSky", "SkyComponent", "StartModel", "read_sky_image"]

Float = NDArray[np.float64]

_SIN = ("RA---SIN", "DEC--SIN")
_EQUAL = 1e-6  # of a pixel's sides, and of a rotation


class StartModel(Protocol):
    """What both kinds of models can do."""

    @property
    def flux_jy(self) -> float:
        """Total flux density, Jy."""

    def visibilities(
        self, uvw_m: Float, frequency_hz: Float, centre_rad: tuple[float, float]
    ) -> NDArray[np.complexfloating]:
        """Return Stokes I visibilities, Jy, (..., nfreq).

        Parameters
        ----------
        uvw_m : (..., 3) float64
            As in the UVW column, m.
        frequency_hz : (nfreq,) float64
        centre_rad : (float, float)
            Phase centre of the data, J2000.
        """


# -- components -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SkyComponent:
    """A point or Gaussian.

    Attributes
    ----------
    ra_rad, dec_rad : float
        Position, J2000.
    flux_jy : float
        Stokes I at ``reference_hz``.
    major_arcsec, minor_arcsec, pa_deg : float
        FWHM and position angle; 0 for a point.
    reference_hz : float
        0 where the spectrum is flat.
    spectrum : tuple of float
        Coefficients a, b, ...
    logarithmic : bool
        True: log10(S / S0) = a log10 x + b (log10 x)^2 + ..., with x = nu / nu0; False:
        S = S0 + a (x - 1) + b (x - 1)^2 + ..., Jy: the convention of WSClean's lists.
    """

    ra_rad: float
    dec_rad: float
    flux_jy: float
    major_arcsec: float = 0.0
    minor_arcsec: float = 0.0
    pa_deg: float = 0.0
    reference_hz: float = 0.0
    spectrum: tuple[float, ...] = ()
    logarithmic: bool = True

    def flux_at(self, frequency_hz: Float) -> Float:
        """Return the flux density at frequencies, Jy."""
        if not self.spectrum or self.reference_hz <= 0:
            return np.full(np.shape(frequency_hz), self.flux_jy)
        ratio = np.asarray(frequency_hz) / self.reference_hz
        x = np.log10(ratio) if self.logarithmic else ratio - 1.0
        series = sum(c * x**power for power, c in enumerate(self.spectrum, start=1))
        if self.logarithmic:
            return np.asarray(self.flux_jy * 10.0**series)
        return np.asarray(self.flux_jy + series)


@dataclass(frozen=True)
class ComponentSky:
    """A list of components."""

    components: tuple[SkyComponent, ...]

    @property
    def flux_jy(self) -> float:
        """Total flux density at each component's reference frequency, Jy."""
        return math.fsum(one.flux_jy for one in self.components)

    def visibilities(
        self, uvw_m: Float, frequency_hz: Float, centre_rad: tuple[float, float]
    ) -> NDArray[np.complex128]:
        """Return visibilities (see `StartModel`): a direct sum, with the w term."""
        scale = np.asarray(frequency_hz) / SPEED_OF_LIGHT_M_S
        u, v = (np.multiply.outer(uvw_m[..., axis], scale) for axis in (0, 1))
        total = np.zeros(u.shape, np.complex128)
        for one in self.components:
            l_rad, m_rad = radec_to_lm(one.ra_rad, one.dec_rad, *centre_rad)
            shape = GaussianComponent(
                1.0, l_rad, m_rad, one.major_arcsec / ARCSEC_PER_RAD,
                one.minor_arcsec / ARCSEC_PER_RAD, math.radians(one.pa_deg),
            )  # fmt: skip
            part = shape.visibility(u, v) * one.flux_at(frequency_hz)
            n_minus_1 = math.sqrt(1.0 - l_rad**2 - m_rad**2) - 1.0
            turns = np.multiply.outer(uvw_m[..., 2] * n_minus_1, scale)
            total += part * np.exp(2j * np.pi * turns)
        return total

    def within(self, centre_rad: tuple[float, float], radius_rad: float) -> ComponentSky:
        """Return the components within an angle (below a right angle) of a direction."""
        limit = math.sin(radius_rad)
        return ComponentSky(
            tuple(
                one
                for one in self.components
                if math.hypot(*radec_to_lm(one.ra_rad, one.dec_rad, *centre_rad)) <= limit
                and _in_front(one, centre_rad)
            )
        )


def _in_front(one: SkyComponent, centre_rad: tuple[float, float]) -> bool:
    """Whether a component is on the near half of the sky: direction cosines tell it of neither."""
    ra, dec = centre_rad
    cosine = math.sin(one.dec_rad) * math.sin(dec) + math.cos(one.dec_rad) * math.cos(
        dec
    ) * math.cos(one.ra_rad - ra)
    return cosine > 0


# -- an image -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ImageSky:
    """A model image about its own centre.

    Attributes
    ----------
    model : GriddedModel
    centre_rad : (float, float)
        Where its projection touches the sphere, J2000.
    """

    model: GriddedModel
    centre_rad: tuple[float, float]

    @property
    def flux_jy(self) -> float:
        """Total flux density, Jy."""
        return float(self.model.terms[0].sum(dtype=np.float64))

    def visibilities(
        self, uvw_m: Float, frequency_hz: Float, centre_rad: tuple[float, float]
    ) -> NDArray[np.complexfloating]:
        """Return visibilities (see `StartModel`), degridded about the image's own centre."""
        rows = np.ascontiguousarray(uvw_m.reshape(-1, 3))
        turned = rows @ rotation(centre_rad, self.centre_rad).T
        values = degridded(self.model, turned, np.asarray(frequency_hz))
        if centre_rad != self.centre_rad:
            values = values * turn_phases(turned[:, 2] - rows[:, 2], frequency_hz)
        return values.reshape(*uvw_m.shape[:-1], len(frequency_hz))


def read_sky_image(paths: Sequence[Path]) -> ImageSky:
    """Read a model image, or the images of its Taylor terms.

    Parameters
    ----------
    paths : sequence of Path
        FITS images in Jy/pixel in the orthographic projection (SIN), north up, with square
        pixels, as CASA, WSClean and this program write them.

    Raises
    ------
    InputError
        An image is something else, is empty or not finite, or the images differ.
    """
    planes, header = [], None
    for path in paths:
        plane, header = open_image(path)
        _check_model(path, plane, header)
        # degridding wants even sizes; added rows and columns are empty
        padding = [(0, size % 2) for size in plane.shape]
        planes.append(np.pad(plane.astype(np.float64), padding))
    if header is None or len({plane.shape for plane in planes}) > 1:
        raise InputError("the model's images differ in shape", "give those of one run")
    terms = np.stack(planes)
    if not terms.any():
        raise InputError(f"the model {paths[0].name} is empty", "give one with flux")
    ny, nx = terms.shape[1:]
    cell = math.radians(header["CDELT2"])
    offset = (
        -cell * (nx // 2 + 1 - float(header["CRPIX1"])),
        cell * (ny // 2 + 1 - float(header["CRPIX2"])),
    )
    touches = math.radians(header["CRVAL1"]) % (2 * math.pi), math.radians(header["CRVAL2"])
    centre = to_j2000(touches, _frame(paths[0], header))
    gridder, own = cropped(Gridder((nx, ny), cell, offset), terms)
    where = (math.degrees(centre[0]), math.degrees(centre[1]))
    return ImageSky(GriddedModel(own, _reference_hz(header), gridder, where), centre)


def _check_model(path: Path, plane: NDArray[np.floating], header: fits.Header) -> None:
    unit = str(header.get("BUNIT", "")).strip().lower()
    if unit not in ("jy/pixel", "jy pixel-1", "jy/pix"):
        raise InputError(
            f"the model {path.name} is in {unit or 'no unit'}", "give a model image in Jy/pixel"
        )
    if not np.isfinite(plane).all():
        raise InputError(f"the model {path.name} is not finite", "put 0 where there is no flux")
    kind = tuple(str(header.get(f"CTYPE{axis}", "")).strip() for axis in (1, 2))
    sides = [float(header.get(f"CDELT{axis}", 0.0)) for axis in (1, 2)]
    square = sides[1] > 0 and abs(sides[0] + sides[1]) <= _EQUAL * sides[1]
    turned = [float(header.get(name, 0.0)) for name in ("CROTA2", "PC1_2", "PC2_1", "PC01_02")]
    slant = [float(header.get(name, 0.0)) for name in ("PV2_1", "PV2_2")]
    if kind != _SIN or not square or max(map(abs, turned)) > _EQUAL or any(slant):
        raise InputError(
            f"the model {path.name} is not in the SIN projection, north up, with square pixels",
            "regrid it, for example with CASA's imregrid",
        )


def _frame(path: Path, header: fits.Header) -> str:
    """Return the name of an image's frame."""
    system = str(header.get("RADESYS", header.get("RADECSYS", ""))).strip().upper()
    equinox = float(header.get("EQUINOX", header.get("EPOCH", 2000.0)))
    if system == "ICRS":
        return "ICRS"
    if equinox == 2000.0 and system in ("", "FK5"):
        return "J2000"
    if equinox == 1950.0 and system in ("", "FK4"):
        return "B1950"
    raise InputError(
        f"the model {path.name} is in {system or 'an unknown system'}, equinox {equinox:g}",
        "give it in J2000 or ICRS",
    )


def _reference_hz(header: fits.Header) -> float:
    for axis in (3, 4):
        if str(header.get(f"CTYPE{axis}", "")).startswith("FREQ"):
            return float(header[f"CRVAL{axis}"])
    return 0.0
