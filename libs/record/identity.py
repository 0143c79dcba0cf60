"""Identity of solutions: what tells those of a target from any others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from libs.record.decode import encode
from libs.record.schema import AppliedEntry

__all__ = ["solutions_id"]


def solutions_id(entries: Iterable[AppliedEntry]) -> str:
    """Return a text that tells the solutions of a target from any others."""
    parts = [encode(entry) for entry in entries]
    for part in parts:
        part.pop("table")  # where a table lies says nothing of it
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
