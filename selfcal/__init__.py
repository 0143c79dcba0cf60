"""The engine: an ordered list of steps that can be resumed exactly; every decision is recorded.

It is also the name under which the program is used from Python: ``selfcal.run("my.ms")``. Those
functions are made by the program, which knows steps and reports; they are fetched by name when they
are asked for, so that the engine's modules know nothing of them.
"""

from __future__ import annotations

import importlib
from typing import Any

from libs.core.errors import ConfigError, InputError, SelfcalError, SolveError, ToolError

__all__ = ["ConfigError", "InputError", "SelfcalError", "SolveError", "ToolError", "__version__"]
__version__ = "0.1.0"

_OF_THE_PROGRAM = ("calibrate", "field", "inspect", "open_result", "run", "solutions")


def __getattr__(name: str) -> Any:
    """Return a function of the program for Python, such as ``selfcal.run``."""
    if name not in _OF_THE_PROGRAM:
        raise AttributeError(f"module 'selfcal' has no attribute '{name}'")
    return getattr(importlib.import_module("auto_selfcal").python_api(), name)


def __dir__() -> list[str]:
    """Return the names that can be asked for."""
    return sorted([*globals(), *_OF_THE_PROGRAM])
