"""Subtables: records by id, read once; what is written is read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from libs.core.errors import InputError
from libs.ms import subtables
from libs.ms.antennas import AntennaArray
from libs.ms.create import SpectralWindow, create_ms
from libs.ms.subtables import (
    Subtables,
    add_fields,
    copy_subtable,
    put_antenna_names,
    put_phase_centre,
    remove_subtables,
)
from libs.ms.tables import open_table

PLACE = (3.2, 0.7)


@pytest.fixture
def ms(tmp_path: Path) -> Path:
    array = AntennaArray(
        "VLA", ("a", "b", "c"), ("P1", "P2", "P3"), np.eye(3) * 6.4e6, np.array([25.0, 25.0, 0.0])
    )
    windows = [SpectralWindow(1e9, 4e6, 4), SpectralWindow(2e9, 1e6)]
    create_ms(tmp_path / "a.ms", array, windows, ("RR", "RL", "LR", "LL"), "one", PLACE, (0, 1))
    return tmp_path / "a.ms"


def test_every_record_by_id(ms: Path) -> None:
    found = Subtables(ms)
    assert found.antenna_names == ("a", "b", "c")
    assert [antenna.station for antenna in found.antennas] == ["P1", "P2", "P3"]
    assert [antenna.diameter_m for antenna in found.antennas] == [25, 25, 0]
    np.testing.assert_array_equal(found.position_m, np.eye(3) * 6.4e6)
    (field,) = found.fields
    assert (field.name, field.direction_rad, field.frame) == ("one", PLACE, "J2000")
    assert [window.channels for window in found.windows] == [4, 1]
    np.testing.assert_allclose(found.channel_hz[0], 1e9 + np.array([-1.5, -0.5, 0.5, 1.5]) * 1e6)
    assert found.windows[0].width_hz.tolist() == [1e6] * 4 and found.windows[1].mean_hz == 2e9
    assert found.spw_of.tolist() == [0, 1]
    (setup,) = found.setups
    assert setup.correlations == ("RR", "RL", "LR", "LL")
    assert setup.parallel == (0, 3) and setup.circular
    assert found.setup_of == (setup, setup)
    assert found.telescope == "VLA"
    assert [state.intents for state in found.states] == ["OBSERVE_TARGET#ON_SOURCE"]


def test_each_subtable_is_read_once_and_only_when_asked_for(
    ms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def counted(path: str | Path, **how: bool) -> object:
        opened.append(str(path).partition("::")[2])
        return open_table(path, **how)

    monkeypatch.setattr(subtables, "open_table", counted)
    found = Subtables(ms)
    assert opened == []
    assert found.channel_hz is not None and found.windows[0].channels and found.channel_hz
    assert opened == ["SPECTRAL_WINDOW"]


def test_antennas_without_a_name_have_one(ms: Path) -> None:
    put_antenna_names(ms, ["", " x ", ""])
    with open_table(f"{ms}::ANTENNA", write=True) as antennas:
        antennas.putcell("STATION", 2, "")
    found = Subtables(ms)
    assert found.antenna_names == ("P1", "x", "ANT2")
    assert [antenna.own_name for antenna in found.antennas] == ["", "x", ""]


def test_fields_are_added_moved_and_named(ms: Path) -> None:
    add_fields(ms, [("two", (1.0, -0.2))])
    assert [field.name for field in Subtables(ms).fields] == ["one", "two"]
    assert Subtables(ms).fields[1].direction_rad == (1.0, -0.2)
    put_phase_centre(ms, (0.5, 0.25))
    assert {field.direction_rad for field in Subtables(ms).fields} == {(0.5, 0.25)}
    with open_table(f"{ms}::FIELD") as fields:  # where the antennas pointed stays
        np.testing.assert_array_equal(fields.getcell("DELAY_DIR", 0), [PLACE])
    put_phase_centre(ms, name="new")
    assert {field.name for field in Subtables(ms).fields} == {"new"}


def test_a_subtable_is_copied_over_another_and_removed(ms: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.ms"
    array = AntennaArray("VLA", ("z", "y"), ("Z", "Y"), np.ones((2, 3)), np.ones(2))
    create_ms(other, array, [SpectralWindow(1e9, 1e6)], ("XX",), "f", PLACE, (0, 1))
    assert not Subtables(other).setups[0].circular
    copy_subtable(ms, "ANTENNA", other)
    assert Subtables(other).antenna_names == ("a", "b", "c")
    remove_subtables(other, ["ANTENNA"])
    with pytest.raises(InputError, match="cannot be opened"):
        _ = Subtables(other).antennas
    assert not (other / "ANTENNA").exists()
