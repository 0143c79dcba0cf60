"""Style and script of every HTML report, from the folder ``static``."""

from __future__ import annotations

from pathlib import Path

__all__ = ["PAGE_SCRIPT", "STYLESHEET"]

_STATIC = Path(__file__).resolve().parent / "static"
STYLESHEET = (_STATIC / "report.css").read_text(encoding="utf-8")
PAGE_SCRIPT = (_STATIC / "page.js").read_text(encoding="utf-8")
