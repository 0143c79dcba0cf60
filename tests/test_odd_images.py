"""Both imagers show the same sky of odd data, and predict the same visibilities of a model.

A member of a kind of oddity is drawn, brought into the data, and the working copy imaged by each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from libs.imaging.interface import Imager, ImagingOptions, open_image
from libs.imaging.native.native import NativeImager
from libs.imaging.wsclean import WSClean
from libs.ms.tables import open_table
from tests import odd_data
from tests.test_odd_data import fresh, usable_copy
from tests.test_odd_tables import COLUMNS, SUBTABLES, lose_column, lose_subtable

pytestmark = pytest.mark.tools

# WSClean's second for each draw; a campaign draws more: SELFCAL_DRAWS=300
DRAWS = settings(
    max_examples=max(1, int(os.environ.get("SELFCAL_DRAWS", "8")) // 4), deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking would take minutes
)  # fmt: skip
OFF_PEAK = 2e-3  # of the peak, by which two dirty images may differ


@dataclass(frozen=True)
class Oddity:
    """What is done to data, and how hypothesis shows it."""

    name: str
    do: Callable[[Path], None]

    def __repr__(self) -> str:
        return self.name


def without_part(window: int | None, scan: int | None, antenna: int | None, hand: int | None,
                 absent: bool) -> Oddity:  # fmt: skip
    def do(ms: Path) -> None:
        rows = odd_data.rows_of(ms, window=window, scan=scan, antenna=antenna)
        if absent and hand is None and not rows.all():
            odd_data.take_out(ms, rows)
        else:
            odd_data.flag(ms, rows, hand)

    return Oddity(f"without window {window}, scan {scan}, antenna {antenna}, hand {hand}, "
                  f"{'absent' if absent else 'flagged'}", do)  # fmt: skip


def impossible(column: str, value: float, share: float, seed: int) -> Oddity:
    def do(ms: Path) -> None:
        rows = np.random.default_rng(seed).random(len(odd_data.rows_of(ms))) < share
        odd_data.put(ms, column, rows, value)

    return Oddity(f"{value} in {share} of {column}, seed {seed}", do)


def left_out(columns: list[str], subtables: dict[str, str]) -> Oddity:
    def do(ms: Path) -> None:
        for name in columns:
            lose_column(ms, name)
        for name, how in subtables.items():
            lose_subtable(ms, name, how)

    return Oddity(f"left out {columns}, {subtables}", do)


def scans_named(names: tuple[int, ...]) -> Oddity:
    def do(ms: Path) -> None:
        with open_table(ms, write=True) as opened:
            scan = opened.getcol("SCAN_NUMBER")
            opened.putcol("SCAN_NUMBER", np.choose(scan - 1, list(names)).astype(np.int32))

    return Oddity(f"scans {names}", do)


def falling(window: int) -> Oddity:
    return Oddity(f"falling window {window}", lambda ms: odd_data.fall(ms, window))


def hands_ordered(order: list[int]) -> Oddity:
    return Oddity(f"hands {order}", lambda ms: odd_data.order_hands(ms, order))


def one_hand(hand: int) -> Oddity:
    return Oddity(f"hand {hand} alone", lambda ms: odd_data.keep_hand(ms, hand))


MISSING = (None, 0, 1, 2)
ODDITIES = st.one_of(
    st.builds(without_part, st.sampled_from(MISSING), st.sampled_from((None, 1, 2, 3)),
              st.sampled_from((None, 0, 3, 7)), st.sampled_from((None, 0, 1)), st.booleans()),
    st.builds(falling,
              st.integers(0, 2)),
    st.builds(hands_ordered,
              st.permutations([0, 1])),
    st.builds(one_hand,
              st.integers(0, 1)),
    st.builds(impossible, st.sampled_from(("DATA", "WEIGHT", "SIGMA", "UVW", "INTERVAL")),
              st.sampled_from((np.nan, np.inf, 0.0, -1.0, 1e30)), st.sampled_from((0.02, 0.5)),
              st.integers(0, 99)),
    st.builds(left_out, st.lists(st.sampled_from(COLUMNS), max_size=2, unique=True),
              st.dictionaries(st.sampled_from(SUBTABLES),
                              st.sampled_from(["empty", "absent", "unnamed"]), max_size=2)),
    st.builds(scans_named, st.tuples(*[st.sampled_from([-1, 0, 7, 2_000_000_000, -5])] * 3)),
)  # fmt: skip
SHAPES = st.lists(st.sampled_from([4, 5, 8]), min_size=3, max_size=3)


def predicted(imager: Imager, options: ImagingOptions, model: Path, ms: Path) -> np.ndarray:
    """Return what an imager makes of a model, where there are data."""
    imager.predict([model], options)
    with open_table(ms) as opened:
        return np.concatenate([
            np.where(opened.getcell("FLAG", row), 0, opened.getcell("MODEL_DATA", row)).ravel()
            for row in range(opened.nrows())
        ])  # fmt: skip


@DRAWS
@given(
    oddities=st.lists(
        ODDITIES, min_size=1, max_size=2, unique_by=lambda each: each.name.split()[0]
    ),
    channels=SHAPES,
)
def test_both_imagers_show_the_same(
    tmp_path: Path, wsclean: Path, oddities: list[Oddity], channels: list[int]
) -> None:
    """Or there is one line that says why there is nothing to show."""
    if any(each.name.startswith("hand ") for each in oddities):
        channels = channels[:1] * 3  # only cells of one shape can lose a hand
    windows = tuple((4.85e9 + 1.2e8 * i, 3.2e7, number) for i, number in enumerate(channels))
    ms = odd_data.plain(fresh(tmp_path), windows=windows, integrations=2)
    names = [each.name.split()[0] for each in oddities]
    if "hand" in names and len(oddities) > 1:  # what is left has no second hand to change
        oddities = [each for each in oddities if each.name.startswith("hand ")]
    # what is left out last can still be changed before
    for each in sorted(oddities, key=lambda each: each.name.startswith("left out")):
        each.do(ms)
    copy = usable_copy(ms)
    if copy is None:
        return
    options = ImagingOptions(
        vis=(copy.ms,), folder=tmp_path / "images", basename="own", imsize=(128, 128),
        cell_arcsec=1.5, robust=0.5, niter=1, threads=1,
    )  # fmt: skip
    own = NativeImager().image(options.but(niter=50))
    theirs = WSClean().image(options.but(basename="theirs"))
    one, two = (open_image(each.dirty)[0] for each in (own, theirs) if each.dirty is not None)
    assert np.abs(one - two).max() < OFF_PEAK * np.abs(two).max()
    model = own.models[0]
    assert np.any(open_image(model)[0])
    seen = predicted(NativeImager(), options, model, copy.ms)
    also = predicted(WSClean(), options, model, copy.ms)
    assert np.abs(seen - also).max() < 2e-3 * np.abs(seen).max()
