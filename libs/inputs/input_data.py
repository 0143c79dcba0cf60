"""The data named by ``vis``: measurement sets, UVFITS and uvh5 files, demonstration data."""

from __future__ import annotations

import difflib
import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from libs.casa.session import demo_data
from libs.core.errors import ConfigError, InputError
from libs.core.files import tree_bytes
from libs.inputs.uvh5_header import group_parts, is_uvh5, read_header
from libs.ms.rows import row_pieces
from libs.ms.selection import RowChoice, choose_fields, parse_windows
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from libs.ms.view import read_view

__all__ = [
    "DEMOS",
    "Demo",
    "InputData",
    "copy_size_bytes",
    "identity",
    "reading",
    "resolve_inputs",
    "selected_rows",
]

log = logging.getLogger(__name__)

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip", ".gz")
_HASH_BELOW_BYTES = 64 * 1024**2
# Files of subtables whose contents affect the outcome
_IDENTIFYING = ("ANTENNA", "FIELD", "SPECTRAL_WINDOW", "POLARIZATION", "DATA_DESCRIPTION")


@dataclass(frozen=True)
class Demo:
    """Demonstration data of the casadata package.

    Attributes
    ----------
    file : str
        File name in the package.
    field : str
        Field used unless the user selects one.
    corruption_seed : int or None
        Seed of the known gain errors applied to the data; None leaves the data as they are.
    meaning : str
        Description for users.
    """

    file: str
    field: str
    corruption_seed: int | None
    meaning: str


DEMOS = {
    "3c273": Demo("3C273XC1.fits", "", 273, "3C 273 with its jet, VLA, known gain errors applied"),
    "3c273-raw": Demo("3C273XC1.fits", "", None, "3C 273 with its jet, VLA, as it is"),
    "ngc5921": Demo("NGC5921.fits", "1445*", None, "calibrator 1445+099, VLA L band, raw"),
}


@dataclass(frozen=True)
class InputData:
    """One execution to calibrate.

    Attributes
    ----------
    name : str
        Name of the working copy without ``.ms``; no two sources of a run share it.
    vis : str
        Name as the user wrote it.
    path : Path
        Path of the measurement set, UVFITS file or first uvh5 file, with links resolved.
    kind : str
        Kind of data: ``"ms"``, ``"uvfits"`` or ``"uvh5"``.
    demo : Demo or None
        Demonstration that it is, if any.
    parts : tuple of Path
        All files of a uvh5 observation, including the first.
    """

    name: str
    vis: str
    path: Path
    kind: str
    demo: Demo | None = None
    parts: tuple[Path, ...] = ()

    @property
    def field(self) -> str:
        """Field selection used when the user gives none."""
        return self.demo.field if self.demo else ""


def resolve_inputs(vis: str | list[str]) -> list[InputData]:
    """Find the data that ``vis`` names and determine their kind.

    Parameters
    ----------
    vis : str or list of str
        Paths of measurement sets, UVFITS or uvh5 files, or ``demo:NAME``. uvh5 files that are
        parts of one observation become one source.

    Raises
    ------
    ConfigError
        ``vis`` is empty, names the same data twice, or names an unknown demonstration.
    InputError
        A path does not exist, or is neither a measurement set nor UVFITS nor uvh5.
    """
    named = [vis] if isinstance(vis, str) else list(vis)
    if not named or not all(isinstance(one, str) and one.strip() for one in named):
        raise ConfigError("vis is empty", 'name a measurement set or use vis = "demo:3c273"')
    found: list[InputData] = []
    for one in named:
        source = _resolve(one.strip())
        if any(source.path == other.path for other in found):
            raise ConfigError(f"vis names {one} twice", "remove one of them")
        found.append(source)
    sources: list[InputData] = []
    for source in _join_parts(found):
        taken = {other.name for other in sources}
        name, number = source.name, 2
        while name in taken:
            name, number = f"{source.name}_{number}", number + 1
        sources.append(replace(source, name=name))
    return sources


def _join_parts(found: list[InputData]) -> list[InputData]:
    """Make one source of the uvh5 files of an observation, in place of the file named first."""
    files = {source.path: source for source in found if source.kind == "uvh5"}
    if not files:
        return found
    whole = {}
    for group in group_parts(list(files)):
        first = next(path for path in files if path in group)
        words = " + ".join(files[path].vis for path in group)
        whole[first] = replace(files[group[0]], vis=words, parts=tuple(group))
    return [
        whole[source.path] if source.kind == "uvh5" else source
        for source in found
        if source.kind != "uvh5" or source.path in whole
    ]


def _resolve(vis: str) -> InputData:
    if vis.lower().startswith("demo:"):
        return _resolve_demo(vis)
    path = Path(vis).expanduser()
    if not path.exists():
        why = "is a link to nothing" if path.is_symlink() else "does not exist"
        near = difflib.get_close_matches(
            path.name, [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir()
            else [], n=1,
        )  # fmt: skip
        hint = f"; did you mean {path.parent / near[0]}" if near else ""
        raise InputError(f"{vis} {why}", f"correct vis{hint}")
    kind = _kind(path.resolve(), vis)
    stem = re.sub(
        r"\.(ms|uvfits|uvf|fits|uvh5)$", "", Path(vis.rstrip("/")).name, flags=re.IGNORECASE
    )
    name = re.sub(r"[^A-Za-z0-9_.+\-]", "_", stem).strip(".") or "data"
    return InputData(name, vis, path.resolve(), kind)


def _resolve_demo(vis: str) -> InputData:
    name = vis.split(":", 1)[1].strip().lower()
    if name not in DEMOS:
        near = difflib.get_close_matches(name, DEMOS, n=1, cutoff=0.3)
        hint = f"did you mean demo:{near[0]}; " if near else ""
        raise ConfigError(
            f"there is no demonstration {vis!r}",
            hint + "there are " + ", ".join(f"demo:{known}" for known in DEMOS),
        )
    return InputData(name, vis, demo_data(DEMOS[name].file), "uvfits", DEMOS[name])


def _kind(path: Path, vis: str) -> str:
    """Return "ms", "uvfits" or "uvh5"; the error names what other data it is."""
    if path.is_dir():
        _check_is_ms(path, vis)
        return "ms"
    if path.name.lower().endswith(_ARCHIVES):
        raise InputError(
            f"{vis} is an archive", f"unpack it first (tar xf {vis}), then name the .ms"
        )
    try:
        with path.open("rb") as stream:
            head = stream.read(2880)
    except OSError as error:
        raise InputError(
            f"{vis} cannot be read ({error.strerror})", "change its permissions, or copy it again"
        ) from error
    if not head:
        raise InputError(f"{vis} is empty", "copy it again from where it came")
    if head.startswith(b"\x89HDF"):
        if is_uvh5(path):
            read_header(path)
            return "uvh5"
        raise InputError(
            f"{vis} is an HDF5 file, but not uvh5 or cut off",
            "copy it again, or convert it to a measurement set",
        )
    if not head.startswith(b"SIMPLE"):
        raise InputError(
            f"{vis} is neither a measurement set nor UVFITS nor uvh5",
            "name a .ms folder, a UVFITS file or uvh5 files",
        )
    return _check_is_uvfits(path, vis)


def _check_is_ms(path: Path, vis: str) -> None:
    if (path / "ASDM.xml").exists():
        raise InputError(f"{vis} is an ASDM", "import it with the CASA task importasdm first")
    if not (path / "table.dat").exists():
        inside = sorted(entry.name for entry in path.iterdir() if (entry / "table.dat").exists())
        hint = f"; {inside[0]} in it is a table" if inside else ""
        raise InputError(
            f"{vis} is not a measurement set: it has no table.dat", "correct vis" + hint
        )
    missing = [
        name for name in ("ANTENNA", "SPECTRAL_WINDOW", "FIELD") if not (path / name).is_dir()
    ]
    if missing:
        what = "a gain table" if "CAL_DESC" in str(list(path.iterdir())) else "some other table"
        raise InputError(
            f"{vis} is not a measurement set but {what}: it has no {', '.join(missing)}",
            "name a measurement set",
        )
    with (
        reading(vis),
        read_view(path, subtables=False) as view,
        open_table(view.path) as opened,
    ):
        columns, rows = opened.colnames(), opened.nrows()
    if "DATA" not in columns and "CORRECTED_DATA" not in columns:
        raise InputError(
            f"{vis} has no visibilities: neither DATA nor CORRECTED_DATA",
            "name a measurement set of an interferometer",
        )
    if rows == 0:
        raise InputError(f"{vis} has no rows", "check the selection that made it")


def _check_is_uvfits(path: Path, vis: str) -> str:
    from astropy.io import fits

    try:
        header = fits.getheader(path, 0)
    except (OSError, ValueError) as error:
        raise InputError(f"{vis} is a broken FITS file ({error})", "copy it again") from error
    if header.get("GROUPS") and header.get("NAXIS1") == 0:
        return "uvfits"
    with fits.open(path, memmap=True) as hdus:
        idi = any(hdu.name == "UV_DATA" for hdu in hdus)
    if idi:
        raise InputError(f"{vis} is FITS-IDI", "import it with the CASA task importfitsidi first")
    raise InputError(f"{vis} is a FITS file without visibilities", "name a UVFITS file or an MS")


@contextmanager
def reading(vis: str) -> Iterator[None]:
    """Turn what casacore says of files that it cannot read into an error with a remedy.

    Raises
    ------
    InputError
        A file of the input is damaged or missing.
    """
    try:
        yield
    except RuntimeError as error:  # the only kind that casacore raises
        said = (str(error).strip().splitlines() or ["without a word"])[0]
        raise InputError(
            f"{vis} cannot be read: casacore says: {said}",
            "copy it again from where it came; where the disk is full, free some space",
        ) from error


def identity(source: InputData) -> dict[str, Any]:
    """Return what distinguishes these data from others, for the fingerprint of the first step.

    These are sizes and modification times of the files that hold data and layout (except lock
    files, which every reader may touch), the number of rows, or the hash of a small file.
    """
    if source.kind == "uvfits":
        return _file_identity(source)
    if source.kind == "uvh5":
        parts = [replace(source, path=path) for path in source.parts]
        return {"kind": "uvh5", "files": [_file_identity(part) for part in parts]}
    files = [entry for entry in source.path.iterdir() if entry.is_file()]
    for name in _IDENTIFYING:
        files += [entry for entry in (source.path / name).iterdir() if entry.is_file()]
    stamps = {
        str(file.relative_to(source.path)): [file.stat().st_size, file.stat().st_mtime_ns]
        for file in sorted(files)
        if file.name.startswith("table.") and file.name != "table.lock"
    }
    with (
        reading(source.vis),
        read_view(source.path, subtables=False) as view,
        open_table(view.path) as opened,
    ):
        rows = opened.nrows()
    return {"path": str(source.path), "kind": "ms", "rows": rows, "files": stamps}


def _file_identity(source: InputData) -> dict[str, Any]:
    stat = source.path.stat()
    found: dict[str, Any] = {"kind": source.kind, "size_bytes": stat.st_size}
    if source.demo:
        # the path of the package does not matter, the errors applied do
        found |= {"demo": source.vis.lower(), "seed": source.demo.corruption_seed}
    else:
        found["path"] = str(source.path)
    if stat.st_size <= _HASH_BELOW_BYTES:
        found["sha256"] = hashlib.sha256(source.path.read_bytes()).hexdigest()
    else:
        found["mtime_ns"] = stat.st_mtime_ns
    return found


def copy_size_bytes(source: InputData, field: str = "", spw: str = "") -> int:
    """Estimate the size of the working copy, bytes.

    It counts DATA, MODEL_DATA and CORRECTED_DATA uncompressed, weight spectra, flags and three
    flag versions, subtables, and the temporary needs of importing UVFITS or uvh5.

    Parameters
    ----------
    source : InputData
    field, spw : str
        Selections in CASA's syntax. In a measurement set only the rows of fields selected by id or
        name and of windows selected by number are counted; with other selections, all rows are.
    """
    if source.kind == "uvh5":
        headers = [read_header(path) for path in source.parts]
        # the imported set stands beside the copy
        return 2 * _visibility_bytes(
            sum(header.visibilities for header in headers), sum(header.rows for header in headers)
        )
    if source.kind == "uvfits":
        from astropy.io import fits

        header = fits.getheader(source.path, 0)
        pixels = 1
        for axis in range(2, int(header["NAXIS"]) + 1):
            pixels *= int(header[f"NAXIS{axis}"])
        rows = int(header["GCOUNT"])
        visibilities = rows * pixels // 3  # each is real, imaginary and weight
        # the imported set stands beside the copy, and so may one of the uncorrupted data
        times = 3 if source.demo and source.demo.corruption_seed is not None else 2
        return times * _visibility_bytes(visibilities, rows)
    subtables = sum(
        tree_bytes(entry) for entry in source.path.iterdir() if (entry / "table.dat").exists()
    )
    with reading(source.vis), read_view(source.path, subtables=bool(field or spw)) as view:
        return _ms_bytes(view.path, selected_rows(view.path, field, spw)) + subtables


def selected_rows(view: Path, field: str, spw: str) -> RowChoice:
    """Return the rows of a selection; all of those of what is selected in another way."""
    fields = descriptions = None
    if field:
        if re.fullmatch(r"[\d, ]+", field):
            fields = frozenset(int(word) for word in field.split(",") if word.strip())
        else:
            with suppress(ConfigError):
                fields = choose_fields(view, field)
    if spw:
        spw_of = Subtables(view).spw_of.tolist()
        with suppress(ConfigError):
            windows = parse_windows(spw, 1 + max(spw_of))
            descriptions = frozenset(i for i, window in enumerate(spw_of) if window in windows)
    return RowChoice(fields, descriptions)


def _visibility_bytes(visibilities: int, rows: int) -> int:
    spectra, flags, row = 8, 1, 200
    fixed = 8_000_000  # tiles and index blocks of small tables
    return visibilities * (3 * 8 + spectra + flags) + rows * row + fixed


def _ms_bytes(path: Path, choice: RowChoice) -> int:
    column = "DATA"
    with open_table(path) as opened:
        if column not in opened.colnames():
            column = "CORRECTED_DATA"
        visibilities = total_rows = 0
        for _, rows in row_pieces(opened, (column,), where=choice):
            visibilities += len(rows) * np.size(opened.getcell(column, int(rows[0])))
            total_rows += len(rows)
    return _visibility_bytes(visibilities, total_rows)
