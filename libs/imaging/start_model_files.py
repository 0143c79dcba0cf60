"""Files of starting models: FITS images, WSClean's and DP3's lists of components, catalogues."""

from __future__ import annotations

import math
import re
from pathlib import Path

from libs.catalogues.source_list import CatalogueComponent, FieldSource, read_catalogue
from libs.core.angles import parse_direction
from libs.core.errors import ConfigError, InputError
from libs.imaging.start_model import ComponentSky, ImageSky, SkyComponent, read_sky_image

__all__ = ["read_component_list", "read_start_model"]

# "Format = Name, Type, ..." or the older "# (Name, Type, ...) = format"
_FORMAT = re.compile(r"^\s*format\s*=\s*(.*)$", re.IGNORECASE)
_OLD_FORMAT = re.compile(r"^\s*#?\s*\((.*)\)\s*=\s*format\s*$", re.IGNORECASE)
# a comma outside of brackets and quotes
_COMMA = re.compile(r",(?![^\[]*\])(?=(?:[^']*'[^']*')*[^']*$)")
_REMEDY = "write it as WSClean's -save-source-list does"


def read_start_model(path: Path, *, flux_unit: str = "") -> tuple[ComponentSky | ImageSky, str]:
    """Read a model of the sky, and say what the file is.

    Parameters
    ----------
    path : Path
        FITS image in Jy/pixel (`read_sky_image`), WSClean's or DP3's list of components, or a
        catalogue as VOTable, CSV or FITS table (`libs.catalogues.source_list.read_catalogue`).
    flux_unit : str
        Unit ``Jy`` or ``mJy`` of a catalogue's fluxes without one.

    Raises
    ------
    InputError
        The file cannot be read, or holds no model.
    """
    if not path.is_file():
        raise InputError(f"the model {path} does not exist", "correct start_model")
    if _is_fits_image(path):
        return read_sky_image([path]), "model image"
    if _is_component_list(path):
        return ComponentSky(read_component_list(path)), "list of components"
    return _from_catalogue(path, flux_unit), "catalogue"


def _is_fits_image(path: Path) -> bool:
    """Whether a file is FITS with an image at its beginning, and not a table."""
    from astropy.io import fits

    with path.open("rb") as stream:
        if not stream.read(9).startswith((b"SIMPLE  =", b"\x1f\x8b")):
            return False
    try:
        with fits.open(path) as hdus:
            return int(hdus[0].header.get("NAXIS", 0)) > 0
    except OSError as error:
        raise InputError(f"{path} cannot be read as FITS ({error})", "correct it") from error


def _from_catalogue(path: Path, flux_unit: str) -> ComponentSky:
    """Return the sources of a catalogue that have a flux.

    Axes that are not deconvolved hold a beam that the list does not tell: they are left out, and
    such a source is a point.
    """
    found = [
        _sky_component(part)
        for source in read_catalogue(path, flux_unit=flux_unit)
        for part in source.components or (_point(source),)
        if math.isfinite(part.flux_jy)
    ]
    if not found:
        raise InputError(f"{path.name} has no source with a flux", "add a column such as flux_mJy")
    return ComponentSky(tuple(found))


def _point(source: FieldSource) -> CatalogueComponent:
    return CatalogueComponent(source.ra_rad, source.dec_rad, source.flux_jy)


def _sky_component(part: CatalogueComponent) -> SkyComponent:
    axes = (0.0, 0.0) if part.fitted else (part.major_arcsec, part.minor_arcsec)
    return SkyComponent(part.ra_rad, part.dec_rad, part.flux_jy, *axes, part.pa_deg)


# -- lists as text --------------------------------------------------------------------------------


def _is_component_list(path: Path) -> bool:
    """Whether a text file begins as a list of WSClean or DP3."""
    with path.open("r", encoding="utf-8", errors="replace") as stream:
        return any(_heading(line) is not None for line, _ in zip(stream, range(20), strict=False))


def read_component_list(path: Path) -> tuple[SkyComponent, ...]:
    """Read the points and Gaussians of a list; patches have no flux of their own.

    Raises
    ------
    InputError
        The file is no such list, or a line does not hold what its heading says.
    """
    columns: list[tuple[str, str]] = []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        heading = _heading(line)
        if heading is not None:
            columns = [_column(word) for word in _COMMA.split(heading)]
            continue
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if not columns:
            raise InputError(f"{path.name} does not begin with its format", _REMEDY)
        words = [word.strip().strip("'\"") for word in _COMMA.split(text)]
        values = {
            name: words[place] if place < len(words) and words[place] else default
            for place, (name, default) in enumerate(columns)
        }
        if not values.get("type"):
            continue  # a patch
        try:
            found.append(_component(values))
        except (ValueError, KeyError, ConfigError) as error:
            raise InputError(f"{path.name}, line {number}: {error}", _REMEDY) from error
    if not found:
        raise InputError(f"{path.name} has no components", _REMEDY)
    return tuple(found)


def _heading(line: str) -> str | None:
    for pattern in (_FORMAT, _OLD_FORMAT):
        found = pattern.match(line)
        if found:
            return found[1]
    return None


def _column(word: str) -> tuple[str, str]:
    """Return the name of a column in lower case, and its default."""
    name, _, default = word.strip().partition("=")
    return name.strip().lower(), default.strip().strip("'\"")


def _component(values: dict[str, str]) -> SkyComponent:
    kind = values["type"].upper()
    if kind not in ("POINT", "GAUSSIAN"):
        raise ValueError(f"a component of the type {values['type']} is not known")
    ra, dec = parse_direction(values["ra"], _sexagesimal(values["dec"]))
    terms = values.get("spectralindex", "").strip("[]")
    gaussian = kind == "GAUSSIAN"
    return SkyComponent(
        ra, dec, _finite(values["i"]),
        _finite(values.get("majoraxis") or "0") if gaussian else 0.0,
        _finite(values.get("minoraxis") or "0") if gaussian else 0.0,
        _finite(values.get("orientation") or "0") if gaussian else 0.0,
        _finite(values.get("referencefrequency") or "0"),
        tuple(_finite(term) for term in terms.split(",") if term.strip()),
        (values.get("logarithmicsi") or "true").lower() in ("true", "t", "1"),
    )  # fmt: skip


def _sexagesimal(text: str) -> str:
    """Return a declination with colons where it has points between its parts (+30.12.45.6)."""
    parts = text.split(".", 2)
    return ":".join(parts) if len(parts) == 3 else text


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number")
    return value
