"""Gains of a sum of stations given to the stations it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from libs.core.errors import InputError
from libs.h5parm.global_table import list_entries, write_with_entries
from libs.h5parm.provenance import Entry
from libs.h5parm.superstation import spread_station, write_spread
from tests.libs.solset_examples import flagged, solset

MEMBERS = ("CS002HBA0", "CS003HBA0")
PLACES = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def test_members_get_the_gains_of_the_sum() -> None:
    table = solset(antenna=("DE601HBA", "ST001"), seed=1)
    spread = spread_station(table, "ST001", MEMBERS, PLACES)
    assert spread.antenna == ("DE601HBA", *MEMBERS)
    assert np.allclose(spread.position_m[1:], PLACES)
    for number, of in ((0, 0), (1, 1), (2, 1)):
        assert np.allclose(spread.gain[:, :, number], table.gain[:, :, of])


def test_gains_of_their_own_are_multiplied() -> None:
    table = flagged(solset(antenna=("CS002HBA0", "CS003HBA0", "ST001"), seed=2),
                    station="CS003HBA0")  # fmt: skip
    spread = spread_station(table, "ST001", MEMBERS, PLACES)
    assert spread.antenna == MEMBERS
    assert np.allclose(spread.gain[:, :, 0], table.gain[:, :, 0] * table.gain[:, :, 2])
    assert np.allclose(spread.gain[:, :, 1], table.gain[:, :, 2]), "it had none of its own"
    with pytest.raises(InputError, match="no solutions of ST002"):
        spread_station(table, "ST002", MEMBERS, PLACES)


def test_only_the_sum() -> None:
    table = solset(antenna=("ST001",), seed=3)
    spread = spread_station(table, "ST001", MEMBERS, PLACES)
    assert spread.antenna == MEMBERS
    assert np.allclose(spread.gain[:, :, 1], table.gain[:, :, 0])


def test_members_say_where_theirs_come_from(tmp_path: Path) -> None:
    table = flagged(solset(antenna=("CS002HBA0", "CS003HBA0", "DE601HBA", "ST001"), seed=4),
                    station="CS003HBA0")  # fmt: skip
    entries = [
        Entry("A", "CS002HBA0", source="cal"), Entry("A", "DE601HBA", source="src"),
        Entry("A", "ST001", source="src", coherence=0.9),
    ]  # fmt: skip
    write_with_entries(tmp_path / "in.h5", table, entries)
    write_spread(tmp_path / "in.h5", tmp_path / "out.h5", "ST001", MEMBERS, PLACES)
    found = {item.entry.station: item for item in list_entries(tmp_path / "out.h5")}
    assert set(found) == {"CS002HBA0", "CS003HBA0", "DE601HBA"}
    one, other = (found[name].entry for name in MEMBERS)
    assert (one.source, one.refined_from, one.coherence) == ("src", "cal", 0.9)
    assert (other.source, other.refined_from) == ("src", "")
    assert found["DE601HBA"].entry.source == "src"
    assert found["CS003HBA0"].good_fraction == 1.0
