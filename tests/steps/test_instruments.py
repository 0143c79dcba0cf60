"""Instrument and band by name and frequency; what the user names wins."""

from __future__ import annotations

from itertools import pairwise

import pytest
import yaml

from libs.core.errors import ConfigError
from selfcal.template_files import TEMPLATE_DIR
from steps.instruments import dish_diameter_m, identify

NUMBERS = yaml.safe_load((TEMPLATE_DIR / "instruments.yaml").read_text())


@pytest.mark.parametrize(
    ("telescope", "ghz", "found"),
    [
        ("EVLA", 5.0, ("vla", "C")), ("VLA", 1.4, ("vla", "L")), ("evla", 44.0, ("vla", "Q")),
        ("ALMA", 230.0, ("alma", "6")), ("e-MERLIN", 5.1, ("emerlin", "C")),
        ("LOFAR", 0.144, ("lofar", "HBA")), ("LOFAR", 0.054, ("lofar", "LBA")),
        ("VLBA", 8.4, ("vlba", "X")), ("EHT", 227.0, ("vlba", "1.3mm")), ("ATA", 3.0, ("ata", "S")),
        ("WSRT", 1.4, ("other", "")), ("", 1.4, ("other", "")), ("EVLA", 0.15, ("vla", "")),
    ],
)  # fmt: skip
def test_known_telescopes(telescope: str, ghz: float, found: tuple[str, str]) -> None:
    assert identify(telescope, ghz * 1e9) == found


def test_a_band_begins_at_its_lower_edge() -> None:
    assert identify("EVLA", 4e9)[1] == "C"
    assert identify("EVLA", 3.999e9)[1] == "S"


def test_what_the_config_names_wins() -> None:
    assert identify("EVLA", 5e9, instrument="alma") == ("alma", "")
    assert identify("EVLA", 5e9, band="X") == ("vla", "X")
    assert identify("EVLA", 5e9, instrument="other", band="mine") == ("other", "mine")


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="lofar"):
        identify("LOFAR", 1.4e8, instrument="lofr")
    with pytest.raises(ConfigError, match="HBA"):
        identify("LOFAR", 1.4e8, band="HAB")


def test_dish_diameters() -> None:
    assert dish_diameter_m("alma", 0.0) == 12
    assert dish_diameter_m("alma", 7.0) == 7, "the data's own"
    assert dish_diameter_m("other", 0.0) == 25


def test_the_numbers_hang_together() -> None:
    assert set(NUMBERS["bands_ghz"]) == set(NUMBERS["telescopes"]) == set(NUMBERS["dish_m"])
    names = [
        name for known in NUMBERS["telescopes"].values() for name in {one.upper() for one in known}
    ]
    assert len(names) == len(set(names)), "a telescope belongs to one instrument"
    for bands in NUMBERS["bands_ghz"].values():
        edges = sorted(bands.values())
        assert all(low < high for low, high in edges)
        assert all(a[1] <= b[0] for a, b in pairwise(edges)), "no overlap"
        assert all(isinstance(name, str) for name in bands), "YAML reads a bare 4 as a number"


def test_the_vlba_at_the_lower_end_of_its_c_band() -> None:
    assert identify("VLBA", 3.95e9) == ("vlba", "C")
