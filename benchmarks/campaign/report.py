"""What a campaign says: the shares that reach each goal, by kind, and the worst cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["flux_kept", "good", "near_truth", "report", "worse_than_start"]

Row = Mapping[str, Any]
BRIGHT_SNR = 20.0
_GOOD, _FAIR, _FLUX = 0.95, 0.8, 0.02
_NEAR = 1.1


def flux_kept(row: Row) -> bool:
    """Whether the flux is within 2 per cent of the perfect image's, or within 3 sigma."""
    off = abs(row["flux_ratio"] - 1.0)
    error = row["flux_error"] if math.isfinite(row["flux_error"]) else 0.0
    return bool(off <= max(_FLUX, 3.0 * error))


def good(row: Row) -> bool:
    """Whether a case reaches 0.95 of the perfect dynamic range with its flux kept."""
    return bool(row["ratio"] >= _GOOD) and flux_kept(row)


def worse_than_start(row: Row) -> bool:
    """Whether the result differs more from the truth than the data did, beyond 2 sigma."""
    return bool(row["error_final"] - row["error_start"] > 2.0 * row["error_sigma"])


def near_truth(row: Row) -> bool:
    """Whether the image differs from the true sky hardly more than that of perfect data."""
    return bool(row["error_final"] <= _NEAR * row["error_perfect"])


def _share(rows: Sequence[Row], passes: Callable[[Row], bool]) -> str:
    count = sum(passes(row) for row in rows)
    return f"{count} of {len(rows)}" + (f" ({count / len(rows):.1%})" if rows else "")


def _by_kind(bright: Sequence[Row], subject: str) -> list[str]:
    lines = [f"| {subject} | cases | good | median of perfect | least |", "|" + "---|" * 5]
    for name in sorted({row["kinds"][subject] for row in bright}):
        rows = [row for row in bright if row["kinds"][subject] == name]
        ratio = np.array([row["ratio"] for row in rows])
        lines.append(f"| {name} | {len(rows)} | {sum(map(good, rows))} |"
                     f" {np.median(ratio):.3f} | {ratio.min():.3f} |")  # fmt: skip
    return lines


def _coverage(rows: Sequence[Row]) -> list[str]:
    """How often the 68 % intervals of the main source hold the truth."""
    lines = ["| error bars of the main source | cases | hold the truth | within 2 sigma |",
             "|" + "---|" * 4]  # fmt: skip
    for name in sorted({name for row in rows for name in row.get("deviations", {})}):
        off = np.abs([row["deviations"][name] for row in rows if name in row["deviations"]])
        lines.append(f"| {name} | {len(off)} | {np.mean(off <= 1):.0%} | {np.mean(off <= 2):.0%} |")
    return lines


def _lines_of(rows: Sequence[Row]) -> list[str]:
    lines = ["| seed | case | of perfect | flux | DR start, final, perfect |"
             " error of perfect data, of the run | rounds |", "|" + "---|" * 7]  # fmt: skip
    for row in rows:
        lines.append(
            f"| {row['seed']} | {row['title']} | {row['ratio']:.3f} | {row['flux_ratio']:.3f} |"
            f" {row['dr_start']:.0f}, {row['dr_final']:.0f}, {row['dr_perfect']:.0f} |"
            f" {row['error_perfect']:.3g}, {row['error_final']:.3g} |"
            f" {row['rounds']} |"
        )
    return lines


def report(rows: Sequence[Row]) -> str:
    """Return the report of a campaign as Markdown.

    Parameters
    ----------
    rows : sequence of mapping
        The fields of `benchmarks.campaign.scoring.Score`.
    """
    ran = [row for row in rows if not row["fault"]]
    source = [row for row in ran if row["kinds"]["sky"] != "no source"]
    bright = [row for row in source if row["snr_perfect"] >= BRIGHT_SNR]
    empty = [row for row in ran if row["kinds"]["sky"] == "no source"]
    clean = [row for row in source if row["kinds"]["errors"] == "none"]
    worst = sorted(bright, key=lambda row: row["ratio"])[:10]
    median = float(np.median([row["ratio"] for row in bright])) if bright else math.nan
    cpu = float(np.median([row["cpu_seconds"] for row in ran])) if ran else math.nan
    lines = [
        f"{len(ran)} cases were run, {len(rows) - len(ran)} could not be; median {cpu:.0f} CPU s.",
        "",
        f"- SNR of perfect data at least {BRIGHT_SNR:.0f}: {_share(bright, good)} reach 0.95 of the"
        " perfect dynamic range with the flux kept;",
        f"  {_share(bright, lambda row: row['ratio'] >= _FAIR)} reach 0.8; the median is"
        f" {median:.3f}; {_share(bright, flux_kept)} keep the flux.",
        f"  The error against the true sky is at most {_NEAR} times that of perfect data in"
        f" {_share(bright, near_truth)}.",
        f"- Worse than the start: {_share(ran, worse_than_start)}.",
        f"- Without errors: {_share(clean, lambda row: not worse_than_start(row))} come out as"
        " good as they went in.",
        f"- Without a source: {_share(empty, lambda row: row['status'] == 'unchanged')} are left"
        " unchanged.",
        "",
    ]
    lines += [*_coverage(source), ""]
    for subject in ("array", "sky", "errors", "noise", "windows", "flags"):
        lines += [*_by_kind(bright, subject), ""]
    lines += ["The worst ten:", "", *_lines_of(worst), ""]
    harmed = [row for row in ran if worse_than_start(row)]
    if harmed:
        lines += ["Worse than the start:", "", *_lines_of(harmed), ""]
    lines += [f"- {row['seed']} {row['title']}: not run, {row['fault']}"
              for row in rows if row["fault"]]  # fmt: skip
    return "\n".join(lines)
