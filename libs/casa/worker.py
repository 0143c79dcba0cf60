"""The child process that runs CASA tasks; started by libs.casa.session, never imported by it.

It reads one JSON request per line from the descriptor given as first argument and answers with one
JSON line on the second, so that CASA's own output cannot be mistaken for an answer.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any


def configure(log: Path) -> None:
    """Point CASA at measures data before its first import.

    A working setup of the user (``~/.casa/config.py`` with a filled measures path) takes
    precedence; otherwise the data of the casadata package are used, and the user's home stays
    untouched.
    """
    import casaconfig.config as config

    config.logfile = str(log)
    config.log2term = False
    measures = Path(str(config.measurespath or "")).expanduser() / "geodetic" / "IERSeop97"
    if measures.exists():
        return
    import casadata

    config.measurespath = casadata.datapath
    config.datapath = [casadata.datapath]
    config.data_auto_update = False
    config.measures_auto_update = False


def plain(value: Any) -> Any:
    """Return a value that JSON can hold."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, complex):
        return [value.real, value.imag]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def handle(request: dict[str, Any]) -> dict[str, Any]:
    """Run one task and return ``{"result": ...}`` or ``{"error": ...}``."""
    from casatasks import casalog

    if request["log"]:
        casalog.setlogfile(request["log"])
    try:
        module = importlib.import_module(request["module"])
        result = getattr(module, request["task"])(**request["kwargs"])
    except Exception as error:  # noqa: BLE001 - any failure is reported to the parent, which raises
        return {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    return {"result": plain(result)}


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    requests = os.fdopen(int(sys.argv[1]), "r")
    answers = os.fdopen(int(sys.argv[2]), "w")
    configure(Path(sys.argv[3]))
    for line in requests:
        answers.write(json.dumps(handle(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
