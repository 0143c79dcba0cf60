"""Headers that a kill cut short are put back, and half-added columns taken back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from libs.core.errors import InputError
from libs.ms.columns import ensure_data_column
from libs.ms.sanitise import add_scratch_columns
from libs.ms.tables import column_names, open_table
from libs.ms.tiled_headers import guarded, mend_headers, save_headers, take_back
from tests.libs.small_ms import make_ms


@pytest.fixture
def ms(tmp_path: Path) -> Path:
    path = make_ms(tmp_path / "a.ms", antennas=4, times=3, channels=2)
    add_scratch_columns(path)
    return path


def header_of(ms: Path, column: str) -> Path:
    with open_table(ms) as opened:
        managers = opened.getdminfo().values()
    (number,) = [entry["SEQNR"] for entry in managers if column in entry["COLUMNS"]]
    return ms / f"table.f{number}"


def model(ms: Path) -> np.ndarray:
    with open_table(ms) as opened:
        return np.asarray(opened.getcol("MODEL_DATA"))


@pytest.mark.parametrize("kept", [0, 1, 100])
def test_a_header_cut_short_is_put_back(ms: Path, kept: int) -> None:
    save_headers(ms)
    with open_table(ms, write=True) as opened:
        opened.putcol("MODEL_DATA", 3 * opened.getcol("MODEL_DATA"))
    expected, header = model(ms), header_of(ms, "MODEL_DATA")
    whole = header.read_bytes()
    os.truncate(header, kept)
    with pytest.raises(InputError, match="cannot be opened"):
        model(ms)
    assert mend_headers(ms) == (header.name,)
    assert header.read_bytes() == whole, "what is written later changes no header"
    np.testing.assert_array_equal(model(ms), expected)
    assert mend_headers(ms) == ()


def test_without_saved_headers_nothing_is_touched(ms: Path) -> None:
    header = header_of(ms, "MODEL_DATA")
    os.truncate(header, 0)
    assert mend_headers(ms) == ()
    take_back(ms)
    assert header.stat().st_size == 0


def test_nothing_is_left_when_the_guard_ends(ms: Path) -> None:
    with guarded(ms):
        assert ms.with_name("a.ms.headers").is_dir()
    with pytest.raises(ZeroDivisionError), guarded(ms):
        raise ZeroDivisionError
    assert not ms.with_name("a.ms.headers").exists()


def test_a_column_half_added_is_taken_back(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", antennas=4, times=3, channels=2)
    before = column_names(ms)
    code = (
        "import os, signal, sys\n"
        "from libs.ms.columns import ensure_data_column\n"
        "from libs.ms.tiled_headers import guarded\n"
        "with guarded(sys.argv[1]):\n"
        "    ensure_data_column(sys.argv[1], 'CORRECTED_DATA', copy='DATA')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(ms)], check=False)
    assert killed.returncode == -signal.SIGKILL
    os.truncate(header_of(ms, "CORRECTED_DATA"), 0)
    take_back(ms)
    assert column_names(ms) == before
    with guarded(ms):
        ensure_data_column(ms, "CORRECTED_DATA", copy="DATA")
    with open_table(ms) as opened:
        np.testing.assert_array_equal(opened.getcol("CORRECTED_DATA"), opened.getcol("DATA"))


def test_a_column_added_since_by_another_stays(ms: Path) -> None:
    save_headers(ms)
    ensure_data_column(ms, "THIRD_DATA", copy="DATA")
    take_back(ms)
    assert "THIRD_DATA" in column_names(ms)
