"""CASA's tclean as an imager: options to keyword arguments, run in the child process, products."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from libs.casa.session import casa_versions
from libs.core.errors import ToolError
from libs.core.geometry import ARCSEC_PER_RAD, SPEED_OF_LIGHT_M_S
from libs.core.process import tail
from libs.imaging.data_shape import longest_w, most_channels
from libs.imaging.interface import (
    CleanStage,
    ImageProducts,
    ImagingOptions,
    Mosaic,
    open_image,
)
from libs.imaging.mosaic import check_mosaic
from libs.imaging.native.mosaic_model import predict_mosaic
from libs.imaging.phase_centre import PhaseCentre
from libs.imaging.predict import predict_model, read_model
from libs.imaging.products import check_made, fresh_scratch, plane_name, restoring_beam
from libs.imaging.stokes_planes import (
    EQUINOX_B1950_VLA,
    mend_equinox,
    read_planes,
    split_plane,
    write_cube,
)
from libs.imaging.tclean_beam import beam_instead
from libs.ms.subtables import Subtables

__all__ = ["Tclean", "needs_w_projection", "tclean_arguments"]

# Largest phase, rad, that the w term may add at the corner of the image without w-projection;
# larger phases smear sources there by more than a few per cent.
_W_PHASE_RAD = 0.3

# tclean does not image pixels where the primary beam is below pblimit. -1 switches that off but
# makes every nsigma threshold fail ("No valid values to deconvolve"); -0.1 does not.
_PBLIMIT = -0.1

# Default scales in beam widths: a point, one beam, three beams.
_SCALES_BEAMS = (0.0, 1.0, 3.0)
_PIXELS_PER_BEAM = 5.0

# Smaller steps leave the same residual (3C 273: dynamic range 21900 at 0.05, 22800 at 0.2) and
# take twice the time.
_MULTISCALE_GAIN = 0.2

_FILE_ENDINGS = ("image", "residual", "model", "psf")


class Session(Protocol):
    """The part of libs.casa.session.CasaSession that is used here."""

    def run(
        self, task: str, *, log: Path | None = None, module: str = "casatasks", **kwargs: Any
    ) -> Any:
        """Run a CASA task."""


def needs_w_projection(
    options: ImagingOptions, longest_w_m: float, max_frequency_hz: float
) -> bool:
    """Return whether the array is too far from a plane for a two-dimensional transform.

    Parameters
    ----------
    options : ImagingOptions
        Options with the size of the image.
    longest_w_m : float
        Largest absolute w, m.
    max_frequency_hz : float
        Highest frequency, Hz.

    Returns
    -------
    bool
        True when the w phase, 2 pi w (1 - n), at the middle of the image's edge, exceeds 0.3 rad.
    """
    if options.uvmax_m:
        longest_w_m = min(longest_w_m, options.uvmax_m)
    edge = max(options.imsize) / 2 * options.cell_arcsec / ARCSEC_PER_RAD
    w = longest_w_m * max_frequency_hz / SPEED_OF_LIGHT_M_S
    return math.pi * w * edge**2 > _W_PHASE_RAD


def _uvrange(options: ImagingOptions) -> str:
    if options.uvmax_m:
        return f"{options.uvmin_m:g}~{options.uvmax_m:g}m"
    return f">{options.uvmin_m:g}m" if options.uvmin_m else ""


def _deconvolver(options: ImagingOptions) -> dict[str, Any]:
    scales: list[int] = []
    if options.multiscale:
        wanted = options.scales_pixel or [_PIXELS_PER_BEAM * size for size in _SCALES_BEAMS]
        scales = [round(size) for size in wanted]
    if options.nterms > 1:
        return {"deconvolver": "mtmfs", "nterms": options.nterms, "scales": scales}
    if options.multiscale:
        return {
            "deconvolver": "multiscale",
            "scales": scales,
            "smallscalebias": 0.6,
            "gain": max(options.gain, _MULTISCALE_GAIN),
        }
    return {"deconvolver": "hogbom"}


def tclean_arguments(
    options: ImagingOptions,
    imagename: Path,
    *,
    nsigma: float,
    niter: int,
    mask: Path | None = None,
    w_projection: bool = False,
    centre: PhaseCentre | None = None,
    go_on: bool = False,
    cycleniter: int = 0,
) -> dict[str, Any]:
    """Return tclean's keyword arguments for one pass.

    Parameters
    ----------
    options : ImagingOptions
        Imaging options.
    imagename : Path
        Prefix of the CASA images.
    nsigma, niter : float, int
        Depth in sigma and iterations at which CLEAN stops; 0 sigma: it stops at niter.
    mask : Path or None
        CASA image that is 1 where to clean; None: everywhere.
    w_projection : bool
        True grids with w-projection.
    centre : PhaseCentre or None
        Centre of the image, if not the field's.
    go_on : bool
        True for a second pass, which starts from the images of the first.
    cycleniter : int
        Largest number of minor iterations before the next residual; 0: no limit.

    Returns
    -------
    dict
        Arguments of ``casatasks.tclean``.

    Notes
    -----
    ``stokes="pseudoI"``: with ``"I"`` a visibility is lost when any correlation is flagged, even a
    cross hand (a third of the demonstration data). A cycle goes down to the highest sidelobe, the
    default: an earlier stop gave the same residual for a quarter more gridding, which takes most
    of tclean's time, so ``mgain`` is not used. For the missing ``savemodel`` see
    libs.imaging.predict.
    """
    arguments: dict[str, Any] = {
        "vis": [str(ms.resolve()) for ms in options.vis],
        "field": ",".join(map(str, options.field_ids)),
        "spw": ",".join(map(str, options.spws)),
        "datacolumn": "corrected" if options.column == "CORRECTED_DATA" else "data",
        "imagename": str(imagename),
        "imsize": list(options.imsize),
        "cell": [f"{options.cell_arcsec:.10g}arcsec"],
        "phasecenter": centre.casa() if centre else "",
        "stokes": "pseudoI" if options.stokes == "I" else options.stokes,
        "specmode": "mfs",
        "gridder": "wproject" if w_projection else "standard",
        "wprojplanes": -1 if w_projection else 1,
        "pblimit": _PBLIMIT,
        "weighting": options.weighting,
        "robust": options.robust,
        "uvtaper": [f"{options.uvtaper_arcsec:.10g}arcsec"] if options.uvtaper_arcsec else [],
        "uvrange": _uvrange(options),
        "niter": niter,
        "gain": options.gain,
        "nsigma": nsigma,
        "threshold": f"{options.threshold_jy_beam}Jy",
        "nmajor": options.nmajor or -1,
        "cyclefactor": 1.0,
        "minpsffraction": 0.05,
        "maxpsffraction": 0.8,
        "usemask": "user",
        "mask": str(mask) if mask else "",
        "savemodel": "none",
        "restart": go_on,
        "calcpsf": not go_on,
        "calcres": not go_on,
        "restoration": True,
        "pbcor": False,
        "interactive": False,
        "parallel": False,
    }
    if cycleniter:
        arguments["cycleniter"] = cycleniter
    if options.mosaic:
        arguments |= _mosaic_arguments(options.mosaic)
    return arguments | _deconvolver(options)


def _mosaic_arguments(mosaic: Mosaic) -> dict[str, Any]:
    """Return what differs for several pointings: each with its beam, on one grid of even noise."""
    return {
        "gridder": "mosaic",
        "wprojplanes": 1,
        "pblimit": mosaic.least_power,
        "normtype": "flatnoise",
        "usepointing": False,
        "conjbeams": False,
        "mosweight": False,
    }


@dataclass(frozen=True)
class Tclean:
    """tclean as an imager.

    Attributes
    ----------
    session : Session
        CASA child process; its owner closes it.
    arguments : mapping
        Arguments of tclean that take the place of those worked out from the options.

    Notes
    -----
    tclean has no limits on memory or threads: ``memory_bytes`` and ``threads`` apply to the
    prediction only.
    """

    session: Session
    name: str = "tclean"
    goes_deeper: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def version(self) -> str:
        """Return the version of casatasks; raise ToolError if it is not installed."""
        found = casa_versions().get("casatasks")
        if not found:
            raise ToolError("CASA is not installed", "pip install casatools casatasks casadata")
        return f"CASA tclean {found}"

    def image(self, options: ImagingOptions) -> ImageProducts:
        """Image, deconvolve and, with ``update_model``, fill MODEL_DATA (see Imager.image)."""
        start = time.monotonic()
        options.refuse_deeper(self.name)
        self.version()
        if options.nterms > 1 and most_channels(options.vis) < options.nterms:
            # Taylor terms are undetermined, and diverge, when there are fewer channels than terms.
            options = options.but(nterms=max(1, most_channels(options.vis)))
        scratch = fresh_scratch(options, "tclean")
        try:
            self._clean(options, scratch)
            products = self._collect(options, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if options.update_model:
            self.predict(products.models, options)
        return replace(products, seconds=time.monotonic() - start)

    def predict(self, models: Sequence[Path], options: ImagingOptions) -> float:
        """Fill MODEL_DATA from model images; return the seconds it took (see Imager.predict)."""
        if options.mosaic:
            return predict_mosaic(models, options)
        here = _phase_centre(options)
        there = here.at(*options.phase_centre_deg) if options.phase_centre_deg else here
        return predict_model(
            options.vis,
            read_model(models, here.offset_rad(there)),
            field_id=options.field_id,
            threads=options.cores,
        )

    def _run(self, task: str, log: Path, arguments: Mapping[str, Any]) -> Any:
        return self.session.run(task, log=log, **arguments)

    def _clean(self, options: ImagingOptions, scratch: Path) -> None:
        """Run tclean once for each stage."""
        if options.mosaic:
            check_mosaic(options)
        here = _phase_centre(options)
        fixed: dict[str, Any] = {
            "w_projection": not options.mosaic
            and needs_w_projection(options, *longest_w(options.vis, options.field_id)),
            "centre": here.at(*options.phase_centre_deg) if options.phase_centre_deg else None,
        }
        if options.stages and options.niter:
            self._clean_stages(options, scratch, here, fixed)
        else:
            self._clean_once_or_twice(options, scratch, here, fixed)
        beam = beam_instead(*self._export(options, scratch, ["image", "psf"]))
        if beam is not None:
            again = tclean_arguments(
                options, scratch / options.basename, nsigma=0.0, niter=0, go_on=True, **fixed
            )
            self._tclean(options, again | {"restoringbeam": beam})

    def _tclean(self, options: ImagingOptions, arguments: Mapping[str, Any]) -> int:
        """Run tclean; return the number of minor iterations done."""
        done = self._run("tclean", options.log, {**arguments, **self.arguments})
        return int(done.get("iterdone", 0)) if isinstance(done, dict) else 0

    def _clean_stages(
        self, options: ImagingOptions, scratch: Path, here: PhaseCentre, fixed: Mapping[str, Any]
    ) -> None:
        """Run each stage from the images of the one before, with a mask of its own."""
        prefix = scratch / options.basename
        # the response, by which masks are made, and the first residual are those of a dirty image
        empty = tclean_arguments(options, prefix, nsigma=0.0, niter=0, **fixed)
        self._tclean(options, empty)
        left = options.niter
        for number, stage in enumerate(options.stages):
            if left <= 0:
                return
            plane = self._stage_mask(options, stage, scratch)
            mask = None
            if plane is not None:
                mask = self._casa_mask(plane, scratch / f"stage{number}.mask", options, here)
            shutil.rmtree(Path(f"{prefix}.mask"), ignore_errors=True)
            arguments = tclean_arguments(
                options, prefix, nsigma=stage.nsigma, niter=min(left, stage.niter), mask=mask,
                go_on=True, cycleniter=stage.cycleniter, **fixed,
            )  # fmt: skip
            left -= self._tclean(options, arguments)

    def _stage_mask(self, options: ImagingOptions, stage: CleanStage, scratch: Path) -> Path | None:
        """Return the mask of a stage as FITS: the user's, where the response is high enough."""
        if not stage.response:
            return stage.mask
        planes, header = read_planes(self._export(options, scratch, ["pb"])[0])
        inside = np.nan_to_num(planes[0]) >= stage.response
        if stage.mask is not None:
            inside &= np.nan_to_num(open_image(stage.mask)[0]) != 0
        return write_cube([inside], header, scratch / "stage.fits", "I")

    def _clean_once_or_twice(
        self, options: ImagingOptions, scratch: Path, here: PhaseCentre, fixed: Mapping[str, Any]
    ) -> None:
        """Run tclean once, or twice where a mask is built from the first components.

        This is WSClean's auto-mask: clean to automask_nsigma, then to autothreshold_nsigma, only
        where components were found.
        """
        prefix = scratch / options.basename
        mask = None
        if options.mask is not None and options.niter:
            mask = self._casa_mask(options.mask, scratch / "user.mask", options, here)
        two = bool(options.automask_nsigma and options.niter)
        nsigma = options.automask_nsigma if two else options.autothreshold_nsigma
        arguments = tclean_arguments(
            options, prefix, nsigma=nsigma, niter=options.niter, mask=mask, **fixed
        )
        left = options.niter - self._tclean(options, arguments)
        if not two or left <= 0:
            return
        components = self._component_mask(options, scratch, here)
        if components is None:
            return
        shutil.rmtree(Path(f"{prefix}.mask"), ignore_errors=True)
        arguments = tclean_arguments(
            options, prefix, nsigma=options.autothreshold_nsigma, niter=left, mask=components,
            go_on=True, **fixed,
        )  # fmt: skip
        self._tclean(options, arguments)

    def _casa_mask(
        self, mask: Path, imagename: Path, options: ImagingOptions, here: PhaseCentre
    ) -> Path:
        """Convert a FITS mask to a CASA image with the run's Stokes parameters; return its path.

        A mask of one plane holds for all of them.
        """
        planes, header = read_planes(mask)
        if here.frame == "B1950_VLA":
            header["EQUINOX"] = EQUINOX_B1950_VLA
        if len(planes) == 1:
            planes = planes * len(options.stokes)
        copied = write_cube(planes, header, imagename.with_suffix(".fits"), options.stokes)
        arguments = {"fitsimage": str(copied), "imagename": str(imagename), "overwrite": True}
        self._run("importfits", options.log, arguments)
        return imagename

    def _component_mask(
        self, options: ImagingOptions, scratch: Path, here: PhaseCentre
    ) -> Path | None:
        """Return a CASA mask of the pixels with components; None when there are none."""
        (model,) = self._export(options, scratch, ["model"])
        planes, header = read_planes(model)
        if not any(plane.any() for plane in planes):
            return None
        found = write_cube(
            [plane != 0 for plane in planes], header, scratch / "found.fits", options.stokes
        )
        return self._casa_mask(found, scratch / "components.mask", options, here)

    def _export(
        self, options: ImagingOptions, scratch: Path, kinds: Sequence[str], term: int = 0
    ) -> list[Path]:
        """Write CASA images of one run as FITS; return their paths in the order of the kinds."""
        ending = f".tt{term}" if options.nterms > 1 else ""
        paths = []
        for kind in kinds:
            source = scratch / f"{options.basename}.{kind}{ending}"
            target = scratch / f"{options.basename}-{kind}{f'-t{term}' if term else ''}.fits"
            if not source.exists():
                raise ToolError(
                    f"tclean made no {kind} image; its last lines:\n{tail(options.log)}",
                    f"see {options.log}",
                )
            arguments = {
                "imagename": str(source),
                "fitsimage": str(target),
                "overwrite": True,
                "history": False,
            }
            self._run("exportfits", options.log, arguments)
            mend_equinox(target)
            paths.append(target)
        return paths

    def _collect(self, options: ImagingOptions, scratch: Path) -> ImageProducts:
        """Export the images, check them and move them into place, each Stokes parameter apart."""
        kinds = [*_FILE_ENDINGS, "pb"] if options.mosaic else list(_FILE_ENDINGS)
        found = dict(zip(kinds, self._export(options, scratch, kinds), strict=True))
        more = [
            self._export(options, scratch, ["model"], term)[0] for term in range(1, options.nterms)
        ]
        made = []
        for number, stokes in enumerate(options.stokes):
            stem = plane_name(options, stokes)
            own = {
                kind: split_plane(path, number, stokes, scratch / f"{stem}-{kind}.fits")
                for kind, path in found.items()
            }
            terms = [
                split_plane(path, number, stokes, scratch / f"{stem}-model-t{term}.fits")
                for term, path in enumerate(more, 1)
            ]
            made.append(_placed(options, stokes, own, terms))
        return replace(made[0], others=tuple(made[1:]))


def _placed(
    options: ImagingOptions, stokes: str, made: dict[str, Path], more: Sequence[Path]
) -> ImageProducts:
    """Check the images of one Stokes parameter and move them into place."""
    blank_allowed = options.mosaic is not None
    for kind, path in made.items():
        check_made("tclean", kind, path, options.log, blank_allowed=blank_allowed)
    major, minor, angle = restoring_beam(made["image"], options.log)
    moved = [path.replace(options.folder / path.name) for path in more]
    placed = {
        kind: path.replace(options.folder / path.name)
        for kind, path in sorted(made.items(), key=lambda item: item[0] == "image")
    }
    return ImageProducts(
        image=placed["image"],
        residual=placed["residual"],
        model=placed["model"],
        psf=placed["psf"],
        dirty=None,
        models=(placed["model"], *moved),
        beam_major_arcsec=major,
        beam_minor_arcsec=minor,
        beam_pa_deg=angle,
        seconds=0.0,
        stokes=stokes,
        response=placed.get("pb"),
    )


def _phase_centre(options: ImagingOptions) -> PhaseCentre:
    """Read the phase centre of the field imaged from the first measurement set."""
    fields = Subtables(options.vis[0]).fields
    first = options.field_ids[0]
    if first >= len(fields):
        raise ToolError(f"{options.vis[0]} has no field {first}", "correct the field")
    ra, dec = np.degrees(fields[first].direction_rad)
    return PhaseCentre(fields[first].frame, float(ra), float(dec))
