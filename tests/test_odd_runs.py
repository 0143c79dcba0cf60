"""The whole command on odd data: as good as on the same data without the oddity."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from casacore.tables import makecoldesc, maketabdesc

from libs.ms.tables import open_table
from libs.simulation.observation import StationErrors
from tests import odd_data
from tests.conftest import tree_hash
from tests.quiet_run import quiet_run

pytestmark = pytest.mark.tools

ERRORS = StationErrors(phase_walk_deg=60, phase_walk_s=600, pol_offset_deg=10)
ANTENNAS = 10
WIDE = tuple((4.85e9 + 1.2e8 * i, 3.2e7, 8) for i in range(3))
# whether extended components help such data is a choice that noise tips either way
OVERRIDES = {"initial_model": {"max_components": 3}, "p0": {"with_multiscale": False}}
STEPS = ("startup", "save_init_flags", "test_image", "closure_stats", "initial_model", "p0")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    status: str
    flux_jy: float
    peak_jy: float
    dynamic_range: float
    startup: str


def selfcal(folder: Path, *sets: Path) -> Outcome:
    """Run the command on data; the input stays as it is."""
    before = [tree_hash(ms) for ms in sets]
    found = quiet_run(folder, sets, steps=STEPS, overrides=OVERRIDES)
    assert [tree_hash(ms) for ms in sets] == before
    final = found.summary["final"]
    return Outcome(
        found.summary["status"], final["total_flux_jy"], final["peak_jy_beam"],
        final["dynamic_range"], found.result("startup").reason,
    )  # fmt: skip


def make(path: Path, windows: Sequence[tuple[float, float, int]] = odd_data.WINDOWS) -> Path:
    return odd_data.plain(path, windows=windows, antennas=ANTENNAS, integrations=8, errors=ERRORS)


Spoil = Callable[[Path], None]


def _scans_without_numbers(ms: Path) -> None:
    odd_data.put(ms, "SCAN_NUMBER", odd_data.rows_of(ms), -1)


def _scans_of_large_numbers(ms: Path) -> None:
    with open_table(ms, write=True) as opened:
        scan = opened.getcol("SCAN_NUMBER")
        opened.putcol("SCAN_NUMBER", (scan + 2_000_000_000).astype(np.int32))


def _second_window_falls(ms: Path) -> None:
    odd_data.fall(ms, 1)


def _other_order_of_hands(ms: Path) -> None:
    odd_data.order_hands(ms, [1, 0])


def _partial_corrected(ms: Path) -> None:
    with open_table(ms, write=True) as opened:
        described = {**opened.getcoldesc("DATA"), "ndim": 2, "option": 0}
        described.pop("shape", None)
        described["dataManagerType"] = "StandardStMan"
        described["dataManagerGroup"] = "Corrected"
        opened.addcols(maketabdesc(makecoldesc("CORRECTED_DATA", described)))
    rows = np.flatnonzero(odd_data.rows_of(ms, window=0)).tolist()
    with open_table(ms, write=True) as opened:
        for row in rows:
            opened.putcell("CORRECTED_DATA", row, opened.getcell("DATA", row))


def _no_flag_category(ms: Path) -> None:
    with open_table(ms, write=True) as opened:
        if "FLAG_CATEGORY" in opened.colnames():
            opened.removecols("FLAG_CATEGORY")


def _flag_category_without_keyword(ms: Path) -> None:
    with open_table(ms, write=True) as opened:
        if "FLAG_CATEGORY" not in opened.colnames():
            described = {**opened.getcoldesc("FLAG"), "ndim": 3, "option": 0}
            described.pop("shape", None)
            described["dataManagerGroup"] = "category"
            described["dataManagerType"] = "StandardStMan"
            opened.addcols(maketabdesc(makecoldesc("FLAG_CATEGORY", described)))
        if "CATEGORY" in opened.getcolkeywords("FLAG_CATEGORY"):
            opened.removecolkeyword("FLAG_CATEGORY", "CATEGORY")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What comes of the data with nothing odd."""
    folder = tmp_path_factory.mktemp("plain")
    found = selfcal(folder, make(folder / "plain.ms"))
    assert found.status == "improved"
    assert found.peak_jy == pytest.approx(1.0, rel=0.03)
    return found


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ((_scans_without_numbers, _second_window_falls, _no_flag_category), ""),
        ((_scans_of_large_numbers, _flag_category_without_keyword, odd_data.follow_ephemeris),
         "follows an ephemeris: RA 225.00000 Dec 30.00000"),
        ((_other_order_of_hands, _partial_corrected),
         "rows have no CORRECTED_DATA; DATA is used throughout"),
    ],
    ids=lambda part: " ".join(one.__name__.strip("_") for one in part if callable(one)),
)  # fmt: skip
def test_the_same_visibilities_told_otherwise(
    tmp_path: Path, plain: Outcome, spoil: Sequence[Spoil], says: str
) -> None:
    """Several oddities at once: a fault in any of them would show, and a run takes seconds."""
    ms = make(tmp_path / "odd.ms")
    for change in spoil:
        change(ms)
    found = selfcal(tmp_path, ms)
    assert found.status == "improved"
    assert found.flux_jy == pytest.approx(plain.flux_jy, rel=0.01)
    assert found.dynamic_range == pytest.approx(plain.dynamic_range, rel=0.05)
    assert says in found.startup


def _no_place(value: float) -> Spoil:
    def spoil(ms: Path) -> None:
        gone = odd_data.rows_of(ms, antenna=4)
        odd_data.put(ms, "UVW", gone, value)
        noise = np.random.default_rng(5).normal(size=(2, int(gone.sum()), 8, 2))
        odd_data.put(ms, "DATA", gone, noise[0] + 1j * noise[1])

    return spoil


def _part(**part: int) -> tuple[Spoil, Spoil]:
    """A part of the data flagged, with nonsense under the flags; the same part taken out."""
    return (
        lambda ms: odd_data.flag(ms, odd_data.rows_of(ms, **part)),
        lambda ms: odd_data.take_out(ms, odd_data.rows_of(ms, **part)),
    )


def _no_places(ms: Path) -> None:
    """One antenna with uvw 0 in the first scan and no numbers later."""
    _no_place(0.0)(ms)
    odd_data.put(ms, "UVW", odd_data.rows_of(ms, antenna=4) & ~odd_data.rows_of(ms, scan=1), np.nan)


@pytest.mark.parametrize(
    ("windows", "spoil", "without"),
    [
        (odd_data.WINDOWS, _no_places, _part(antenna=4)[1]),
        (odd_data.WINDOWS, *_part(window=0, scan=2)),
        (WIDE, *_part(window=0)),
        (odd_data.WINDOWS, lambda ms: odd_data.flag(ms, odd_data.rows_of(ms), 0),
         lambda ms: odd_data.keep_hand(ms, 1)),
    ],
    ids=["uvw zero and no number", "window of a scan", "window of a wide band", "first hand"],
)  # fmt: skip
def test_a_part_without_data_and_the_same_without_the_part(
    tmp_path: Path,
    windows: Sequence[tuple[float, float, int]],
    spoil: Spoil,
    without: Spoil,
) -> None:
    found = []
    for name, change in (("odd", spoil), ("without", without)):
        ms = make(tmp_path / f"{name}.ms", windows)
        change(ms)
        found.append(selfcal(tmp_path / name, ms))
    odd, right = found
    assert odd.status == right.status == "improved"
    assert odd.flux_jy == pytest.approx(right.flux_jy, rel=0.01)
    assert odd.dynamic_range == pytest.approx(right.dynamic_range, rel=0.05)


def test_windows_of_other_numbers_of_channels(tmp_path: Path, plain: Outcome) -> None:
    first, (centre, width, _) = odd_data.WINDOWS
    found = selfcal(tmp_path, make(tmp_path / "odd.ms", (first, (centre, width, 5))))
    assert found.flux_jy == pytest.approx(plain.flux_jy, rel=0.01)
    # 13 of 16 channels of the same noise
    assert found.dynamic_range > 0.85 * np.sqrt(13 / 16) * plain.dynamic_range


def test_antennas_of_two_times_in_one_set_and_in_two(tmp_path: Path) -> None:
    ms = odd_data.plain(tmp_path / "odd.ms", antennas=16, integrations=8, errors=ERRORS)
    odd_data.two_subarrays(ms, 8, 2)
    late = odd_data.rows_of(ms, scan=1)
    with open_table(ms) as opened:
        for name, rows in (("one", late), ("two", ~late)):
            opened.selectrows(np.flatnonzero(rows)).copy(str(tmp_path / f"{name}.ms"), deep=True)
    together = selfcal(tmp_path / "together", ms)
    apart = selfcal(tmp_path / "apart", tmp_path / "one.ms", tmp_path / "two.ms")
    assert together.status == apart.status == "improved"
    assert together.flux_jy == pytest.approx(apart.flux_jy, rel=0.01)
    assert together.dynamic_range > 0.95 * apart.dynamic_range


def test_weights_made_again_after_amplitude_rounds_are_those_made_first(tmp_path: Path) -> None:
    """The noise is that of DATA; CORRECTED_DATA of an earlier start has other amplitudes."""
    errors = StationErrors(phase_walk_deg=20, phase_walk_s=600, amp_offset=0.2)
    ms = odd_data.plain(tmp_path / "a.ms", antennas=ANTENNAS, integrations=8, errors=errors)
    steps = ("startup", "save_init_flags", "test_image", "p0", "ap1")
    first = quiet_run(tmp_path, [ms], steps=steps)
    before = first.result("test_image").metrics
    assert first.result("ap1").status == "done"
    again = quiet_run(
        tmp_path, [ms], steps=steps, overrides={"save_init_flags": {"min_samples": 31}}
    )
    assert again.order["save_init_flags"] > again.order["startup"]
    assert again.result("test_image").metrics["snr"] == before["snr"]
