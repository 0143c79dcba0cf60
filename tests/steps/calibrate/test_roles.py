"""Who is who among the fields of a session."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from libs.catalogues.flux_standards import named_standard
from libs.core.errors import InputError
from libs.ms.scans import Visit
from steps.calibrate.combine import scans_to_drop, tuning_groups
from steps.calibrate.roles import FieldFacts, Roles, choose_roles, read_roles


def field(
    number: int, name: str, place_deg: tuple[float, float], visits: list[tuple[float, float]],
    **more: object,
) -> FieldFacts:  # fmt: skip
    made = tuple(
        Visit(number, 10 * number + turn, begin, end, 10)
        for turn, (begin, end) in enumerate(visits)
    )
    place = (math.radians(place_deg[0]), math.radians(place_deg[1]))
    return replace(FieldFacts(name, (number,), *place, (), made), **more)  # type: ignore[arg-type]


def place_of(name: str) -> tuple[float, float]:
    standard = named_standard(name)
    assert standard is not None
    return standard.right_ascension_deg, standard.declination_deg


def session() -> list[FieldFacts]:
    return [
        field(0, "F", place_of("3C286"), [(0, 10)]),
        field(1, "P", (221.0, 10.0), [(20, 30), (60, 70), (100, 110)], closure_deg=1.0, snr=50.0),
        field(2, "T", (230.0, 5.0), [(30, 60), (70, 100)], closure_deg=1.0, snr=2.0),
    ]


def test_a_plain_session_is_understood() -> None:
    roles = choose_roles(session())
    assert (roles.flux_calibrator, roles.standard) == ("F", "3C286")
    assert roles.phase_calibrators == ("P",) and roles.targets == ("T",)
    assert roles.calibrator_of == {"T": "P"}
    assert roles.field_ids("F", "T") == (0, 2)
    assert "before and after T" in roles.why["P"]


def test_roles_are_read_as_they_were_written(tmp_path) -> None:  # type: ignore[no-untyped-def]
    roles = choose_roles(session())
    path = tmp_path / "roles.json"
    path.write_text(roles.as_json())
    assert read_roles(path) == roles
    assert isinstance(read_roles(path), Roles)


def test_intents_say_more_than_times() -> None:
    fields = session()
    fields[1] = replace(fields[1], snr=1.0, intents=("CALIBRATE_PHASE#ON_SOURCE",))
    assert choose_roles(fields).phase_calibrators == ("P",)


def test_names_by_hand_win() -> None:
    fields = session()
    fields[1] = replace(fields[1], snr=1.0)
    roles = choose_roles(fields, phase_calibrators=("P",), targets=("T",))
    assert roles.phase_calibrators == ("P",) and roles.why["P"] == "named in the config"


def test_the_nearest_calibrator_is_taken() -> None:
    fields = [
        *session(),
        field(3, "Q", (229.0, 5.0), [(21, 30), (60, 69), (100, 109)], closure_deg=1.0, snr=50.0),
    ]
    assert choose_roles(fields).calibrator_of == {"T": "Q"}
    late = [*session(), field(3, "Q", (229.0, 5.0), [(101, 120)], closure_deg=1.0, snr=50.0)]
    assert choose_roles(late, phase_calibrators=("P", "Q"), targets=("T",)).calibrator_of == {
        "T": "P"
    }


def test_a_resolved_source_is_no_phase_calibrator() -> None:
    fields = session()
    fields[1] = replace(fields[1], closure_deg=60.0)
    with pytest.raises(InputError, match="nothing brackets the target"):
        choose_roles(fields)


def test_a_variable_standard_is_warned_of() -> None:
    fields = session()
    fields[0] = field(0, "F", place_of("3C48"), [(0, 10)])
    assert "variable" in choose_roles(fields).warnings[0]
    both = [*fields, field(3, "G", place_of("3C147"), [(0, 10)])]
    assert choose_roles(both).flux_calibrator == "G"


def test_without_a_standard_nothing_is_calibrated() -> None:
    with pytest.raises(InputError, match="no standard among the fields P, T"):
        choose_roles(session()[1:])
    with pytest.raises(InputError, match="T is none of the flux standards"):
        choose_roles(session(), flux_calibrator="T")


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(InputError, match="no field"):
        choose_roles(session(), targets=("TT",))


def test_a_target_that_nothing_brackets() -> None:
    fields = session()
    fields[2] = field(2, "T", (230.0, 5.0), [(30, 60), (120, 150)])
    with pytest.raises(InputError, match="nothing brackets the target T"):
        choose_roles(fields, phase_calibrators=("P",), targets=("T",))


def test_scans_of_the_flux_calibrator() -> None:
    visits = [Visit(0, number, 0.0, 1.0, 5) for number in (1, 7, 9)]
    assert scans_to_drop(visits, ("all",)) == []
    assert scans_to_drop(visits, ("last",)) == [1, 7]
    assert scans_to_drop(visits, ("1", "9")) == [7]
    with pytest.raises(InputError, match="names 8, which is no scan"):
        scans_to_drop(visits, ("8",))


def test_tunings_far_apart_are_told_by_their_centres() -> None:
    assert tuning_groups([1.4e9, 3.0e9, 1.5e9, 3.2e9], "auto") == [[0, 2], [1, 3]]
    assert tuning_groups([1.4e9, 3.0e9], "together") == [[0, 1]]
    assert tuning_groups([1.5e9, 1.4e9], "apart") == [[1], [0]]
    assert tuning_groups([1.0e9, 1.15e9, 1.3e9], "auto") == [[0, 1, 2]]
