"""What data hold is read before anything is copied, and wrong selections are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from libs.core.errors import InputError
from libs.inputs.input_data import resolve_inputs
from libs.inputs.preview import check_names, check_selection, preview
from libs.ms.tables import open_table
from tests.libs.small_ms import make_ms, tree_hash


@pytest.fixture
def ms(tmp_path: Path) -> Path:
    return make_ms(
        tmp_path / "two.ms", antennas=5, times=12, channels=8, scans=4, fields=("NGC 1", "J0001")
    )


def test_fields_windows_and_times_of_a_measurement_set(ms: Path) -> None:
    before = tree_hash(ms)
    (source,) = resolve_inputs(str(ms))
    found = preview(source)
    assert [(f.number, f.name, f.scans) for f in found.fields] == [(0, "NGC 1", 2), (1, "J0001", 2)]
    # two visits of three integrations of 10 s each
    assert found.fields[0].seconds == pytest.approx(60.0)
    assert found.integration_s == pytest.approx(10.0)
    assert [w.channels for w in found.windows] == [8]
    assert len(found.antennas) == 5 and found.without_rows == ()
    assert found.visibilities == 10 * 12 * 8 * 2
    assert "DATA" in found.columns
    assert tree_hash(ms) == before


def test_antennas_without_rows_are_told_apart(ms: Path) -> None:
    with open_table(ms, write=True) as opened:
        named = [opened.getcol(name) for name in ("ANTENNA1", "ANTENNA2")]
        opened.removerows(np.flatnonzero((named[0] == 2) | (named[1] == 2)))
    (source,) = resolve_inputs(str(ms))
    found = preview(source)
    assert found.without_rows == (found.antennas[2],)


def test_a_header_tells_fields_and_antennas() -> None:
    (source,) = resolve_inputs("demo:ngc5921")
    found = preview(source)
    assert [f.name for f in found.fields] == ["1331+30500002_0", "1445+09900002_0", "N5921_2"]
    assert len(found.antennas) == 28
    check_names(found, "1445*", "0:5~50")
    with pytest.raises(InputError, match="no field NOPE"):
        check_names(found, "NOPE", "")
    with pytest.raises(InputError, match="no spectral window 3"):
        check_names(found, "", "3")


@pytest.mark.parametrize(
    ("field", "spw", "count"),
    [("", "", 1920), ("NGC 1", "", 960), ("1", "0:2~3", 960), ("ngc 1", "", None)],
)
def test_a_selection_is_counted_or_left_to_casa(
    ms: Path, field: str, spw: str, count: int | None
) -> None:
    (source,) = resolve_inputs(str(ms))
    assert check_selection(source, field, spw) == count


@pytest.mark.parametrize(
    ("field", "spw", "says"),
    [
        ("NOPE", "", "no field NOPE.*0 NGC 1, 1 J0001"),
        ("2", "", "no field 2"),
        ("", "77", "no spectral window 77.*0 to 0"),
        ("", "0:7~8", "channel 8 of window 0"),
    ],
)
def test_what_is_not_there_is_refused(ms: Path, field: str, spw: str, says: str) -> None:
    (source,) = resolve_inputs(str(ms))
    with pytest.raises(InputError, match=says):
        check_selection(source, field, spw)
