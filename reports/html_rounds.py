"""Parts of the report by step: the table of decisions and a section for each step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reports.html_parts import Markup, badge, cell, details, facts, join, table, tag, times
from reports.records import GainRow, Run, StepRow, as_number
from reports.run_panels import comparable_steps
from reports.style import MINUS, MISSING, TIMES, common_unit, format_number

__all__ = [
    "changed_settings",
    "choices",
    "decisions_table",
    "gain_table",
    "round_rows",
    "settings_and_numbers",
    "status_badge",
    "step_anchor",
]

# settings of a round that are shown first, with their names in the report
ROUND_FACTS = (
    ("solint", "solution interval"),
    ("calmode", "solved for"),
    ("gaintype", "gain type"),
    ("combine", "combined over"),
    ("minsnr", "minimum SNR"),
    ("cycles", "cycles"),
    ("robust", "robust weighting"),
    ("sigma_mask", "mask above (sigma)"),
    ("refant", "reference antennas"),
)
CALMODES = {"p": "phase", "a": "amplitude", "ap": "amplitude and phase"}


def step_anchor(step: str) -> str:
    """Return the id of a step's section."""
    return "step-" + "".join(c if c.isalnum() else "-" for c in step)


def decisions_table(run: Run) -> Markup:
    """Return the table of all steps with results, decisions and reasons.

    Parameters
    ----------
    run : Run

    Returns
    -------
    Markup
        One row for each step. The change is that of the dynamic range from the best state before.
    """
    columns = (("peak_jy_beam", "Peak", "Jy/beam"), ("rms_jy_beam", "Noise", "Jy/beam"),
               ("snr", "SNR", ""), ("dynamic_range", "DR", ""),
               ("total_flux_jy", "Flux", "Jy"))  # fmt: skip
    units = [_column_unit(run, name, unit) for name, _, unit in columns]
    heading = ["Step", "Status", "Reason", "Template", "Solint"]
    heading += [f"{label}\n{unit}" for (_, label, _), (_, unit) in zip(columns, units, strict=True)]
    heading += ["Change\nof DR", "Flagged", "Time"]
    longest = max((row.seconds for row in run.steps), default=0.0)
    comparable = {row.step for row in comparable_steps(run)}
    best = math.nan
    rows = []
    for row in run.steps:
        value = run.statistic(row, "dynamic_range")
        cells = [
            tag("th", tag("a", row.step, href=f"#{step_anchor(row.step)}"), scope="row"),
            cell(status_badge(row), "text"),
            cell(row.reason, "text wrap"),
            cell(row.template, "text"),
            cell(solint_text(row) if row.is_round else ""),
        ]
        for (name, _, _), (factor, _) in zip(columns, units, strict=True):
            number = run.statistic(row, name)
            cells.append(cell(format_number(number * factor) if math.isfinite(number) else ""))
        cells += [_change(value, best), cell(_flagged(row)), _time_cell(row, longest)]
        rows.append(tag("tr", *cells, class_=row.status))
        if row.accepted and row.step in comparable and math.isfinite(value):
            best = value
    key = join(
        ["Time: "]
        + [
            join([tag("span", class_=f"key {name}"), name])
            for name in ("imaging", "solving", "other")
        ]
    )
    legend = "Every step in order. DR: dynamic range, its change against the best state before it."
    return table(heading, rows, class_="steps", caption=legend) + tag(
        "p", key, f". In all {_seconds(sum(row.seconds for row in run.steps))}.", class_="kicker"
    )


def _column_unit(run: Run, name: str, unit: str) -> tuple[float, str]:
    """Return the factor and unit of a column."""
    return common_unit([run.statistic(row, name) for row in run.steps], unit)


def solint_text(row: StepRow) -> str:
    """Return the solution interval of a round in words; empty where nothing was solved."""
    return str(row.interval or "")


def _change(value: float, best: float) -> Markup:
    if not (math.isfinite(value) and math.isfinite(best)) or best <= 0:
        return cell("")
    better = "better" if value > best else "worse" if value < best else ""
    return cell(times(value / best), better)


def _flagged(row: StepRow) -> str:
    after = row.metric("flagged_after")
    if not math.isfinite(after):
        return ""
    before = row.metric("flagged_before")
    text = f"{100 * after:.1f} %"
    if math.isfinite(before) and abs(after - before) >= 0.0005:
        text = f"{100 * before:.1f} \u2192 {text}"
    return text


def _seconds(seconds: float) -> str:
    if seconds < 99.5:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _time_cell(row: StepRow, longest: float) -> Markup:
    """Draw the time of a step as a bar: imaging, solving and the rest."""
    if longest <= 0:
        return cell("")
    rest = max(0.0, row.seconds - row.seconds_imaging - row.seconds_solving)
    bars = [
        tag("i", class_=name, style=f"width:{100 * part / longest:.1f}%")
        for name, part in (
            ("imaging", row.seconds_imaging),
            ("solving", row.seconds_solving),
            ("other", rest),
        )
        if part > 0
    ]
    title = f"imaging {row.seconds_imaging:.1f} s, solving {row.seconds_solving:.1f} s"
    bar = tag("span", *bars, class_="bar", role="img", aria_label=title, title=title)
    return cell(join([_seconds(row.seconds), " ", bar]), "time")


def changed_settings(row: StepRow) -> Markup:
    """Return the settings of a step that somebody or a template chose."""
    origin = row.settings.get("origin")
    if not isinstance(origin, Mapping):
        return Markup("")
    chosen = {n: v for n, v in row.settings.items() if n != "origin" and origin.get(n) != "default"}
    if not chosen:
        return Markup("")
    shown = _settings_table({**chosen, "origin": origin})
    return details(f"{len(chosen)} settings that are no defaults", shown)


def gain_table(run: Run, row: StepRow) -> Markup:
    """Return statistics of a round's gains by antenna; empty where it solved for none."""
    gains = [gain for gain in run.gains if gain.step == row.step]
    return _gain_table(gains) if gains else Markup("")


def settings_and_numbers(row: StepRow) -> Markup:
    """Return everything that a step recorded, folded away."""
    numbers = facts(_shown(row.metrics)) if row.metrics else Markup("")
    settings = _settings_table(row.settings)
    if not numbers and not settings:
        return Markup("")
    return details(f"All numbers and settings of {row.step}", numbers + settings)


def choices(row: StepRow) -> Markup:
    """Return the choices and the origin of the model in words, where they were recorded."""
    said = [
        f"{words}: {row.metrics[name]}."
        for name, words in (("chosen", "Gains"), ("mask", "Model"))
        if isinstance(row.metrics.get(name), str) and row.metrics[name]
    ]
    return tag("p", " ".join(said), class_="kicker") if said else Markup("")


def status_badge(row: StepRow) -> Markup:
    """Return the status of a step; a round that is done was accepted."""
    if row.status == "done":
        return badge("done", "accepted") if row.is_round else badge("step", "done")
    return badge(row.status)


def _settings_table(settings: Mapping[str, Any]) -> Markup:
    """Return the options of a step with their origins; those that somebody chose come first."""
    known = settings.get("origin")
    origin = known if isinstance(known, Mapping) else {}
    names = [name for name in settings if name != "origin" or not origin]
    names.sort(key=lambda name: origin.get(name) == "default")
    rows = [
        (tag("th", tag("code", name), scope="row"), cell(_short(settings[name]), "text wrap"),
         cell(str(origin.get(name, "")), "text"))
        for name in names
    ]  # fmt: skip
    return table(["Setting", "Value", "Origin"], rows, text=True) if rows else Markup("")


def round_rows(row: StepRow) -> dict[str, str]:
    """Return how a round solved and what came of it, by names in words."""
    found: dict[str, str] = {}
    if row.is_round:
        values = {**row.settings, **row.metrics, "solint": solint_text(row)}
        for name, words in ROUND_FACTS:
            value = values.get(name)
            text = CALMODES.get(str(value), _short(value)) if name == "calmode" else _short(value)
            if text:
                found[words] = text
    for name, words in (
        ("solutions_flagged_fraction", "solutions flagged"),
        ("flux_change_percent", "change of total flux"),
        ("shift_arcsec", "shift of the image"),
        ("solution_snr_median", "median solution SNR"),
    ):
        number = row.metric(name)
        if math.isfinite(number):
            found[words] = _metric_text(name, number)
    if row.tables:
        found["applied afterwards"] = f" {TIMES} ".join(
            dict.fromkeys(table.path.rsplit("/", 1)[-1] for table in row.tables)
        )
    return found


def _metric_text(name: str, number: float) -> str:
    if name.endswith("_fraction"):
        return f"{100 * number:.1f} %"
    if name.endswith("_percent"):
        return f"{number:+.2f} %".replace("-", MINUS)
    if name.endswith("_arcsec"):
        milli = abs(number) < 0.1
        return f"{format_number(1000 * number if milli else number)} {'mas' if milli else 'arcsec'}"
    return format_number(number)


def _short(value: object) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        shown = ", ".join(_short(item) for item in value[:4])
        return f"{shown} … ({len(value)})" if len(value) > 4 else shown
    number = as_number(value) if not isinstance(value, str) else math.nan
    return f"{number:.6g}".replace("-", MINUS) if math.isfinite(number) else str(value)


def _shown(values: Mapping[str, Any]) -> dict[str, str]:
    """Return numbers and words; nested values are only in steps.csv."""
    return {
        key: _short(value) or MISSING
        for key, value in values.items()
        if not isinstance(value, Mapping)
        and not (isinstance(value, list) and any(isinstance(v, Mapping | list) for v in value))
    }


def _gain_table(gains: Sequence[GainRow]) -> Markup:
    """Return the gains by antenna and polarization; windows and data sets are combined."""
    groups: dict[tuple[str, str], list[GainRow]] = {}
    for gain in gains:
        groups.setdefault((gain.antenna, gain.polarization), []).append(gain)
    rows = [_gain_row(*key, group) for key, group in groups.items()]
    heading = ["Antenna", "Polarization", "Solutions", "Flagged", "Median SNR", "Phase rms\ndeg",
               "Mean phase\ndeg", "Mean amplitude", "Amplitude rms"]  # fmt: skip
    windows = {(gain.ms, gain.spw) for gain in gains}
    caption = "Solutions of this round by antenna."
    if len(windows) > 1:
        caption += f" {len(windows)} spectral windows and data sets are combined; "
        caption += "gains.csv has each."
    return details("Gains by antenna", table(heading, rows, caption=caption))


def _degrees(value: float) -> str:
    """Return a scatter of phases; less than a millidegree is the arithmetic of a phase of 0."""
    return "0" if value < 1e-3 else format_number(value)


def _gain_row(antenna: str, polarization: str, group: Sequence[GainRow]) -> list[Markup]:
    """Combine rows, weighted by the number of good solutions; phases as unit vectors."""
    total = sum(gain.solutions for gain in group)
    flagged = sum(gain.solutions * gain.flagged_fraction for gain in group)
    good = [gain for gain in group if math.isfinite(gain.phase_rms_deg)]
    weight = [gain.solutions * (1 - gain.flagged_fraction) for gain in good]

    def mean(name: str, power: int = 1) -> float:
        if not sum(weight):
            return math.nan
        values = (getattr(gain, name) ** power for gain in good)
        return math.fsum(w * v for w, v in zip(weight, values, strict=True)) / sum(weight)

    angles = [math.radians(gain.phase_mean_deg) for gain in good]
    sine = math.fsum(w * math.sin(a) for w, a in zip(weight, angles, strict=True))
    cosine = math.fsum(w * math.cos(a) for w, a in zip(weight, angles, strict=True))
    phase = math.degrees(math.atan2(sine, cosine)) if good else math.nan
    share = flagged / total if total else 1.0
    name = "both" if polarization == "I" else polarization
    return [
        tag("th", antenna, scope="row"),
        cell(name),
        cell(str(total)),
        cell(f"{100 * share:.0f} %", "warn" if share > 0.5 else ""),
        cell(format_number(mean("snr_median"))),
        cell(_degrees(math.sqrt(mean("phase_rms_deg", 2)))),
        cell(f"{phase:.1f}".replace("-", MINUS) if math.isfinite(phase) else MISSING),
        cell(format_number(mean("amplitude_mean"), 4)),
        cell(format_number(math.sqrt(mean("amplitude_std", 2)), 2)),
    ]
