"""Standards: their spectra against CASA's data, their places against casadata's images."""

from __future__ import annotations

import math

import numpy as np
import pytest

from libs.casa.session import data_path
from libs.catalogues.flux_standards import STANDARDS, FluxStandard, find_standard, named_standard
from libs.core.errors import InputError
from libs.ms.tables import open_table


@pytest.mark.parametrize("standard", STANDARDS, ids=lambda one: one.name)
def test_spectra_are_those_of_casa(standard: FluxStandard) -> None:
    """Rounding of printed coefficients apart, which CASA's table has to four digits as well."""
    with open_table(data_path() / "nrao/VLA/standards/PerleyButler2017Coeffs") as opened:
        last = int(np.argmax(opened.getcol("Epoch")))
        known = opened.getcell(f"{standard.name}_coeffs", last)
    low, high = standard.range_ghz
    ghz = np.geomspace(low, high, 20)
    theirs = 10 ** (np.log10(ghz)[:, None] ** np.arange(len(known)) @ known)
    assert standard.flux_jy(1e9 * ghz) == pytest.approx(theirs, rel=2e-3)


def test_the_flux_of_3c286_at_21_cm() -> None:
    standard = named_standard("1331+305")
    assert standard is not None and standard.name == "3C286"
    assert standard.flux_jy(np.array([1.4134e9]))[0] == pytest.approx(15.01, abs=0.005)
    with pytest.raises(InputError, match="the flux of 3C286 is known from"):
        standard.flux_jy(np.array([90e9]))


def test_places_are_those_of_the_model_images() -> None:
    from casacore.images import image

    for name in ("3C48", "3C138", "3C147", "3C286"):
        opened = image(str(data_path() / f"nrao/VLA/CalModels/{name}_X.im"))
        dec, ra = opened.coordinates()["direction"].get_referencevalue()
        found = find_standard(float(ra), float(dec))
        assert found is not None and found.name == name


def test_only_near_positions_match() -> None:
    standard = named_standard("3C147")
    assert standard is not None
    ra, dec = map(math.radians, (standard.right_ascension_deg, standard.declination_deg))
    assert find_standard(ra, dec + math.radians(4 / 3600)) is standard
    assert find_standard(ra + math.radians(4 / 3600) / math.cos(dec), dec) is standard
    assert find_standard(ra, dec + math.radians(6 / 3600)) is None
    assert find_standard(ra + 2 * math.pi, dec) is standard
    assert named_standard("nothing") is None
