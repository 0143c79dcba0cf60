"""Checks of config and data before a run: all that it would refuse in its first minute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from libs.core.errors import InputError
from libs.inputs.cont_dat import read_cont_dat
from libs.inputs.input_data import copy_size_bytes
from libs.inputs.preview import Preview, check_names, check_selection, preview
from libs.inputs.working_copy import check_disk
from selfcal.options import unknown_name
from selfcal.settings import Settings
from selfcal.step import Step
from selfcal.templates import resolve_options
from steps.cont_file import cont_file
from steps.instruments import identify
from steps.selections import SelectedInput, selected_inputs

__all__ = ["Estimate", "check_data", "estimate_time", "time_words"]

# Passes over the visibilities of an ordinary run (images, residuals, solves) and a thread's rate,
# from the figures in docs/benchmarks.md and docs/performance.md; the rest does not grow with them.
_PASSES = 80
_RATE_PER_S = 2e6
_FIXED_S = 15.0
_SPREAD = 3.0  # sources differ by this much in either direction


@dataclass(frozen=True)
class Estimate:
    """What a run would take.

    Attributes
    ----------
    disk_bytes : int
        Disk that must be free.
    seconds : float
        Time on one core, good to a factor of three.
    notes : tuple of str
        What is only found out when the run starts.
    """

    disk_bytes: int
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """The estimate in words."""
        disk = f"disk: {self.disk_bytes / 1e9:.2f} GB must be free, and are"
        return [disk, f"time: {time_words(self.seconds)}", *self.notes]


def estimate_time(visibilities: int) -> float:
    """Return the time that a run takes on one core, s, from the number of visibilities."""
    return _FIXED_S + _PASSES * visibilities / _RATE_PER_S


def time_words(seconds: float) -> str:
    """Return a range of times in words, from an estimate that is good to a factor of three."""

    def said(value: float) -> str:
        for unit, size in (("h", 3600.0), ("min", 60.0)):
            if value >= 1.5 * size:
                return f"{value / size:.{int(value < 10 * size)}f} {unit}"
        return f"{value:.0f} s"

    return f"about {said(seconds / _SPREAD)} to {said(seconds * _SPREAD)} on one core"


def check_data(settings: Settings, steps: Sequence[Step]) -> Estimate:
    """Look at the data and check what the settings say of them; nothing is written.

    Raises
    ------
    ConfigError
        A reference antenna is not in the data, or the instrument or band is not known.
    InputError
        The data are missing or broken, the selection holds nothing, or the disk is too small.
    """
    path = cont_file(settings)
    if path is not None:
        read_cont_dat(path)
    inputs = selected_inputs(settings)
    found = [preview(one.source) for one in inputs]
    notes: list[str] = []
    visibilities = 0
    for one, content in zip(inputs, found, strict=True):
        visibilities += _selected(one, content, settings, notes)
    _check_antennas(settings, found)
    frequency = sum(w.mean_hz for w in found[0].windows) / max(1, len(found[0].windows))
    instrument, band = identify(
        found[0].telescope, frequency, settings["instrument"], settings["band"]
    )
    own = resolve_options(steps[0], settings, "", instrument, band).values
    size = sum(copy_size_bytes(one.source, one.field, one.spw) for one in inputs)
    disk = int(size * own.get("disk_factor", 1.0))
    check_disk(settings.workdir, disk)
    return Estimate(disk, estimate_time(visibilities), tuple(notes))


def _selected(one: SelectedInput, content: Preview, settings: Settings, notes: list[str]) -> int:
    """Return the number of visibilities of an input that a run would take."""
    source, field, spw = one.source, one.field, one.spw
    if source.kind != "ms":
        check_names(content, field, spw)
        return content.visibilities
    _check_column(content, settings["datacolumn"])
    count = check_selection(source, field, spw)
    if count is None:
        notes.append(f"CASA reads the selection of {source.vis} when the run starts")
        return content.visibilities
    return count


def _check_column(content: Preview, datacolumn: str) -> None:
    wanted = {"data": "DATA", "corrected": "CORRECTED_DATA"}.get(datacolumn)
    if wanted and wanted not in content.columns:
        raise InputError(
            f"{content.vis} has no column {wanted}", f"it has {', '.join(content.columns)}"
        )


def _check_antennas(settings: Settings, found: Sequence[Preview]) -> None:
    """Refuse reference antennas that are not in the data."""
    if settings["refant"] == "auto":
        return
    known = {name for content in found for name in content.antennas}
    for name in settings["refant"]:
        if name not in known:
            raise unknown_name("antenna in refant", name, sorted(known))
