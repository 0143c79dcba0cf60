"""The head of a report: which observation it is of, and what to do with the results."""

from __future__ import annotations

import html
import logging
import math
import shlex
from datetime import UTC, datetime, timedelta

from libs.core.angles import direction_text
from libs.core.errors import SelfcalError
from reports.html_parts import Markup, facts, join, tag
from reports.records import Run, StepRow, as_number
from reports.regions_file import write_regions
from reports.style import format_number, format_quantity

__all__ = ["identity_section", "next_section"]

_MJD0 = datetime(1858, 11, 17, tzinfo=UTC)
logger = logging.getLogger(__name__)


def identity_section(run: Run, natural_rms_jy_beam: float = math.nan) -> Markup:
    """Return target, telescope, band, date, time on source, antennas, beam and noise.

    Parameters
    ----------
    run : Run
    natural_rms_jy_beam : float
        Thermal noise of a naturally weighted image of the calibrated data, Jy/beam.
    """
    copied = next((row for row in run.steps if "telescope" in row.metrics), None)
    if copied is None:
        return Markup("")
    known = copied.metrics
    band = " ".join(str(known.get(key) or "") for key in ("band",)).strip()
    place = (copied.metric("right_ascension_rad"), copied.metric("declination_rad"))
    spws, channels = (int(as_number(known.get(key)) or 0) for key in ("spws", "channels"))
    values = {
        "target": str(known.get("field", "")),
        "position (J2000)": " ".join(direction_text(*place, ("hms", "dms"), (2, 1)))
        if all(map(math.isfinite, place)) else "",
        "telescope": f"{known.get('telescope')}" + (f", band {band}" if band else ""),
        "frequency": f"{copied.metric('frequency_hz') / 1e9:.4g} GHz, {_count(spws, 'window')}, "
        f"{_count(channels, 'channel')}",
        "observed": _date(copied.metric("begin_mjd_s")),
        "time on source": _duration(copied.metric("on_source_s")),
        "antennas": f"{known.get('antennas')}, baselines to "
        f"{format_number(copied.metric('longest_baseline_m') / 1000)} km",
        "beam": _beam(run),
        "noise reached": _noise(run),
        "thermal noise": _thermal(run, natural_rms_jy_beam),
        "flux scale": "that of the data: self-calibration cannot find it",
    }  # fmt: skip
    return facts(values)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _date(mjd_s: float) -> str:
    if not math.isfinite(mjd_s):
        return ""
    return (_MJD0 + timedelta(seconds=mjd_s)).strftime("%Y-%m-%d %H:%M UTC")


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return ""
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _last_imaged(run: Run) -> StepRow | None:
    found = [row for row in run.imaged() if row.accepted]
    rounds = [row for row in found if row.is_round]
    return next(reversed(rounds or found), None)


def _beam(run: Run) -> str:
    row = _last_imaged(run)
    if row is None or not math.isfinite(row.metric("beam_major_arcsec")):
        return ""
    major, minor = row.metric("beam_major_arcsec"), row.metric("beam_minor_arcsec")
    factor, unit = (1.0, "arcsec") if major >= 0.1 else (1e3, "mas")
    if major * factor < 0.1:
        factor, unit = 1e6, "\u00b5as"
    return (
        f"{format_number(major * factor)} \u00d7 {format_number(minor * factor)} {unit}, "
        f"{row.metric('beam_pa_deg'):.0f} deg"
    )


def _noise(run: Run) -> str:
    row = _last_imaged(run)
    return "" if row is None else format_quantity(run.statistic(row, "rms_jy_beam"), "Jy/beam")


def _thermal(run: Run, natural_rms_jy_beam: float) -> str:
    """Return the noise that the visibilities alone give an image beside that of the image."""
    row = _last_imaged(run)
    reached = math.nan if row is None else run.statistic(row, "rms_jy_beam")
    own = math.nan if row is None else run.statistic(row, "thermal_rms_jy_beam")
    known = [(own, "with the weights of the image"), (natural_rms_jy_beam, "with natural weights")]
    found = [(value, words) for value, words in known if value > 0]
    said = [f"{format_quantity(value, 'Jy/beam')} {words}" for value, words in found]
    if reached > 0 and found:
        said[0] += f"; the noise reached is {format_number(reached / found[0][0])} times that"
    return "; ".join(said)


def next_section(run: Run) -> Markup:
    """Return the results with the commands that use them; empty before there are any."""
    summary = run.summary
    final = (summary.get("final") or {}).get("image")
    if not final:
        return _advice(run)
    work = shlex.quote(str(run.workdir))
    image = run.workdir / str(final)
    lines = []
    named = summary.get("calibrated_ms") or []
    names = [named] if isinstance(named, str) else list(named)
    if names and summary.get("status") == "improved":
        where = " ".join(shlex.quote(str(run.workdir / name)) for name in names)
        lines.append((f"Calibrated data, column {summary.get('column')}", where))
    if summary.get("tables") and summary.get("status") != "failed":
        lines.append(("Apply the solutions to the original data", f"auto-selfcal apply {work}"))
    regions = _regions(run, str(final))
    lines.append(("Image in CARTA", f"carta {shlex.quote(str(image))}"))
    more = f" -regions {shlex.quote(str(regions[0]))}" if regions else ""
    lines.append(("Image in ds9", f"ds9 -asinh {shlex.quote(str(image))}{more}"))
    if regions:
        lines.append(("Mask as regions, for ds9 and for CARTA", " ".join(map(str, regions))))
    rows = [
        tag("li", tag("span", label), Markup(
            f'<span class="cmd"><code>{html.escape(text)}</code> <button type="button" '
            f'data-copy="{html.escape(text)}" hidden>copy</button></span>'))
        for label, text in lines
    ]  # fmt: skip
    return _advice(run) + join([tag("ul", *rows, class_="next")])


def _advice(run: Run) -> Markup:
    """Return what to do where nothing was calibrated; empty where there is a result."""
    if run.status == "failed":
        failed = next((row.step for row in run.steps if row.status == "failed"), "a step")
        return tag(
            "p", f"The run stopped in {failed}. Mend the cause that is named above and give the "
            "same command again: it goes on with that step. run.log and the folder logs/ have "
            "more; ", tag("code", f"auto-selfcal doctor --bundle {shlex.quote(str(run.workdir))}"),
            " packs what somebody else needs to look into it.",
        )  # fmt: skip
    if run.status == "incomplete":
        return tag(
            "p",
            "Steps are left to run: the same command goes on, without --until if that was given.",
        )
    if run.status != "unchanged":
        return Markup("")
    return tag(
        "p",
        "The data stay as they came; the image is the first one. Each round under ",
        tag("a", "Decisions", href="#decisions"),
        " says why it was not taken; the page \u201cIt did not help: what now?\u201d of the "
        "documentation has the usual causes and what to try.",
    )


def _regions(run: Run, image: str) -> tuple[object, object] | None:
    """Write the mask of the final image as regions; None where there is none."""
    row = next((row for row in run.steps if row.products.get("image") == image), None)
    mask = run.file(row.products.get("mask")) if row else None
    if mask is None:
        return None
    try:
        return write_regions(mask, run.workdir / "plots")
    except (SelfcalError, OSError, KeyError, ValueError):
        logger.warning("regions of %s not written", mask.name, exc_info=True)
        return None
