"""What ``solutions list|check|best|combine|merge|apply|export`` do and print."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle

from libs.core.angles import parse_direction
from libs.core.errors import ConfigError
from libs.core.text_table import aligned
from libs.h5parm.check import Finding, check
from libs.h5parm.export import export_caltable, gains_for
from libs.h5parm.global_table import Listing, MergeReport, combine_files, list_entries, merge_into
from libs.h5parm.nearest import NearestSolutions, best
from libs.h5parm.reader import read_h5parm
from libs.ms.tiled_headers import take_back
from steps.applying import apply_solutions

__all__ = ["ACTIONS", "format_best", "format_listing", "format_merge"]

EXIT_DONE, EXIT_FAILED = 0, 1


def _list(arguments: argparse.Namespace) -> int:
    for line in format_listing(list_entries(arguments.h5parm)):
        print(line)
    return EXIT_DONE


def format_listing(listings: Sequence[Listing]) -> list[str]:
    """Return a table of entries, one line each, columns aligned."""
    rows = [
        (
            *("direction", "RA_deg", "Dec_deg", "station", "good", "coherence", "date"),
            *("source", "refined_from", "run"),
        )
    ]
    for item in listings:
        entry = item.entry
        rows.append(
            (
                entry.direction,
                f"{np.rad2deg(item.ra_rad) % 360:.5f}",
                f"{np.rad2deg(item.dec_rad):+.5f}",
                entry.station,
                f"{item.good_fraction:.2f}",
                "-" if np.isnan(entry.coherence) else f"{entry.coherence:.2f}",
                entry.date,
                entry.source or "-",
                entry.refined_from or "-",
                entry.run or "-",
            )
        )
    return aligned(rows)


def _check(arguments: argparse.Namespace) -> int:
    findings: list[Finding] = []
    for path in arguments.h5parm:
        found = check(path)
        findings += found
        for finding in found:
            print(f"{path}: {finding}")
        if not found:
            print(f"{path}: conform")
    return EXIT_FAILED if any(f.level == "error" for f in findings) else EXIT_DONE


def _best(arguments: argparse.Namespace) -> int:
    try:
        max_separation_deg = Angle(arguments.max_separation, unit=u.deg).deg
    except (ValueError, u.UnitsError) as error:
        raise ConfigError(
            f"--max-separation {arguments.max_separation} is no angle", "write it as 1.5deg"
        ) from error
    result = best(
        arguments.h5parm,
        *parse_direction(*arguments.direction),
        name=arguments.name,
        min_good_fraction=arguments.min_good,
        min_coherence=arguments.min_coherence,
        max_separation_deg=max_separation_deg,
        missing=arguments.missing,
    )
    for line in format_best(result):
        print(line)
    if arguments.output:
        result.write(arguments.output)
        print(f"written: {arguments.output}")
    return EXIT_DONE


def format_best(result: NearestSolutions) -> list[str]:
    """Return which direction each station's solutions come from, one line each."""
    rows: list[tuple[str, ...]] = [
        ("station", "direction", "separation_deg", "good", "coherence", "note")
    ]
    for choice in result.choices:
        found = choice.direction is not None
        rows.append(
            (
                choice.station,
                choice.direction or "-",
                f"{choice.separation_deg:.4f}" if found else "-",
                f"{choice.good_fraction:.2f}" if found else "-",
                "-" if np.isnan(choice.coherence) else f"{choice.coherence:.2f}",
                choice.note,
            )
        )
    lines = aligned(rows)
    if result.reference:
        lines.append(f"phases of all directions referred to {result.reference}")
    elif len(result.directions) > 1:
        lines.append("no station is common to all directions: their phases stay as they were")
    return lines


def _combine(arguments: argparse.Namespace) -> int:
    frequency_hz = None
    if arguments.frequencies:
        try:
            values = [float(text) * 1e6 for text in arguments.frequencies.split(",")]
        except ValueError as error:
            raise ConfigError(
                f"--frequencies {arguments.frequencies} are no numbers", "write 120,140,160"
            ) from error
        frequency_hz = np.unique(values)
    notes = combine_files(
        arguments.initial,
        arguments.incremental,
        arguments.output,
        frequency_hz,
        soltabs=arguments.soltabs,
    )
    for note in notes:
        print(note)
    print(f"written: {arguments.output}")
    return EXIT_DONE


def _merge(arguments: argparse.Namespace) -> int:
    print(
        format_merge(
            merge_into(
                arguments.into, arguments.source, force=arguments.force, soltabs=arguments.soltabs
            )
        )
    )
    return EXIT_DONE


def format_merge(report: MergeReport) -> str:
    """Return a line that says what a merge did, and one for each renamed direction."""
    line = (
        f"{len(report.added)} entries added, {len(report.replaced)} replaced, "
        f"{len(report.unchanged)} unchanged, {len(report.older)} older than the table's (kept)"
    )
    if report.incoherent:
        line += f", {len(report.incoherent)} incoherent where the table's are not (kept)"
    renamed = [f"\ndirection {old} is {new} in the table" for old, new in report.renamed]
    return line + "".join(renamed)


def _export(arguments: argparse.Namespace) -> int:
    gains = export_caltable(
        arguments.h5parm, arguments.ms, arguments.output, arguments.name, soltabs=arguments.soltabs
    )
    print(f"written: {arguments.output} ({gains.flagged_fraction:.1%} flagged)")
    return EXIT_DONE


def _apply(arguments: argparse.Namespace) -> int:
    take_back(arguments.ms)
    gains = gains_for(
        read_h5parm(arguments.h5parm, arguments.soltabs), arguments.ms, arguments.name
    )
    print(apply_solutions(arguments.ms, gains, arguments.field))
    return EXIT_DONE


ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": _list, "check": _check, "best": _best, "combine": _combine, "merge": _merge,
    "export": _export, "apply": _apply,
}  # fmt: skip
