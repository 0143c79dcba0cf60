"""The HTML report: one file that contains everything and needs no network."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reports.drawings import Drawing, draw_all
from reports.gain_data import RoundGains, read_gains
from reports.html_parts import (
    Markup,
    badge,
    cell,
    details,
    facts,
    join,
    listing,
    table,
    tag,
    times,
)
from reports.html_rounds import decisions_table, step_anchor
from reports.identity import identity_section, next_section
from reports.interactive import gain_section, page_scripts, viewer_section
from reports.main_source import main_source_table
from reports.page import document, navigation, write_page
from reports.records import Run, as_number, read_run
from reports.style import MINUS, MISSING, format_number, format_quantity
from reports.tables import FINAL_COLUMNS, STATES
from reports.timeline import first_part, history_charts, timeline
from reports.viewer_data import Viewer, read_viewer
from reports.visibility_section import (
    NO_VISIBILITIES,
    Visibilities,
    shown_visibilities,
    visibility_section,
)
from reports.words import word, words_section

__all__ = ["render", "write_live_page", "write_report"]

logger = logging.getLogger(__name__)

LOG_LINES = 25
_EXPLAINED = ("snr", "dynamic range", "total flux")
HEADLINES = {
    "improved": "Self-calibration improved the image",
    "unchanged": "Self-calibration did not help: the initial data stay as they were",
    "failed": "The run failed",
    "incomplete": "The run has not finished",
}


def write_report(
    workdir: str | Path,
    progress: Callable[[str], None] | None = None,
    drawn: Mapping[str, Sequence[Drawing]] | None = None,
    workers: int = 1,
    on_page: Callable[[], None] | None = None,
    plots: bool = True,
) -> Path:
    """Write ``report.html`` in a run's work directory, then draw all its figures.

    The page is complete before these are drawn, and written again with the list of them.

    Parameters
    ----------
    workdir : path
        Work directory of a run, which may be complete, under way or failed.
    progress : callable or None
        Function that receives what is being drawn.
    drawn : mapping of str to sequence of Drawing, optional
        Finished figures, by token.
    workers : int
        Number of processes that draw; see `reports.drawings.draw_all`.
    on_page : callable or None
        Function that is called when the page is there and only figures are left.
    plots : bool
        False: no figures but those that pages show.

    Returns
    -------
    Path
        Path of the report.

    Raises
    ------
    InputError
        No run was ever recorded there, or the report cannot be written.
    """
    run = read_run(workdir)
    shown = Shown.read(run)
    path = run.workdir / "report.html"
    write_page(path, render(run, _known(drawn), shown=shown))
    if on_page:
        on_page()
    densities = shown.visibilities.densities
    drawings, problems = draw_all(run, progress, drawn, workers, densities, plots=plots)
    write_page(path, render(run, drawings, problems, shown=shown))
    logger.info("report with %d figures written to %s", len(drawings), path)
    return path


def write_live_page(
    workdir: str | Path, drawn: Mapping[str, Sequence[Drawing]] | None = None
) -> Path:
    """Write the report of a run that goes on: what is known by now; browsers show the next one."""
    run = read_run(workdir)
    path = run.workdir / "report.html"
    write_page(path, render(run, _known(drawn), shown=Shown.read(run, live=True), live=True))
    return path


def _known(drawn: Mapping[str, Sequence[Drawing]] | None) -> list[Drawing]:
    return [drawing for found in (drawn or {}).values() for drawing in found]


@dataclass(frozen=True)
class Shown:
    """Images, gains and visibilities of a page, read once for both writings."""

    viewer: Viewer | None = None
    gains: tuple[RoundGains, ...] = ()
    visibilities: Visibilities = NO_VISIBILITIES

    @classmethod
    def read(cls, run: Run, *, live: bool = False) -> Shown:
        """Return what a run has; visibilities only where it does not go on writing them."""
        visibilities = NO_VISIBILITIES if live else shown_visibilities(run)
        return cls(read_viewer(run), tuple(read_gains(run)), visibilities)


def render(
    run: Run,
    drawings: Sequence[Drawing] = (),
    problems: Sequence[str] = (),
    *,
    shown: Shown | None = None,
    live: bool = False,
) -> str:
    """Return the report as one HTML page that contains its figures.

    Parameters
    ----------
    run : Run
    drawings : sequence of Drawing
    problems : sequence of str
        Things that could not be shown, one line each; those of the records are added.
    shown : Shown, optional
        Images and gains.
    live : bool
        True for a run that goes on: the page loads itself again.

    Returns
    -------
    str
    """
    shown = shown or Shown()
    sections = [
        ("next", "What to do next", Markup("") if live else next_section(run)),
        ("result", "Result", _result(run) + viewer_section(shown.viewer)),
        ("decisions", "Decisions", _decisions(run, drawings)),
        ("gains", "Gains", gain_section(run, shown.gains)),
        ("visibilities", "Visibilities", visibility_section(shown.visibilities)),
        ("settings", "Settings", _settings(run)),
        ("files", "Files and versions", _files(run, drawings)),
        ("words", "Words", words_section()),
    ]
    full = [(key, title, body) for key, title, body in sections if body]
    body = join(tag("section", tag("h2", title) + body, id=key) for key, title, body in full)
    return document(
        f"Self-calibration of {_subject(run)}",
        [
            _header(run, shown.visibilities.natural_rms_jy_beam, live=live),
            navigation([(key, title) for key, title, _ in full]),
            tag("main", _notes(run, [*run.problems, *problems]) + body, id="content"),
            _footer(run),
            page_scripts(shown.viewer, shown.gains),
        ],
        live=live,
    )


def _subject(run: Run) -> str:
    for setting in run.settings:
        if setting.name in ("vis", "target") and setting.value:
            return ", ".join(Path(part.strip()).name for part in setting.value.split(","))
    return run.workdir.name


def _header(run: Run, natural_rms_jy_beam: float, *, live: bool = False) -> Markup:
    status = run.status
    title = "The run goes on" if live else HEADLINES.get(status, status)
    finished = max((row.finished for row in run.steps), default="")
    kicker = f"Self-calibration report of {_subject(run)}"
    if finished:
        kicker += f", last step finished {finished.replace('T', ' ').partition('+')[0]} UTC"
    return tag(
        "header",
        tag("p", kicker, class_="kicker"),
        tag("h1", title),
        tag("p", badge(status), " ", _lead(run), class_="lead"),
        identity_section(run, natural_rms_jy_beam),
        class_="top",
    )


def _lead(run: Run) -> str:
    """Return a summary of the run in one or two sentences."""
    failed = next((row for row in run.steps if row.status == "failed"), None)
    if failed is not None:
        return f"Step {failed.step} failed: {failed.reason}"
    initial, final = (run.summary.get(key) or {} for key in ("initial", "final"))
    before, after = (as_number(state.get("dynamic_range")) for state in (initial, final))
    parts = []
    if run.status == "unchanged" and math.isfinite(after):
        parts += [_why_unchanged(run), f"Dynamic range {format_number(after)}."]
    elif math.isfinite(before) and math.isfinite(after) and before > 0:
        parts.append(
            f"Dynamic range {format_number(before)} before, {format_number(after)} after "
            f"({times(after / before)})."
        )
    for verb, key in (("Accepted", "accepted"), ("Rejected", "rejected")):
        names = _names(run.summary.get(key))
        if names:
            parts.append(f"{verb}: {', '.join(names)}.")
    if not run.summary and run.steps:
        last = run.steps[-1]
        parts.append(f"{len(run.steps)} steps are recorded so far, the last is {last.step}.")
    return " ".join(filter(None, parts))


def _why_unchanged(run: Run) -> str:
    """Return why the first round that was tried was not taken, else why none was tried."""
    rows = [row for row in run.steps if re.fullmatch(r"a?p\d+", row.step) and row.reason]
    tried = [row for row in rows if row.status == "rejected"] or rows
    return f"{tried[0].step} {tried[0].status}: {first_part(tried[0].reason)}." if tried else ""


def _names(entries: object) -> list[str]:
    """Return round names of a summary's list, whose entries may carry a reason."""
    if isinstance(entries, Mapping):
        return [str(name) for name in entries]
    if not isinstance(entries, list):
        return []
    return [
        str(entry.get("step") or entry.get("name") or entry.get("round") or "")
        if isinstance(entry, Mapping)
        else str(entry[0] if isinstance(entry, list | tuple) and entry else entry)
        for entry in entries
    ]


def _notes(run: Run, problems: Sequence[str]) -> Markup:
    """Return warnings of the run and of this page."""
    warnings = run.summary.get("warnings")
    stale = []
    if run.outdated:
        stale = [f"{', '.join(run.outdated)}: recorded before an earlier step ran again"]
    parts = []
    for title, lines in (
        ("Warnings", warnings if isinstance(warnings, list) else []),
        ("Outdated steps, left out", stale),
        ("Not everything could be shown", problems),
    ):
        if lines:
            unique = dict.fromkeys(str(line) for line in lines)
            parts.append(tag("div", tag("p", f"{title}:"), listing(unique), class_="note"))
    return join(parts)


def _result(run: Run) -> Markup:
    targets = run.summary.get("targets")
    parts = []
    if isinstance(targets, Mapping):
        for name, summary in targets.items():
            parts += [tag("h3", str(name)), _result_table(summary or {})]
    parts.append(_result_table(run.summary))
    parts.append(main_source_table(run.summary))
    return join(parts)


def _result_table(summary: Mapping[str, Any]) -> Markup:
    """Return the initial and final state, one statistic per line, with the changes."""
    states = [(label, summary.get(key) or {}) for key, label in STATES if summary.get(key)]
    if not states:
        return Markup("")
    initial, final = summary.get("initial") or {}, summary.get("final") or {}
    if initial and initial == final:
        states = [state for state in states if state[0] != "final"]
        final = {}
    labels = [label.capitalize() for label, _ in states]
    caption = "The image before and after." if final else "The first image, which is the result."
    if not final:
        rows = [
            (tag("th", _heading(label), scope="row"),
             *(cell(_quantity(as_number(s.get(name)), unit), class_=key) for key, s in states))
            for name, label, unit in FINAL_COLUMNS
        ]  # fmt: skip
        return table(["", *labels], rows, class_="result", caption=caption)
    labels.insert(min(2, len(labels)), "Change")
    rows = []
    for name, label, unit in FINAL_COLUMNS:
        cells = [
            cell(_quantity(as_number(state.get(name)), unit), class_=state_label)
            for state_label, state in states
        ]
        before, after = as_number(initial.get(name)), as_number(final.get(name))
        cells.insert(min(2, len(cells)), _change(name, before, after))
        rows.append((tag("th", _heading(label), scope="row"), *cells))
    return table(["", *labels], rows, class_="result", caption=caption)


def _heading(label: str) -> Markup | str:
    """Return the name of a statistic, with a link to its meaning."""
    if label == "rms":
        return word("noise", "Noise (rms)")
    title = label[0].upper() + label[1:]
    return word(title) if title.lower() in _EXPLAINED else title


def _quantity(value: float, unit: str) -> str:
    return format_quantity(value, unit, 4) if unit else format_number(value, 4)


def _change(name: str, before: float, after: float) -> Markup:
    """Return a ratio for statistics that should change, a percentage for those that should not."""
    if not (math.isfinite(before) and math.isfinite(after)) or before == 0:
        return cell(MISSING)
    ratio = after / before
    if name in ("peak_jy_beam", "total_flux_jy"):
        return cell(f"{100 * (ratio - 1):+.1f} %".replace("-", MINUS))
    better = ratio < 1 if name == "rms_jy_beam" else ratio > 1
    return cell(times(ratio), class_="" if ratio == 1 else "better" if better else "worse")


def _decisions(run: Run, drawings: Sequence[Drawing]) -> Markup:
    if not run.steps:
        return tag("p", "No step is recorded yet.")
    return join(
        [
            history_charts(run),
            tag(
                "p",
                "Every step in order; each opens to its evidence. A ",
                word("round"),
                " is ",
                word("accepted"),
                " or ",
                word("rejected"),
                " by the image of its data and by ",
                word("held-out baselines"),
                ".",
                class_="kicker",
            ),
            timeline(run, drawings),
            details("Table of all steps", decisions_table(run)),
        ]
    )


def _settings(run: Run) -> Markup:
    """List the settings that somebody chose; defaults are folded away."""
    if not run.settings:
        return Markup("")
    chosen = [s for s in run.settings if s.origin != "default"]
    defaults = [s for s in run.settings if s.origin == "default"]
    parts = []
    for name, settings in (("chosen", chosen), ("default", defaults)):
        if not settings:
            continue
        rows = [
            (
                tag("th", tag("code", s.name), scope="row"),
                cell(s.value, class_="text wrap"),
                cell(s.origin, class_="text"),
            )
            for s in settings
        ]
        shown = table(["Setting", "Value", "Origin"], rows, class_="settings", text=True)
        number = f"{len(settings)} setting" + ("" if len(settings) == 1 else "s")
        title = f"{number} left at the default"
        parts.append(shown if name == "chosen" else details(title, shown))
    return join(parts)


def _files(run: Run, drawings: Sequence[Drawing]) -> Markup:
    """Return paths, versions and times, and the end of the log when something failed."""
    known = {
        "calibrated data": run.summary.get("calibrated_ms"),
        "column to image": run.summary.get("column"),
        "h5parm": run.summary.get("h5parm"),
        "gain tables": run.summary.get("tables"),
        "work directory": str(run.workdir),
        "longest baseline": _baseline(run),
    }
    parts = [facts(known)]
    versions = run.summary.get("versions")
    if isinstance(versions, Mapping) and versions:
        parts += [tag("h3", "Versions"), facts(versions)]
    parts += [_products(run), _pictures(drawings), _record(run)]
    if run.status in ("failed", "incomplete"):
        parts.append(_log_tail(run.workdir / "run.log"))
    return join(parts)


def _baseline(run: Run) -> str:
    length = as_number(run.summary.get("longest_baseline_km"))
    return f"{format_number(length)} km" if math.isfinite(length) else ""


def _products(run: Run) -> Markup:
    rows = []
    for row in run.steps:
        for name, path in row.products.items():
            there = (run.workdir / path).exists()
            shown = tag("a", path, href=path) if there else join([path, " (no longer there)"])
            link = tag("a", row.step, href=f"#{step_anchor(row.step)}")
            rows.append((tag("th", link, scope="row"), cell(name, class_="text"),
                         cell(shown, class_="text")))  # fmt: skip
    if not rows:
        return Markup("")
    return details("Files made by each step", table(["Step", "Product", "Path"], rows, text=True))


def _pictures(drawings: Sequence[Drawing]) -> Markup:
    """Return links to the figures that are drawn for papers and talks, with what they show."""
    rows = [
        tag("li", tag("a", f"plots/{d.path.name}", href=f"plots/{d.path.name}"), f": {d.title}")
        for d in drawings
    ]
    return details("Figures in plots/", tag("ul", *rows)) if rows else Markup("")


def _record(run: Run) -> Markup:
    """Return the summary itself, and how to cite the program."""
    parts = [
        tag("h3", "How to cite"),
        tag("p", "See CITATION.cff of the program, and cite the tools named above that were used."),
    ]
    if run.summary:
        text = json.dumps(run.summary, indent=1, default=str)
        parts.append(details("summary.json", tag("pre", text)))
    return join(parts)


def _log_tail(path: Path) -> Markup:
    if not path.is_file():
        return Markup("")
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 16384))
        lines = stream.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:]
    return tag("h3", "End of the log") + tag("pre", "\n".join(lines))


def _footer(run: Run) -> Markup:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return tag(
        "footer",
        f"Written {now} from the records in {run.workdir}. The full numbers are in steps.csv, "
        "images.csv and gains.csv there; every figure is a PNG in plots/.",
    )
