"""The data as the continuum run imaged them: its flags, weights and self-calibration restored."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.errors import InputError, SelfcalError
from libs.core.geometry import ARCSEC_PER_RAD
from libs.gains.apply import apply_tables
from libs.gains.caltable import read_caltable
from libs.gains.solver import AppliedTable
from libs.imaging.interface import ImagingOptions, open_image, write_image
from libs.imaging.native.mosaic_model import MosaicModel, predict_sky, response_of_weights
from libs.imaging.stokes_planes import read_planes
from libs.ms import flag_versions
from libs.ms.columns import ensure_data_column
from libs.ms.rows import read_rows, row_pieces, write_rows
from libs.ms.subtables import Subtables
from libs.ms.tables import column_names, open_table
from selfcal.step import Step, StepResult
from steps.calibrate.session_data import write_record
from steps.context import Context
from steps.images import memory_bytes
from steps.vlass.resources import FLAG_VERSION, Resources, find_resources, unpack_resources
from steps.vlass.vlass_data import ImageTarget, image_targets, mosaic_of
from steps.vlass.vlass_startup import working_copy

__all__ = ["INITIAL", "RestorePims"]

INITIAL = "hifv_restorepims_initial"
"""Flags and weights before this step; a later run begins with them."""

_RECORD = "restore.json"
_SAME_PLACE_PIXELS = 0.1


class RestorePims(Step):
    """Unpack the resources and restore flags, weights and self-calibrated data."""

    needs = ("vlass_startup", "edit_image_list_seip")
    uses = ("weights", "model_scale", "pb_limit", "instrument", "tool_stall")
    uses_files = ("resources",)

    def changes_data(self, context: Context) -> bool:
        """Return True: flags and weights change."""
        return True

    def run(self, context: Context) -> StepResult:
        """Do what the production run did, in its order; write restore.json."""
        record: dict[str, Any] = {"steps": [], "missing": ""}
        path = context.workdir / _RECORD
        try:
            resources = self._resources(context)
        except SelfcalError as error:
            write_record(path, {**record, "missing": error.cause})
            raise
        ms = working_copy(context)
        self._reset(ms)
        log = context.workdir / "logs" / "restore.log"
        products = self._fits(context, resources, log)
        with context.clock.time("solving"):
            self._restore(context, ms, resources, products, log, record["steps"])
        write_record(path, record)
        fraction = flag_versions.count(ms).fraction
        masks = {name: context.relative(products[name]) for name in ("tier1", "tier2")}
        return StepResult(
            reason=f"flags of {FLAG_VERSION} ({100 * fraction:.1f} % flagged), statwt, "
            f"self-cal table {resources.table.name}",
            products={"restore": _RECORD, **masks},
            metrics={"flagged_fraction": fraction, "masks": masks},
        )

    def _resources(self, context: Context) -> Resources:
        folder = context.workdir / "resources"
        context.progress.activity("unpacking the resources")
        unpack_resources(Path(context.settings["resources"]), folder)
        return find_resources(folder, Path(context.settings["vis"]).name)

    def _reset(self, ms: Path) -> None:
        """Restore flags and weights of before; save them the first time."""
        if flag_versions.has_version(ms, INITIAL) and flag_versions.has_weights(ms, INITIAL):
            flag_versions.restore_version(ms, INITIAL)
            flag_versions.restore_weights(ms, INITIAL)
            return
        flag_versions.save_weights(ms, INITIAL)
        flag_versions.save_version(ms, INITIAL, "flags before the continuum run's were restored")

    def _fits(self, context: Context, resources: Resources, log: Path) -> dict[str, Path]:
        """Return models and masks as FITS images of one plane."""
        folder = context.workdir / "restored"
        folder.mkdir(exist_ok=True)
        made = {}
        images = {"tier1": resources.tier1, "tier2": resources.tier2}
        images |= {f"model_{term}": path for term, path in enumerate(resources.models)}
        for name, source in images.items():
            target = folder / f"{name}.fits"
            exported = folder / f".{name}.part.fits"
            if source.is_dir():
                context.tools.session.run(
                    "exportfits", log=log, imagename=str(source), fitsimage=str(exported),
                    overwrite=True, history=False,
                )  # fmt: skip
            else:
                shutil.copyfile(source, exported)
            planes, header = read_planes(exported)
            exported.unlink()
            header["NAXIS"] = 4
            header.pop("CASAMBM", None)
            made[name] = write_image(planes[0], header, target)
        return made

    def _restore(
        self, context: Context, ms: Path, resources: Resources, products: dict[str, Path],
        log: Path, said: list[str],
    ) -> None:  # fmt: skip
        def tell(text: str) -> None:
            context.progress.activity(text)
            said.append(text)

        session = context.tools.session
        tell("virtual models dropped")
        session.run("delmod", log=log, vis=str(ms), otf=True, scr=False)
        (target,) = image_targets(context, "edit_image_list_seip")
        options = _grid_options(context, target, ms)
        models = [products[name] for name in sorted(products) if name.startswith("model_")]
        _check_place(models[0], options)
        tell(f"model of {len(models)} terms filled in, each pointing through its primary beam")
        response = None
        if context.settings["model_scale"] == "flat_noise":
            response = response_of_weights(options)
        predict_sky(MosaicModel(models, options, response), options)
        tell(f"flags of {FLAG_VERSION} restored")
        _restore_flags(ms, resources.flags)
        # where there is no such column statwt sets WEIGHT too, and a second start would differ
        ensure_data_column(ms, "CORRECTED_DATA")
        tell("statwt on data minus model: one weight for each baseline, channel and correlation")
        session.run(
            "statwt", log=log, vis=str(ms), datacolumn="residual_data",
            combine="field,scan,state,corr", chanbin=1, timebin="1yr", flagbackup=False,
        )  # fmt: skip
        if context.settings["weights"] == "sigma":
            tell("WEIGHT set to 1 / SIGMA^2")
            _weights_of_sigma(ms)
        else:
            tell("WEIGHT left as statwt leaves it, as published")
        tell(_apply(ms, resources.table))


def _grid_options(context: Context, target: ImageTarget, ms: Path) -> ImagingOptions:
    """Return the grid, pointings and windows of the continuum."""
    return ImagingOptions(
        vis=(ms,), folder=context.workdir / "restored", basename="model", imsize=target.imsize,
        cell_arcsec=target.cell_arcsec, phase_centre_deg=target.phasecenter_deg,
        spws=target.spws, memory_bytes=memory_bytes(context.settings),
        mosaic=mosaic_of(context, target, context.settings["pb_limit"]),
    )  # fmt: skip


def _check_place(model: Path, options: ImagingOptions) -> None:
    """Check that a model's middle is where the list says."""
    from libs.core.coordinates import radec_to_lm
    from libs.imaging.interface import sky_position

    plane, header = open_image(model)
    middle = sky_position(header, plane.shape[1] // 2, plane.shape[0] // 2)
    assert options.phase_centre_deg is not None
    apart = radec_to_lm(*np.radians(middle), *np.radians(options.phase_centre_deg))
    pixels = float(np.hypot(*apart)) * ARCSEC_PER_RAD / options.cell_arcsec
    if pixels > _SAME_PLACE_PIXELS:
        raise InputError(
            f"the model's middle is {pixels:.3g} pixels from phasecenter of the list",
            "give the list that the continuum was made with (seip_list)",
        )


def _restore_flags(ms: Path, version: Path) -> None:
    """Put the continuum run's flag version beside the working copy, and restore it."""
    with open_table(version) as saved, open_table(ms) as opened:
        rows = saved.nrows(), opened.nrows()
    if rows[0] != rows[1]:
        raise InputError(
            f"the flag version {version.name} has {rows[0]} rows, the data {rows[1]}",
            "give the resources of these data",
        )
    flag_versions.adopt_version(ms, version, FLAG_VERSION, "flags of the continuum run")
    flag_versions.restore_version(ms, FLAG_VERSION)


def _weights_of_sigma(ms: Path) -> None:
    """Set WEIGHT to 1 / SIGMA^2, by channel as well where there are such columns."""
    pairs = [("SIGMA", "WEIGHT"), ("SIGMA_SPECTRUM", "WEIGHT_SPECTRUM")]
    there = column_names(ms)
    with open_table(ms, write=True) as opened:
        for sigma, weight in pairs:
            if sigma not in there or weight not in there:
                continue
            for _, rows in row_pieces(opened, (sigma,)):
                if not opened.iscelldefined(sigma, int(rows[0])):
                    continue
                values = np.asarray(read_rows(opened, (sigma,), rows)[sigma], np.float64)
                with np.errstate(divide="ignore"):
                    found = np.where(values > 0.0, values**-2.0, 0.0)
                write_rows(opened, rows, {weight: found.astype(np.float32)})


def _apply(ms: Path, table: Path) -> str:
    """Apply the self-cal table to every window; flag nothing, leave the weights."""
    spws: Sequence[int] = sorted(read_caltable(table).spws)
    windows = len(Subtables(ms).windows)
    lowest = spws[0]
    apply_tables(
        ms, [AppliedTable(table, (lowest,) * windows, "nearest")], calwt=False,
        flag_unsolved=False,
    )  # fmt: skip
    return f"{table.name} applied, the solutions of window {lowest} to all windows"
