"""AOFlagger, where it is installed, as a flagger of working copies.

Offringa, van de Gronde & Roerdink 2012, A&A 539, A95. It chooses the strategy of the telescope by
its name in the data.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from libs.core.errors import ConfigError
from libs.core.process import run_tool
from libs.ms import flag_versions

__all__ = ["FlaggedByAoflagger", "check_installed", "program", "run_aoflagger"]


@dataclass(frozen=True)
class FlaggedByAoflagger:
    """What it did.

    Attributes
    ----------
    applied : bool
        Whether the flags hold; False where they were too many and were undone.
    reason : str
    new_fraction : float
        Part of the data that were not flagged before.
    """

    applied: bool
    reason: str
    new_fraction: float


def program() -> str | None:
    """Return the program, None where it is not installed."""
    return shutil.which("aoflagger")


def check_installed(setting: str) -> str:
    """Return the program.

    Raises
    ------
    ConfigError
        It is not installed; ``setting`` is what asked for it.
    """
    found = program()
    if found is None:
        raise ConfigError(
            f"{setting}, and it is not installed",
            "apt-get install aoflagger, or choose another flagger",
        )
    return found


def run_aoflagger(
    ms: Path,
    *,
    version: str,
    max_new_fraction: float = 1.0,
    log: Path,
    stall_s: float,
) -> FlaggedByAoflagger:
    """Flag a working copy in place; undo it where it flags too much.

    Parameters
    ----------
    ms : Path
    version : str
        Flag version with the flags from before: it is restored first where it exists, because an
        earlier run may have been interrupted, else made.
    max_new_fraction : float
        Largest part of the good data that may be flagged.
    log : Path
    stall_s : float
        Time without output and CPU use after which it is killed, s.

    Raises
    ------
    ConfigError
        It is not installed.
    ToolError
        It fails.
    """
    found = check_installed("AOFlagger is asked for")
    if flag_versions.has_version(ms, version):
        flag_versions.restore_version(ms, version)
    else:
        flag_versions.save_version(ms, version, "before AOFlagger")
    before = flag_versions.count(ms).fraction
    run_tool([found, str(ms)], log, stall_s=stall_s)
    after = flag_versions.count(ms).fraction
    new = (after - before) / max(1 - before, 1e-9)
    if new > max_new_fraction:
        flag_versions.restore_version(ms, version)
        return FlaggedByAoflagger(
            False, f"undone: AOFlagger flagged {new:.1%} of the good data", new
        )
    return FlaggedByAoflagger(True, f"AOFlagger flagged {new:.2%} of the good data", new)
