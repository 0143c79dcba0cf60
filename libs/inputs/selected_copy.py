"""The measurement set from which a working copy is made: an import, and a copy of a selection.

Both are done here without CASA, which takes seconds to start. A file or a selection that is not
understood goes to CASA's importuvfits or mstransform, and a note gives the reason.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.casa.session import CasaSession
from libs.core.errors import InputError, ToolError
from libs.inputs.input_data import InputData
from libs.inputs.uvfits_to_ms import import_uvfits
from libs.ms.missing_columns import StandIns
from libs.ms.subset import NotUnderstoodError, choose_subset
from libs.ms.subset_copy import copy_subset
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

__all__ = ["check_channels", "copy_selected", "import_source", "mstransform_options"]

logger = logging.getLogger(__name__)


def import_source(
    source: InputData, target: Path, session: CasaSession, log: Path | None
) -> list[str]:
    """Import a UVFITS file into a measurement set.

    Parameters
    ----------
    source : InputData
    target : Path
        Measurement set to write; an existing one is replaced.
    session : CasaSession
        Session that is started only where the file is not understood.
    log : Path, optional

    Returns
    -------
    list of str
        Reasons why CASA imported the file; empty where it did not.

    Raises
    ------
    InputError
        The file holds Stokes parameters or is cut off.
    ToolError
        importuvfits failed.
    """
    try:
        import_uvfits(source.path, target)
    except NotUnderstoodError as why:
        shutil.rmtree(target, ignore_errors=True)
        note = f"{source.path.name} is imported by CASA, because {why}"
        logger.info("%s", note)
    else:
        return []
    session.run(
        "importuvfits",
        log=log,
        fitsfile=str(source.path),
        vis=str(target),
        antnamescheme="new",
    )
    if not (target / "table.dat").exists():
        raise ToolError(f"importuvfits wrote no output for {source.vis}", f"see {session.log_dir}")
    return [note]


def mstransform_options(
    vis: Path, outputvis: Path, *, field: str, spw: str, datacolumn: str, correlation: str = ""
) -> dict[str, Any]:
    """Return the arguments of mstransform for a working copy.

    Parameters
    ----------
    vis, outputvis : Path
        Input and output measurement set.
    field, spw : str
        Selections in CASA's syntax; empty means all.
    datacolumn : str
        Column that becomes DATA: ``"data"`` or ``"corrected"``.
    correlation : str
        Correlations kept; empty means all.
    """
    return {
        "vis": str(vis),
        "outputvis": str(outputvis),
        "field": field,
        "spw": spw,
        "datacolumn": datacolumn,
        "correlation": correlation,
        # Autocorrelations hold no phases and distort statistics of weights and flags.
        "taql": "ANTENNA1 != ANTENNA2",
        "keepflags": True,
        "reindex": True,
    }


def copy_selected(
    source: InputData,
    view: Path,
    options: dict[str, Any],
    session: CasaSession,
    log: Path | None,
    tell: Callable[[str], None],
    left_out: NDArray[np.int64] | None = None,
) -> list[str]:
    """Copy the selected part of a measurement set.

    Parameters
    ----------
    source : InputData
        Source that messages name.
    view : Path
        Measurement set that may be opened in any way.
    options : dict
        Arguments from :func:`mstransform_options`.
    session : CasaSession
        Session that is started only where the selection is not understood.
    log : Path, optional
    tell : callable
        Function that receives the progress in a few words.
    left_out : (n,) int64, optional
        Rows that are not copied, increasing.

    Returns
    -------
    list of str
        Why CASA made the copy, or what stands for columns that are missing; mostly empty.

    Raises
    ------
    InputError
        Nothing is selected, or rows have no values.
    ToolError
        mstransform failed.
    """
    check_channels(view, options["spw"])
    part = Path(options["outputvis"])
    try:
        subset = choose_subset(
            view,
            field=options["field"],
            spw=options["spw"],
            correlation=options["correlation"],
            column="CORRECTED_DATA" if options["datacolumn"] == "corrected" else "DATA",
        )
        if left_out is not None:
            subset = replace(subset, left_out=left_out)
        rows = copy_subset(view, part, subset, progress=tell)
    except NotUnderstoodError as why:
        shutil.rmtree(part, ignore_errors=True)
        _transform(source, view, options, session, log)
        return [f"CASA's mstransform made the copy, because this is not understood here: {why}"]
    if not rows:
        raise _nothing_selected(source, view, options, "no rows")
    with open_table(view) as opened:
        return StandIns(opened).note()


def _transform(
    source: InputData, view: Path, options: dict[str, Any], session: CasaSession, log: Path | None
) -> None:
    """Run mstransform; the error about an empty selection lists what can be selected."""
    try:
        session.run("mstransform", log=log, **options)
    except ToolError as error:
        if re.search(r"Expression|MSSelection|No match|zero rows", error.cause):
            why = error.cause.split("RuntimeError: ")[-1].splitlines()[0]
            raise _nothing_selected(source, view, options, why) from error
        raise
    with open_table(options["outputvis"]) as made:
        rows = made.nrows()
    if not rows:
        raise _nothing_selected(source, view, options, "no rows")


def check_channels(view: Path, spw: str) -> None:
    """Refuse channels beyond a window's end, which CASA silently moves to its last channel."""
    channels = [window.channels for window in Subtables(view).windows]
    for window, ranges in re.findall(r"(\d+):([\d~;^]+)", spw):
        highest = max(int(number) for number in re.findall(r"\d+", ranges.split("^")[0]))
        if int(window) < len(channels) and highest >= channels[int(window)]:
            raise InputError(
                f"spw = {spw!r} names channel {highest} of window {window}, "
                f"which has {channels[int(window)]}",
                f"use channels 0 to {channels[int(window)] - 1}",
            )


def _nothing_selected(
    source: InputData, view: Path, options: dict[str, Any], why: str
) -> InputError:
    found = Subtables(view)
    known = ", ".join(f"{i} {field.name}" for i, field in enumerate(found.fields[:20]))
    spws = len(found.windows)
    chosen = ", ".join(f"{key} = {options[key]!r}" for key in ("field", "spw") if options[key])
    return InputError(
        f"{source.vis} has no data for {chosen or 'cross-correlations'} ({why.strip()})",
        f"its fields are {known}; its spws 0 to {spws - 1}",
    )
