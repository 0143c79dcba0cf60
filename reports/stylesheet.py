"""Style of the HTML reports: static/report.css."""

from __future__ import annotations

from pathlib import Path

__all__ = ["STYLESHEET"]

STYLESHEET = (Path(__file__).resolve().parent / "static" / "report.css").read_text(encoding="utf-8")
