"""Image targets of ``vlass_cube`` on record, and the options of imaging that they ask for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from libs.core.errors import InputError
from libs.core.files import write_atomically
from libs.imaging.interface import CleanStage, ImageProducts, ImagingOptions, Mosaic
from steps.context import Context
from steps.images import memory_bytes
from steps.vlass.vlass_startup import working_copy

__all__ = [
    "GROUPS",
    "ImageTarget",
    "as_products",
    "as_record",
    "cube_options",
    "good_groups",
    "image_targets",
    "mosaic_of",
    "read_json",
    "write_targets",
]

GROUPS = "groups.json"
"""File of what came of each group: a list of tables."""


@dataclass(frozen=True)
class ImageTarget:
    """An image to be made.

    Attributes
    ----------
    name : str
        Name of the images.
    label : str
        Name of the group of windows, such as ``spw2_3_4``; ``cont`` for the continuum.
    spws : tuple of int
    frequency_hz : float
        Mean frequency of the windows.
    phasecenter_deg : (float, float)
        Centre of the image, J2000.
    imsize : (int, int)
    cell_arcsec : float
    fields : tuple of int
    flagged : float
        Flagged fraction of its data.
    mask : str
        Names of the masks, for the record.
    parameters : mapping
        Parameters of the list over the config: robust, niter, uvmax_m, stokes ...
    dropped : str
        Why it is not imaged; empty where it is.
    """

    name: str
    label: str
    spws: tuple[int, ...]
    frequency_hz: float
    phasecenter_deg: tuple[float, float]
    imsize: tuple[int, int]
    cell_arcsec: float
    fields: tuple[int, ...]
    flagged: float
    mask: str
    parameters: Mapping[str, Any]
    dropped: str = ""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> ImageTarget:
        """Return a target from its record; lists become tuples."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
        }
        return cls(**values)


def read_json(path: Path) -> Any:
    """Read a record of an earlier step.

    Raises
    ------
    InputError
        It is not there.
    """
    if not path.exists():
        raise InputError(f"there is no {path.name}", "run the steps before this one")
    return json.loads(path.read_text())


def write_targets(path: Path, targets: Sequence[ImageTarget]) -> None:
    """Write the targets of a list."""
    write_atomically(path, json.dumps([asdict(target) for target in targets], indent=1) + "\n")


def image_targets(context: Context, step: str) -> tuple[ImageTarget, ...]:
    """Return the targets of a list that are imaged."""
    rows = read_json(context.workdir / f"{step}.json")
    every = tuple(ImageTarget.of(row) for row in rows)
    return tuple(target for target in every if not target.dropped)


def mosaic_of(context: Context, target: ImageTarget, pb_limit: float) -> Mosaic:
    """Return the pointings of a target."""
    diameter = float(context.metric("dish_diameter_m"))
    return Mosaic(target.fields, context.settings["instrument"], diameter, pb_limit)


def cube_options(
    context: Context, target: ImageTarget, folder: Path, masks: Mapping[str, str]
) -> ImagingOptions:
    """Return how a group of windows is imaged: three stages, the last by the response only.

    Parameters
    ----------
    context : Context
    target : ImageTarget
    folder : Path
        Folder of the images.
    masks : mapping
        FITS masks ``tier1`` and ``tier2``, relative to the work directory.
    """
    own = {**context.settings.values, **target.parameters}
    tiers = [context.workdir / masks[name] for name in ("tier1", "tier2")]
    stages = [
        CleanStage(own["nsigma_masked"], own["niter"], mask, cycleniter=own["cycleniter_masked"])
        for mask in tiers
    ]
    stages.append(
        CleanStage(
            own["nsigma_pb"], own["niter"], response=own["pb_mask"],
            cycleniter=own["cycleniter_pb"],
        )
    )  # fmt: skip
    return ImagingOptions(
        vis=(working_copy(context),),
        folder=folder,
        basename=target.name,
        imsize=target.imsize,
        cell_arcsec=target.cell_arcsec,
        column="CORRECTED_DATA",
        robust=own["robust"],
        niter=len(stages) * own["niter"],
        multiscale=True,
        scales_pixel=tuple(float(scale) for scale in own["scales"]),
        uvmax_m=own["uvmax"],
        phase_centre_deg=target.phasecenter_deg,
        stokes=own.get("stokes", "IQUV"),
        spws=target.spws,
        mosaic=mosaic_of(context, target, own["pb_limit"]),
        stages=tuple(stages),
        gain=0.1,
        nmajor=0,
        threads=context.settings["threads"],
        memory_bytes=memory_bytes(context.settings),
    )


def as_record(products: ImageProducts, workdir: Path) -> list[dict[str, Any]]:
    """Return the images of each Stokes parameter for a record, relative to the work directory."""
    rows = []
    for plane in (products, *products.others):
        files = {
            kind: str(path.relative_to(workdir))
            for kind in ("image", "residual", "model", "psf", "response")
            if (path := getattr(plane, kind)) is not None
        }
        rows.append(
            {
                "stokes": plane.stokes, **files, "beam_major_arcsec": plane.beam_major_arcsec,
                "beam_minor_arcsec": plane.beam_minor_arcsec, "beam_pa_deg": plane.beam_pa_deg,
                "seconds": plane.seconds,
            }
        )  # fmt: skip
    return rows


def as_products(row: Mapping[str, Any], workdir: Path) -> ImageProducts:
    """Return the images of one Stokes parameter from a record."""
    path = {kind: workdir / row[kind] for kind in ("image", "residual", "model", "psf", "response")}
    return ImageProducts(
        **path, dirty=None, models=(path["model"],), beam_major_arcsec=row["beam_major_arcsec"],
        beam_minor_arcsec=row["beam_minor_arcsec"], beam_pa_deg=row["beam_pa_deg"],
        seconds=row["seconds"], stokes=row["stokes"],
    )  # fmt: skip


def good_groups(context: Context) -> list[dict[str, Any]]:
    """Return the groups that were imaged, in order of frequency.

    Raises
    ------
    InputError
        There is none.
    """
    rows = [row for row in read_json(context.workdir / GROUPS) if not row["error"]]
    if not rows:
        raise InputError("no group of windows was imaged", "look at the errors of make_images")
    return sorted(rows, key=lambda row: row["frequency_hz"])
