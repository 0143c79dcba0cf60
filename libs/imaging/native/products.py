"""The FITS images of a run: headers, names, checks."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from libs.core.errors import ImageError
from libs.core.geometry import ARCSEC_PER_RAD
from libs.imaging.interface import ImageProducts, ImagingOptions, write_image
from libs.imaging.native.restore import Beam
from libs.imaging.native.visibility_store import StoreFacts
from libs.imaging.products import plane_name
from libs.ms.subtables import Subtables

__all__ = ["Planes", "image_header", "write_products"]

_MJD_EPOCH_JD = 2400000.5
_DAY_S = 86400.0


@dataclass(frozen=True)
class Planes:
    """Images of a run, (ny, nx) each.

    Attributes
    ----------
    image, residual, psf, dirty : (ny, nx) float32
    models : sequence of (ny, nx) float32
        By Taylor term, Jy/pixel.
    beam : Beam
    stokes : str
        Stokes parameter.
    response : (ny, nx) float32 or None
        Response of a mosaic.
    seen : (ny, nx) bool or None
        Where a mosaic is not blank.
    """

    image: NDArray[np.floating]
    residual: NDArray[np.floating]
    psf: NDArray[np.floating]
    dirty: NDArray[np.floating]
    models: Sequence[NDArray[np.floating]]
    beam: Beam
    stokes: str = "I"
    response: NDArray[np.floating] | None = None
    seen: NDArray[np.bool_] | None = None


def image_header(
    options: ImagingOptions,
    centre: Any,
    offset_rad: tuple[float, float],
    facts: StoreFacts,
    version: str,
    stokes: str = "I",
) -> fits.Header:
    """Return the header that all images of a run share.

    Parameters
    ----------
    options : ImagingOptions
    centre : PhaseCentre
        Of the visibilities: where the sky's projection touches.
    offset_rad : (float, float)
        Direction cosines of the image's centre from there.
    facts : StoreFacts
        Edges of the band and start of the observation.
    version : str
        For the record.
    stokes : str
        Stokes parameter of the image.
    """
    width, height = options.imsize
    cell = options.cell_arcsec / 3600.0
    cell_rad = options.cell_arcsec / ARCSEC_PER_RAD
    header = fits.Header()
    header["NAXIS"] = 4
    axes = (
        ("RA---SIN", centre.ra_deg, -cell, width // 2 + 1 + offset_rad[0] / cell_rad, "deg"),
        ("DEC--SIN", centre.dec_deg, cell, height // 2 + 1 - offset_rad[1] / cell_rad, "deg"),
        ("FREQ", facts.centre_hz, facts.highest_hz - facts.lowest_hz, 1.0, "Hz"),
        ("STOKES", float("IQUV".index(stokes) + 1), 1.0, 1.0, ""),
    )
    for axis, (kind, value, step, pixel, unit) in enumerate(axes, start=1):
        header[f"CTYPE{axis}"], header[f"CRPIX{axis}"] = kind, pixel
        header[f"CRVAL{axis}"], header[f"CDELT{axis}"] = value, step
        header[f"CUNIT{axis}"] = unit
    if centre.frame.startswith("B1950"):
        header["EQUINOX"], header["RADESYS"] = 1950.0, "FK4"
    elif centre.frame == "ICRS":
        header["RADESYS"] = "ICRS"
    else:
        header["EQUINOX"], header["RADESYS"] = 2000.0, "FK5"
    header["SPECSYS"] = "TOPOCENT"
    header["DATE-OBS"] = _date(facts.first_time_s)
    telescope, observer, target = _observation(options.vis[0], options.field_ids[0])
    header["TELESCOP"], header["OBSERVER"], header["OBJECT"] = telescope, observer, target
    header["ORIGIN"] = version
    header["HISTORY"] = (
        f"weighting {options.weighting}, robust {options.robust:g}, taper"
        f" {options.uvtaper_arcsec:g} arcsec, uv {options.uvmin_m:g} to {options.uvmax_m:g} m,"
        f" niter {options.niter}"
    )
    return header


def _date(time_s: float) -> str:
    """Write MJD seconds as FITS does."""
    from astropy.time import Time

    return str(Time(time_s / _DAY_S + _MJD_EPOCH_JD, format="jd", scale="utc").isot)


def _observation(ms: Path, field_id: int) -> tuple[str, str, str]:
    """Telescope, observer and field, as printable ASCII; empty where there is none."""
    subtables = Subtables(ms)
    observer = subtables.observations[0].observer if subtables.observations else ""
    found = (subtables.telescope, observer, subtables.fields[field_id].name)
    clean = ["".join(c if 32 <= ord(c) < 127 else "_" for c in text)[:68] for text in found]
    return clean[0], clean[1], clean[2]


def write_products(
    planes: Planes, options: ImagingOptions, header: fits.Header, start: float
) -> ImageProducts:
    """Check the images of a run and write them.

    Parameters
    ----------
    planes : Planes
    options : ImagingOptions
        Where they go.
    header : Header
        Without beam and unit.
    start : float
        `time.monotonic` when the run began.

    Raises
    ------
    ImageError
        An image is not finite, or all zero.
    """
    _check(planes, options)
    beam = planes.beam
    major, minor = (size * options.cell_arcsec for size in (beam.major_pixel, beam.minor_pixel))
    with_beam = header.copy()
    with_beam["BUNIT"], with_beam["BTYPE"] = "JY/BEAM", "Intensity"
    with_beam["BMAJ"], with_beam["BMIN"], with_beam["BPA"] = major / 3600, minor / 3600, beam.pa_deg
    per_pixel = header.copy()
    per_pixel["BUNIT"], per_pixel["BTYPE"] = "JY/PIXEL", "Intensity"
    stem = plane_name(options, planes.stokes)
    made: dict[str, Path] = {}
    for kind in ("image", "residual", "psf", "dirty"):
        plane = getattr(planes, kind)
        if planes.seen is not None and kind != "psf":
            plane = np.where(planes.seen, plane, np.nan)
        made[kind] = write_image(plane, with_beam, options.folder / f"{stem}-{kind}.fits")
    response = None
    if planes.response is not None:
        flat = header.copy()
        flat["BUNIT"], flat["BTYPE"] = "", "Beam"
        response = write_image(planes.response, flat, options.folder / f"{stem}-pb.fits")
    models = []
    for term, plane in enumerate(planes.models):
        # what has frequency^t in place of the flux is named for it
        part = f"-tt{term}" if term else ""
        path = options.folder / f"{stem}{part}-model.fits"
        models.append(write_image(plane, per_pixel, path))
    return ImageProducts(
        image=made["image"],
        residual=made["residual"],
        model=models[0],
        psf=made["psf"],
        dirty=made["dirty"],
        models=tuple(models),
        beam_major_arcsec=major,
        beam_minor_arcsec=minor,
        beam_pa_deg=beam.pa_deg,
        seconds=time.monotonic() - start,
        stokes=planes.stokes,
        response=response,
    )


def _check(planes: Planes, options: ImagingOptions) -> None:
    remedy = f"look at the data: flags, weights and amplitudes; see {options.log}"
    for kind in ("image", "residual", "psf", "dirty"):
        plane = getattr(planes, kind)
        if not np.isfinite(plane).all():
            raise ImageError(f"the {kind} image is not finite", remedy)
        if not plane.any():
            raise ImageError(f"the {kind} image is all zero", remedy)
    for plane in planes.models:
        if not math.isfinite(float(np.sum(plane, dtype=np.float64))):
            raise ImageError("the model image is not finite", remedy)
