"""What to solve and what to apply: options and results shared by every solver."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from libs.gains.solution_interval import PER_SCAN, SolutionInterval

__all__ = ["AppliedTable", "ApplyResult", "Solution", "SolveOptions", "SolveResult", "Solver"]

Progress = Callable[[str], None]
Solution = Literal[
    "gain", "tec", "tec+phase", "delay", "delay+phase", "constants+phase", "constant_delay+phase",
    "delay+tec", "bandpass",
]  # fmt: skip


@dataclass(frozen=True)
class AppliedTable:
    """A gain table and how it is applied.

    Attributes
    ----------
    path : Path
        CASA gain table.
    spwmap : tuple of int
        For each spw of the data, the spw of the table that calibrates it; empty: the same.
    interp : str
        Interpolation in time: ``linear`` or ``nearest``.
    fields : tuple of int
        Ids of the fields whose solutions are used; empty: all.
    """

    path: Path
    spwmap: tuple[int, ...] = ()
    interp: Literal["linear", "nearest"] = "linear"
    fields: tuple[int, ...] = ()


@dataclass(frozen=True)
class SolveOptions:
    """One gain solve.

    Attributes
    ----------
    solint : SolutionInterval
        With one per scan and combine scan there is one solution in all.
    combine : frozenset of str
        Axes over which one solution is made: any of ``"spw"``, ``"scan"`` and ``"field"``. Without
        ``"field"`` the data of each field have solutions of their own.
    calmode : str
        ``"p"`` phase, ``"a"`` amplitude, ``"ap"`` both.
    gaintype : str
        ``"G"`` one gain for each polarization, ``"T"`` one gain for both.
    refant : tuple of str
        Reference antennas in order of preference, by name.
    minsnr : float
        Solutions below this signal-to-noise ratio are flagged.
    spare : tuple of str
        Antennas whose phases are known to be followed: of these only solutions that also fall
        short of the signal-to-noise ratio that the model promises are flagged (native solver,
        ``calmode="p"``, gains only).
    minblperant : int
        Fewest baselines an antenna must have for a solution.
    solnorm : bool
        Normalise the amplitudes of the table to a mean of 1 (never for ``calmode="p"``).
    uvmin_m, uvmax_m : float
        Baselines outside this range (m) take no part; ``uvmax_m`` 0 means no limit.
    outlier_weights : bool
        Student-t weights against outliers (native solver, gains only).
    solution : str
        ``"gain"``; ``"tec"``: phases that go as 1 / frequency, one TEC for the whole band and
        both polarizations; ``"tec+phase"``: and a constant phase (native solver only);
        ``"delay"``: a delay of each polarization in each spectral window, or with
        ``combine="spw"`` one for the whole band, as a table of delays; ``"delay+phase"``: delays
        and phases of each window, as gains; ``"constants+phase"``: a phase of each window and
        polarization for the whole execution, beneath one common to them on the interval;
        ``"constant_delay+phase"``: the same with delays and phases of windows as constants;
        ``"delay+tec"``: with such constants and a common TEC (`libs.gains.two_factors`, native
        solver only), as gains; ``"bandpass"``: gains of blocks of channels, made relative
        (`libs.gains.relative_bandpass`).
    channels_per_block : int
        Frequency blocks of so many channels, each with a gain of its own (native solver only);
        0: one each spectral window, of bandpasses each channel. For TECs the resolution of the
        data they are fitted to, 0: worked out. One channel a block makes a bandpass.
    fields : tuple of int
        Ids of the fields whose data are used; empty: all.
    """

    solint: SolutionInterval = PER_SCAN
    combine: frozenset[str] = field(default_factory=frozenset)
    calmode: Literal["p", "a", "ap"] = "p"
    gaintype: Literal["G", "T"] = "G"
    refant: tuple[str, ...] = ()
    minsnr: float = 3.0
    spare: tuple[str, ...] = ()
    minblperant: int = 4
    solnorm: bool = False
    uvmin_m: float = 0.0
    uvmax_m: float = 0.0
    outlier_weights: bool = False
    solution: Solution = "gain"
    channels_per_block: int = 0
    fields: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.combine <= {"spw", "scan", "field"}:
            raise ValueError(f"combine may hold spw, scan and field, not {sorted(self.combine)}")
        if self.solnorm and self.calmode == "p":
            raise ValueError("a phase-only table is never normalised")
        if self.solution not in ("gain", "bandpass") and self.calmode != "p":
            raise ValueError(f"{self.solution} is a solution for phases, not for {self.calmode}")

    @property
    def block_channels(self) -> int:
        """Channels of a block: of bandpasses one unless it is said; 0 where it is not."""
        return self.channels_per_block or int(self.solution == "bandpass")

    def as_record(self) -> dict[str, Any]:
        """Return the options as records hold them: numbers, texts and lists."""
        return {
            **asdict(self),
            "solint": self.solint.recorded,
            "combine": sorted(self.combine),
            "refant": list(self.refant),
            "spare": list(self.spare),
            "fields": list(self.fields),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SolveOptions:
        """Return the options that `as_record` wrote."""
        return cls(
            **{
                **record,
                "solint": SolutionInterval.parse(record["solint"]),
                "combine": frozenset(record["combine"]),
                "refant": tuple(record["refant"]),
                "spare": tuple(record["spare"]),
                "fields": tuple(record.get("fields", ())),
            }
        )


@dataclass(frozen=True)
class SolveResult:
    """The table a solve made.

    Attributes
    ----------
    table : Path
        CASA gain table.
    applied : AppliedTable
        The same table with the spwmap it needs.
    flagged_fraction : float
        Fraction of the solutions that are flagged.
    median_snr : float
        Median over unflagged solutions.
    seconds : float
        Wall-clock time.
    unknown_phases : int or None
        Number of phases that the solve was free to choose; None where it is unknown.
    """

    table: Path
    applied: AppliedTable
    flagged_fraction: float
    median_snr: float
    seconds: float
    unknown_phases: int | None = None


@dataclass(frozen=True)
class ApplyResult:
    """What applying did: fraction of the visibilities flagged before and after, seconds."""

    flagged_before: float
    flagged_after: float
    seconds: float


class Solver(Protocol):
    """The interface of every solver and applier."""

    @property
    def name(self) -> str:
        """Of the solver."""

    def solve(
        self,
        ms: Path,
        table: Path,
        options: SolveOptions,
        prior: Sequence[AppliedTable] = (),
    ) -> SolveResult:
        """Solve DATA against MODEL_DATA with ``prior`` applied beforehand; write ``table``.

        Raises
        ------
        SolveError
            No interval gave a solution.
        """

    def apply(
        self,
        ms: Path,
        tables: Sequence[AppliedTable],
        *,
        calwt: bool = False,
        flag_unsolved: bool = True,
        fields: Sequence[int] = (),
    ) -> ApplyResult:
        """CORRECTED_DATA = DATA / gains; visibilities without a solution are flagged.

        Of some fields by id only, where they are given.
        """
