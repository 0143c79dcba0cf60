"""The external tools of a run: one CASA session, one imager, one solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from libs.casa.session import CasaSession, casa_versions
from libs.core.errors import ConfigError
from libs.core.process import which
from libs.gains.casa_solver import CasaSolver
from libs.gains.native import NativeSolver
from libs.gains.solver import Solver
from libs.imaging.interface import Imager
from libs.imaging.tclean import Tclean
from libs.imaging.wsclean import WSClean

__all__ = ["TOOL_MODULES", "Tools", "make_tools"]

TOOL_MODULES = {
    "session": ("libs.casa.session",),
    "imager": ("libs.imaging.tclean", "libs.imaging.wsclean"),
    "solver": ("libs.gains.casa_solver", "libs.gains.native"),
}
"""What may stand behind each attribute of `Tools`: changed, the steps that ask for it run anew."""


@dataclass
class Tools:
    """What steps work with.

    Attributes
    ----------
    session : CasaSession
    imager : Imager
    solver : Solver
    hint : str
        A line for the user about a faster tool that is missing; empty: none.
    """

    session: CasaSession
    imager: Imager
    solver: Solver
    hint: str = ""

    def close(self) -> None:
        """End what runs in the background."""
        self.session.close()

    def versions(self) -> dict[str, str]:
        """Return the versions of the tools used."""
        return {**casa_versions(), self.imager.name: self.imager.version()}


def make_tools(
    imager: str,
    solver: str,
    log_dir: Path,
    *,
    stall_s: float,
    on_wait: Callable[[], None] | None = None,
) -> Tools:
    """Return the tools a config asks for.

    Parameters
    ----------
    imager : str
        ``auto``, ``wsclean`` or ``tclean``.
    solver : str
        ``native`` or ``casa``.
    log_dir : Path
        Where CASA logs.
    stall_s : float
        A tool silent and idle for this long is killed, seconds.
    on_wait : callable, optional
        Called often while a tool runs.
    """
    session = CasaSession(log_dir, stall_s=stall_s, on_wait=on_wait)
    hint = ""
    if imager == "auto":
        imager = "wsclean" if which("wsclean") else "tclean"
        if imager == "tclean":
            hint = "imaging with CASA tclean; installing WSClean makes the run several times faster"
    chosen: Imager
    if imager == "wsclean":
        chosen = WSClean(stall_s=stall_s, on_wait=on_wait)
    else:
        chosen = Tclean(session)
    chosen.version()
    solvers: dict[str, Callable[[], Solver]] = {
        # a flagged cross hand says nothing against the parallel hands solved for
        "native": lambda: NativeSolver(corr_dep_flags=True),
        "casa": lambda: CasaSolver(session),
    }
    if solver not in solvers:
        raise ConfigError(f"unknown solver '{solver}'", f"known: {', '.join(solvers)}")
    return Tools(session, chosen, solvers[solver](), hint)
