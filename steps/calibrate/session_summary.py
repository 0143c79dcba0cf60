"""The summary of a session: its fields, their fluxes, and what came of the targets."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from libs.core.files import replacing
from libs.core.text_table import aligned
from steps.calibrate.roles import read_roles

__all__ = ["session_table", "write_session_summary"]


def write_session_summary(workdir: Path, status: str = "") -> dict[str, Any]:
    """Write ``summary.json`` of a session and return its content."""
    roles = read_roles(workdir / "roles.json")
    fluxes = _csv(workdir / "fluxes.csv")
    targets = _json(workdir / "targets.json") or []
    report = _json(workdir / "session_report.json") or {"parts": []}
    fields = []
    for name in roles.fields:
        own = [row for row in fluxes if row["field"] == name]
        what = "target"
        if name == roles.flux_calibrator:
            what = "flux calibrator"
        elif name in roles.phase_calibrators:
            what = "phase calibrator"
        fields.append(
            {
                "field": name, "role": what, "why": roles.why[name],
                "calibrator": roles.calibrator_of.get(name, ""),
                "fluxes": own,
                "runs": [
                    {key: item.get(key) for key in
                     ("label", "status", "workdir", "reason", "final", "initial")}
                    for item in targets if item["field"] == name
                ],
                "residual_phase_deg": [
                    part["residual_phase_deg"].get(name) for part in report["parts"]
                ],
            }
        )  # fmt: skip
    summary = {
        "status": status or "done", "standard": roles.standard, "warnings": list(roles.warnings),
        "fields": fields,
    }  # fmt: skip
    with replacing(workdir / "summary.json") as beside:
        beside.write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def _csv(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return [
            {
                key: value if key in ("field", "tuning") else (float(value) if value else None)
                for key, value in row.items()
            }
            for row in csv.DictReader(stream)
        ]


def session_table(summary: Mapping[str, Any]) -> str:
    """Return a line for each field and tuning, for a terminal."""
    rows = [("field", "role", "flux Jy", "+- gains", "+- all", "image Jy", "self-calibration")]
    for field in summary["fields"]:
        for flux in field["fluxes"]:
            fitted = f"{flux['fitted_jy']:.4g}" if flux["fitted_jy"] is not None else "-"
            name = " ".join(filter(None, (field["field"], flux["tuning"])))
            rows.append(
                (name, field["role"], f"{flux['flux_jy']:.4g}", f"{flux['flux_error_jy']:.2g}",
                 f"{flux['total_error_jy']:.2g}", fitted, "-")
            )  # fmt: skip
        for run in field["runs"]:
            rows.append((run["label"], field["role"], "-", "-", "-", "-", run["status"]))
        if not field["fluxes"] and not field["runs"]:
            rows.append((field["field"], field["role"], "-", "-", "-", "-", "-"))
    return "\n".join(aligned(rows, left=(0, 1, 6), ruled=True))
