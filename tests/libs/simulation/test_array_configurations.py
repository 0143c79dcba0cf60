"""Array configurations: frames, names and the LOFAR stations."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.core.errors import InputError
from libs.ms.antennas import AntennaArray
from libs.simulation.array_configurations import (
    configuration_names,
    geodetic_to_itrf,
    load_configuration,
    local_to_itrf,
    lofar_hba,
    read_configuration,
    utm_to_geodetic,
)


def test_vla_a_has_27_dishes_up_to_36_km() -> None:
    array = load_configuration("vla.a")
    assert array.telescope == "VLA"
    assert len(array) == 27
    assert array.longest_baseline_m == pytest.approx(36_623, abs=5)
    assert np.all(array.diameter_m == 25)
    assert array.name[0] == "W08"


@pytest.mark.parametrize(
    "name", ["vla.d", "alma.cycle8.6", "carma.a", "aca.tp", "vlba", "alma.out20"]
)
def test_every_frame_ends_on_the_surface_of_the_earth(name: str) -> None:
    radius_km = np.linalg.norm(load_configuration(name).position_m, axis=1) / 1e3
    assert np.all((radius_km > 6356) & (radius_km < 6385))


def test_every_configuration_of_casadata_can_be_read() -> None:
    names = configuration_names()
    assert len(names) > 200
    for name in names[::20]:
        assert len(load_configuration(name)) >= 2


def test_unknown_configuration_names_the_nearest() -> None:
    with pytest.raises(InputError, match="vla"):
        load_configuration("vla.aa")


def test_local_coordinates_point_east_north_and_up() -> None:
    enu = np.array([[0.0, 0.0, 0.0], [100.0, 0.0, 0.0], [0.0, 100.0, 0.0], [0.0, 0.0, 100.0]])
    place = local_to_itrf(enu, math.radians(10.0), math.radians(50.0), 200.0)
    np.testing.assert_allclose(np.linalg.norm(place[1:] - place[0], axis=1), 100.0)
    assert place[1, 2] == pytest.approx(place[0, 2])  # east does not change Z
    assert place[2, 2] > place[0, 2]
    higher = geodetic_to_itrf(math.radians(10.0), math.radians(50.0), 300.0)
    np.testing.assert_allclose(place[3], higher, atol=1e-6)


def test_geodetic_agrees_with_astropy() -> None:
    coordinates = pytest.importorskip("astropy.coordinates")
    place = coordinates.EarthLocation.from_geodetic(-67.75, -23.02, 5000.0)
    expected = [axis.to_value("m") for axis in place.to_geocentric()]
    ours = geodetic_to_itrf(math.radians(-67.75), math.radians(-23.02), 5000.0)
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_utm_of_a_known_tower() -> None:
    # CN Tower, Toronto: 43.642567 N, 79.387139 W is 17N 630084 E 4833439 N
    longitude, latitude = utm_to_geodetic(np.array([630084.0]), np.array([4833439.0]), 17)
    assert math.degrees(longitude[0]) == pytest.approx(-79.387139, abs=1e-5)
    assert math.degrees(latitude[0]) == pytest.approx(43.642567, abs=1e-5)


def test_utm_scale_on_the_central_meridian() -> None:
    northing = np.array([7_000_000.0, 7_001_000.0])
    longitude, latitude = utm_to_geodetic(np.full(2, 500_000.0), northing, 19, "S")
    np.testing.assert_allclose(np.degrees(longitude), -69.0)
    ends = geodetic_to_itrf(longitude, latitude, 0.0)
    assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(1000.0 / 0.9996, abs=0.01)


def test_names_are_never_bare_numbers_and_all_different(tmp_path: Path) -> None:
    path = tmp_path / "own.cfg"
    path.write_text("# observatory=VLA\n# coordsys=XYZ\n1 2 3 25. 7\n4 5 6 25. 7\n7 8 9 25. 2m\n")
    assert read_configuration(path).name == ("A7", "A7_2", "A2m")


@pytest.mark.parametrize(
    "text",
    [
        "# coordsys=XYZ\n1 2\n",
        "# coordsys=XYZ\na b c d\n",
        "1 2 3 4\n",
        "# coordsys=ABC\n1 2 3 4\n",
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.cfg"
    path.write_text(text)
    with pytest.raises(InputError, match=r"bad\.cfg"):
        read_configuration(path)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(2, 40), keep=st.integers(2, 40), seed=st.integers(0, 99))
def test_thinned_arrays_keep_their_outermost_antenna(count: int, keep: int, seed: int) -> None:
    position = np.random.default_rng(seed).normal(0, 1e3, (count, 3))
    names = tuple(f"A{i}" for i in range(count))
    array = AntennaArray("VLA", names, names, position, np.full(count, 25.0))
    thin = array.thinned(keep)
    assert len(thin) == min(keep, count)
    distance = np.linalg.norm(position - np.median(position, axis=0), axis=1)
    assert names[int(distance.argmax())] in thin.name
    assert list(thin.name) == [name for name in names if name in thin.name]


def test_without_takes_shell_patterns() -> None:
    array = load_configuration("vla.a")
    assert all(not name.startswith("N") for name in array.without(["N*"]).name)


def test_lofar_superstation_and_ears() -> None:
    pytest.importorskip("lofarantpos")
    phased = lofar_hba()
    assert "ST001" in phased.name
    assert "DE601HBA" in phased.name
    assert not any(name.startswith("CS") for name in phased.name)
    assert phased.longest_baseline_m > 1_000_000
    split = lofar_hba(core="split", international=False)
    assert "CS002HBA0" in split.name
    assert "DE601HBA" not in split.name
    core = split.take([i for i, name in enumerate(split.name) if name.startswith("CS")])
    middle = phased.position_m[phased.name.index("ST001")]
    assert np.linalg.norm(core.position_m - middle, axis=1).max() < 3_000
    with pytest.raises(ValueError, match="superstation"):
        lofar_hba(core="whole")
