"""Making the working copy, which every step may write, from the user's data.

The user's data are opened through a view (:mod:`libs.ms.view`) and remain unchanged to the last
byte; the copy is made beside its place and renamed when it is complete.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from libs.casa.session import CasaSession
from libs.core.errors import ConfigError, InputError
from libs.core.files import fsync_tree, tree_bytes
from libs.flagging.dead_feeds import flag_dead_feeds
from libs.inputs.first_look import first_look, rows_without_values
from libs.inputs.input_data import (
    InputData,
    copy_size_bytes,
    identity,
    reading,
    resolve_inputs,
    selected_rows,
)
from libs.inputs.selected_copy import copy_selected, import_source, mstransform_options
from libs.inputs.uvh5_to_ms import convert
from libs.ms.field_directions import join_coincident, settle_directions
from libs.ms.hard_links import link_pointing
from libs.ms.integration import read_integration_time_s
from libs.ms.rows import SLAB_ROWS, chunks, distinct, stretches
from libs.ms.sanitise import Repairs, add_scratch_columns, name_antennas, sanitise
from libs.ms.selection import RowChoice, match_windows, parse_windows
from libs.ms.subtables import Subtables, remove_subtables
from libs.ms.summary import MsSummary
from libs.ms.tables import open_table
from libs.ms.tiled_headers import save_headers
from libs.ms.view import own_every_file, put_descriptions, read_view
from libs.simulation.corrupt import corrupt_ms

__all__ = [
    "InputData",
    "WorkingCopy",
    "check_disk",
    "check_usable",
    "copy_size_bytes",
    "identity",
    "make_working_copy",
    "mstransform_options",
    "resolve_inputs",
]

logger = logging.getLogger(__name__)

MINIMUM_ANTENNAS = 3  # one baseline cannot tell two antennas' gains apart
LARGEST_MOSAIC_DEG = 5.0


@dataclass(frozen=True)
class WorkingCopy:
    """A working copy and a record of how it was made.

    Attributes
    ----------
    ms : Path
        Measurement set: DATA from the input, MODEL_DATA of 1 Jy, CORRECTED_DATA = DATA.
    datacolumn : str
        Column of the input from which DATA comes, ``"DATA"`` or ``"CORRECTED_DATA"``.
    repairs : Repairs
        Bad values that were found and flagged.
    notes : tuple of str
        Repairs and remarks in words.
    truth, untouched : Path or None
        Gains (as fields of `GainSolutions`) and a measurement set of the data without the errors,
        for a demonstration with known gain errors.
    size_bytes : int
    seconds : float
    windows : tuple of int
        Number in the input of each window of the copy; empty where it is not known.
    """

    ms: Path
    datacolumn: str
    repairs: Repairs
    notes: tuple[str, ...]
    truth: Path | None
    untouched: Path | None
    size_bytes: int
    seconds: float
    windows: tuple[int, ...] = ()


def check_disk(folder: str | Path, need_bytes: int) -> None:
    """Check that a folder can be written and that its disk has room.

    Parameters
    ----------
    folder : path
        Folder, which need not exist yet.
    need_bytes : int
        Size of the files to come.

    Raises
    ------
    InputError
        The folder is not writable, or has too little free space; the message gives both sizes.
    """
    folder = Path(folder).absolute()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise InputError(
            f"{there} cannot be written ({error.strerror or error})",
            "choose another workdir or change its permissions",
        ) from error
    free = shutil.disk_usage(there).free
    if free < need_bytes:
        raise InputError(
            f"the working copy needs {_size(need_bytes)} on the disk of {there}, "
            f"where {_size(free)} are free",
            "free some space, choose another workdir, or select fewer fields or spws",
        )


def _size(count_bytes: int) -> str:
    size = float(count_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def make_working_copy(
    source: InputData,
    target_ms: Path,
    *,
    field: str = "",
    spw: str = "",
    datacolumn: str = "auto",
    phase_centre_rad: tuple[float, float] | None = None,
    one_target: bool = True,
    treat: Callable[[Path, Sequence[int]], list[str]] | None = None,
    session: CasaSession,
    log: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> WorkingCopy:
    """Make the working copy of one source.

    Parameters
    ----------
    source : InputData
        Source from :func:`resolve_inputs`.
    target_ms : Path
        Path of the copy. An older one there, with its flag versions and weights, is replaced once
        the new one is complete.
    field, spw : str
        Selections in CASA's syntax; empty means all (or the demonstration's own field).
    datacolumn : str
        Column to take: ``"auto"`` takes CORRECTED_DATA where the input has it filled, else DATA;
        ``"data"`` and ``"corrected"`` force the choice.
    phase_centre_rad : (float, float), optional
        ICRS direction to which uvh5 data without a phase centre are phased.
    one_target : bool
        False allows fields too far apart to be one target, as those of a whole session are.
    treat : callable, optional
        Function of the copy and the numbers of its windows in the input that flags or averages it
        in place, once its values are checked, and returns what it did, one line each.
    session : CasaSession
    log : Path, optional
        Log of the CASA tasks.
    progress : callable, optional
        Function that receives the progress in a few words.

    Raises
    ------
    ConfigError
        ``datacolumn`` is unknown, or a uvh5 file needs ``phase_centre_rad`` or pyuvdata.
    InputError
        Nothing is selected, or the input is broken.
    ToolError
        A CASA task failed.
    """
    start = time.monotonic()
    tell = progress or (lambda text: logger.info("%s", text))
    target_ms = Path(target_ms).absolute()
    part = target_ms.with_name(target_ms.name + ".part")
    scratch = target_ms.with_name(f".{target_ms.stem}.scratch")
    target_ms.parent.mkdir(parents=True, exist_ok=True)
    for leftover in (part, scratch):
        shutil.rmtree(leftover, ignore_errors=True)
    scratch.mkdir()
    try:
        input_ms, said = _imported(source, scratch, phase_centre_rad, session, log, tell)
        hands = _hands_with_data(input_ms) if source.kind == "uvfits" else ""
        with reading(source.vis), read_view(input_ms, scratch) as view:
            choice = selected_rows(view.path, field or source.field, spw)
            column, notes = _choose_column(view.path, datacolumn, choice)
            name = "CORRECTED_DATA" if column == "corrected" else "DATA"
            look = first_look(view.path, name, choice)
            notes += look.notes
            put_descriptions(view.path, look.loose, 0, 0)
            quantised = _is_quantised(view.path)
            tell(f"copying {source.name}")
            selection = {"field": field or source.field, "spw": spw, "correlation": hands}
            notes += [f"cross hands are empty: only {hands} are kept"] if hands else []
            options = mstransform_options(view.path, part, datacolumn=column, **selection)
            notes += copy_selected(source, view.path, options, session, log, tell, look.left_out)
            own_every_file(part)
            windows = _windows_of(part, view.path, spw) if source.kind == "ms" else ()
            notes += settle_directions(part, view.path) + join_coincident(part)
            notes += _check_one_target(part, source) if one_target else []
            remove_subtables(part, view.replaced)
            notes = [*said, *view.notes, *notes]
        tell(f"checking the values of {source.name}")
        renamed = name_antennas(part, from_stations=source.kind == "uvfits")
        notes += [f"antennas renamed: {', '.join(renamed)}"] if renamed else []
        repairs = sanitise(part, quantised=quantised)
        notes += [*repairs.lines(), *flag_dead_feeds(part)]
        notes += _note_interval(part) + (treat(part, windows) if treat else [])
        truth, untouched = _corrupt(source, part, target_ms)
        tell(f"adding model and corrected columns to {source.name}")
        add_scratch_columns(part)
        notes += link_pointing(part, source.path) if source.kind == "ms" else []
        _rename(part, target_ms)
    finally:
        for leftover in (part, scratch, Path(f"{part}.flagversions")):
            shutil.rmtree(leftover, ignore_errors=True)
    return WorkingCopy(
        ms=target_ms,
        datacolumn="CORRECTED_DATA" if column == "corrected" else "DATA",
        repairs=repairs,
        notes=tuple(notes),
        truth=truth,
        untouched=untouched,
        size_bytes=tree_bytes(target_ms),
        seconds=time.monotonic() - start,
        windows=windows,
    )


def _imported(
    source: InputData,
    scratch: Path,
    phase_centre_rad: tuple[float, float] | None,
    session: CasaSession,
    log: Path | None,
    tell: Callable[[str], None],
) -> tuple[Path, list[str]]:
    """Return the measurement set to copy, imported where the input is none, and notes."""
    made = scratch / f"{source.name}.ms"
    if source.kind == "uvfits":
        tell(f"importing {source.path.name}")
        return made, import_source(source, made, session, log)
    if source.kind == "uvh5":
        return made, convert(source.parts, made, centre_rad=phase_centre_rad, progress=tell)
    return source.path, []


def _windows_of(part: Path, view: Path, spw: str) -> tuple[int, ...]:
    """Return which windows of the input a copy has; none where frequencies do not tell."""
    theirs = Subtables(view).channel_hz
    with suppress(ConfigError, InputError):  # named otherwise, or not told apart by frequency
        return match_windows(
            Subtables(part).channel_hz, theirs, parse_windows(spw, len(theirs)) if spw else None
        )
    return ()


def _hands_with_data(ms: Path) -> str:
    """Return the parallel hands if the cross hands are empty throughout, else an empty string.

    UVFITS files of Stokes I hold four hands of which two are zero, and tclean grids no visibility
    of which one hand is flagged.
    """
    types = [setup.codes.tolist() for setup in Subtables(ms).setups]
    if any(kind not in ([5, 6, 7, 8], [9, 10, 11, 12]) for kind in types) or len(types) != 1:
        return ""
    for chunk in chunks(ms, ["DATA", "FLAG"]):
        cross = np.nan_to_num(chunk["DATA"][:, :, 1:3])
        if np.any((cross != 0) & ~chunk["FLAG"][:, :, 1:3]):
            return ""
    return "RR,LL" if types[0][0] == 5 else "XX,YY"


def _choose_column(view: Path, datacolumn: str, choice: RowChoice) -> tuple[str, list[str]]:
    """Return "data" or "corrected", with a note where the choice is not obvious."""
    if datacolumn not in ("auto", "data", "corrected"):
        raise ConfigError(f"datacolumn = {datacolumn!r}", "use 'auto', 'data' or 'corrected'")
    with open_table(view) as opened:
        present = opened.colnames()
        filled = "CORRECTED_DATA" in present and _has_values(opened, "CORRECTED_DATA")
        empty_rows = _empty_rows(opened, choice) if filled else 0
    if datacolumn == "corrected":
        if not filled:
            raise InputError(
                "datacolumn = 'corrected', but "
                f"{view.name.removeprefix('view_')} has no filled CORRECTED_DATA",
                "use datacolumn = 'data', or apply its calibration first",
            )
        return "corrected", []
    if datacolumn == "auto" and empty_rows and "DATA" in present:
        return "data", [f"{empty_rows} rows have no CORRECTED_DATA; DATA is used throughout"]
    if datacolumn == "data" or not filled:
        if "DATA" not in present:
            raise InputError("the input has no DATA column", "use datacolumn = 'corrected'")
        empty = datacolumn == "auto" and "CORRECTED_DATA" in present
        return "data", ["CORRECTED_DATA of the input is empty; DATA is used"] if empty else []
    return "corrected", ["CORRECTED_DATA of the input is used"]


def _empty_rows(opened: Any, choice: RowChoice) -> int:
    """Return how many of the selected cross-correlations have no CORRECTED_DATA."""
    rows, empty = rows_without_values(opened, "CORRECTED_DATA"), 0
    for low, count in stretches(opened.nrows()) if len(rows) else ():
        here = rows[(rows >= low) & (rows < low + count)] - low
        one, two = (opened.getcol(f"ANTENNA{n}", low, count) for n in (1, 2))
        empty += int((choice(opened, low, count) & (one != two))[here].sum())
    return empty


def _is_quantised(view: Path) -> bool:
    """Return whether visibilities are stored by Dysco, which compresses them to a few bits."""
    with open_table(view) as opened:
        managers = opened.getdminfo().values()
    return any(
        manager["TYPE"] == "DyscoStMan" and {"DATA", "CORRECTED_DATA"} & set(manager["COLUMNS"])
        for manager in managers
    )


def _has_values(opened: Any, name: str, samples: int = 200) -> bool:
    """Return whether a column is filled and not only created, from rows spread over the table."""
    rows = np.unique(np.linspace(0, opened.nrows() - 1, samples).astype(int))
    cells = [opened.getcell(name, int(row)) for row in rows if opened.iscelldefined(name, int(row))]
    return any(np.any(np.nan_to_num(cell) != 0) for cell in cells)


def _check_one_target(part: Path, source: InputData) -> list[str]:
    """Refuse fields too far apart to be one target; note that several close ones are combined."""
    with open_table(part) as opened:
        used = distinct(opened, "FIELD_ID")
    if used.size < 2:
        return []
    fields = Subtables(part).fields
    ra, dec = np.array([fields[i].direction_rad for i in used]).T
    vectors = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    apart_deg = np.rad2deg(np.arccos(np.clip((vectors @ vectors.T).min(), -1, 1)))
    listed = ", ".join(fields[i].name for i in used)
    if apart_deg > LARGEST_MOSAIC_DEG:
        raise InputError(
            f"{source.vis} has fields up to {apart_deg:.0f} deg apart ({listed})",
            "choose the one to calibrate with field",
        )
    return [f"{used.size} fields are calibrated together: {listed}"]


def _note_interval(ms: Path) -> list[str]:
    """Note where INTERVAL contradicts the spacing of the time stamps, which is used instead."""
    with open_table(ms) as opened:
        some = min(opened.nrows(), SLAB_ROWS)
        said = float(np.median(opened.getcol("INTERVAL", 0, some)))
        spacing = read_integration_time_s(opened, ("DATA_DESC_ID", "ANTENNA1", "ANTENNA2"))
    if not spacing:
        return []
    if 0.5 < said / spacing < 2:
        return []
    return [f"INTERVAL says {said:.3g} s, time stamps are {spacing:.3g} s apart: TIME is used"]


def _corrupt(source: InputData, part: Path, target_ms: Path) -> tuple[Path | None, Path | None]:
    """Apply a demonstration's gain errors to the copy; keep the truth and the data without them."""
    if source.demo is None or source.demo.corruption_seed is None:
        return None, None
    untouched = target_ms.with_name(f"{target_ms.stem}_untouched.ms")
    aside = untouched.with_name(untouched.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(part, aside)
    add_scratch_columns(aside)
    _rename(aside, untouched)
    gains = corrupt_ms(part, seed=source.demo.corruption_seed)
    truth = target_ms.with_name(f"{target_ms.stem}_truth.npz")
    written = truth.with_name(f".{truth.name}")
    with written.open("wb") as stream:
        np.savez_compressed(
            stream,
            time_s=gains.time_s, interval_s=gains.interval_s, frequency_hz=gains.frequency_hz,
            spw=gains.spw, antenna=np.array(gains.antenna), position_m=gains.position_m,
            polarization=np.array(gains.polarization), gain=gains.gain, flag=gains.flag,
            snr=gains.snr,
        )  # fmt: skip
    written.replace(truth)
    return truth, untouched


def _rename(part: Path, target_ms: Path) -> None:
    """Move a finished copy to its place and remove the files of an older one."""
    fsync_tree(part)
    shutil.rmtree(target_ms, ignore_errors=True)
    for suffix in ("flagversions", "weightversions", "headers"):
        shutil.rmtree(f"{target_ms}.{suffix}", ignore_errors=True)
    part.rename(target_ms)
    save_headers(target_ms)


def check_usable(summary: MsSummary, copy: WorkingCopy | None = None, name: str = "") -> None:
    """Check that a working copy can be self-calibrated at all.

    Parameters
    ----------
    summary : MsSummary
        Summary of the working copy.
    copy : WorkingCopy, optional
        Working copy whose repairs tell weights that were bad in the input from flags.
    name : str
        Name of the user's data; empty: that of the working copy.

    Raises
    ------
    InputError
        No rows, no usable weights, all data flagged, or fewer than three antennas.
    """
    name = name or summary.path.name
    if summary.rows == 0:
        raise InputError(f"{name} has no rows", "check field and spw")
    if copy is not None and copy.repairs.unusable_weights:
        raise InputError(
            f"all weights of {name} are zero, negative or not finite",
            "set them in the input, e.g. with the CASA task initweights (wtmode='nyq')",
        )
    if summary.flagged_fraction >= 1.0:
        repairs = copy.repairs if copy else Repairs()
        lost = repairs.not_finite + repairs.exactly_zero + repairs.bad_uvw
        how = f" ({lost} of them because they, or u, v and w, are NaN or zero)" if lost else ""
        raise InputError(
            f"all visibilities of {name} are flagged{how}",
            "select another field or spw, or restore earlier flags of the input",
        )
    if not summary.weights_positive:
        raise InputError(
            f"no unflagged visibility of {name} has a positive weight",
            "set weights in the input, e.g. with the CASA task initweights (wtmode='nyq')",
        )
    count = len(summary.antennas_used)
    if count < MINIMUM_ANTENNAS:
        baselines = "one baseline" if count == 2 else "no baseline"
        raise InputError(
            f"{name} has {baselines} with unflagged data ({count} antennas of "
            f"{len(summary.antenna)}); self-calibration needs {MINIMUM_ANTENNAS}",
            "use data of an array, or unflag antennas in the input",
        )
