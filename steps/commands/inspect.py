"""``inspect DATA``: what the data hold, what a run would take, and a command to begin with."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from libs.core.text_table import aligned
from steps.commands.words import usage_name

if TYPE_CHECKING:
    from libs.inputs.preview import Preview

__all__ = ["command", "inspect_parser"]

# millimetre VLBI needs more than another band of the same array does
_CONFIG_OF_BAND = {("vlba", "1.3mm"): "eht"}


def inspect_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog=usage_name("inspect"),
        description="Tell what data hold: fields with intents, windows, antennas, columns; the disk"
        " and time that a run would take; a command to begin with. Nothing is written.",
    )
    parser.add_argument("vis", nargs="+", help="measurement sets, UVFITS or uvh5 files")
    return parser


def command(argv: Sequence[str], program: str) -> int:
    """Print what each data set holds.

    Parameters
    ----------
    argv : sequence of str
        Without the program's and the command's name.
    program : str
        How the program is called from any folder, for the text.
    """
    vis = inspect_parser().parse_args(argv).vis
    from libs.inputs.input_data import resolve_inputs
    from libs.inputs.preview import preview

    found = [preview(source) for source in resolve_inputs(vis)]
    for content in found:
        print("\n".join([*_lines(content), ""]))
    print("\n".join(_next(found, vis, program)))
    return 0


def _lines(content: Preview) -> list[str]:
    """Return the description of one data set."""
    from steps.instruments import identify

    mean = sum(w.mean_hz for w in content.windows) / max(1, len(content.windows))
    instrument, band = identify(content.telescope, mean)
    known = "" if instrument == "other" else f" (instrument {instrument}, band {band or 'unknown'})"
    lines = [f"{content.vis}: {content.kind}, {content.telescope or 'telescope unknown'}{known}"]
    if content.fields:
        rows = [("id", "field", "intents", "scans", "minutes")]
        rows += [
            (str(f.number), f.name, ", ".join(f.intents) or "-",
             str(f.scans) if f.scans else "-", f"{f.seconds / 60:.1f}" if f.scans else "-")
            for f in content.fields
        ]  # fmt: skip
        lines += ["", *aligned(rows, left=(1, 2), ruled=True)]
    rows = [("spw", "channels", "GHz", "width MHz", "band")]
    rows += [
        (str(w.number), str(w.channels), f"{w.mean_hz / 1e9:.4f}", f"{w.width_hz / 1e6:.2f}",
         identify(content.telescope, w.mean_hz)[1] or "-")
        for w in content.windows
    ]  # fmt: skip
    lines += ["", *aligned(rows, left=(4,), ruled=True), ""]
    seen = [name for name in content.antennas if name not in content.without_rows]
    lines.append(f"{len(seen)} antennas: {' '.join(seen)}")
    if content.without_rows:
        left = content.without_rows
        lines.append(f"{len(left)} antennas without data: {' '.join(left)}")
    if content.columns:
        lines.append(f"columns: {', '.join(content.columns)}")
    if content.correlations:
        lines.append(f"correlations: {', '.join(content.correlations)}")
    if content.integration_s:
        lines.append(f"integration: {content.integration_s:.3g} s")
    return lines


def _next(found: Sequence[Preview], vis: Sequence[str], program: str) -> list[str]:
    """Return what a run of everything would take, and commands to begin with."""
    from steps.instruments import identify
    from steps.preflight import estimate_time, time_words
    from steps.ready_configs import ready_config_names

    first = found[0]
    mean = sum(w.mean_hz for w in first.windows) / max(1, len(first.windows))
    instrument, band = identify(first.telescope, mean)
    visibilities = sum(content.visibilities for content in found)
    copies = sum(content.copy_bytes for content in found)
    lines = [
        f"a run of everything: {time_words(estimate_time(visibilities))}, working copies of"
        f" {copies / 1e9:.2f} GB (four times as much should be free)",
        "",
    ]
    named = shlex.quote(vis[0]) if len(vis) == 1 else shlex.quote("[" + ", ".join(vis) + "]")
    names = list(dict.fromkeys(field.name for content in found for field in content.fields))
    targets = [
        field.name
        for content in found
        for field in content.fields
        if any(intent.startswith("OBSERVE_TARGET") for intent in field.intents)
    ]
    config = _CONFIG_OF_BAND.get((instrument, band), instrument)
    config = config if config in ready_config_names() else "vla"
    choice = ""
    of_demo = all(name.startswith("demo:") for name in vis)  # which has a field of its own
    if len(names) > 1 and not of_demo:
        targets = list(dict.fromkeys(targets)) or names
        choice = f" --set {shlex.quote('field=' + targets[0])}"
    lines.append(f"{program} init {config} -o my.py")
    lines.append(f"{program} my.py --set vis={named}{choice} --dry-run")
    if choice and len(targets) > 1 and all(content.kind == "ms" for content in found):
        lines.append(f"{program} my.py --set vis={named} --set targets=all    # every target")
    return lines
