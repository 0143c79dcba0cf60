"""The stand-in for WSClean hands its calls on, and fails or lies at the one it is told."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from benchmarks.torture.false_imager import calls_of, put_imager


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program that copies an image in WSClean's place; return the image."""
    image = tmp_path / "made.fits"
    fits.writeto(image, np.full((16, 16), 2.0, np.float32))
    programs = tmp_path / "real"
    programs.mkdir()
    (programs / "wsclean").write_text(f'#!/bin/sh\ncp "{image}" "$2-image.fits"\n')
    (programs / "wsclean").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return image


def call(folder: Path, prefix: Path) -> int:
    return subprocess.run([folder / "wsclean", "-name", prefix], check=False).returncode


def test_it_lies_at_one_call_only(real: Path, tmp_path: Path) -> None:
    folder = put_imager(tmp_path / "false", "zero image", 2)
    for number, value in ((1, 2.0), (2, 0.0), (3, 2.0)):
        assert call(folder, tmp_path / f"a{number}") == 0
        assert (fits.getdata(tmp_path / f"a{number}-image.fits") == value).all()
    assert calls_of(folder) == 3


@pytest.mark.parametrize(
    ("how", "code"), [("killed", -signal.SIGKILL), ("refused", 1), ("silent", 0)]
)
def test_it_ends_without_an_image(real: Path, tmp_path: Path, how: str, code: int) -> None:
    folder = put_imager(tmp_path / "false", how, 1)
    assert call(folder, tmp_path / "a") == code
    assert not (tmp_path / "a-image.fits").exists()
