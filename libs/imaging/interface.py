"""Options and products of imaging, shared by every imager."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ConfigError, InputError
from libs.imaging.joint import CleanStage, Mosaic

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = [
    "CleanStage",
    "ImageProducts",
    "Imager",
    "ImagingOptions",
    "Mosaic",
    "default_memory_bytes",
    "open_image",
    "sky_position",
    "write_image",
    "write_masked_model",
]

# The part of the machine's memory that is used where no limit is given: the system keeps files
# in the rest.
_MEMORY_SHARE = 0.6


def default_memory_bytes() -> float:
    """Return the memory that an imager may use where no limit is given, bytes."""
    import psutil

    return _MEMORY_SHARE * float(psutil.virtual_memory().total)


_STOKES = "IQUV"


@dataclass(frozen=True)
class ImagingOptions:
    """Settings of one imaging run, in terms that every imager understands.

    They are changed only through :meth:`but`, which returns a copy; an unknown name is an error.

    Attributes
    ----------
    vis : tuple of Path
        Measurement sets imaged together.
    folder : Path
        Folder of the products; created when missing.
    basename : str
        Name of products: ``<folder>/<basename>-image.fits``, ``-residual``, ``-model``, ``-psf``.
    imsize : (int, int)
        Width and height, pixels, even.
    cell_arcsec : float
        Pixel size.
    column : str
        Column to image, ``DATA`` or ``CORRECTED_DATA``.
    weighting : str
        Weighting, ``briggs`` or ``natural``.
    robust : float
        Briggs' parameter, -2 (uniform) to 2 (natural).
    niter : int
        Largest number of minor iterations; 0 makes the dirty image.
    mask : Path or None
        FITS image on the grid of this image, nonzero where CLEAN may put components.
    automask_nsigma : float
        Depth, in sigma, of the components from which a mask is built; 0: no mask.
    autothreshold_nsigma : float
        Depth at which CLEAN stops, in sigma of the residual's robust noise; 0: no such limit.
    threshold_jy_beam : float
        Depth at which CLEAN stops, Jy/beam; the higher of both limits counts. 0: no such limit.
    deeper : bool
        True lets CLEAN of Stokes I go on below these depths while the residual's noise is mostly
        sidelobes of the sky (an imager whose ``goes_deeper`` is true).
    multiscale : bool
        True uses extended components as well as points.
    scales_pixel : tuple of float
        Multiscale sizes, pixels; empty: chosen from the PSF.
    uvtaper_arcsec : float
        FWHM of the Gaussian taper that widens the PSF, arcsec; 0: none.
    uvmin_m, uvmax_m : float
        Baseline limits, m; ``uvmax_m`` 0: no limit.
    phase_centre_deg : (float, float) or None
        Right ascension and declination (J2000) of the image centre; None: the field's.
    update_model : bool
        True fills MODEL_DATA with the visibilities of the resulting model.
    channels_out : int
        Number of frequency slices imaged separately and cleaned together (WSClean); 1: none.
    nterms : int
        Number of spectral terms fitted over the slices (WSClean), or of Taylor terms (tclean).
    stokes : str
        Stokes parameters in the order I, Q, U, V, such as ``I``, ``IV`` or ``IQUV``. Each is an
        image of its own with the same weights, so that all have one PSF.
    field_id : int
        FIELD_ID imaged in every measurement set.
    spws : tuple of int
        Spectral windows imaged, by their ids; empty: all.
    mosaic : Mosaic or None
        Pointings imaged jointly in place of ``field_id``. The image then is attenuated by the
        mosaic's response, which `ImageProducts.response` holds.
    stages : tuple of CleanStage
        Stages of CLEAN with a mask and a depth each, in place of ``mask`` and the thresholds;
        ``niter`` is then the largest number of all stages together. Empty: one stage.
    gain : float
        Fraction of the peak subtracted by one minor iteration.
    mgain : float
        Fraction of the peak cleaned before the visibilities are predicted and subtracted again.
    nmajor : int
        Largest number of major iterations; 0: no limit.
    threads : int
        Number of threads; 0: every core this process may use.
    memory_bytes : float
        Memory that the imager may use, bytes; 0: 60 % of the machine's.
    """

    vis: tuple[Path, ...]
    folder: Path
    basename: str
    imsize: tuple[int, int]
    cell_arcsec: float
    column: Literal["DATA", "CORRECTED_DATA"] = "DATA"
    weighting: Literal["briggs", "natural"] = "briggs"
    robust: float = 0.5
    niter: int = 10000
    mask: Path | None = None
    automask_nsigma: float = 0.0
    autothreshold_nsigma: float = 0.0
    threshold_jy_beam: float = 0.0
    deeper: bool = False
    multiscale: bool = False
    scales_pixel: tuple[float, ...] = ()
    uvtaper_arcsec: float = 0.0
    uvmin_m: float = 0.0
    uvmax_m: float = 0.0
    phase_centre_deg: tuple[float, float] | None = None
    update_model: bool = False
    channels_out: int = 1
    nterms: int = 1
    stokes: str = "I"
    field_id: int = 0
    spws: tuple[int, ...] = ()
    mosaic: Mosaic | None = None
    stages: tuple[CleanStage, ...] = ()
    gain: float = 0.05
    mgain: float = 0.6
    nmajor: int = 30
    threads: int = 0
    memory_bytes: float = 0.0

    def __post_init__(self) -> None:
        if not self.vis:
            raise ConfigError("nothing to image", "give at least one measurement set")
        if not self.basename or "/" in self.basename:
            raise ConfigError(
                f"{self.basename!r} is not a valid image name", "use a name without slashes"
            )
        for pixels in self.imsize:
            if pixels < 16 or pixels % 2:
                raise ConfigError(
                    f"imsize {self.imsize} cannot be imaged", "use even sizes of 16 or more"
                )
        self._check_ranges()

    def _check_ranges(self) -> None:
        ranges = {
            "cell_arcsec": (0.0 < self.cell_arcsec < np.inf, "above 0"),
            "robust": (-2.0 <= self.robust <= 2.0, "from -2 to 2"),
            "niter": (self.niter >= 0, "0 or more"),
            "automask_nsigma": (self.automask_nsigma >= 0, "0 or more"),
            "autothreshold_nsigma": (self.autothreshold_nsigma >= 0, "0 or more"),
            "threshold_jy_beam": (0 <= self.threshold_jy_beam < np.inf, "0 or more"),
            "uvtaper_arcsec": (self.uvtaper_arcsec >= 0, "0 or more"),
            "uvmin_m": (self.uvmin_m >= 0, "0 or more"),
            "uvmax_m": (
                self.uvmax_m == 0 or self.uvmax_m > self.uvmin_m,
                "0 (no limit) or above uvmin_m",
            ),
            "channels_out": (self.channels_out >= 1, "1 or more"),
            "nterms": (1 <= self.nterms <= 4, "from 1 to 4"),
            "gain": (0 < self.gain <= 1, "above 0, up to 1"),
            "mgain": (0 < self.mgain <= 1, "above 0, up to 1"),
            "threads": (self.threads >= 0, "0 (all cores) or more"),
            "memory_bytes": (0.0 <= self.memory_bytes < np.inf, "0 (60 % of the memory) or more"),
        }
        for name, (good, wanted) in ranges.items():
            if not good:
                raise ConfigError(f"{name} is {getattr(self, name)}", f"it must be {wanted}")
        self._check_planes()
        if 0 < self.automask_nsigma < self.autothreshold_nsigma:
            raise ConfigError(
                f"automask_nsigma {self.automask_nsigma} is below"
                f" autothreshold_nsigma {self.autothreshold_nsigma}",
                "the mask is built first, then cleaned deeper: give the larger number to automask",
            )

    def _check_planes(self) -> None:
        ordered = "".join(one for one in _STOKES if one in self.stokes)
        if not self.stokes or ordered != self.stokes:
            raise ConfigError(
                f"stokes {self.stokes!r} is not imaged",
                "use some of I, Q, U, V in this order, such as I, IV or IQUV",
            )
        if self.update_model and "I" not in self.stokes:
            raise ConfigError(
                f"MODEL_DATA cannot be filled from Stokes {self.stokes}", "image Stokes I as well"
            )
        if len(set(self.spws)) < len(self.spws) or any(spw < 0 for spw in self.spws):
            raise ConfigError(f"the windows are {list(self.spws)}", "give each window's id once")
        if self.stages and (self.mask or self.automask_nsigma or self.autothreshold_nsigma):
            raise ConfigError(
                "a mask or a depth of CLEAN is given beside stages", "give them to each stage"
            )
        if self.mosaic is None:
            if any(stage.response for stage in self.stages):
                raise ConfigError(
                    "a stage of CLEAN is limited by the response of a mosaic, but one field is"
                    " imaged", "leave response out"
                )  # fmt: skip
            return
        if self.phase_centre_deg is None:
            raise ConfigError(
                "a mosaic has no centre of its own", "give the image's centre (phase_centre_deg)"
            )
        if self.nterms > 1:
            raise ConfigError(
                "a mosaic is imaged with one spectral term",
                "set nterms to 1, and image narrower groups of windows",
            )

    @property
    def field_ids(self) -> tuple[int, ...]:
        """FIELD_IDs imaged."""
        return self.mosaic.field_ids if self.mosaic else (self.field_id,)

    def refuse_deeper(self, imager: str) -> None:
        """Raise ConfigError when ``deeper`` is asked of an imager that cannot do it."""
        if self.deeper:
            raise ConfigError(
                f"{imager} cannot CLEAN below its thresholds by the noise of the visibilities",
                "set imager to native",
            )

    def but(self, **changes: Any) -> ImagingOptions:
        """Return a copy with some options changed; an unknown name raises TypeError."""
        return dataclasses.replace(self, **changes)

    @property
    def prefix(self) -> Path:
        """Path of the products, without their endings."""
        return self.folder / self.basename

    @property
    def log(self) -> Path:
        """Log of the imager."""
        return self.folder / f"{self.basename}.log"

    @property
    def cores(self) -> int:
        """The number of threads to use, resolved."""
        if self.threads:
            return self.threads
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1

    @property
    def memory_limit_bytes(self) -> float:
        """Memory that the imager may use, bytes, resolved."""
        return self.memory_bytes or default_memory_bytes()


@dataclass(frozen=True)
class ImageProducts:
    """The FITS images of one run, all on disk and checked.

    Attributes
    ----------
    image, residual, model, psf : Path
        Restored image, residual and PSF in Jy/beam, model in Jy/pixel. With several frequency
        slices or Taylor terms, these are the images at the reference frequency.
    dirty : Path or None
        Image before CLEAN, where the imager keeps it.
    models : tuple of Path
        Argument of :meth:`Imager.predict`: the model, or one for each frequency slice (WSClean)
        or Taylor term (tclean).
    beam_major_arcsec, beam_minor_arcsec, beam_pa_deg : float
        Restoring beam: FWHM and position angle, north through east.
    seconds : float
        Wall-clock time.
    stokes : str
        Stokes parameter that these images show.
    response : Path or None
        Response of a mosaic, 1 at its most sensitive place: what its image is to be divided by.
    thermal_jy_beam : float
        Noise that the visibilities alone give the image, Jy/beam; NaN where it is not told.
    others : tuple of ImageProducts
        Images of the other Stokes parameters of the run, in the order of the options.
    """

    image: Path
    residual: Path
    model: Path
    psf: Path
    dirty: Path | None
    models: tuple[Path, ...]
    beam_major_arcsec: float
    beam_minor_arcsec: float
    beam_pa_deg: float
    seconds: float
    stokes: str = "I"
    response: Path | None = None
    thermal_jy_beam: float = math.nan
    others: tuple[ImageProducts, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file of the run, for the record of products."""
        found = [self.image, self.residual, self.model, self.psf, *self.models]
        found += [path for path in (self.dirty, self.response) if path is not None]
        found += [path for plane in self.others for path in plane.paths]
        return tuple(dict.fromkeys(found))

    def plane(self, stokes: str) -> ImageProducts:
        """Return the images of one Stokes parameter.

        Raises
        ------
        KeyError
            It was not imaged.
        """
        found = {plane.stokes: plane for plane in (self, *self.others)}
        return found[stokes]


class Imager(Protocol):
    """The interface of every imager."""

    @property
    def name(self) -> str:
        """Name of the tool."""

    @property
    def goes_deeper(self) -> bool:
        """Whether it knows the noise of the visibilities, and how to CLEAN down to it."""

    def version(self) -> str:
        """Return the version of the tool, for the record.

        Raises
        ------
        ToolError
            The tool is missing or too old.
        """

    def image(self, options: ImagingOptions) -> ImageProducts:
        """Image, deconvolve and, with ``update_model``, fill MODEL_DATA.

        Raises
        ------
        ToolError
            The tool fails, hangs, or its images are missing, all zero or not finite.
        """

    def predict(self, models: Sequence[Path], options: ImagingOptions) -> float:
        """Fill MODEL_DATA of ``options.vis`` from model images; return the seconds it took.

        Parameters
        ----------
        models : sequence of Path
            :attr:`ImageProducts.models` of the same imager, or masked copies of them
            (:func:`write_masked_model`).
        options : ImagingOptions
            Options with which the model was made; only those of the grid are used.

        Raises
        ------
        ToolError
            As in :meth:`image`.
        """


def open_image(path: Path) -> tuple[NDArray[np.floating], fits.Header]:
    """Read a FITS image as a plane.

    Parameters
    ----------
    path : Path
        Image whose axes beyond the first two have length 1 (frequency, Stokes).

    Returns
    -------
    plane : (ny, nx) float32 or float64
        Pixels in the precision of the file; NaN where blanked.
    header : Header
        Header as in the file.

    Raises
    ------
    InputError
        The file cannot be read, or has more than one plane.
    """
    from astropy.io import fits

    try:
        with fits.open(path, memmap=False) as hdus:
            data, header = hdus[0].data, hdus[0].header.copy()
    except (OSError, TypeError, ValueError) as error:
        cause = f"{path} cannot be read as FITS ({error})"
        raise InputError(cause, "make the image again") from error
    if data is None or data.ndim < 2 or data.size != data.shape[-1] * data.shape[-2]:
        shape = None if data is None else data.shape
        raise InputError(
            f"{path} is not a single image plane: its shape is {shape}", "give one plane"
        )
    precision = np.float64 if data.dtype.itemsize == 8 else np.float32
    return np.asarray(data.reshape(data.shape[-2:]), dtype=precision), header


def sky_position(header: fits.Header, x_pixel: float, y_pixel: float) -> tuple[float, float]:
    """Return right ascension (0 to 360) and declination, J2000, deg, of a pixel counted from 0.

    Images in B1950, which tclean makes of old data, are converted.
    """
    from astropy.coordinates import FK5
    from astropy.wcs import WCS
    from astropy.wcs.utils import pixel_to_skycoord

    # fix=False: dates in the header do not matter here, and repairing one gives a warning.
    where = pixel_to_skycoord(x_pixel, y_pixel, WCS(header, fix=False).celestial)
    where = where.transform_to(FK5(equinox="J2000"))
    return float(where.ra.deg) % 360.0, float(where.dec.deg)


def write_image(plane: NDArray[Any], header: fits.Header, path: Path) -> Path:
    """Write a plane as a 4-axis float32 FITS image with another image's WCS.

    The file is written beside its place and renamed, so that a killed run leaves no partial
    file.

    Parameters
    ----------
    plane : (ny, nx) array
        Pixels.
    header : Header
        Header of an image with the same grid; axes beyond the first two are kept at length 1.
    path : Path
        File to write; an existing one is replaced.

    Returns
    -------
    Path
        ``path``.
    """
    from astropy.io import fits

    axes = max(2, int(header.get("NAXIS", 2)))
    data = np.asarray(plane, dtype=np.float32).reshape((1,) * (axes - 2) + plane.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    fits.PrimaryHDU(data, header).writeto(beside, overwrite=True)
    beside.replace(path)
    return path


def write_masked_model(model: Path, mask: Path, path: Path) -> Path:
    """Write a copy of a model image without the components outside a mask.

    Parameters
    ----------
    model, mask : Path
        FITS images on one grid; components are dropped where the mask is zero.
    path : Path
        File to write, which is returned, for :meth:`Imager.predict`.

    Raises
    ------
    InputError
        The two images differ in shape.
    """
    plane, header = open_image(model)
    inside, _ = open_image(mask)
    if inside.shape != plane.shape:
        raise InputError(
            f"mask {mask.name} has shape {inside.shape}, model {model.name} {plane.shape}",
            "make the mask from an image of the same size",
        )
    return write_image(np.where(inside > 0, plane, 0.0), header, path)
