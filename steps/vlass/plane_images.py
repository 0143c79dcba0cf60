"""Images of the planes after CLEAN: corrected for the beams, of the local noise, cut out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.files import write_atomically
from libs.imaging.interface import open_image, write_image
from libs.imaging.mosaic import correct_by_response
from libs.imaging.rms_map import clipped_rms, rms_map
from selfcal.step import Step, StepResult
from steps.context import Context
from steps.vlass.vlass_data import as_products, good_groups, image_targets, read_json

__all__ = ["Cutouts", "Pbcor", "RmsImages", "cut_out", "named_like"]

CUT_KINDS = ("image", "pbcor", "rms", "residual", "psf", "pb")
_PLANES = "plane_images.json"


def named_like(image: Path, kind: str) -> Path:
    """Return the path of another kind of image: ``NAME-rms.fits`` beside ``NAME-image.fits``."""
    return image.with_name(image.name.removesuffix("-image.fits") + f"-{kind}.fits")


class Pbcor(Step):
    """Divide the images by the response of the mosaic."""

    needs = ("make_images",)
    uses = ("pb_limit",)

    def run(self, context: Context) -> StepResult:
        """Write ``NAME-pbcor.fits`` for every Stokes parameter of every group."""
        products = {}
        limit = context.settings["pb_limit"]
        for row in good_groups(context):
            for plane in row["planes"]:
                made = correct_by_response(as_products(plane, context.workdir), limit)
                products[f"pbcor_{row['label']}_{plane['stokes']}"] = context.relative(made)
        return StepResult(reason=f"{len(products)} images corrected", products=products)


class RmsImages(Step):
    """Measure the local noise of the corrected images."""

    needs = ("pbcor",)
    uses = ("rms_box", "rms_step")

    def run(self, context: Context) -> StepResult:
        """Write ``NAME-rms.fits``; record the median noise of each Stokes parameter."""
        products: dict[str, str] = {}
        medians: dict[str, dict[str, float]] = {}
        for row in good_groups(context):
            for plane in row["planes"]:
                image = context.workdir / plane["image"]
                context.progress.activity(f"noise of {row['label']} {plane['stokes']}")
                values, header = open_image(named_like(image, "pbcor"))
                cell = abs(float(header["CDELT2"])) * 3600.0
                box = max(3, round(context.settings["rms_box"] / cell))
                noise = rms_map(values, box, context.settings["rms_step"])
                made = write_image(noise, header, named_like(image, "rms"))
                products[f"rms_{row['label']}_{plane['stokes']}"] = context.relative(made)
                medians.setdefault(row["label"], {})[plane["stokes"]] = float(np.nanmedian(noise))
        write_atomically(context.workdir / "rms.json", json.dumps(medians, indent=1) + "\n")
        said = "; ".join(
            f"{label} " + ", ".join(f"{s} {1e6 * value:.3g} µJy" for s, value in own.items())
            for label, own in medians.items()
        )
        return StepResult(reason=f"median noise: {said}", products={"rms": "rms.json", **products})


class Cutouts(Step):
    """Cut the middle of the images out and measure it."""

    needs = ("rms_images",)
    uses = ("cutout",)

    def run(self, context: Context) -> StepResult:
        """Write ``NAME-KIND-subim.fits``, and the table cutouts.json."""
        products: dict[str, str] = {}
        rows: list[dict[str, Any]] = []
        cells = {t.label: t.cell_arcsec for t in image_targets(context, "edit_image_list_ccip")}
        for row in good_groups(context):
            pixels = 2 * round(context.settings["cutout"] / cells[row["label"]] / 2)
            for plane in row["planes"]:
                image = context.workdir / plane["image"]
                made = {}
                for kind in CUT_KINDS:
                    made[kind] = cut_out(named_like(image, kind), pixels)
                    key = f"{kind}_subim_{row['label']}_{plane['stokes']}"
                    products[key] = context.relative(made[kind])
                rows.append(
                    {"label": row["label"], "stokes": plane["stokes"], **_measured(made, plane)}
                )
        write_atomically(context.workdir / "cutouts.json", json.dumps(rows, indent=1) + "\n")
        shape = open_image(context.workdir / next(iter(products.values())))[0].shape
        return StepResult(
            reason=f"{len(products)} images of {shape[1]} x {shape[0]} pixels",
            products={"cutouts": "cutouts.json", **products},
        )


def cut_out(image: Path, pixels: int) -> Path:
    """Write the middle of an image, the whole of it where it is smaller.

    Parameters
    ----------
    image : Path
    pixels : int
        Width and height, even.

    Returns
    -------
    Path
        ``NAME-subim.fits`` beside the image.
    """
    values, header = open_image(image)
    ny, nx = values.shape
    width, height = min(pixels, nx), min(pixels, ny)
    left, low = nx // 2 - width // 2, ny // 2 - height // 2
    header["CRPIX1"] -= left
    header["CRPIX2"] -= low
    part = values[low : low + height, left : left + width]
    return write_image(
        part, header, image.with_name(image.name.removesuffix(".fits") + "-subim.fits")
    )


def _measured(made: dict[str, Path], plane: dict[str, Any]) -> dict[str, Any]:
    """Return what was measured on the cut-out images of one Stokes parameter."""
    corrected, header = open_image(made["pbcor"])
    residual = open_image(made["residual"])[0]
    cell = abs(float(header["CDELT2"])) * 3600.0
    area = (
        np.pi * plane["beam_major_arcsec"] * plane["beam_minor_arcsec"] / (4 * np.log(2)) / cell**2
    )
    noise = open_image(made["rms"])[0]
    with np.errstate(invalid="ignore"):
        found = np.abs(corrected) > 5.0 * noise
    peak = corrected.ravel()[int(np.nanargmax(np.abs(corrected)))]
    return {
        "peak_jy_beam": float(peak), "flux_jy": float(corrected[found].sum() / area),
        "rms_jy_beam": clipped_rms(residual), "median_rms_jy_beam": float(np.nanmedian(noise)),
    }  # fmt: skip


def read_cutouts(workdir: Path) -> list[dict[str, Any]]:
    """Return the table of the cut-out images."""
    found: list[dict[str, Any]] = read_json(workdir / "cutouts.json")
    return found
