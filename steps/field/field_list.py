"""The sources of a field on record: which there are, and what came of each."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from libs.catalogues.entry import find_entry
from libs.catalogues.source_list import FieldSource
from libs.core.files import write_atomically

__all__ = ["read_sources", "result_file", "source_row", "write_sources_csv"]

_COLUMNS = (
    "name", "ra_deg", "dec_deg", "flux_jy", "lbcs_flags", "layer", "status",
    "longest_baseline_km", "snr", "dynamic_range", "rms_jy_beam", "total_flux_jy", "seconds",
    "h5parm", "image", "reason",
)  # fmt: skip
_AGAIN = "_again"


def result_file(workdir: Path, layer: int, *, again: bool) -> Path:
    """Return where the results of a layer are; of its second look only those that were kept."""
    return workdir / "tables" / f"layer_{layer}{_AGAIN if again else ''}.json"


def source_row(source: FieldSource, layer: int) -> dict[str, Any]:
    """Return a source as sources.json holds it; a neighbour is a source of its own, no part."""
    entry = find_entry([source], source.ra_rad, source.dec_rad)
    assert entry is not None
    return {
        "name": source.name, "layer": layer,
        "ra_rad": source.ra_rad, "dec_rad": source.dec_rad,
        "flux_jy": source.flux_jy if math.isfinite(source.flux_jy) else None,
        "lbcs_flags": source.lbcs_flags, "resolved": entry.resolved,
        "map_arcsec": entry.map_arcsec, "entry": entry.as_json() if source.components else "",
    }  # fmt: skip


def read_sources(workdir: Path, layer: int = 0, *, again: bool = True) -> list[dict[str, Any]]:
    """Return the sources of a field (of one layer), each with its result where there is one.

    Parameters
    ----------
    workdir : Path
    layer : int
        0: all.
    again : bool
        Whether what a second look found takes the place of the first.
    """
    rows = json.loads((workdir / "sources.json").read_text())
    results: dict[str, dict[str, Any]] = {}
    files = sorted((workdir / "tables").glob("layer_*.json"))
    for path in sorted(files, key=lambda path: path.stem.endswith(_AGAIN)):
        if again or not path.stem.endswith(_AGAIN):
            results |= {result["name"]: result for result in json.loads(path.read_text())}
    merged = []
    for row in rows:
        if layer and row["layer"] != layer:
            continue
        merged.append({**row, **results.get(row["name"], {"status": "waiting", "reason": ""})})
    return merged


def write_sources_csv(workdir: Path) -> None:
    """Write sources.csv: a line for each source and what came of it."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in read_sources(workdir):
        folder = f"sources/{row['name']}"
        place = {
            "ra_deg": round(math.degrees(row["ra_rad"]), 7),
            "dec_deg": round(math.degrees(row["dec_rad"]), 7),
        }
        files = {key: f"{folder}/{row[key]}" for key in ("h5parm", "image") if row.get(key)}
        writer.writerow({**row, **place, **files})
    write_atomically(workdir / "sources.csv", stream.getvalue())
