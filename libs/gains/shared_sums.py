"""Normal equations read once and used by several solves, tables applied to sums, not to data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.gains.frequency_blocks import merge_blocks
from libs.gains.interpolation import GainInterpolator, gains_for_rows
from libs.gains.normal_equations import SUM_BYTES, NormalEquations, accumulate
from libs.gains.relative_bandpass import block_groups
from libs.gains.solver import AppliedTable, SolveOptions
from libs.ms.kept_subtables import kept_subtables
from libs.ms.summary import describe_ms

__all__ = ["SharedSums"]

_BYTES_PER_SUM = 24


@dataclass(frozen=True)
class SharedSums:
    """Sums of every channel, at the shortest interval that solves will ask for.

    A gain that does not change within such an interval changes its sums by a factor:
    sum of w |g|^2 (V / g) conj(M) = conj(g) sum of w V conj(M). Solves after one another, each
    with the tables before it applied, need not read the data again.

    Attributes
    ----------
    ms : Path
    equations : NormalEquations
        One frequency block each channel.
    per_integration : bool
    """

    ms: Path
    equations: NormalEquations
    per_integration: bool

    @classmethod
    def read(
        cls,
        ms: Path,
        options: SolveOptions,
        *,
        corr_dep_flags: bool = False,
        most_bytes: int = SUM_BYTES,
    ) -> SharedSums | None:
        """Return the sums of a measurement set.

        Parameters
        ----------
        ms : Path
        options : SolveOptions
            Of these ``solint``, the shortest interval of the solves to come, and the fields count.
        corr_dep_flags : bool
            As in `libs.gains.normal_equations.accumulate_batches`.
        most_bytes : int
            Most memory that they may take.

        Returns
        -------
        SharedSums or None
            None where they do not fit.
        """
        found = describe_ms(ms)
        nant = len(found.antenna)
        channels = sum(len(hz) for hz in found.frequency_hz)
        stamps = found.scans
        if options.solint.per_integration or np.isfinite(options.solint.seconds):
            baselines = max(1, nant * (nant - 1) // 2 * max(1, len(found.frequency_hz)))
            stamps = max(stamps, -(-found.rows // baselines))
        size = stamps * channels * nant * (nant - 1) * _BYTES_PER_SUM
        if size > most_bytes:
            return None
        fine = replace(options, combine=frozenset(), uvmin_m=0.0, uvmax_m=0.0)
        sums = accumulate(ms, fine, channels_per_block=1, corr_dep_flags=corr_dep_flags)
        return cls(Path(ms), sums, options.solint.per_integration)

    def serve(
        self, ms: Path, options: SolveOptions, prior: Sequence[AppliedTable], channels: int | None
    ) -> NormalEquations | None:
        """Return the normal equations of a solve, None where they must be read from the data.

        Parameters
        ----------
        ms : Path
        options : SolveOptions
        prior : sequence of AppliedTable
            Tables applied beforehand.
        channels : int or None
            Width of the frequency blocks; None: one each spectral window.
        """
        if Path(ms) != self.ms or options.uvmin_m or options.uvmax_m:
            return None
        if "field" in options.combine:  # the sums are those of each field
            return None
        if not self.per_integration and not options.solint.per_scan:
            return None
        hz = kept_subtables(ms).channel_hz
        tables = [GainInterpolator.open(item, hz) for item in prior]
        constant = all(len(part.time_s) == 1 for one in tables for part in one.table.spws.values())
        if not (constant or self.per_integration):
            return None
        sums = self._of_fields(options)
        if sums is None:
            return None
        if constant:  # fewer sums to correct
            sums = sums.binned(options.solint, combine_scan="scan" in options.combine)
        sums = _corrected(sums, tables, hz)
        if not constant:
            sums = sums.binned(options.solint, combine_scan="scan" in options.combine)
        return merge_blocks(sums, block_groups(sums.spw, channels or len(sums.spw)))

    def _of_fields(self, options: SolveOptions) -> NormalEquations | None:
        """The sums of some fields; None where there are none, which reading will say."""
        if not options.fields:
            return self.equations
        mine = np.isin(self.equations.field, list(options.fields))
        if not mine.any():
            return None
        along = ("time_s", "interval_s", "scan", "field", "observation", "vis", "weight",
                 "time_weight")  # fmt: skip
        return replace(self.equations, **{n: getattr(self.equations, n)[mine] for n in along})


def _corrected(
    sums: NormalEquations, tables: Sequence[GainInterpolator], hz: Sequence[NDArray[np.float64]]
) -> NormalEquations:
    """Return the sums of corrected data; what a table has no solution for takes no part."""
    if not tables:
        return sums
    vis, weight = sums.vis.copy(), sums.weight.copy()
    for spw in np.unique(sums.spw):
        mine = np.flatnonzero(sums.spw == spw)
        found = gains_for_rows(
            tables, int(spw), hz[spw], sums.time_s, len(sums.antenna), len(sums.polarization)
        )
        if found is None:
            vis[:, mine], weight[:, mine] = 0.0, 0.0
            continue
        gain, solved, row = found
        gain = np.where(solved, gain, 0.0)[row]
        factor = gain[:, :, sums.antenna1] * np.conj(gain[:, :, sums.antenna2])
        vis[:, mine] *= np.conj(factor)
        weight[:, mine] *= factor.real**2 + factor.imag**2
    return replace(sums, vis=vis, weight=weight)
