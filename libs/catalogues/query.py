"""Queries of LBCS, LoTSS and FIRST by position; answers are kept in files for later runs."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

from libs.core.errors import ConfigError, InputError
from libs.core.files import replacing

__all__ = ["SERVICES", "query_catalogue"]

log = logging.getLogger(__name__)

SERVICES = {
    "lbcs": "https://vo.astron.nl/lbcs/lobos/cone/scs.xml",
    "lotss": "https://vo.astron.nl/lotss_dr2/q/src_cone/scs.xml",
    "first": "https://vizier.cds.unistra.fr/viz-bin/conesearch/VIII/92/first14",
}
"""Cone searches of the Virtual Observatory at ASTRON and CDS."""


def query_catalogue(
    name: str, ra_rad: float, dec_rad: float, radius_deg: float, folder: Path
) -> Path:
    """Return a VOTable of a catalogue's sources around a position.

    Parameters
    ----------
    name : str
        Catalogue, ``lbcs``, ``lotss`` or ``first``.
    ra_rad, dec_rad : float
        Position, J2000.
    radius_deg : float
        Radius of the search.
    folder : Path
        Folder of the answers; an earlier answer to the same query is used without the network.

    Returns
    -------
    Path
        File for `libs.catalogues.source_list.read_catalogue`.

    Raises
    ------
    ConfigError
        The catalogue is unknown, or pyvo is not installed.
    InputError
        There is no network, the service does not answer, or it leaves sources out.
    """
    if name not in SERVICES:
        raise ConfigError(f"catalogue {name} is unknown", f"choose one of {', '.join(SERVICES)}")
    from math import degrees

    ra_deg, dec_deg = degrees(ra_rad) % 360, degrees(dec_rad)
    kept = folder / f"{name}_{ra_deg:.4f}{dec_deg:+.4f}_{radius_deg:.3f}deg.vot"
    if kept.exists():
        log.info("%s: answer of an earlier query used", kept.name)
        return kept
    table = _ask(SERVICES[name], (ra_deg, dec_deg), radius_deg, name)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(kept) as beside:
        table.write(beside, format="votable", overwrite=True)
    return kept


def _ask(url: str, place_deg: tuple[float, float], radius_deg: float, name: str) -> Any:
    try:
        pyvo = importlib.import_module("pyvo")
    except ImportError as error:
        raise ConfigError(
            "the package pyvo is not installed",
            "pip install pyvo, or give the catalogue as a file",
        ) from error
    try:
        service = pyvo.dal.SCSService(url)
        # verbosity 3 returns every column; by default some services leave the shapes out
        found = service.search(pos=place_deg, radius=radius_deg, verbosity=3)
    except (OSError, pyvo.dal.DALAccessError) as error:  # failed requests are OSErrors
        raise InputError(
            f"{name} did not answer at {url} ({' '.join(str(error).split())[:200]})",
            "check the network, or give the catalogue as a file",
        ) from error
    if _is_cut_short(found.votable):
        raise InputError(
            f"{name} answers with a part of its sources within {radius_deg:g} deg only",
            "ask for a smaller radius, or give the catalogue as a file",
        )
    return found.to_table()


def _is_cut_short(votable: Any) -> bool:
    """Whether an answer says that it does not hold all (DALI 1.1, section 4.4.1)."""
    infos = list(votable.infos)
    for resource in votable.resources:
        infos += [*resource.infos, *(info for table in resource.tables for info in table.infos)]
    said = [str(info.value).upper() for info in infos if info.name.upper() == "QUERY_STATUS"]
    return "OVERFLOW" in said
