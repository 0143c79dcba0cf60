"""Source lists of a field: LBCS, LoTSS or the user's own, from CSV, VOTable or FITS."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.angles import separation_rad
from libs.core.errors import InputError

__all__ = [
    "MATCH_ARCSEC",
    "MAX_MAP_ARCSEC",
    "MIN_FLUX_JY",
    "MIN_MAP_ARCSEC",
    "CatalogueComponent",
    "FieldSource",
    "is_resolved",
    "map_size_arcsec",
    "read_catalogue",
    "with_components",
]

# LBCS: Jackson et al. 2022, A&A 658, A2
MATCH_ARCSEC = 5.0
MIN_FLUX_JY = 0.010
MIN_MAP_ARCSEC, MAX_MAP_ARCSEC = 20.0, 120.0

_ARCSEC = math.pi / 180.0 / 3600.0
_FWHMS_IN_MAP = 3.0
# column names in lower case, without the unit at their end
_ALIASES = {
    "name": (
        "name",
        "source_name",
        "source",
        "source_id",
        "lbcs_id",
        "observation",
        "obsid",
        "first",
        "id",
    ),
    "ra": ("ra", "raj2000", "ra_j2000", "_raj2000", "right_ascension"),
    "dec": ("dec", "decj2000", "dec_j2000", "dej2000", "_dej2000", "de", "declination"),
    "flux": (
        "total_flux",
        "flux",
        "s_int",
        "sint",
        "fint",
        "stotal",
        "speaktot",
        "integrated_flux",
    ),
    "peak": ("peak_flux", "s_peak", "speak", "fpeak", "peak"),
    "rms": ("isl_rms", "rms", "local_rms"),
    "e_peak": ("e_peak_flux", "e_peak"),
    "major": ("dc_maj", "dcmaj", "maj", "major", "bmaj"),
    "minor": ("dc_min", "dcmin", "min", "minor", "bmin"),
    "pa": ("dc_pa", "dcpa", "pa", "position_angle"),
    "code": ("s_code", "scode"),
    "flags": ("flags", "quality", "goodness", "lbcs_flags", "flag", "cal_quality"),
    "parent": ("parent_source", "parent", "component_of"),
}
_UNIT_SUFFIX = re.compile(r"^(.*?)[_ ]?[(\[]?(mjy|ujy|jy|deg|arcsec|arcmin|rad)[)\]]?$")
_FLUX_JY = {"jy": 1.0, "mjy": 1e-3, "ujy": 1e-6}
_ANGLE_ARCSEC = {"deg": 3600.0, "arcmin": 60.0, "arcsec": 1.0, "rad": 1.0 / _ARCSEC}
# one letter for each station: P good, S marginal, X bad, D delayed, - no data
_LBCS_FLAGS = re.compile(r"^[PSXDZ-]+$")


@dataclass(frozen=True)
class CatalogueComponent:
    """A Gaussian of a catalogue: J2000 position, flux, FWHM axes and position angle.

    ``fitted`` is True for axes measured in the survey's image, which include the beam.
    """

    ra_rad: float
    dec_rad: float
    flux_jy: float
    major_arcsec: float = 0.0
    minor_arcsec: float = 0.0
    pa_deg: float = 0.0
    fitted: bool = False


@dataclass(frozen=True)
class FieldSource:
    """A source of a field.

    Attributes
    ----------
    name : str
        Name, usable for a folder and for an h5parm's direction.
    ra_rad, dec_rad : float
        Position, J2000.
    flux_jy, peak_jy, rms_jy : float
        Total flux density, peak per beam and local noise; NaN where unknown.
    lbcs_flags : str
        One letter for each LBCS station; empty when not in LBCS.
    components : tuple of CatalogueComponent
        Gaussians of the source; empty where the catalogue gives no shape.
    code : str
        PyBDSF's code: ``S`` one Gaussian, ``C`` one in an island of several, ``M`` several.
    """

    name: str
    ra_rad: float
    dec_rad: float
    flux_jy: float = math.nan
    peak_jy: float = math.nan
    rms_jy: float = math.nan
    lbcs_flags: str = ""
    components: tuple[CatalogueComponent, ...] = ()
    code: str = ""

    @property
    def is_calibrator(self) -> bool:
        """True when LBCS detected it well (P or S) on at least two stations, or on its only one."""
        known = self.lbcs_flags.replace("-", "")
        return bool(known) and sum(known.count(f) for f in "PS") >= min(2, len(known))

    @property
    def resolved(self) -> bool:
        """True when its fluxes show that the survey resolves it."""
        return is_resolved(self.flux_jy, self.peak_jy, self.rms_jy)

    @property
    def map_arcsec(self) -> float:
        """Width of the map that contains it, arcsec."""
        return map_size_arcsec(self)


def is_resolved(flux_jy: float, peak_jy: float, rms_jy: float) -> bool:
    """Return whether S_int / S_peak > 1.25 + 3.1 SNR^-0.53, with SNR = S_peak / rms.

    95 % of simulated point sources in LoTSS lie below this envelope (Shimwell et al. 2019,
    A&A 622, A1, section 3.1). False where a number is missing.
    """
    if not all(math.isfinite(v) and v > 0 for v in (flux_jy, peak_jy, rms_jy)):
        return False
    return flux_jy / peak_jy > 1.25 + 3.1 * (peak_jy / rms_jy) ** -0.53


def map_size_arcsec(source: FieldSource) -> float:
    """Return the width of a source's map: three FWHM beyond its outermost component.

    It is at least 20 arcsec and at most 2 arcmin; 20 arcsec where the shape is unknown.
    """
    place = np.array([source.ra_rad, source.dec_rad])
    widths = [
        2 * float(separation_rad(place, np.array([c.ra_rad, c.dec_rad]))) / _ARCSEC
        + _FWHMS_IN_MAP * c.major_arcsec
        for c in source.components
    ]
    return min(MAX_MAP_ARCSEC, max([MIN_MAP_ARCSEC, *widths]))


# -- reading --------------------------------------------------------------------------------------


def read_catalogue(path: Path, *, flux_unit: str = "") -> list[FieldSource]:
    """Read a list of sources.

    Columns are found by the names that LBCS, LoTSS and PyBDSF use, or by plain ones (``name``,
    ``ra``, ``dec``, ``flux_jy``); only positions are required. Units are taken from the file's
    metadata or from the end of the column's name (``flux_mJy``); angles without a unit are in
    degrees, or sexagesimal.

    Parameters
    ----------
    path : Path
        File: ``.csv``, ``.vot``, ``.xml``, ``.fits``, or plain text with a heading.
    flux_unit : str
        Unit ``Jy`` or ``mJy`` for fluxes without one.

    Raises
    ------
    InputError
        The file cannot be read, has no positions, or has a flux without a unit.
    """
    table = _read_table(Path(path))
    columns = _find_columns(table)
    for axis in ("ra", "dec"):
        if axis not in columns:
            raise InputError(
                f"{path} has no column of {axis.upper()}", f"it has {', '.join(table.colnames)}"
            )
    ra, dec = _positions(table, columns, path)
    flux = {
        k: _fluxes(table, columns, k, flux_unit, path) for k in ("flux", "peak", "rms", "e_peak")
    }
    rms = np.where(np.isfinite(flux["rms"]), flux["rms"], flux["e_peak"])
    names = _names(table, columns, ra, dec)
    flags = _texts(table, columns.get("flags", ""))
    codes = _texts(table, columns.get("code", ""))
    sources = [
        FieldSource(
            names[i], float(ra[i]), float(dec[i]), float(flux["flux"][i]), float(flux["peak"][i]),
            float(rms[i]), flags[i] if _LBCS_FLAGS.match(flags[i]) else "", code=codes[i],
        )
        for i in range(len(table))
    ]  # fmt: skip
    return [
        replace(s, components=c)
        for s, c in zip(sources, _shapes(table, columns, sources), strict=True)
    ]


def _read_table(path: Path) -> Any:
    from astropy.table import Table

    if not path.is_file():
        raise InputError(f"the source list {path} does not exist", "correct the path")
    kind = {".csv": "ascii.csv", ".vot": "votable", ".xml": "votable", ".votable": "votable",
            ".fits": "fits"}.get(path.suffix.lower(), "ascii")  # fmt: skip
    try:
        return Table.read(path, format=kind)
    except (OSError, ValueError, IndexError) as error:
        raise InputError(
            f"{path} cannot be read as {kind} ({str(error).splitlines()[0]})",
            "give CSV with a heading, VOTable or FITS",
        ) from error


def _split_unit(name: str) -> tuple[str, str]:
    """Return a column name in lower case, and the unit at its end."""
    found = _UNIT_SUFFIX.match(name.lower())
    if found and found[1]:
        return found[1].rstrip("_ "), found[2]
    return name.lower(), ""


def _find_columns(table: Any) -> dict[str, str]:
    """Return the table's column for each of our names."""
    by_name: dict[str, str] = {}
    for column in table.colnames:
        by_name.setdefault(column.lower(), column)
        by_name.setdefault(_split_unit(column)[0], column)
    found = {
        ours: next(by_name[alias] for alias in aliases if alias in by_name)
        for ours, aliases in _ALIASES.items()
        if any(alias in by_name for alias in aliases)
    }
    flags = found.get("flags")
    if flags is None or not all(_LBCS_FLAGS.match(text) for text in _texts(table, flags) if text):
        # LBCS has renamed this column: accept any that looks like one letter for each station
        found.pop("flags", None)
        for column in table.colnames:
            texts = _texts(table, column)
            if texts and all(len(t) > 3 and _LBCS_FLAGS.match(t) for t in texts):
                found["flags"] = column
    return found


def _texts(table: Any, column: str) -> list[str]:
    if not column:
        return [""] * len(table)
    values = table[column].tolist()
    return [
        "" if v is None else (v.decode() if isinstance(v, bytes) else str(v)).strip()
        for v in values
    ]


def _names(table: Any, columns: dict[str, str], ra: Any, dec: Any) -> list[str]:
    """Return names usable for folders, all different; made from the position where missing."""
    names: list[str] = []
    for i, text in enumerate(_texts(table, columns.get("name", ""))):
        plain = re.sub(r"[^A-Za-z0-9+.-]+", "_", text).strip("_.")
        plain = plain or f"J{np.rad2deg(ra[i]):08.4f}{np.rad2deg(dec[i]):+08.4f}"
        number, free = 2, plain
        while free in names:
            free, number = f"{plain}_{number}", number + 1
        names.append(free)
    return names


def _unit(table: Any, column: str) -> str:
    """Return the unit of a column in lower case, from its metadata or its name."""
    unit = getattr(table[column], "unit", None)
    text = str(unit).lower().replace(" ", "") if unit else _split_unit(column)[1]
    return text.removesuffix("/beam").removesuffix("beam-1").rstrip(".*")


def _numbers(table: Any, column: str) -> Any:
    values = table[column]
    if getattr(values, "mask", None) is not None and np.any(values.mask):
        values = values.filled(np.nan) if values.dtype.kind == "f" else values
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"column {column} does not hold numbers ({error})", "correct the list"
        ) from error


def _angle_rad(text: str, right_ascension: bool) -> float:
    """Return an angle given as text: hours for a sexagesimal right ascension, else degrees."""
    from astropy import units
    from astropy.coordinates import Angle

    hours = right_ascension and any(mark in text for mark in ": ")
    return float(Angle(text, unit=units.hourangle if hours else units.deg).to_value(units.rad))


def _positions(table: Any, columns: dict[str, str], path: Path) -> tuple[Any, Any]:
    from astropy import units

    result = []
    for axis in ("ra", "dec"):
        column = columns[axis]
        if np.asarray(table[column]).dtype.kind in "fi":
            scale = _ANGLE_ARCSEC.get(_unit(table, column) or "deg", 3600.0) * _ARCSEC
            values = _numbers(table, column) * scale
        else:
            try:
                values = np.array(
                    [_angle_rad(text, axis == "ra") for text in _texts(table, column)]
                )
            except (ValueError, units.UnitsError) as error:
                raise InputError(
                    f"{path}: {column} is not an angle ({error})", "correct it"
                ) from error
        if not np.isfinite(values).all():
            raise InputError(f"{path}: {column} has missing values", "remove these rows")
        result.append(np.atleast_1d(values))
    if len(result[1]) and np.abs(result[1]).max() > np.pi / 2:
        raise InputError(f"{path}: a declination is beyond a pole", "check the columns' units")
    return result[0] % (2 * np.pi), result[1]


def _fluxes(table: Any, columns: dict[str, str], what: str, flux_unit: str, path: Path) -> Any:
    column = columns.get(what)
    if column is None:
        return np.full(len(table), np.nan)
    unit = _unit(table, column) or flux_unit.lower()
    if unit not in _FLUX_JY:
        raise InputError(
            f"{path}: column {column} has {'no unit' if not unit else f'the unit {unit}'}",
            f"set flux_unit to Jy or mJy, or name it {column}_mJy",
        )
    return _numbers(table, column) * _FLUX_JY[unit]


def _shapes(
    table: Any, columns: dict[str, str], sources: Sequence[FieldSource]
) -> list[tuple[CatalogueComponent, ...]]:
    """Return a component for each row, where the list gives axes."""
    if "major" not in columns:
        return [()] * len(sources)

    def arcsec(what: str) -> Any:
        if what not in columns:
            return np.full(len(table), np.nan)
        unit = _unit(table, columns[what]) or "arcsec"
        return _numbers(table, columns[what]) * _ANGLE_ARCSEC.get(unit, 1.0)

    # FIRST writes upper limits as negative axes
    major = np.maximum(np.nan_to_num(arcsec("major")), 0.0)
    minor = np.where(np.isfinite(arcsec("minor")), np.clip(arcsec("minor"), 0.0, major), major)
    names = {_split_unit(column)[0] for column in table.colnames}
    # LoTSS and PyBDSF call the fitted axes Maj and Min; FIRST fMaj and fMin
    fitted = _split_unit(columns["major"])[0] == "maj" and not names & {"fmaj", "first"}
    pa = np.nan_to_num(_numbers(table, columns["pa"])) if "pa" in columns else np.zeros(len(major))
    return [
        (
            CatalogueComponent(
                s.ra_rad, s.dec_rad, s.flux_jy, float(a), float(b), float(angle), fitted
            ),
        )
        for s, a, b, angle in zip(sources, major, minor, pa, strict=True)
    ]


# -- choosing -------------------------------------------------------------------------------------


def with_components(
    sources: Sequence[FieldSource], path: Path, *, flux_unit: str = ""
) -> list[FieldSource]:
    """Add Gaussians from a table of components that names the source of each.

    Raises
    ------
    InputError
        The table does not name the source of each component.
    """
    table = _read_table(Path(path))
    columns = _find_columns(table)
    if "parent" not in columns:
        raise InputError(f"{path} does not name the source of a component", "see Parent_Source")
    parts = read_catalogue(path, flux_unit=flux_unit)
    parents = [
        re.sub(r"[^A-Za-z0-9+.-]+", "_", t).strip("_.") for t in _texts(table, columns["parent"])
    ]
    own: dict[str, list[CatalogueComponent]] = {}
    for part, parent in zip(parts, parents, strict=True):
        own.setdefault(parent, []).extend(part.components)
    return [replace(s, components=tuple(own[s.name])) if own.get(s.name) else s for s in sources]
