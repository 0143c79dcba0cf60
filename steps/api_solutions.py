"""Functions for h5parms, for Python: what ``auto-selfcal solutions`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from libs.core.angles import parse_direction
from libs.gains.gain_solutions import GainSolutions
from libs.h5parm.check import Finding, check
from libs.h5parm.export import export_caltable, gains_for
from libs.h5parm.global_table import Listing, MergeReport, combine_files, list_entries, merge_into
from libs.h5parm.nearest import NearestSolutions, best
from libs.h5parm.reader import read_h5parm
from libs.ms.tiled_headers import take_back
from steps.applying import apply_solutions

__all__ = ["Solutions"]

Name = str | Path


class Solutions:
    """Solutions over direction and station, in h5parms of this program, LoSoTo or DP3."""

    def list(self, h5parm: Name) -> Sequence[Listing]:
        """Return each direction and station with origin, coherence and date."""
        return list_entries(Path(h5parm))

    def check(self, h5parm: Name) -> Sequence[Finding]:
        """Return what LoSoTo, DP3 or WSClean could not read; empty where all is well."""
        return check(Path(h5parm))

    def best(
        self,
        h5parm: Name,
        ra: str,
        dec: str,
        *,
        output: Name | None = None,
        missing: Literal["flag", "unit"] = "flag",
    ) -> NearestSolutions:
        """Return for each station the nearest direction with good solutions.

        Parameters
        ----------
        h5parm : path
        ra, dec : str
            Position, degrees or with a unit (``14h29m43s``, ``+35d12m``).
        output : path, optional
            h5parm to write for that position.
        missing : str
            Stations with nothing good are flagged (``flag``) or left as they are (``unit``).
        """
        found = best(Path(h5parm), *parse_direction(ra, dec), missing=missing)
        if output is not None:
            found.write(Path(output))
        return found

    def combine(
        self,
        initial: Name,
        incremental: Name,
        output: Name,
        *,
        frequency_hz: Sequence[float] | None = None,
    ) -> Sequence[str]:
        """Multiply two tables; return notes on what they did not share."""
        grid = None if frequency_hz is None else np.unique(np.asarray(frequency_hz, float))
        return combine_files(Path(initial), Path(incremental), Path(output), grid)

    def merge(self, into: Name, *sources: Name, force: bool = False) -> MergeReport:
        """Add the directions of other files to a table."""
        return merge_into(Path(into), [Path(source) for source in sources], force=force)

    def export(
        self, h5parm: Name, ms: Name, output: Name, name: str | None = None
    ) -> GainSolutions:
        """Write a CASA gain table for a measurement set; return its gains."""
        return export_caltable(Path(h5parm), Path(ms), Path(output), name)

    def apply(self, h5parm: Name, ms: Name, *, name: str | None = None, field: str = "all") -> str:
        """Apply the solutions of one direction to CORRECTED_DATA; return what was done."""
        take_back(Path(ms))
        return apply_solutions(
            Path(ms), gains_for(read_h5parm(Path(h5parm)), Path(ms), name), field
        )
