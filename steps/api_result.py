"""What came of a run, for Python: read from its work directory."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["Result"]

_STATISTICS = (
    ("peak_jy_beam", "peak (Jy/beam)"), ("rms_jy_beam", "rms (Jy/beam)"), ("snr", "SNR"),
    ("dynamic_range", "dynamic range"), ("total_flux_jy", "total flux (Jy)"),
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """The result of a run, of a field or of a session.

    Attributes
    ----------
    workdir : Path
        Work directory, from which everything is read.
    """

    workdir: Path

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """Content of summary.json."""
        path = self.workdir / "summary.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    @property
    def status(self) -> str:
        """Status of the run: ``improved``, ``unchanged``, ``incomplete`` or ``failed``."""
        return str(self.summary.get("status", ""))

    @property
    def report(self) -> Path:
        """The page with every decision."""
        return self.workdir / "report.html"

    @property
    def ms(self) -> Path | list[Path] | None:
        """The calibrated data, several of several executions; None where there are none."""
        named = self.summary.get("calibrated_ms") or []
        if isinstance(named, str):
            return self.workdir / named
        return [self.workdir / name for name in named] or None

    @property
    def h5parm(self) -> Path | None:
        """All solutions; None where there are none."""
        named = self.summary.get("h5parm")
        return self.workdir / named if named else None

    @cached_property
    def images(self) -> dict[str, Path]:
        """FITS images: ``initial``, ``final``, ``untouched``, and each step's by its name."""
        found = {}
        for state in ("initial", "final", "untouched"):
            image = (self.summary.get(state) or {}).get("image")
            if image:
                found[state] = self.workdir / image
        from selfcal.state import State

        for record in State(self.workdir).records():
            image = record.result.products.get("image")
            if image:
                found[record.step] = self.workdir / image
        return found

    @cached_property
    def gains(self) -> Table:
        """Statistics of the gains by round, antenna, window and polarization (astropy Table)."""
        return self._table("gains.csv")

    @cached_property
    def image_statistics(self) -> Table:
        """Statistics of every image (astropy Table), the unit in each column's name."""
        return self._table("images.csv")

    @cached_property
    def targets(self) -> dict[str, Result]:
        """Results of the targets of a run of several, by name."""
        found = self.summary.get("targets") or {}
        return {name: Result(self.workdir / one["workdir"]) for name, one in found.items()}

    def apply(self, to: str | Path | None = None, field: str = "") -> list[str]:
        """Apply the solutions to the original data, the only thing that writes to them.

        Parameters
        ----------
        to : path, optional
            Measurement set to write; the run's inputs where none is given.
        field : str
            Names of the fields whose rows are written, or ``all``; empty: the run's.

        Returns
        -------
        list of str
            A line for each data set.

        Raises
        ------
        ConfigError, InputError
            There is nothing to apply, or the data are others.
        """
        from steps.applying import apply_run

        return list(apply_run(self.workdir, None if to is None else str(to), field))

    def _table(self, name: str) -> Table:
        from astropy.table import Table

        path = self.workdir / name
        if not path.exists() or not path.read_text().strip():
            return Table()
        return Table.read(path, format="ascii.csv")

    def __repr__(self) -> str:
        """Return status and dynamic range in a line."""
        before, after = (
            (self.summary.get(state) or {}).get("dynamic_range") for state in ("initial", "final")
        )
        text = f", dynamic range {before:.4g} -> {after:.4g}" if before and after else ""
        return f"<{self.status or 'no result'}{text}: {self.workdir}>"

    def _repr_html_(self) -> str:
        """Return the table of results and the comparison of the images, for notebooks."""
        states = [name for name in ("initial", "final", "untouched") if self.summary.get(name)]
        head = "".join(f"<th>{name}</th>" for name in ("", *states))
        rows = "".join(
            f"<tr><th>{label}</th>"
            + "".join(f"<td>{_number(self.summary[state].get(key))}</td>" for state in states)
            + "</tr>"
            for key, label in _STATISTICS
        )
        place = html.escape(str(self.workdir))
        text = f"<p><b>{html.escape(self.status)}</b> &mdash; {place}</p>"
        if states:
            text += f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        picture = self.workdir / "plots" / "comparison.png"
        if picture.exists():
            content = base64.b64encode(picture.read_bytes()).decode("ascii")
            text += f'<img alt="images before and after" src="data:image/png;base64,{content}">'
        if self.report.exists():
            text += f'<p><a href="{html.escape(self.report.as_uri())}">report.html</a></p>'
        return text


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else "&ndash;"
