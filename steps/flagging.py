"""Steps that flag: initial flags and weights, RFI before and after self-calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from libs.core.numbers import format_number
from libs.flagging import rflag
from libs.flagging.aoflagger import FlaggedByAoflagger, run_aoflagger
from libs.ms import flag_versions, split
from libs.ms.rows import chunks, put_rows
from libs.ms.summary import flagged_fraction
from libs.weights import statwt
from selfcal.options import Option
from selfcal.step import Skip, Step, StepResult
from steps.context import Context
from steps.data_state import (
    INITIAL,
    ensure_tables,
    fill_model,
    measurement_sets,
    restore_base_flags,
    set_note,
)
from steps.facts import startup_facts
from steps.images import (
    best_image,
    clean_folder,
    image_products,
    image_row,
    judged_image,
    model_files,
    options_of_model,
)
from steps.user_mask import MASK_SETTING

__all__ = ["RflagFinal", "RflagInit", "SaveInitFlags", "weigh_by_noise"]


# the flags of the input and those that statwt put on bins whose weights make no sense
BASE = "base"
CALIBRATED = "calibrated"


class SaveInitFlags(Step):
    """Save the initial flags and weights, or put them back; then weigh the data by their noise."""

    options = (
        Option("statwt", "bool", True, "weights from the noise of the data, where they show it"),
        Option("min_samples", "int", 32, "fewest samples in a bin", minimum=2),
    )  # fmt: skip

    def changes_data(self, context: Context) -> bool:
        """It weighs them."""
        return True

    def run(self, context: Context) -> StepResult:
        """Flags and weights as they came; then weights from the noise, where the data show it."""
        said: list[str] = []
        for ms in measurement_sets(context):
            set_note(ms, tables="", model="")
            if flag_versions.has_version(ms, INITIAL):
                flag_versions.restore_version(ms, INITIAL)
                said.append(f"{ms.name}: flags restored")
            else:
                flag_versions.save_version(ms, INITIAL, "flags of the input")
                said.append(f"{ms.name}: flags saved ({flagged_fraction(ms):.1%} flagged)")
            said.append(self._statwt(context, ms))
            flag_versions.save_version(ms, BASE, "flags every round starts from")
        return StepResult(
            reason="; ".join(said),
            tables=context.tables,
            template=context.template,
            metrics={"flag_version": BASE, "weighed_by_noise": self._samples(context)},
        )

    def _samples(self, context: Context) -> int:
        """Fewest samples in a bin of weights; 0 where the weights stay."""
        return context.options["min_samples"] if context.options["statwt"] else 0

    def _statwt(self, context: Context, ms: Any) -> str:
        if not context.options["statwt"]:
            if flag_versions.has_weights(ms, statwt.VERSION):
                flag_versions.restore_weights(ms, statwt.VERSION)
            return "weights as they came"
        return weigh_by_noise(context, ms, context.options["min_samples"])


def weigh_by_noise(context: Context, ms: Path, min_samples: int) -> str:
    """Make the weights those of the noise in DATA, where it shows; say how."""
    context.progress.activity(f"weights of {ms.name}")
    if flag_versions.has_weights(ms, statwt.VERSION):
        # statwt reads CORRECTED_DATA, which rounds of an earlier start have calibrated
        for chunk in chunks(ms, ["DATA"]):
            put_rows(ms, chunk.rows, {"CORRECTED_DATA": chunk["DATA"]})
    return statwt.weigh(
        ms,
        context.tools.session,
        options=statwt.StatwtOptions(min_samples=min_samples),
        log=context.workdir / "logs" / "statwt.log",
    )


class RflagInit(Step):
    """Flag RFI in the raw data, where the band is known for it."""

    uses = ("band",)
    options = (
        Option("bands", "names", ["4", "P", "L", "S", "LBA", "HBA", "VHF", "UHF", "B2", "B3", "B4",
                                  "B5", "low", "mid", "high", "16cm"], "bands in which it is done"),
        Option("force", "bool", False, "whatever the band"),
        Option("flagger", "choice", "rflag", "rflag: the program's own tfcrop, rflag, clip and"
               " extend; aoflagger: AOFlagger, where it is installed",
               choices=("rflag", "aoflagger")),
        Option("max_new_flags", "float", 0.2, "undone when more than this fraction is flagged"),
    )  # fmt: skip

    def changes_data(self, context: Context) -> bool:
        """Where it flags anything."""
        return context.options["force"] or startup_facts(context).band in context.options["bands"]

    def run(self, context: Context) -> StepResult:
        """tfcrop, rflag, clip and extend on DATA; a new base version of the flags."""
        band = startup_facts(context).band
        if not self.changes_data(context):
            raise Skip(f"band {band or 'unknown'} seldom needs it (force: true does it)")
        said, changed = [], False
        for ms in measurement_sets(context):
            restore_base_flags(context, ms)
            context.progress.activity(f"{context.options['flagger']} {ms.name}")
            outcome = self._flag(context, ms)
            said.append(f"{ms.name}: {outcome.reason}")
            changed = changed or outcome.applied
        if not changed:
            raise Skip("; ".join(said))
        for ms in measurement_sets(context):
            flag_versions.save_version(ms, self.name, "after RFI flagging of the raw data")
        return StepResult(
            reason="; ".join(said),
            tables=context.tables,
            template=context.template,
            metrics={"flag_version": self.name},
        )

    def _flag(self, context: Context, ms: Path) -> rflag.RflagResult | FlaggedByAoflagger:
        if context.options["flagger"] == "aoflagger":
            return run_aoflagger(
                ms,
                version=BASE,
                max_new_fraction=context.options["max_new_flags"],
                log=context.workdir / "logs" / "aoflagger.log",
                stall_s=context.settings["tool_stall"],
            )
        return rflag.run_rflag(
            ms,
            context.tools.session,
            options=rflag.RflagOptions(max_new_fraction=context.options["max_new_flags"]),
            version=BASE,
            log=context.workdir / "logs" / "rflag.log",
        )


class RflagFinal(Step):
    """Flag what stands out of the residuals after self-calibration; split and image the rest."""

    uses = ("imager", "threads", "memory")
    uses_files = (MASK_SETTING,)
    options = (
        Option("max_new_flags", "float", 0.1, "undone when more than this fraction is flagged"),
    )  # fmt: skip

    def run(self, context: Context) -> StepResult:
        """rflag on CORRECTED - MODEL, then a split of what is left."""
        if not context.tables:
            raise Skip("nothing was self-calibrated: the residuals are those of the input")
        ensure_tables(context, context.tables)
        self._model(context)
        products: dict[str, str] = {}
        said, changed = [], False
        for ms in measurement_sets(context):
            set_note(ms, tables="")
            # the flags of the calibrated state; an earlier start's are no good
            flag_versions.delete_version(ms, CALIBRATED)
            outcome = rflag.run_rflag(
                ms,
                context.tools.session,
                options=rflag.RflagOptions(
                    column="RESIDUAL",
                    methods=("rflag", "tfcrop", "extend"),
                    max_new_fraction=context.options["max_new_flags"],
                ),
                version=CALIBRATED,
                log=context.workdir / "logs" / "rflag.log",
            )
            said.append(f"{ms.name}: {outcome.reason}")
            changed = changed or outcome.applied
        if not changed:
            ensure_tables(context, context.tables)
            raise Skip("; ".join(text.replace(": skipped: ", ": ") for text in said))
        image = judged_image(context, clean_folder(context, self.name), "rflag", context.tables)
        for number, ms in enumerate(measurement_sets(context)):
            target = ms.with_name(f"{ms.stem}.selfcal_rflag.ms")
            split.split_calibrated(
                ms, target, context.tools.session, log=context.workdir / "logs" / "split.log"
            )
            products[f"split_rflag_{number}"] = context.relative(target)
        ensure_tables(context, context.tables)
        said.append(f"SNR {format_number(image.statistics.snr, 4)}")
        return StepResult(
            reason="; ".join(said),
            tables=context.tables,
            template=context.template,
            products={**image_products(context, image), **products},
            metrics=image.statistics.as_row(),
            images=(image_row(context, self.name, image),),
        )

    def _model(self, context: Context) -> None:
        """Fill MODEL_DATA with the model of the best image."""
        best = best_image(context)
        fill_model(context, model_files(context, best.products), options_of_model(context, best))
