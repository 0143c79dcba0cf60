"""Observations in other programs' formats, with text from elsewhere in one place."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

__all__ = ["write_uvfits", "write_uvh5"]


def _read(ms: Path) -> Any:
    """Read a measurement set; no server is asked where its telescope is."""
    from astropy.coordinates import EarthLocation
    from astropy.coordinates.sites import SiteRegistry
    from pyuvdata import UVData

    EarthLocation._get_site_registry = lambda *_, **__: SiteRegistry()
    uv = UVData()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        uv.read_ms(str(ms))
    return uv


def write_uvh5(ms: Path, path: Path, kind: str, name: str, outside: Path) -> None:
    """Write a uvh5 file with a name in a place.

    Parameters
    ----------
    ms, path : Path
        Observation that is written; the file.
    kind : str
        Entry of the header that takes the name; ``object``: name of the source; ``link``: the
        visibilities are said to be in another file.
    name : str
    outside : Path
        That other file.
    """
    import h5py

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _read(ms).write_uvh5(str(path), clobber=True)
    with h5py.File(path, "r+") as opened:
        header = opened["Header"]
        if kind == "link":
            del opened["Data"]["visdata"]
            opened["Data"]["visdata"] = h5py.ExternalLink(str(outside), "/")
        elif kind == "object":
            centres = header["phase_center_catalog"]
            for key in centres:
                del centres[key]["cat_name"]
                centres[key]["cat_name"] = name
        elif kind == "antenna_names":
            count = len(header[kind])
            del header[kind]
            header[kind] = [f"{name}{number}".encode() for number in range(count)]
        else:
            del header[kind]
            header[kind] = name


def write_uvfits(ms: Path, path: Path, kind: str, name: str) -> None:
    """Write a UVFITS file with a name in a place.

    Parameters
    ----------
    ms, path : Path
        Observation that is written; the file.
    kind : str
        Keyword of the header that takes the name; ``antenna``: names of antennas.
    name : str
    """
    from astropy.io import fits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _read(ms).write_uvfits(str(path), force_phase=True)
        with fits.open(path, mode="update") as opened:
            antennas = opened["AIPS AN"]
            if kind == "antenna":
                antennas.data["ANNAME"][0] = name[:8]
            elif kind == "ARRNAM":
                antennas.header[kind] = name[:60]
            else:
                opened[0].header[kind] = name[:60]
