import numpy as np
import pytest

from libs.core.errors import ConfigError, InputError
from libs.ms.selection import match_windows, parse_windows


def window(centre_ghz: float, channels: int = 8) -> np.ndarray:
    return centre_ghz * 1e9 + 2e6 * np.arange(channels)


WINDOWS = [window(5.0), window(6.0), window(9.0), window(10.0)]


@pytest.mark.parametrize(
    ("spw", "expected"),
    [
        ("", {0: "0", 1: "1", 2: "2", 3: "3"}),
        ("*:2~5", {n: f"{n}:2~5" for n in range(4)}),
        ("3, 0~1:10~50", {0: "0:10~50", 1: "1:10~50", 3: "3"}),
        ("2:0~5;8~9", {2: "2:0~5;8~9"}),
        ("1:0~3,1:6~7", {1: "1:0~3;6~7"}),
    ],
)
def test_windows_by_number(spw: str, expected: dict[int, str]) -> None:
    found = parse_windows(spw, 4)
    assert found == expected and list(found) == sorted(found)


@pytest.mark.parametrize("spw", ["4", "2~9", "<3", "X*", "1.4~1.5GHz"])
def test_other_selections_are_told(spw: str) -> None:
    with pytest.raises(ConfigError, match="spw = "):
        parse_windows(spw, 4)


def test_a_selection_of_windows_is_found_again() -> None:
    assert match_windows(WINDOWS, WINDOWS) == (0, 1, 2, 3)
    assert match_windows(WINDOWS[2:], WINDOWS) == (2, 3)
    assert match_windows([WINDOWS[1][2:5]], WINDOWS) == (1,), "channels of a window"


def test_a_window_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"window 1 at 7\.007000 GHz is not among"):
        match_windows([WINDOWS[0], window(7.0)], WINDOWS)
    with pytest.raises(InputError, match="is not among"):
        match_windows([window(5.0, 16)], WINDOWS)
    with pytest.raises(InputError, match="is not among"):
        match_windows([WINDOWS[0] + 2e3], WINDOWS)


def test_windows_alike_are_told_by_the_selection() -> None:
    twice = [*WINDOWS, WINDOWS[0]]
    assert match_windows(twice, twice) == (0, 1, 2, 3, 4)
    with pytest.raises(InputError, match="could be several of"):
        match_windows(WINDOWS[:1], twice)
    assert match_windows(WINDOWS[:1], twice, {4}) == (4,)
