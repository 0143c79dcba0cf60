"""A survey's entry for the observed source: its Gaussians, map size, and whether it is resolved."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from libs.catalogues.source_list import (
    MAX_MAP_ARCSEC,
    MIN_MAP_ARCSEC,
    CatalogueComponent,
    FieldSource,
    is_resolved,
    map_size_arcsec,
)
from libs.core.angles import separation_rad
from libs.core.coordinates import radec_to_lm
from libs.core.errors import InputError
from libs.core.gaussian import GaussianComponent
from libs.core.geometry import ARCSEC_PER_RAD

__all__ = ["LOTSS_BEAM_ARCSEC", "CatalogueEntry", "find_entry", "model_components", "read_entry"]

LOTSS_BEAM_ARCSEC = 6.0
_LEAST_SHARE = 0.05  # fainter neighbours, relative to the entry, do not widen the map


@dataclass(frozen=True)
class CatalogueEntry:
    """A source of a survey with the properties that its calibration needs.

    Attributes
    ----------
    name : str
    separation_arcsec : float
        Distance from the position asked for.
    flux_jy : float
        Flux density of all its components; NaN where the survey gives none.
    map_arcsec : float
        Width of the map that contains it, 20 to 120 arcsec.
    components : tuple of CatalogueComponent
        Deconvolved Gaussians, or points where the survey gives no shape.
    resolved : str
        Reason why it counts as resolved; empty when it does not.
    complete : bool
        True when ``components`` describe it fully. False for several Gaussians of which the list
        gives only one ellipse, for a missing shape and for missing fluxes.
    """

    name: str
    separation_arcsec: float
    flux_jy: float
    map_arcsec: float
    components: tuple[CatalogueComponent, ...]
    resolved: str
    complete: bool

    def as_json(self) -> str:
        """Return the entry as text for `read_entry`."""
        values = asdict(self)
        values["flux_jy"] = self.flux_jy if math.isfinite(self.flux_jy) else None
        for part in values["components"]:
            part["flux_jy"] = part["flux_jy"] if math.isfinite(part["flux_jy"]) else None
        return json.dumps(values, indent=1)


def read_entry(path: Path) -> CatalogueEntry:
    """Return the entry written by `CatalogueEntry.as_json`.

    Raises
    ------
    InputError
        The file cannot be read or holds something else.
    """
    try:
        values = json.loads(path.read_text())
        parts = [{**p, "flux_jy": _number(p["flux_jy"])} for p in values.pop("components")]
        values["flux_jy"] = _number(values["flux_jy"])
        components = tuple(CatalogueComponent(**part) for part in parts)
        return CatalogueEntry(**values, components=components)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not a catalogue entry ({error})", "give a list as CSV, VOTable or FITS"
        ) from error


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def find_entry(
    sources: Sequence[FieldSource],
    ra_rad: float,
    dec_rad: float,
    *,
    match_arcsec: float = 10.0,
    beam_arcsec: float = LOTSS_BEAM_ARCSEC,
) -> CatalogueEntry | None:
    """Return a list's entry for the source at a position; None where it has none there.

    The entry is the nearest within ``match_arcsec``. The map is centred on the position and
    extends three deconvolved FWHM beyond its outermost component, from 20 arcsec to 2 arcmin
    (`libs.catalogues.source_list.map_size_arcsec`). Other entries within the map with at least 5 %
    of its flux are components of it as well, and the map grows until it holds all of them.

    It counts as resolved when it has several Gaussians (its own, or several entries in the map),
    when PyBDSF's ``S_Code`` is M, or when S_int / S_peak > 1.25 + 3.1 SNR^-0.53
    (`libs.catalogues.source_list.is_resolved`: Shimwell et al. 2019).

    Parameters
    ----------
    sources : sequence of FieldSource
    ra_rad, dec_rad : float
        Phase centre, J2000.
    match_arcsec : float
        Largest distance of the entry from the position.
    beam_arcsec : float
        FWHM of the survey's circular beam, which is deconvolved from fitted axes.
    """
    if not sources:
        return None
    here = np.array([ra_rad, dec_rad])
    places = np.array([(s.ra_rad, s.dec_rad) for s in sources])
    apart = np.asarray(separation_rad(places, here)) * ARCSEC_PER_RAD
    nearest = int(apart.argmin())
    if apart[nearest] > match_arcsec:
        return None
    entry = sources[nearest]
    members, width = [nearest], 0.0
    while True:
        components = tuple(
            _deconvolved(part, beam_arcsec) for i in members for part in _parts(sources[i])
        )
        grown = map_size_arcsec(replace(_at(here), components=components))
        if grown <= width:
            break
        width = grown
        near = np.flatnonzero(apart <= 0.5 * width).tolist()
        members += [i for i in near if i not in members and _counts(sources[i], entry)]
    resolved = _why_resolved(entry, components, len(members))
    shaped = any(part.major_arcsec > 0 for part in components) or len(components) > 1
    lumped = any(sources[i].code == "M" and len(_parts(sources[i])) == 1 for i in members)
    flux = sum(part.flux_jy for part in components)
    return CatalogueEntry(
        entry.name, float(apart[nearest]), flux,
        round(min(max(width, MIN_MAP_ARCSEC), MAX_MAP_ARCSEC), 3), components, resolved,
        shaped and not lumped and bool(flux > 0),
    )  # fmt: skip


def _at(place: np.ndarray) -> FieldSource:
    return FieldSource("here", float(place[0]), float(place[1]))


def _parts(source: FieldSource) -> tuple[CatalogueComponent, ...]:
    """Return the source's components, or the whole source as a point where it has none."""
    point = CatalogueComponent(source.ra_rad, source.dec_rad, source.flux_jy)
    return source.components or (point,)


def _counts(other: FieldSource, entry: FieldSource) -> bool:
    """Return whether another entry is bright enough to be part of the source."""
    return bool(other.flux_jy >= _LEAST_SHARE * entry.flux_jy)  # not for NaN


def _deconvolved(part: CatalogueComponent, beam_arcsec: float) -> CatalogueComponent:
    """Deconvolve a circular beam from fitted axes (Gaussian widths subtract in quadrature)."""
    if not part.fitted:
        return part
    major, minor = (
        math.sqrt(max(0.0, axis**2 - beam_arcsec**2))
        for axis in (part.major_arcsec, part.minor_arcsec)
    )
    return replace(part, major_arcsec=major, minor_arcsec=minor, fitted=False)


def _why_resolved(
    entry: FieldSource, components: Sequence[CatalogueComponent], members: int
) -> str:
    if len(components) > 1:
        kind = f"{members} entries" if members == len(components) else "Gaussians"
        return f"{kind} within its map" if members > 1 else f"{len(components)} {kind}"
    if entry.code == "M":
        return "S_Code M"
    if is_resolved(entry.flux_jy, entry.peak_jy, entry.rms_jy):
        ratio, snr = entry.flux_jy / entry.peak_jy, entry.peak_jy / entry.rms_jy
        return f"S_int/S_peak {ratio:.3g} at SNR {snr:.3g}"
    return ""


def model_components(
    entry: CatalogueEntry, ra_rad: float, dec_rad: float
) -> tuple[GaussianComponent, ...]:
    """Return the entry's Gaussians as a model relative to a phase centre, brightest first."""
    made = []
    for part in sorted(entry.components, key=lambda part: -part.flux_jy):
        l_rad, m_rad = radec_to_lm(part.ra_rad, part.dec_rad, ra_rad, dec_rad)
        made.append(
            GaussianComponent(
                part.flux_jy, l_rad, m_rad, part.major_arcsec / ARCSEC_PER_RAD,
                part.minor_arcsec / ARCSEC_PER_RAD, math.radians(part.pa_deg) % math.pi,
                point=part.major_arcsec == 0,
            )
        )  # fmt: skip
    return tuple(made)
