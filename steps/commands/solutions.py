"""``solutions list|check|best|combine|merge|apply|export``: h5parms from the command line."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle

from libs.core.angles import parse_direction
from libs.core.errors import ConfigError, SelfcalError
from libs.gains.gain_solutions import GainSolutions
from libs.h5parm.check import Finding, check
from libs.h5parm.export import export_caltable, gains_for
from libs.h5parm.global_table import Listing, MergeReport, combine_files, list_entries, merge_into
from libs.h5parm.nearest import NearestSolutions, best
from libs.h5parm.reader import read_h5parm
from libs.ms.tiled_headers import take_back

__all__ = ["Applier", "main"]

Applier = Callable[[Path, GainSolutions, str], str]
"""Applies gains to fields of a measurement set, by name or ``all``; returns what it did."""

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def main(argv: Sequence[str], *, applier: Applier | None = None) -> int:
    """Run one subcommand.

    Parameters
    ----------
    argv : sequence of str
        Without the program's and the command's name.
    applier : callable, optional
        What ``apply`` uses; without it ``apply`` is not available.

    Returns
    -------
    int
        0 done, 1 it failed (``check``: errors found), 2 the command is wrong.
    """
    parser = _parser(with_apply=applier is not None)
    try:
        # A declination of -12d30m is no option: argparse takes words with a space for values.
        words = [f" {w}" if re.match(r"-[\d.]", w) else w for w in argv]
        arguments = parser.parse_args(words)
    except SystemExit as stop:
        return EXIT_DONE if stop.code in (0, None) else EXIT_USAGE
    try:
        return int(arguments.run(arguments, applier))
    except ConfigError as error:
        return _complain(arguments.command, error, EXIT_USAGE)
    except SelfcalError as error:
        return _complain(arguments.command, error, EXIT_FAILED)


def _complain(command: str, error: SelfcalError, code: int) -> int:
    print(f"solutions {command}: {error}", file=sys.stderr)
    return code


def _parser(*, with_apply: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="solutions",
        description="The global table of solutions over direction and station, and other h5parms.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[..., int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    sub = command("list", _list, "each direction and station: origin, coherence, date")
    sub.add_argument("h5parm", type=Path)
    sub = command("check", _check, "whether LoSoTo, DP3 and WSClean can read it")
    sub.add_argument("h5parm", type=Path, nargs="+")
    _add_best(command("best", _best, "per station the nearest direction with good solutions"))
    sub = command("combine", _combine, "multiply two tables: initial x incremental")
    sub.add_argument("initial", type=Path)
    sub.add_argument("incremental", type=Path)
    sub.add_argument("-o", "--output", type=Path, required=True)
    sub.add_argument(
        "--frequencies", help="MHz, comma separated; default: the union of both tables'"
    )
    _add_soltabs(sub)
    sub = command("merge", _merge, "add the directions of other files to a table")
    sub.add_argument("into", type=Path)
    sub.add_argument("source", type=Path, nargs="+")
    sub.add_argument("--force", action="store_true", help="take older solutions too")
    _add_soltabs(sub)
    sub = command("export", _export, "write a CASA gain table for a measurement set")
    sub.add_argument("h5parm", type=Path)
    sub.add_argument("--ms", type=Path, required=True, help="the data it is to be applied to")
    sub.add_argument("-o", "--output", type=Path, required=True)
    sub.add_argument("--name", help="which direction, when there are several")
    _add_soltabs(sub)
    if with_apply:
        sub = command("apply", _apply, "apply the solutions of one direction to data")
        sub.add_argument("h5parm", type=Path)
        sub.add_argument("ms", type=Path)
        sub.add_argument("--name", help="which direction, when there are several")
        sub.add_argument(
            "--field", default="all", metavar="NAME[,NAME]", help="rows written; default: all"
        )
        _add_soltabs(sub)
    return parser


def _add_soltabs(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--soltabs",
        type=lambda text: text.split(","),
        help="comma separated, e.g. tec000,amplitude000; default: the first of each type",
    )


def _add_best(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("h5parm", type=Path)
    sub.add_argument(
        "--direction", nargs=2, metavar=("RA", "DEC"), required=True, help="deg, or with a unit"
    )
    sub.add_argument("-o", "--output", type=Path, help="h5parm to write; default: only tell")
    sub.add_argument("--name", default="best", help="name of the direction in it (best)")
    sub.add_argument(
        "--min-good", type=float, default=0.5, help="least unflagged fraction, 0 to 1 (0.5)"
    )
    sub.add_argument(
        "--min-coherence", type=float, default=0.5, help="least coherence, 0 to 1 (0.5)"
    )
    sub.add_argument("--max-separation", default="180deg", help="farthest direction (any)")
    sub.add_argument(
        "--missing",
        choices=("flag", "unit"),
        default="flag",
        help="stations with nothing good: flagged, or left as they are (flag)",
    )


def _list(arguments: argparse.Namespace, applier: Applier | None) -> int:
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
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _check(arguments: argparse.Namespace, applier: Applier | None) -> int:
    findings: list[Finding] = []
    for path in arguments.h5parm:
        found = check(path)
        findings += found
        for finding in found:
            print(f"{path}: {finding}")
        if not found:
            print(f"{path}: conform")
    return EXIT_FAILED if any(f.level == "error" for f in findings) else EXIT_DONE


def _best(arguments: argparse.Namespace, applier: Applier | None) -> int:
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
    lines = _aligned(rows)
    if result.reference:
        lines.append(f"phases of all directions referred to {result.reference}")
    elif len(result.directions) > 1:
        lines.append("no station is common to all directions: their phases stay as they were")
    return lines


def _combine(arguments: argparse.Namespace, applier: Applier | None) -> int:
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


def _merge(arguments: argparse.Namespace, applier: Applier | None) -> int:
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


def _export(arguments: argparse.Namespace, applier: Applier | None) -> int:
    gains = export_caltable(
        arguments.h5parm, arguments.ms, arguments.output, arguments.name, soltabs=arguments.soltabs
    )
    print(f"written: {arguments.output} ({gains.flagged_fraction:.1%} flagged)")
    return EXIT_DONE


def _apply(arguments: argparse.Namespace, applier: Applier | None) -> int:
    if applier is None:
        raise ConfigError("apply is not available here", "use auto_selfcal.py solutions apply")
    take_back(arguments.ms)
    gains = gains_for(
        read_h5parm(arguments.h5parm, arguments.soltabs), arguments.ms, arguments.name
    )
    print(applier(arguments.ms, gains, arguments.field))
    return EXIT_DONE
