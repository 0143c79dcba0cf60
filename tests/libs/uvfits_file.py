"""UVFITS files of known content, with the odd features that files in the wild have."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

LIGHT_M_S = 299792458.0
NOSTA = (1, 2, 5)  # the file skips numbers
POSITION_M = np.array([[1000.0, 0, 0], [0, 2000.0, 0], [0, 0, 3000.0]])
CENTRE_M = np.array([1.0e6, -5.0e6, 3.0e6])


@dataclass
class Uvfits:
    """What goes into a file; see :meth:`write`."""

    nif: int = 2
    nchan: int = 3
    codes: tuple[int, ...] = (-1, -2, -3, -4)
    axis: bool = True  # an IF axis, also with one IF
    sources: tuple[str, ...] = ("one", "two")
    times: int = 4
    telescope: str = "VLBA"
    integration: bool = True
    big_baselines: bool = False
    primary: dict[str, Any] = field(default_factory=dict)  # keywords set last; None removes
    antenna: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    seed: int = 5

    def groups(self) -> list[tuple[int, int, int, int]]:
        """(time, source, antenna 1, antenna 2) of every group; antennas by place."""
        pairs = [(0, 0), (0, 1), (0, 2), (2, 1)]  # one of them the wrong way round
        return [
            (time, time % max(1, len(self.sources)), one, two)
            for time in range(self.times)
            for one, two in pairs
        ]

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Visibilities and weights, (ngroup, nif, nchan, ncorr)."""
        rng = np.random.default_rng(self.seed)
        shape = (len(self.groups()), self.nif, self.nchan, len(self.codes))
        vis = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
        weight = rng.choice([-2.0, 0.0, 1.0, 3.5], size=shape).astype(np.float32)
        return vis, weight

    def uvw_s(self) -> np.ndarray:
        """UVW of every group, (ngroup, 3) light seconds."""
        rng = np.random.default_rng(self.seed + 1)
        return rng.normal(0, 1e-5, (len(self.groups()), 3))

    def write(self, path: Path) -> Path:
        """Write the file."""
        from astropy.io import fits

        vis, weight = self.arrays()
        cube = np.stack([vis.real, vis.imag, weight], axis=-1)
        cube = cube[:, :, None, None] if not self.axis else cube[:, None, None]
        if not self.axis:  # (group, DEC, RA, FREQ, STOKES, COMPLEX)
            cube = cube[:, 0]
        names, values = self._parameters()
        data = fits.GroupData(cube, bitpix=-32, parnames=names, pardata=values)
        hdu = fits.GroupsHDU(data)
        self._head(hdu.header)
        tables = [hdu, self._frequencies(), self._antennas()]
        if self.sources:
            tables.append(self._sources())
        fits.HDUList(tables).writeto(path, overwrite=True)
        return path

    def _parameters(self) -> tuple[list[str], list[np.ndarray]]:
        groups = np.array(self.groups())
        one, two = (np.array(NOSTA)[groups[:, n]] for n in (2, 3))
        baseline = 2048 * one + two + 65536 if self.big_baselines else 256 * one + two
        uvw = self.uvw_s()
        names = ["UU---SIN", "VV---SIN", "WW---SIN", "BASELINE", "DATE", "DATE"]
        values = [*uvw.T, baseline, np.full(len(groups), 2450000.5), groups[:, 0] / 8640.0]
        if self.sources:
            names, values = [*names, "SOURCE"], [*values, groups[:, 1] + 1]
        if self.integration:
            names, values = [*names, "INTTIM"], [*values, np.full(len(groups), 9.5)]
        return names, [np.asarray(value, np.float64) for value in values]

    def _head(self, header: Any) -> None:
        axes = ["COMPLEX", "STOKES", "FREQ", "IF", "RA", "DEC"]
        if not self.axis:
            axes.remove("IF")
        step = self.codes[1] - self.codes[0] if len(self.codes) > 1 else -1
        values = {
            "COMPLEX": (1, 1, 1), "STOKES": (self.codes[0], step, 1), "FREQ": (8e9, 1e6, 2.0),
            "IF": (1, 1, 1), "RA": (187.5, 1, 1), "DEC": (12.5, 1, 1),
        }  # fmt: skip
        for number, name in enumerate(axes, start=2):
            header[f"CTYPE{number}"] = name
            for word, value in zip(("CRVAL", "CDELT", "CRPIX"), values[name], strict=True):
                header[f"{word}{number}"] = value
        header.update({"TELESCOP": self.telescope, "OBJECT": "alone", "EPOCH": 2000.0})
        header.update({"OBSERVER": "nobody", "DATE-OBS": "1995-10-10"})
        header.add_history("first line")
        _set(header, self.primary)

    def _frequencies(self) -> Any:
        from astropy.io import fits

        shape = "" if self.nif == 1 else str(self.nif)
        offset = 1e8 * np.arange(self.nif)
        width = np.where(np.arange(self.nif) % 2, -1e6, 1e6)
        columns = [("FRQSEL", "1J", [1])] + [
            (name, f"{shape or 1}{kind}", value if self.nif == 1 else value[None])
            for name, kind, value in (
                ("IF FREQ", "D", offset), ("CH WIDTH", "E", width),
                ("TOTAL BANDWIDTH", "E", np.abs(width) * self.nchan),
                ("SIDEBAND", "J", np.ones(self.nif)),
            )
        ]  # fmt: skip
        made = _table(columns, "AIPS FQ")
        made.header["NO_IF"] = self.nif
        assert isinstance(made, fits.BinTableHDU)
        return made

    def _antennas(self) -> Any:
        count = len(NOSTA)
        made = _table(
            [
                ("ANNAME", "8A", ["AA", "BB", "CC"]), ("STABXYZ", "3D", POSITION_M),
                ("NOSTA", "1J", NOSTA), ("MNTSTA", "1J", [0, 1, 4]),
                ("STAXOF", "1E", [0, 2.5, 0]), ("POLTYA", "1A", ["R"] * count),
                ("POLAA", "1E", [0] * count), ("POLCALA", "1E", [0] * count),
                ("POLTYB", "1A", ["L"] * count), ("POLAB", "1E", [90] * count),
                ("POLCALB", "1E", [0] * count), ("DIAMETER", "1E", [25, 100, 12]),
            ],
            "AIPS AN",
        )  # fmt: skip
        for letter, value in zip("XYZ", CENTRE_M, strict=True):
            made.header[f"ARRAY{letter}"] = value
        made.header.update({"ARRNAM": self.telescope, "TIMSYS": "UTC", "RDATE": "1995-10-10"})
        made.header.update({"XYZHAND": "RIGHT", "FRAME": "ITRF", "FREQ": 8e9, "NUMORB": 0})
        _set(made.header, self.antenna)
        return made

    def _sources(self) -> Any:
        count = len(self.sources)
        kind = "1D" if self.nif == 1 else f"{self.nif}D"
        zero = np.zeros((count, self.nif)) if self.nif > 1 else np.zeros(count)
        columns = {
            "ID. NO.": ("1J", 1 + np.arange(count)), "SOURCE": ("16A", list(self.sources)),
            "QUAL": ("1J", np.zeros(count)), "CALCODE": ("4A", ["C"] + [""] * (count - 1)),
            "RAEPO": ("1D", 187.5 + 0.01 * np.arange(count)),
            "DECEPO": ("1D", np.full(count, 12.5)),
            "EPOCH": ("1D", np.full(count, 2000.0)), "RAAPP": ("1D", np.zeros(count)),
            "DECAPP": ("1D", np.zeros(count)), "LSRVEL": (kind, zero),
            "RESTFREQ": (kind, zero + 1.42e9), "PMRA": ("1D", np.zeros(count)),
            "PMDEC": ("1D", np.zeros(count)), **self.source,
        }  # fmt: skip
        made = _table([(name, *rest) for name, rest in columns.items()], "AIPS SU")
        made.header.update({"NO_IF": self.nif, "FREQID": 1})
        return made


def _set(header: Any, values: dict[str, Any]) -> None:
    for key, value in values.items():
        if value is None:
            del header[key]
        else:
            header[key] = value


def _table(columns: list[tuple[str, str, Any]], name: str) -> Any:
    from astropy.io import fits

    return fits.BinTableHDU.from_columns(
        [fits.Column(name=key, format=kind, array=np.array(value)) for key, kind, value in columns],
        name=name,
    )
