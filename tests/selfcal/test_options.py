"""Parameters: types, units, words and errors a user can act on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.core.errors import ConfigError
from selfcal.options import UNITS, Option, nearest, unknown_name


def parse(kind: str, value: Any, **how: Any) -> Any:
    return Option("x", kind, None, "", **how).parse(value)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("time", "30s", 30.0),
        ("time", "0.5 min", 30.0),
        ("angle", "60mas", 0.06),
        ("angle", "1arcmin", 60.0),
        ("length", "80km", 80_000.0),
        ("flux", "5mJy", 0.005),
        ("frequency", "1.4GHz", 1.4e9),
    ],
)
def test_quantities_are_converted(kind: str, text: str, value: float) -> None:
    assert parse(kind, text) == pytest.approx(value)


@pytest.mark.parametrize("kind", UNITS)
def test_wrong_unit_says_what_was_expected(kind: str) -> None:
    for wrong in ("3 kg", 30, "30", "fast", "nan s", "", None):
        with pytest.raises(ConfigError) as caught:
            parse(kind, wrong)
        assert f"with its unit such as '{UNITS[kind][1]}'" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "value", "parsed"),
    [
        ("int", 3, 3), ("int", "4", 4), ("int", 5.0, 5), ("float", 2, 2.0), ("float", "1e-3", 1e-3),
        ("bool", True, True), ("bool", "no", False), ("str", "3C273", "3C273"), ("str", 3, "3"),
        ("names", "ea01, ea02", ("ea01", "ea02")), ("names", ["a"], ("a",)), ("names", "", ()),
        ("rounds", [["p1", "p2"], []], (("p1", "p2"), ())), ("size", 512, (512, 512)),
        ("size", [512, 1024], (512, 1024)), ("spwmap", [0, 0], (0, 0)), ("table", {}, {}),
    ],
)  # fmt: skip
def test_values_are_parsed(kind: str, value: Any, parsed: Any) -> None:
    assert parse(kind, value) == parsed


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", 3.5), ("int", True), ("int", "many"), ("int", None), ("float", "inf"),
        ("float", True), ("bool", 1), ("bool", "maybe"), ("str", None), ("str", True),
        ("rounds", "p1"), ("rounds", ["p1"]), ("size", 8), ("size", [1, 2, 3]),
        ("spwmap", "0,0"), ("table", []), ("names", 3), ("rounds", 3), ("size", "big"),
    ],
)  # fmt: skip
def test_wrong_types_are_refused(kind: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"x = .* is not "):
        parse(kind, value)


def test_choices_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'tclean'"):
        parse("choice", "tcleen", choices=("wsclean", "tclean"))
    with pytest.raises(ConfigError, match="'time' is not one of spw, scan"):
        parse("names", ["time"], choices=("spw", "scan"))


def test_words_stand_for_values() -> None:
    assert parse("time", "inf", words=("int", "inf")) == "inf"
    with pytest.raises(ConfigError, match="or 'int' or 'inf'"):
        parse("time", "infinite", words=("int", "inf"))


def test_minimum() -> None:
    assert parse("float", 0, minimum=0) == 0
    with pytest.raises(ConfigError, match="below 0"):
        parse("time", "-3s", minimum=0)


def test_the_place_of_an_error_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^p1\.solint = 30 "):
        Option("solint", "time", "30s", "").parse(30, "p1")


@given(value=st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
                       st.lists(st.integers(), max_size=3), st.dictionaries(st.text(), st.none())),
       kind=st.sampled_from(["int", "float", "bool", "str", "choice", "names", "rounds", "size",
                             "spwmap", "table", *UNITS]))  # fmt: skip
def test_whatever_is_written_parses_or_is_a_config_error(value: Any, kind: str) -> None:
    try:
        parse(kind, value, choices=("a", "b") if kind == "choice" else ())
    except ConfigError as error:
        assert error.remedy


def test_nearest_and_unknown() -> None:
    assert nearest("solnt", ["solint", "robust"]) == " (did you mean 'solint'?)"
    assert nearest("xyz", ["solint"]) == ""
    error = unknown_name("step", "p11", ["p1", "ap1"])
    assert str(error) == "unknown step 'p11' (did you mean 'p1'?): known: ap1, p1"
