"""Directions as text."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.core.angles import direction_text


@given(
    ra=st.floats(-360, 720), dec=st.floats(-90, 90), digits=st.integers(0, 9),
    separators=st.sampled_from([(":", "."), ("hms", "dms"), ("hms", ":")]),
)  # fmt: skip
def test_text_is_that_of_astropy(
    ra: float, dec: float, digits: int, separators: tuple[str, str]
) -> None:
    from astropy import units as u
    from astropy.coordinates import Latitude, Longitude

    def seconds(text: str, marks: str) -> float:
        for mark in marks[:2] if len(marks) > 1 else marks:
            text = text.replace(mark, " ", 2 if mark == "." else -1)
        parts = [float(part) for part in text.strip("+-s").split()]
        return parts[0] * 3600 + parts[1] * 60 + parts[2]

    ra_rad = math.radians(ra) + 0.0  # a right ascension has no sign: astropy keeps that of -0.0
    own = direction_text(ra_rad, math.radians(dec), separators, (digits, digits))
    theirs = (
        Longitude(ra_rad, u.rad).to_string(
            unit=u.hourangle, sep=separators[0], precision=digits, pad=True
        ),
        Latitude(math.radians(dec), u.rad).to_string(
            unit=u.deg, sep=separators[1], precision=digits, pad=True, alwayssign=True
        ),
    )
    # the last digit may be rounded the other way
    least = 1.01 * 10.0**-digits + 1e-8
    apart = abs(seconds(own[0], separators[0]) - seconds(theirs[0], separators[0]))
    assert min(apart, 86400 - apart) <= least
    assert abs(seconds(own[1], separators[1]) - seconds(theirs[1], separators[1])) <= least
    assert len(own[0]) == len(theirs[0]) and len(own[1]) == len(theirs[1])
    assert own[1][0] == theirs[1][0]


@pytest.mark.parametrize(
    ("ra", "dec", "text"),
    [
        (187.2779154, 2.0523883, ("12h29m06.70s", "+02:03:08.6")),
        (0.0, -0.0001, ("00h00m00.00s", "-00:00:00.4")),
        (359.999999999, 59.9999999999, ("00h00m00.00s", "+60:00:00.0")),
    ],
)
def test_known_directions(ra: float, dec: float, text: tuple[str, str]) -> None:
    assert direction_text(math.radians(ra), math.radians(dec), ("hms", ":"), (2, 1)) == text
