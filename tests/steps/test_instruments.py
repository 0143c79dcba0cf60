"""Instrument and band by name and frequency; what the user names wins."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from libs.core.errors import ConfigError
from selfcal.template_files import TEMPLATE_DIR
from selfcal.templates import resolve_options
from steps import build_steps
from steps.instruments import dish_diameter_m, identify
from steps.ready_configs import load_ready_config, ready_config_text
from steps.run_options import load_run_config, run_settings

NUMBERS = yaml.safe_load((TEMPLATE_DIR / "instruments.yaml").read_text())


@pytest.mark.parametrize(
    ("telescope", "ghz", "found"),
    [
        ("EVLA", 5.0, ("vla", "C")), ("VLA", 1.4, ("vla", "L")), ("evla", 44.0, ("vla", "Q")),
        ("ALMA", 230.0, ("alma", "6")), ("e-MERLIN", 5.1, ("emerlin", "C")),
        ("LOFAR", 0.144, ("lofar", "HBA")), ("LOFAR", 0.054, ("lofar", "LBA")),
        ("VLBA", 8.4, ("vlba", "X")), ("EHT", 227.0, ("vlba", "1.3mm")), ("ATA", 3.0, ("ata", "S")),
        ("DSA2000", 1.4, ("other", "")), ("", 1.4, ("other", "")), ("EVLA", 0.15, ("vla", "")),
        ("MeerKAT", 0.816, ("meerkat", "UHF")), ("MeerKAT", 1.284, ("meerkat", "L")),
        ("MeerKAT", 2.406, ("meerkat", "S")), ("KAT-7", 1.82, ("kat7", "L")),
        ("GMRT", 0.610, ("gmrt", "B4")), ("uGMRT", 0.4, ("gmrt", "B3")),
        ("GMRT", 0.235, ("gmrt", "B2")), ("GMRT", 1.26, ("gmrt", "B5")),
        ("ASKAP", 0.8875, ("askap", "low")), ("ASKAP", 1.3675, ("askap", "mid")),
        ("ASKAP", 1.6555, ("askap", "high")), ("ATCA", 2.1, ("atca", "16cm")),
        ("ATCA", 5.5, ("atca", "4cm")), ("ATCA", 9.0, ("atca", "4cm")),
        ("WSRT", 1.4, ("wsrt", "L")), ("WSRT", 0.325, ("wsrt", "P")),
        ("IRAM PDB", 90.0, ("noema", "3mm")), ("NOEMA", 231.0, ("noema", "1mm")),
        ("SMA", 225.0, ("sma", "230")), ("SMA", 345.0, ("sma", "345")),
        ("MWA", 0.154, ("mwa", "VHF")), ("EVN", 4.93, ("evn", "C")), ("EVN", 1.66, ("evn", "L")),
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


@pytest.mark.parametrize("name", sorted(NUMBERS["telescopes"]))
def test_every_instrument_has_a_config_of_its_own(tmp_path: Path, name: str) -> None:
    config, path = load_ready_config(name, "source_config")
    assert run_settings(config, path, {})["instrument"] == name
    own = tmp_path / "own.py"
    own.write_text(ready_config_text(name))
    assert load_run_config(own) == config, "what init writes is what the name stands for"


def test_instruments_of_wide_fields_look_farther_for_sources() -> None:
    settings = run_settings({})
    for name, fwhms, size in (("vla", 1.5, 4096), ("meerkat", 2.5, 8192), ("gmrt", 2.5, 8192)):
        found = resolve_options(build_steps(["startup", "fov_image"])[1], settings, "", name, "L")
        assert (found["fwhms"], found["max_imsize"]) == (fwhms, size)
        own = run_settings({"init_parameters": {"fov_image": {"fwhms": 1.0}}})
        step = build_steps(["startup", "fov_image"])[1]
        assert resolve_options(step, own, "", name, "L")["fwhms"] == 1.0, "the user's wins"


def test_the_millimetre_band_that_has_the_name_of_a_metre_band_is_not_searched_for_rfi() -> None:
    step = build_steps(["startup", "run_rflag_init"])[1]
    assert "4" in resolve_options(step, run_settings({}), "", "vla", "4")["bands"]
    assert not resolve_options(step, run_settings({}), "", "alma", "4")["bands"]
