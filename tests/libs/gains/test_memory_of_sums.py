"""Memory that a solve and its application take does not grow with the rows of the data."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.synthetic_ms import make_ms, ring_array
from libs.gains.apply import apply_tables
from libs.gains.normal_equations import accumulate_batches
from libs.gains.solution_interval import PER_SCAN
from libs.gains.solver import SolveOptions
from libs.ms import rows as ms_rows

ANTENNAS, SHORT, LONG = 20, 40, 200


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Data of the same array, a few integrations and five times as many."""
    folder = tmp_path_factory.mktemp("ms")
    return {
        number: make_ms(
            folder / f"{number}.ms", position_m=ring_array(ANTENNAS), integrations=number // 2,
            scans=2, spws=1, channels=1,
        ).path
        for number in (SHORT, LONG)
    }  # fmt: skip


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def sums(ms: Path) -> None:
    options = SolveOptions(solint=PER_SCAN, uvmin_m=10.0)
    assert sum(len(part.time_s) for part in accumulate_batches(ms, options, chunk_bytes=2**17)) == 2


def applied(ms: Path) -> None:
    apply_tables(ms, [], chunk_bytes=2**17)


@pytest.mark.parametrize("work", [sums, applied])
def test_memory_is_that_of_a_stretch_of_the_data(
    data: dict[int, Path], work: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ms_rows, "SLAB_ROWS", 2000)
    for ms in data.values():
        work(ms)  # what is made once only, such as compiled code and columns
    short, long = (peak_bytes(lambda ms=ms: work(ms)) for ms in data.values())  # type: ignore[misc]
    more_rows = (LONG - SHORT) * ANTENNAS * (ANTENNAS - 1) // 2
    # what is kept of an integration comes to about half a byte for each of its rows
    assert long - short < 1.5 * more_rows
