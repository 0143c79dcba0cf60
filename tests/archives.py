"""Archives of real data, unpacked for a test."""

from __future__ import annotations

import tarfile
from pathlib import Path


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack a ``NAME.tar.gz`` into a folder and return the measurement set in it."""
    with tarfile.open(archive) as tar:
        # Python before 3.11.4 knows no filters
        if hasattr(tarfile, "data_filter"):
            tar.extractall(folder, filter="data")
        else:
            tar.extractall(folder)
    return folder / archive.name.removesuffix(".tar.gz")
