"""The working copies' columns: brought to the state a step needs, whatever a kill left behind.

What FLAG, MODEL_DATA and CORRECTED_DATA hold is noted beside each working copy. A note is taken
away before its column is touched and written back after, so a killed write is always redone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from libs.core.files import write_atomically
from libs.gains.solver import AppliedTable
from libs.imaging.interface import ImagingOptions
from libs.ms import flag_versions, tables
from libs.ms.columns import ensure_data_column
from libs.ms.summary import describe_ms, flagged_fraction
from libs.ms.tiled_headers import mend_headers
from selfcal.step import TableRef
from steps.context import Context
from steps.facts import CopyFacts, flag_facts, recorded

__all__ = [
    "INITIAL",
    "applied_tables",
    "base_version",
    "column_in_use",
    "ensure_tables",
    "fill_model",
    "measurement_sets",
    "mend_working_copies",
    "noted",
    "restore_base_flags",
    "set_note",
]

INITIAL = "initial"


def measurement_sets(context: Context) -> list[Path]:
    """Return the working copies, in the order of the input."""
    names = recorded(CopyFacts, context.results["startup"].metrics).working_copies
    return [context.workdir / "data" / name for name in names]


def mend_working_copies(workdir: Path) -> str:
    """Make working copies readable that a kill left with a header cut short; say which."""
    mended = {ms.name: mend_headers(ms) for ms in sorted((workdir / "data").glob("*.ms"))}
    return "; ".join(
        f"{name}: {', '.join(files)} put back, cut short by a kill"
        for name, files in mended.items()
        if files
    )


def base_version(context: Context) -> str:
    """Return the flag version every round starts from; save it when no step has yet."""
    version = flag_facts(context).flag_version or INITIAL
    for ms in measurement_sets(context):
        if version == INITIAL and not flag_versions.has_version(ms, version):
            flag_versions.save_version(ms, version, "flags of the input")
    return version


def _note_path(ms: Path) -> Path:
    return ms.with_name(ms.name + ".state.json")


def noted(ms: Path) -> dict[str, str]:
    """Return what is noted of a working copy."""
    path = _note_path(ms)
    return dict(json.loads(path.read_text())) if path.exists() else {}


def set_note(ms: Path, **changes: str) -> None:
    """Change what is noted of a working copy; an empty value takes the note away."""
    note = {**noted(ms), **changes}
    write_atomically(_note_path(ms), json.dumps({k: v for k, v in note.items() if v}))


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def applied_tables(context: Context, refs: Sequence[TableRef], ms: Path) -> list[AppliedTable]:
    """Return the tables of one working copy, in order of application."""
    return [
        AppliedTable(
            context.workdir / ref.path,
            ref.spwmap,
            ref.interp,  # type: ignore[arg-type]
        )
        for ref in refs
        if ref.ms == ms.name
    ]


def _tables_key(context: Context, refs: Sequence[TableRef], ms: Path) -> str:
    # the time of writing tells a table made anew from its predecessor of the same name
    fields = [(ref.fields,) if ref.fields else () for ref in refs if ref.ms == ms.name]
    stamps = [
        (table.path.name, table.spwmap, table.interp,
         (table.path / "table.dat").stat().st_mtime_ns, *own)
        for table, own in zip(applied_tables(context, refs, ms), fields, strict=True)
    ]  # fmt: skip
    return _digest(base_version(context), stamps)


def restore_base_flags(context: Context, ms: Path) -> None:
    """Put FLAG back to the version every round starts from."""
    set_note(ms, tables="")
    flag_versions.restore_version(ms, base_version(context))


def column_in_use(refs: Sequence[TableRef]) -> str:
    """Return the column that shows a calibration: DATA while there is none."""
    return "CORRECTED_DATA" if refs else "DATA"


def ensure_tables(context: Context, refs: Sequence[TableRef]) -> tuple[float, float]:
    """Make flags and CORRECTED_DATA what these tables, applied to the base flags, give.

    Returns
    -------
    (float, float)
        Fraction of the visibilities flagged before the tables and with them, over all working
        copies, weighted by their rows.
    """
    before = after = weight = 0.0
    for ms in measurement_sets(context):
        key = _tables_key(context, refs, ms)
        own = applied_tables(context, refs, ms)
        note = noted(ms)
        if note.get("tables") != key:
            restore_base_flags(context, ms)
            start = flagged_fraction(ms)
            if own:
                with context.clock.time("solving"):
                    _apply(context, refs, ms)
            set_note(ms, tables=key, flagged_before=repr(start))
        else:
            start = float(note["flagged_before"])
        with tables.open_table(ms) as opened:
            rows = opened.nrows()
        before += start * rows
        after += flagged_fraction(ms) * rows
        weight += rows
    return before / weight, after / weight


def _apply(context: Context, refs: Sequence[TableRef], ms: Path) -> None:
    """Apply tables to one working copy, each to the fields that it is for."""
    mine = [ref for ref in refs if ref.ms == ms.name]
    if not any(ref.fields for ref in mine):
        context.tools.solver.apply(ms, applied_tables(context, refs, ms))
        return
    ensure_data_column(ms, "CORRECTED_DATA", copy="DATA", refill=True)  # of fields without tables
    groups: dict[tuple[TableRef, ...], list[int]] = {}
    for number in describe_ms(ms).fields_used:
        own = tuple(ref for ref in mine if not ref.fields or number in ref.fields)
        if own:
            groups.setdefault(own, []).append(number)
    for own, fields in groups.items():
        context.tools.solver.apply(ms, applied_tables(context, own, ms), fields=fields)


def fill_model(context: Context, models: Sequence[Path], options: ImagingOptions) -> None:
    """Fill MODEL_DATA of every working copy from model images, unless it holds just that."""
    stamps = [(str(path), path.stat().st_mtime_ns) for path in models]
    key = _digest(stamps, options.imsize, options.cell_arcsec)
    copies = measurement_sets(context)
    if all(noted(ms).get("model") == key for ms in copies):
        return
    for ms in copies:
        set_note(ms, model="")
    with context.clock.time("imaging"):
        context.tools.imager.predict(models, options)
    for ms in copies:
        set_note(ms, model=key)
