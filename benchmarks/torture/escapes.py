"""Files from elsewhere that try to write outside the work directory or to run something.

Each draw puts a name or a link that leads out, or something to be executed, into one file, and
gives it to a command that reads such files. Nothing may change but in the work directory.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.torture.observation import digest, small_config
from benchmarks.torture.outcomes import Attempt, attempt
from benchmarks.torture.untrusted import write_uvfits, write_uvh5
from benchmarks.torture.victims import random_solset
from libs.h5parm.writer import write_h5parm
from libs.ms.tables import open_table

__all__ = ["Escapes"]

Rng = np.random.Generator


@dataclass(frozen=True)
class _Box:
    """A place of its own for a draw: all but ``run`` must stay as it is.

    Attributes
    ----------
    folder : Path
        Holds ``outside``, ``home``, ``tmp`` and ``work``, where commands run.
    origin : Path
        Observation that is copied.
    """

    folder: Path
    origin: Path

    @property
    def work(self) -> Path:
        """Folder in which commands run."""
        return self.folder / "work"

    def name(self, rng: Rng) -> str:
        """Return a name that leads out of where it is used, or wants to be executed."""
        target = self.folder / "outside" / "escaped"
        names = (
            "../../escaped", "../../../escaped", f"{target}", "../outside/escaped", "..", ".",
            f"$(touch {target})", f"`touch {target}`", f"'; touch {target}; '",
            f"| touch {target}", f"\n touch {target} \n", "~/escaped", "-o ../escaped",
            "a/b/escaped", "%s%n%d", "{0.__class__}", "${HOME}/escaped",
            "<script>alert(1)</script>", "'", '"', "*",
        )  # fmt: skip
        return str(rng.choice(np.array(names, object)))

    def config(self, name: str, vis: Sequence[Path] | Path, **more: Any) -> Path:
        """Write a config of a run in ``run``."""
        first = vis if isinstance(vis, Path) else vis[0]
        values = {**small_config(first, self.work / "run", "p0"), "plots": True, **more}
        if not isinstance(vis, Path):
            values["vis"] = [str(path) for path in vis]
        path = self.work / name
        path.write_text(json.dumps(values))
        return path

    def copy(self) -> Path:
        """Copy the observation into the work folder."""
        ms = self.work / "a.ms"
        shutil.copytree(self.origin, ms)
        return ms


@dataclass(frozen=True)
class _Trap:
    """What was prepared: a description, and the command line that meets it."""

    what: str
    words: Sequence[str | Path]


def _names(rng: Rng, box: _Box) -> _Trap:
    """Put names into a measurement set, of which files may come to be named."""
    places = (("FIELD", "NAME"), ("ANTENNA", "NAME"), ("ANTENNA", "STATION"), ("STATE", "OBS_MODE"),
              ("SPECTRAL_WINDOW", "NAME"), ("OBSERVATION", "TELESCOPE_NAME"),
              ("OBSERVATION", "OBSERVER"), ("OBSERVATION", "PROJECT"))  # fmt: skip
    ms, name = box.copy(), box.name(rng)
    table, column = places[int(rng.integers(len(places)))]
    with open_table(f"{ms}::{table}", write=True) as opened:
        for row in range(opened.nrows()):
            opened.putcell(column, row, f"{name}{row or ''}")
    more: dict[str, Any] = {"targets": ["0"]} if rng.random() < 0.3 else {}
    inspect = rng.random() < 0.2
    words: list[str | Path] = ["inspect", ms] if inspect else [box.config("c.yaml", ms, **more)]
    return _Trap(f"{table} {column} = {name!r} {more}", words)


def _links(rng: Rng, box: _Box) -> _Trap:
    """Let a part of a measurement set lie outside of it."""
    ms = box.copy()
    kind = str(rng.choice(["file", "folder", "keyword"]))
    folders = sorted(path for path in ms.iterdir() if path.is_dir())
    chosen = folders[int(rng.integers(len(folders)))]
    if kind == "file":
        files = sorted(path for path in ms.rglob("*") if path.is_file())
        chosen = files[int(rng.integers(len(files)))]
    away = box.folder / "outside" / chosen.name
    shutil.move(chosen, away)
    if kind == "keyword":
        with open_table(ms, write=True) as opened:
            opened.putkeyword(chosen.name, f"Table: {away}")
    else:
        chosen.symlink_to(away)
    return _Trap(f"{kind} {chosen.relative_to(ms)} is {away}", [box.config("c.yaml", ms)])


def _yaml(rng: Rng, box: _Box) -> _Trap:
    """Ask YAML to build Python's objects."""
    target = box.folder / "outside" / "escaped"
    tags = (
        f"!!python/object/apply:os.system ['touch {target}']",
        f"!!python/object/apply:subprocess.check_output [['touch', '{target}']]",
        f"!!python/object/new:os.system ['touch {target}']",
        f"!!python/object/apply:builtins.exec ['open(\"{target}\", \"w\")']",
        "!!python/name:os.system", "!!python/module:os",
        f"!!python/object/new:type\n  args: [z, !!python/tuple [], {{extend: !!python/name:exec}}]"
        f"\n  listitems: \"open('{target}', 'w')\"",
    )  # fmt: skip
    tag = tags[int(rng.integers(len(tags)))]
    path = box.config("plain.yaml", box.copy())
    if rng.random() < 0.3:
        return _Trap(f"--set imsize={tag}", [path, "--set", f"imsize={tag}"])
    key = str(rng.choice(["imsize", "spw", "p0", "steps", "overrides", "nothing"]))
    values = json.loads(path.read_text())
    values.pop(key, None)
    lines = [f"{name}: {json.dumps(value)}" for name, value in values.items()]
    hostile = box.work / "c.yaml"
    hostile.write_text("\n".join([*lines, f"{key}: {tag}"]) + "\n")
    return _Trap(f"{key}: {tag}", [hostile])


def _tar(rng: Rng, box: _Box) -> _Trap:
    """Make an archive whose members lead out."""
    bundle, outside = box.work / "b.tgz", box.folder / "outside"
    kinds = (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE,
             tarfile.FIFOTYPE)  # fmt: skip
    with tarfile.open(bundle, "w:gz") as tar:
        for number in range(int(rng.integers(1, 5))):
            name = str(rng.choice(["run/a", "run/link", "run/link/escaped", "summary.json",
                                   "run/summary.json", box.name(rng)]))  # fmt: skip
            member = tarfile.TarInfo(name.replace("\n", "") or f"m{number}")
            member.type = kinds[int(rng.integers(len(kinds)))]
            member.mode = 0o6777
            member.linkname = str(
                rng.choice([str(outside), "../../outside", str(outside / "kept")])
            )
            content = b"{}" if member.type == tarfile.REGTYPE else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        names = [(member.name, member.type) for member in tar.getmembers()]
    return _Trap(f"archive of {names}", ["restore", bundle, "--to", box.copy()])


def _fits(rng: Rng, box: _Box) -> _Trap:
    """Write an image as a mask or a model, of a header that lies."""
    from astropy.io import fits

    path = box.work / "image.fits"
    header = fits.Header()
    header.update(CTYPE1="RA---SIN", CTYPE2="DEC--SIN", CRVAL1=225.0, CRVAL2=30.0, CRPIX1=33.0)
    header.update(CRPIX2=33.0, CDELT1=-1 / 3600, CDELT2=1 / 3600, BUNIT="JY/PIXEL")
    data = np.zeros((64, 64), np.float32)
    data[32, 32] = 1.0
    value = box.name(rng).replace("\n", " ")
    key = str(
        rng.choice(["OBJECT", "TELESCOP", "EXTNAME", "BUNIT", "CTYPE1", "RADESYS", "FILENAME"])
    )
    header[key] = value[:60]
    fits.writeto(path, data, header)
    what = f"{key} = {value[:60]!r}"
    if rng.random() < 0.4:
        size = int(rng.choice([0, -1, 10**6, 2**31 - 1]))
        content = path.read_bytes().replace(
            b"NAXIS1  =                   64", f"NAXIS1  = {size:>20d}".encode()
        )
        path.write_bytes(content)
        what += f", NAXIS1 = {size}"
    option = str(rng.choice(["mask", "start_model"]))
    more: dict[str, Any] = {option: str(path)}
    if option == "start_model":
        more["steps"] = ["startup", "save_init_flags", "test_image", "initial_model", "p0"]
    return _Trap(f"{option} of {what}", [box.config("c.yaml", box.copy(), **more)])


def _h5parm(rng: Rng, box: _Box) -> _Trap:
    """Write solutions with names that lead out, or with links to other files."""
    import h5py

    path, name = box.work / "s.h5", box.name(rng)
    table = random_solset("east", 225.0, 1, times=3)
    write_h5parm(path, table)
    kind = str(rng.choice(["direction", "antenna", "link", "soltab", "group"]))
    with h5py.File(path, "r+") as opened:
        solset = opened["sol000"]
        soltab = next(key for key in solset if key.startswith("phase"))
        if kind in ("direction", "antenna"):
            listed = solset["source" if kind == "direction" else "antenna"]
            rows = listed[()]
            rows["name"][0] = name.encode()[: rows["name"].dtype.itemsize]
            listed[...] = rows
            axis = solset[soltab]["dir" if kind == "direction" else "ant"]
            values = axis[()]
            values[0] = rows["name"][0]
            axis[...] = values
        elif kind == "link":
            del solset[soltab]["val"]
            solset[soltab]["val"] = h5py.ExternalLink(str(box.folder / "outside" / "kept"), "/")
        elif kind == "soltab":
            solset.move(soltab, name.strip("/").replace("\n", "") + "phase000")
        else:
            solset["antenna_"] = h5py.SoftLink("/sol000")
    commands: Sequence[Sequence[str | Path]] = (
        ["solutions", "list", path], ["solutions", "check", path],
        ["solutions", "export", path, "--ms", box.copy(), "-o", box.work / "run" / "a.gcal"],
        ["solutions", "merge", path, path], ["solutions", "apply", path, box.work / "a.ms"],
        [box.config("c.yaml", box.work / "a.ms", start_from=str(path))],
    )  # fmt: skip
    words = commands[int(rng.integers(len(commands)))]
    return _Trap(f"h5parm, {kind} {name!r}: {' '.join(map(str, words[:2]))}", words)


def _catalogue(rng: Rng, box: _Box) -> _Trap:
    """Write a list of sources for a field with names that lead out, or XML that reads files."""
    kind, name = str(rng.choice(["csv", "entity", "laughs"])), box.name(rng)
    listed = box.work / ("s.csv" if kind == "csv" else "s.xml")
    if kind == "csv":
        quoted = name.replace('"', '""')
        listed.write_text(f'name,ra_deg,dec_deg,flux_Jy\n"{quoted}",225.0,30.0,1.0\n')
    else:
        inner = f'<!ENTITY e SYSTEM "file://{box.folder}/outside/kept">'
        if kind == "laughs":
            inner = '<!ENTITY e0 "ha">' + "".join(
                f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9)
            ) + '<!ENTITY e "&e9;">'  # fmt: skip
        fields = "".join(
            f'<FIELD name="{column}" datatype="{form}"/>'
            for column, form in (
                ("name", 'char" arraysize="*'),
                ("ra_deg", "double"),
                ("dec_deg", "double"),
                ("flux_Jy", "double"),
            )
        )
        listed.write_text(
            f'<?xml version="1.0"?><!DOCTYPE VOTABLE [{inner}]><VOTABLE version="1.3"><RESOURCE>'
            f"<TABLE>{fields}<DATA><TABLEDATA><TR><TD>&e;</TD><TD>225.0</TD><TD>30.0</TD>"
            "<TD>1.0</TD></TR></TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"
        )
    settings = {
        "vis": str(box.copy()), "workdir": str(box.work / "run"), "sources": str(listed),
        "layers": ["100mJy"], "source_steps": ["startup", "test_image"], "uvmin": "0km",
        "map_size": "60arcsec", "cell": "1arcsec", "prepare": "native", "again": "never",
        "threads": 1, "quiet": True,
    }  # fmt: skip
    config = box.work / "c.yaml"
    config.write_text(json.dumps(settings))
    return _Trap(f"list of sources, {kind} {name!r}", ["field", config])


def _uvh5(rng: Rng, box: _Box) -> _Trap:
    """Write a uvh5 file with names that lead out, or with links to other files."""
    name, path = box.name(rng), box.work / "a.uvh5"
    kind = str(rng.choice(["telescope_name", "object", "antenna_names", "history", "link"]))
    write_uvh5(box.origin, path, kind, name, box.folder / "outside" / "kept")
    settings = {"vis": [str(path)], "steps": ["combine", "identify"], "imsize": 128,
                "workdir": str(box.work / "run")}  # fmt: skip
    config = box.work / "c.yaml"
    config.write_text(json.dumps(settings))
    return _Trap(f"uvh5, {kind} {name!r}", ["calibrate", "--quiet", config])


def _uvfits(rng: Rng, box: _Box) -> _Trap:
    """Write a UVFITS file with names that lead out."""
    name, path = box.name(rng), box.work / "a.uvfits"
    kind = str(rng.choice(["TELESCOP", "OBJECT", "ARRNAM", "antenna", "FILENAME"]))
    write_uvfits(box.origin, path, kind, name.replace("\n", " "))
    return _Trap(f"UVFITS, {kind} {name!r}", [box.config("c.yaml", path)])


_TRAPS: Mapping[str, Callable[[Rng, _Box], _Trap]] = {
    "names": _names,
    "links": _links,
    "yaml": _yaml,
    "tar": _tar,
    "fits": _fits,
    "h5parm": _h5parm,
    "catalogue": _catalogue,
    "uvh5": _uvh5,
    "uvfits": _uvfits,
}


class Escapes:
    """Draws of files from elsewhere.

    Parameters
    ----------
    folder : Path
        Where each has its box.
    origin : Path
        Observation that is copied.
    seed : int
    """

    def __init__(self, folder: Path, origin: Path, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.origin, self.seed = folder, origin, seed

    def draw(self, number: int) -> tuple[Attempt, str]:
        """Make a file, run a command on it, and see whether anything else was touched."""
        rng = np.random.default_rng([self.seed, number])
        box = _Box(self.folder / f"escape_{number}", self.origin)
        shutil.rmtree(box.folder, ignore_errors=True)
        for name in ("outside", "home", "tmp", "work"):
            (box.folder / name).mkdir(parents=True)
        (box.folder / "outside" / "kept").write_text("kept as it is")
        trap = _TRAPS[list(_TRAPS)[number % len(_TRAPS)]](rng, box)
        before = _outer(box)
        env = {
            "HOME": str(box.folder / "home"), "TMPDIR": str(box.folder / "tmp"),
            "MPLCONFIGDIR": str(self.folder / "matplotlib"),  # its list of fonts, in every run
        }  # fmt: skip
        found = attempt(trap.what, trap.words, box.work, harm={"env": env})
        after = _outer(box)
        touched = sorted(
            str(path)
            for path in before.keys() | after.keys()
            if before.get(path) != after.get(path)
        )
        if not found.fault and not touched:
            shutil.rmtree(box.folder)
        return found, f"escape: {', '.join(touched[:5])}" if touched else ""


def _outer(box: _Box) -> dict[str, str]:
    """Return digests of all that a command may not touch."""
    mine = box.work / "run"
    written = {"a.ms", "s.h5"}  # what `solutions` and `restore` are asked to write, and locks
    found = {}
    for path in sorted(box.folder.rglob("*")):
        inside = path.relative_to(box.work).parts if path.is_relative_to(box.work) else ()
        if path.is_relative_to(mine) or (inside and inside[0] in written):
            continue
        if path.name == "table.lock" or path.is_dir():
            continue
        found[str(path.relative_to(box.folder))] = (
            str(path.readlink()) if path.is_symlink() else digest(path)
        )
    return found
