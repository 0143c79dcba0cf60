"""The summary of a field: how many sources were calibrated, and what the global table holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from libs.core.files import replacing
from libs.h5parm.global_table import list_entries
from steps.field.field_list import read_sources

__all__ = ["write_field_summary"]


def write_field_summary(workdir: Path, status: str = "") -> dict[str, Any]:
    """Write ``summary.json`` of a field and return its content."""
    sources = read_sources(workdir)
    table = workdir / "solutions.h5"
    entries = list_entries(table) if table.exists() else []
    counts = {
        name: sum(row["status"] == name for row in sources)
        for name in ("calibrated", "unchanged", "failed", "waiting")
    }
    summary = {
        "status": status or ("improved" if counts["calibrated"] else "unchanged"),
        "counts": counts,
        "h5parm": table.name if entries else "",
        "directions": sorted({item.entry.direction for item in entries}),
        "stations": sorted({item.entry.station for item in entries}),
        "entries": len(entries),
        "sources": sources,
    }
    with replacing(workdir / "summary.json") as beside:
        beside.write_text(json.dumps(summary, indent=2) + "\n")
    return summary
