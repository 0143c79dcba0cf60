"""The comparison with another program: which cases count, and who is called the better one."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path

import pytest

from benchmarks.campaign.draw import draw
from benchmarks.peer import PACKAGE, image_pixels
from benchmarks.peer_random import (
    LEAST_SNR,
    MOST_PIXELS,
    Compared,
    Reached,
    chosen,
    counts,
    random_table,
    read_record,
    tally,
)


def compared(ours: float, theirs: float, flux: float = 1.0, their_flux: float = 1.0) -> Compared:
    return Compared(
        7, "a case", 0.1, 1000.0, 0.002, Reached(ours, flux, 10.0, 10.0),
        Reached(theirs, their_flux, 20.0, 20.0), "int",
    )  # fmt: skip


def test_cases_are_those_that_count_in_the_order_of_their_seeds() -> None:
    found = [case.seed for case in itertools.islice(chosen(880001, 5), 5)]
    last = found[-1]
    assert found == [seed for seed in range(880001, last + 1) if counts(draw(seed))]
    for seed in found:
        case = draw(seed)
        assert case.aimed_snr >= LEAST_SNR
        assert case.kinds["array"].startswith(("ALMA", "ACA", "VLA"))


def test_the_size_of_the_peers_image() -> None:
    """As it said of the benchmark cases: 16384 pixels in the VLA's A, some 1700 of ALMA."""
    assert image_pixels("VLA", 5e9, 36_400) > 16000
    assert MOST_PIXELS < image_pixels("ALMA", 230e9, 2500) < 1800
    assert image_pixels("ACA", 230e9, 45) < 100
    # both the beam and the resolution go with the wavelength
    assert image_pixels("ALMA", 100e9, 300) == image_pixels("ALMA", 300e9, 300)


@pytest.mark.parametrize(
    ("row", "better"),
    [
        (compared(0.99, 0.90), "this program"),
        (compared(0.90, 0.99), PACKAGE),
        (compared(0.990, 0.995), "equal"),
        (compared(0.99, 0.99, flux=0.95), PACKAGE),
        (compared(0.99, 0.99, their_flux=1.05), "this program"),
        (compared(0.99, 0.99, flux=0.995), "equal"),
        (compared(0.30, math.nan, their_flux=math.nan), "this program"),
    ],
)
def test_who_is_better(row: Compared, better: str) -> None:
    assert row.better == better
    assert random_table([row]).splitlines()[-1].endswith(f"| {better} |")
    assert tally([row])[better] == 1


def test_a_record_is_read_back(tmp_path: Path) -> None:
    row = compared(0.99, 0.90)
    path = tmp_path / "peers_random.jsonl"
    path.write_text(json.dumps(dataclasses.asdict(row)) + "\n")
    assert read_record(path) == {7: row}
    assert read_record(tmp_path / "none.jsonl") == {}
