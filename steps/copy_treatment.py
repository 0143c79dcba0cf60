"""What is done to a working copy beyond copying: lines are flagged, channels averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from libs.core.geometry import ARCSEC_PER_RAD, primary_beam_fwhm_arcsec, smearing_limits
from libs.inputs.cont_dat import ContFile, read_cont_dat
from libs.inputs.line_free import LineFlags, flag_by_file, flag_found
from libs.ms.channel_average import average_channels, widest_channel_hz
from libs.ms.subtables import Subtables
from libs.ms.summary import summarise
from steps.cont_file import cont_file
from steps.context import Context
from steps.selections import SelectedInput

__all__ = ["LINES_SETTING", "CopyTreatment"]

LINES_SETTING = "lines"
_BEAMS_ACROSS = 1.5  # widths of the primary beam that an image of the whole field has


@dataclass
class CopyTreatment:
    """The treatment of one working copy, called with the copy and its windows' numbers.

    Attributes
    ----------
    context : Context
        Of the step ``startup``.
    one : SelectedInput
    ranges : ContFile or None
    warnings : list of str
        What the user should know.
    """

    context: Context
    one: SelectedInput
    ranges: ContFile | None
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def each(cls, context: Context, inputs: Sequence[SelectedInput]) -> list[CopyTreatment]:
        """Return the treatment of every input; the file is read, and checked, once."""
        path = cont_file(context.settings)
        ranges = read_cont_dat(path) if path else None
        return [cls(context, one, ranges) for one in inputs]

    def __call__(self, ms: Path, windows: Sequence[int]) -> list[str]:
        """Flag lines, then average channels; return what was done, one line each."""
        count = len(Subtables(ms).windows)
        own = windows or range(count)
        numbers = [self.one.virtual.get(number, number) for number in own]
        done = LineFlags()
        if self.ranges is not None:
            done = flag_by_file(ms, self.ranges, numbers)
            if self.context.settings[LINES_SETTING] == "find":
                done.warnings.append(f"{self.ranges.path.name} says what is continuum: lines = find"
                                     " is not used")  # fmt: skip
        elif self.context.settings[LINES_SETTING] == "find":
            done = flag_found(ms, numbers)
        self.warnings += done.warnings
        return [*done.lines, *done.warnings, *self._average(ms)]

    def _average(self, ms: Path) -> list[str]:
        """Average channels as the options say."""
        wanted = self.context.options["channel_width"]
        if not wanted:
            return []
        if wanted != "auto":
            return average_channels(ms, lambda frequency_hz: float(wanted))
        summary = summarise(ms)
        cell, imsize = (self.context.settings[name] for name in ("cell", "imsize"))
        if "auto" not in (cell, imsize):
            edge = 0.5 * max(imsize) * cell
        elif summary.dish_diameter_m > 0:
            beam = primary_beam_fwhm_arcsec(summary.min_frequency_hz, summary.dish_diameter_m)
            edge = 0.5 * _BEAMS_ACROSS * beam
        else:
            return ["channels are not averaged: neither the map's nor the dishes' size is known"]
        limit_hz = smearing_limits(
            summary.longest_baseline_m, summary.max_frequency_hz, edge / ARCSEC_PER_RAD,
            self.context.options["smearing"],
        )[1]  # fmt: skip
        return average_channels(ms, lambda hz: min(limit_hz, widest_channel_hz(hz)))
