"""The decisions of a run as a timeline: each step opens to its evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reports.drawings import Drawing
from reports.held_out_figure import read_trials
from reports.html_parts import Markup, cell, facts, figure, join, table, tag, times
from reports.html_rounds import (
    changed_settings,
    choices,
    gain_table,
    round_rows,
    settings_and_numbers,
    status_badge,
    step_anchor,
)
from reports.records import Run, StepRow
from reports.run_panels import comparable_steps
from reports.style import MISSING, common_unit, format_number, format_quantity, prefixed
from reports.svg import Series, chart

__all__ = ["first_part", "history_charts", "timeline"]

JUDGED = (
    ("snr", "SNR", ""), ("near_field_snr", "SNR near the source", ""),
    ("dynamic_range", "Dynamic range", ""), ("rms_jy_beam", "Noise", "Jy/beam"),
    ("total_flux_jy", "Total flux", "Jy"), ("flagged_after", "Flagged", ""),
)  # fmt: skip
CURVES = (
    ("snr", "SNR", "", True), ("dynamic_range", "Dynamic range", "", True),
    ("rms_jy_beam", "Noise", "Jy/beam", True), ("total_flux_jy", "Total flux", "Jy", False),
)  # fmt: skip


def timeline(run: Run, drawings: Sequence[Drawing]) -> Markup:
    """Return every step in order, each with what it decided and, folded away, why.

    Parameters
    ----------
    run : Run
    drawings : sequence of Drawing
        Figures, of which those of closure quantities are shown with their step.
    """
    best: StepRow | None = None
    comparable = {row.step for row in comparable_steps(run)}
    parts = []
    for row in run.steps:
        own = [d for d in drawings if d.step == row.step and d.kind == "closure"]
        parts.append(_step(run, row, best, own))
        if row.accepted and row.step in comparable and math.isfinite(run.statistic(row, "snr")):
            best = row
    return tag("div", *parts, class_="timeline")


def _step(run: Run, row: StepRow, best: StepRow | None, drawings: Sequence[Drawing]) -> Markup:
    number, why = run.statistic(row, "snr"), first_part(row.reason)
    told = math.isfinite(number) and "SNR" not in why
    snr = tag("span", f"SNR {format_number(number)}", class_="snr") if told else ""
    head = tag(
        "summary", tag("b", row.step), " ", status_badge(row), " ", snr, " ",
        tag("span", why, class_="why"),
        tag("span", f"{row.seconds:.1f} s", class_="took"),
    )  # fmt: skip
    body = [
        tag("p", row.reason) if row.reason else "",
        *(tag("p", text, class_="warn") for text in row.warnings),
        choices(row), _evidence(run, row, best), _held_out(row), facts(round_rows(row)),
        *(figure(drawing) for drawing in drawings), changed_settings(row), gain_table(run, row),
        settings_and_numbers(row),
    ]  # fmt: skip
    return Markup(f'<details class="step {row.status}" id="{step_anchor(row.step)}">') + join(
        [head, *body, Markup("</details>")]
    )


def first_part(reason: str) -> str:
    """Return the first part of a reason, up to what fits a line or two.

    A semicolon within parentheses ends nothing.
    """
    parts = reason.split("; ")
    first = parts[0]
    for part in parts[1:]:
        if first.count("(") == first.count(")"):
            break
        first += f"; {part}"
    return first if len(first) <= 160 else first[:157].rstrip() + "\u2026"


def _evidence(run: Run, row: StepRow, best: StepRow | None) -> Markup:
    """Return the numbers of a judged image beside those it was judged against."""
    if not row.is_round or best is None or not math.isfinite(run.statistic(row, "snr")):
        return Markup("")
    rows = []
    for name, label, unit in JUDGED:
        after = run.statistic(row, name)
        earlier = "flagged_before" if name == "flagged_after" else name
        source = row if name == "flagged_after" else best
        before = run.statistic(source, earlier)
        if not (math.isfinite(after) and math.isfinite(before)):
            continue
        change = times(after / before) if before > 0 else MISSING
        rows.append(
            (tag("th", label, scope="row"), cell(_value(before, unit, name)),
             cell(_value(after, unit, name) + _error(run, row, name, unit)), cell(change))
        )  # fmt: skip
    if not rows:
        return Markup("")
    return table(
        ["Image", f"{best.step}, before", f"{row.step}, after", "change"], rows,
        caption="What the round was judged by.",
    )  # fmt: skip


def _error(run: Run, row: StepRow, name: str, unit: str) -> str:
    """Return the error of a total flux in the unit in which the flux is told."""
    error = row.metric("flux_error_jy") if name == "total_flux_jy" else math.nan
    if not math.isfinite(error):
        return ""
    factor, prefix = prefixed(run.statistic(row, name), unit)
    return f" \u00b1 {format_number(error * factor, 2)} {prefix}"


def _value(value: float, unit: str, name: str) -> str:
    if name == "flagged_after":
        return f"{100 * value:.2f} %"
    return format_quantity(value, unit, 4) if unit else format_number(value, 4)


def _held_out(row: StepRow) -> Markup:
    """Return the curve of what was tried on held-out baselines, with error bars."""
    trials = read_trials(row.metrics)
    if not trials:
        return Markup("")
    intervals = list(dict.fromkeys(trial.interval for trial in trials))
    kinds = list(dict.fromkeys(trial.kind for trial in trials))
    series = []
    for number, kind in enumerate(kinds):
        part = [trial for trial in trials if trial.kind == kind]
        series.append(
            Series(
                [float(intervals.index(t.interval)) for t in part], [t.chi2_fall for t in part],
                [t.error if math.isfinite(t.error) else 0.0 for t in part], kind,
                f"s{number % 6}", notes=[_told(t.chi2_fall, t.error) for t in part],
            )
        )  # fmt: skip
    chosen = [trial for trial in trials if trial.chosen]
    if chosen:
        places = [float(intervals.index(t.interval)) for t in chosen]
        falls = [t.chi2_fall for t in chosen]
        series.append(Series(places, falls, (), "chosen", "ring", "dots"))
    drawn = chart(
        series, x_label="solution interval", y_label="fall of held-out chi2", names=intervals,
        level=0.0,
        alt=f"What gains of each interval and kind explain of held-out baselines in {row.step}.",
    )  # fmt: skip
    title = "Above zero, gains predict baselines that were left out of their solve (1 sigma bars)."
    return tag("figure", drawn, tag("figcaption", title))


def _told(fall: float, error: float) -> str:
    return f"{fall:.4g} \u00b1 {error:.2g}"


def history_charts(run: Run) -> Markup:
    """Return how the image changed from step to step: accepted ones joined, rejected ones apart."""
    steps = [row for row in comparable_steps(run) if row.status != "skipped"]
    order = [row.step for row in run.steps]
    last = max((order.index(row.step) for row in run.rounds), default=len(order))
    if len(steps) < 2:
        return Markup("")
    names = [row.step for row in steps]
    parts = []
    for key, name, base, log in CURVES:
        factor, unit = common_unit([run.statistic(row, key) for row in steps], base)
        label = f"{name}, {unit}" if unit else name
        groups: dict[str, list[tuple[float, float]]] = {"done": [], "rejected": [], "later": []}
        for place, row in enumerate(steps):
            value = run.statistic(row, key) * factor
            later = row.accepted and order.index(row.step) > last
            group = "later" if later else "done" if row.accepted else "rejected"
            if math.isfinite(value):
                groups[group].append((float(place), value))
        known = [value for points in groups.values() for _, value in points]
        if not known:
            continue
        spread = log and min(known) > 0 and max(known) > 4 * min(known)
        looks = (("done", "accepted", "s0", "both"), ("rejected", "rejected", "s1", "dots"),
                 ("later", "made of the result", "ring", "dots"))  # fmt: skip
        series = [
            Series([x for x, _ in groups[g]], [y for _, y in groups[g]], (), name, colour, kind,
                   [f"{names[int(x)]}: {y:.5g}" for x, y in groups[g]])
            for g, name, colour, kind in looks
            if groups[g]
        ]  # fmt: skip
        parts.append(
            chart(series, x_label="", y_label=label, names=names, log_y=bool(spread),
                  alt=f"{label} after each step; the numbers are in the table of all steps.")
        )  # fmt: skip
    return tag("div", *(tag("div", part) for part in parts), class_="charts")
