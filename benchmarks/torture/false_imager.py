"""A program in WSClean's place that hands its calls on, and fails or lies at one of them.

Run as a program it is the stand-in: ``false_imager.py FOLDER WSCLEAN ARGUMENT...``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["HOW", "calls_of", "put_imager"]


def put_imager(folder: Path, how: str, call: int) -> Path:
    """Make a folder for the PATH with a ``wsclean`` that fails in a way at a call (from 1 on)."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "order.json").write_text(json.dumps({"how": how, "call": call}))
    real = shutil.which("wsclean")
    script = folder / "wsclean"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "{folder}" "{real}" "$@"\n')
    script.chmod(0o755)
    return folder


def calls_of(folder: Path) -> int:
    """Return how often the stand-in in a folder was called."""
    return int((folder / "calls").read_text())


# -- what is done to an image ---------------------------------------------------------------------


def _changed(change: Callable[[Any, Any], Any]) -> Callable[[Path], None]:
    """Return what changes the data and header of a FITS file."""

    def do(path: Path) -> None:
        from astropy.io import fits

        with fits.open(path) as opened:
            data, header = opened[0].data.copy(), opened[0].header.copy()
        fits.writeto(path, change(data, header), header, overwrite=True)

    return do


def _without_beam(data: Any, header: Any) -> Any:
    for key in ("BMAJ", "BMIN", "BPA"):
        header.remove(key, ignore_missing=True)
    return data


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _noise(data: Any, header: Any) -> Any:
    import numpy as np

    return np.random.default_rng(1).normal(0.0, data.std() or 1.0, data.shape).astype(data.dtype)


_LIES: Mapping[str, Callable[[Path], None]] = {
    "zero": _changed(lambda data, header: 0 * data),
    "no numbers": _changed(lambda data, header: data + float("nan")),
    "too bright": _changed(lambda data, header: 1e6 * data),
    "negative": _changed(lambda data, header: -data),
    "elsewhere": _changed(lambda data, header: data[..., ::-1, ::-1].copy()),
    "noise": _changed(_noise),
    "another size": _changed(lambda data, header: data[..., :-8, :-8].copy()),
    "no beam": _changed(_without_beam),
    "cut": _cut,
    "empty": lambda path: os.truncate(path, 0),
    "gone": Path.unlink,
}
_ENDS = ("killed", "hung", "refused", "silent")
HOW = (*_ENDS, *(f"{lie} {image}" for lie in _LIES for image in ("image", "residual", "psf",
                                                                 "model")))  # fmt: skip


def main(words: Sequence[str]) -> int:
    """Hand a call on, or do what was ordered for it."""
    folder, real, arguments = Path(words[0]), words[1], list(words[2:])
    if "-version" in arguments or "--version" in arguments:
        os.execv(real, [real, *arguments])
    order = json.loads((folder / "order.json").read_text())
    count = folder / "calls"
    number = int(count.read_text()) + 1 if count.exists() else 1
    count.write_text(str(number))
    how = order["how"] if number == order["call"] else ""
    if how == "hung":
        time.sleep(3600.0)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how in ("refused", "silent"):
        return int(how == "refused")
    code = subprocess.run([real, *arguments], check=False).returncode
    if how and not code and "-name" in arguments:
        prefix = Path(arguments[arguments.index("-name") + 1])
        lie, _, image = how.rpartition(" ")
        for path in prefix.parent.glob(f"{prefix.name}*-{image}.fits"):
            _LIES[lie](path)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
