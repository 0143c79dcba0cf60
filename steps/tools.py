"""The external tools of a run: one CASA session, one imager, one solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from libs.casa.session import CasaSession, casa_versions
from libs.core.errors import ConfigError
from libs.gains.casa_solver import CasaSolver
from libs.gains.native import NativeSolver
from libs.gains.solver import Solver
from libs.imaging.interface import Imager, default_memory_bytes
from libs.imaging.native.deconvolution import Cycle
from libs.imaging.native.memory import memory_for_visibilities
from libs.imaging.native.native import NativeImager
from libs.imaging.tclean import Tclean
from libs.imaging.wsclean import WSClean
from selfcal.settings import Settings

__all__ = ["TOOL_MODULES", "Tools", "check_memory", "make_tools"]

TOOL_MODULES = {
    "session": ("libs.casa.session",),
    "imager": ("libs.imaging.native.native", "libs.imaging.tclean", "libs.imaging.wsclean"),
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
    """

    session: CasaSession
    imager: Imager
    solver: Solver

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
    tell: Callable[[str], None] | None = None,
) -> Tools:
    """Return the tools a config asks for.

    Parameters
    ----------
    imager : str
        ``auto`` (the project's own), ``native``, ``wsclean`` or ``tclean``.
    solver : str
        ``native`` or ``casa``.
    log_dir : Path
        Where CASA logs.
    stall_s : float
        A tool silent and idle for this long is killed, seconds.
    on_wait : callable, optional
        Called often while a tool runs.
    tell : callable, optional
        Told in a few words how far the project's own imager is.
    """
    session = CasaSession(log_dir, stall_s=stall_s, on_wait=on_wait)
    imagers: dict[str, Callable[[], Imager]] = {
        "native": lambda: NativeImager(on_cycle=_cycle_teller(tell)),
        "wsclean": lambda: WSClean(stall_s=stall_s, on_wait=on_wait),
        "tclean": lambda: Tclean(session),
    }
    imager = "native" if imager == "auto" else imager
    if imager not in imagers:
        raise ConfigError(f"unknown imager '{imager}'", f"known: {', '.join(imagers)}")
    chosen = imagers[imager]()
    chosen.version()
    solvers: dict[str, Callable[[], Solver]] = {
        # a flagged cross hand says nothing against the parallel hands solved for
        "native": lambda: NativeSolver(corr_dep_flags=True),
        "casa": lambda: CasaSolver(session),
    }
    if solver not in solvers:
        raise ConfigError(f"unknown solver '{solver}'", f"known: {', '.join(solvers)}")
    return Tools(session, chosen, solvers[solver]())


def check_memory(settings: Settings) -> None:
    """Refuse, before anything is done, an image that does not fit into the memory allowed.

    Raises
    ------
    ConfigError
        It does not, or the imager has no such limit. Sizes that the data will choose are checked
        when they are known.
    """
    if settings["imager"] == "tclean" and settings["memory"] != "auto":
        raise ConfigError(
            "tclean knows no limit of its memory", "leave memory out, or take another imager"
        )
    if settings["imager"] not in ("auto", "native") or settings["imsize"] == "auto":
        return
    limit = 0.0 if settings["memory"] == "auto" else float(settings["memory"])
    memory_for_visibilities(
        settings["imsize"], 1, 1, limit or default_memory_bytes(), convolved=False
    )


def _cycle_teller(tell: Callable[[str], None] | None) -> Callable[[Cycle], None] | None:
    """Return what says in words how far CLEAN is."""
    if tell is None:
        return None

    def on_cycle(cycle: Cycle) -> None:
        peak = f"residual peak {1e3 * cycle.peak_jy_beam:.3g} mJy/beam"
        left = f", about {cycle.seconds_left:.0f} s left" if cycle.seconds_left > 1 else ""
        tell(f"CLEAN cycle {cycle.number}: {peak}{left}")

    return on_cycle
