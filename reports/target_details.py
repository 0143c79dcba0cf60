"""Details of each target for the page of several: settings, intervals, windows, flags."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from libs.core.errors import ConfigError
from libs.record.identity import solutions_id
from libs.record.schema import IntervalEntry, RunRecord, TargetEntry, load_record
from libs.record.windows import short_windows
from reports.drawings import Drawing
from reports.html_parts import Markup, badge, cell, details, figure, table, tag
from reports.pointings import pointing_table, pointings_figure
from reports.records import as_number
from reports.style import MISSING, format_number, format_quantity, save_figure
from reports.target_figures import flags_figure, windows_figure

__all__ = ["TargetsRecord", "interval_table", "settings_table", "target_figures"]


@dataclass(frozen=True)
class TargetsRecord:
    """The record of a run of several targets and what was applied of it.

    Attributes
    ----------
    record : RunRecord or None
        None for runs that have no record.
    applied : dict of str to list of str
        Data sets to which a target's solutions were applied, by its label.
    """

    record: RunRecord | None
    applied: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, workdir: Path) -> TargetsRecord:
        """Read it from a work directory."""
        found = sorted(workdir.glob("*.selfcal.json"))
        try:
            record = load_record(found[0]) if found else None
        except ConfigError:
            record = None  # of another version: the page says what summary.json does
        path = workdir / "applied.json"
        noted = json.loads(path.read_text()) if path.exists() else {}
        targets = record.targets if record else ()
        current = {each.label: solutions_id(each.applied) for each in targets}
        return cls(
            record,
            {
                label: entry["sets"]
                for label, entry in noted.items()
                if entry["solutions"] == current.get(label)
            },
        )

    def target(self, label: str) -> TargetEntry | None:
        """Return the entry of a target; None where there is none."""
        targets = self.record.targets if self.record else ()
        return next((each for each in targets if each.label == label), None)


# -- tables ----------------------------------------------------------------------------------------


def settings_table(record: TargetsRecord, targets: Mapping[str, Mapping[str, object]]) -> Markup:
    """Return the table of how each target was imaged and solved, and what came of it."""
    rows = []
    for label, entry in targets.items():
        found = record.target(label)
        rows.append(
            (
                tag("th", tag("a", label, href=f"#{label}"), scope="row"),
                cell(entry.get("band") or MISSING, "text"),
                *_settings(found, record),
                cell(_success(entry), "text"),
                cell(_score(entry)),
                cell(_applied(record, label), "text"),
            )
        )
    heading = [
        "Target", "Band", "Windows\nGHz", "Cell\narcsec", "Image\npixels", "Intervals\ntried",
        "Interval\nfinal", "Success", "QA\nscore", "Applied to",
    ]  # fmt: skip
    return table(heading, rows, caption="How each target was imaged and solved")


def _success(entry: Mapping[str, object]) -> str:
    if entry["status"] == "failed":
        return f"failed: {entry.get('reason') or 'no reason is recorded'}"
    return "yes" if entry["status"] == "improved" else "no"


def _settings(found: TargetEntry | None, record: TargetsRecord) -> list[Markup]:
    if found is None or record.record is None:
        return [cell(MISSING)] * 5
    cell_size = found.cell_arcsec
    size = " × ".join(map(str, found.imsize))
    tried = ", ".join(f"{each.interval or each.step} ({each.calmode})" for each in found.intervals)
    return [
        cell(short_windows(record.record, found) or MISSING, "text"),
        cell(f"{cell_size:.3g}" if cell_size else MISSING),
        cell(size or MISSING),
        cell(tried or MISSING, "text"),
        cell(found.final_interval or MISSING),
    ]


def _applied(record: TargetsRecord, label: str) -> str:
    names = [Path(name).name for name in record.applied.get(label, ())]
    return ", ".join(names) or "not yet"


def _score(entry: Mapping[str, object]) -> str:
    quality = entry.get("qa")
    score = quality.get("score") if isinstance(quality, dict) else None
    return MISSING if score is None else f"{score:g}"


def interval_table(target: TargetEntry) -> Markup:
    """Return the table of the solution intervals that were tried on a target."""
    heading = [
        "Interval", "Step", "Mode", "Result", "SNR\nbefore", "SNR\nafter", "Noise\nbefore",
        "Noise\nafter", "Flux\nbefore", "Flux\nafter", "Beam area\nratio", "Solutions\nflagged",
    ]  # fmt: skip
    rows = [_interval_row(each) for each in target.intervals]
    return table(heading, rows, caption="Solution intervals tried") if rows else Markup("")


def _interval_row(each: IntervalEntry) -> list[Markup]:
    states = (each.before, each.after)
    flagged = "; ".join(f"{own.fraction:.1%}" for own in each.flagged.values())
    return [
        tag("th", each.interval or MISSING, scope="row"),
        cell(each.step, "text"),
        cell(f"{each.calmode} {each.gaintype}", "text"),
        cell(badge("done" if each.passed else "rejected", "passed" if each.passed else "failed")),
        *(cell(format_number(as_number(state.get("snr")), 4)) for state in states),
        *(cell(_quantity(state, "rms_jy_beam", "Jy/beam")) for state in states),
        *(cell(_quantity(state, "total_flux_jy", "Jy")) for state in states),
        cell(MISSING if each.beam_ratio is None else f"{each.beam_ratio:.3f}"),
        cell(flagged or MISSING),
    ]


def _quantity(state: Mapping[str, object], name: str, unit: str) -> str:
    return format_quantity(as_number(state.get(name)), unit, 3)


def _window_table(target: TargetEntry) -> Markup:
    rows = [
        [
            tag("th", number, scope="row"),
            *(cell(format_number(as_number(s.get("snr")), 4)) for s in pair),
            *(cell(_quantity(s, "peak_jy_beam", "Jy/beam")) for s in pair),
            *(cell(_quantity(s, "rms_jy_beam", "Jy/beam")) for s in pair),
        ]
        for number, states in target.window_results.items()
        for pair in [(states.get("initial", {}), states.get("final", {}))]
    ]
    heading = [
        "Window", "SNR\nbefore", "SNR\nafter", "Peak\nbefore", "Peak\nafter", "Noise\nbefore",
        "Noise\nafter",
    ]  # fmt: skip
    return table(heading, rows, caption="Images of single spectral windows")


# -- figures ---------------------------------------------------------------------------------------


def target_figures(workdir: Path, folder: Path, target: TargetEntry) -> list[Markup]:
    """Draw and return the windows and the flags of a target, folded away.

    Parameters
    ----------
    workdir : Path
        Of the whole run; the figures go to its ``plots``.
    folder : Path
        Work directory of the target's own run.
    target : TargetEntry
    """
    plots = workdir / "plots"
    plots.mkdir(exist_ok=True)
    parts = [details("Solution intervals", interval_table(target))] if target.intervals else []
    if target.window_results:
        title = f"{target.label}: each spectral window before and after"
        drawn = windows_figure(folder, target)
        inner = _window_table(target)
        if drawn is not None:
            path = save_figure(drawn, plots / f"{target.label}.windows.png")
            inner += figure(Drawing(path, title, title, "windows"))
        parts.append(details("Spectral windows", inner))
    if target.field_results:
        parts.append(_pointings(plots, folder, target))
    shares = [each for change in target.flags.values() for each in change.antennas.values()]
    if shares and not any(each.after > 0 for each in shares):
        parts.append(details("Flags", tag("p", "No visibility is flagged.")))
    elif shares:
        title = f"{target.label}: visibilities flagged, by antenna and by length of the baseline"
        path = save_figure(flags_figure(target), plots / f"{target.label}.flags.png")
        parts.append(details("Flags", figure(Drawing(path, title, title, "flags"))))
    return parts


def _pointings(plots: Path, folder: Path, target: TargetEntry) -> Markup:
    """Return the pointings of a mosaic, folded away."""
    inner = pointing_table(target)
    drawn = pointings_figure(folder)
    if drawn is not None:
        title = f"{target.label}: each pointing of the mosaic before and after"
        path = save_figure(drawn, plots / f"{target.label}.pointings.png")
        inner += figure(Drawing(path, title, title, "pointings"))
    return details("Pointings", inner)
