"""Data as people have them: parts without data, other orders, ids and shapes, impossible numbers.

Whatever is missing, a working copy, closure quantities, a solve and an image are those of the
same data without it, or there is one line that says why not.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.casa.session import CasaSession
from libs.closure.read import hands_are_copies, read_visibilities
from libs.closure.statistics import closure_quantities
from libs.core.errors import InputError, SelfcalError
from libs.gains.native import NativeSolver
from libs.gains.solution_interval import PER_INTEGRATION, PER_SCAN, SolutionInterval
from libs.gains.solver import SolveOptions
from libs.imaging.native.samples import Selection
from libs.imaging.native.visibility_store import open_store
from libs.inputs.working_copy import WorkingCopy, check_usable, make_working_copy, resolve_inputs
from libs.ms.data_power import typical_power
from libs.ms.summary import summarise
from libs.ms.tables import open_table
from libs.simulation.observation import StationErrors
from steps.targets.executions import survey
from tests import odd_data

# a campaign draws more, from other seeds each time: SELFCAL_DRAWS=300 pytest tests/test_odd_data.py
FEW = settings(
    max_examples=int(os.environ.get("SELFCAL_DRAWS", "8")), deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


def copy_of(ms: Path, **how: Any) -> WorkingCopy:
    """Make the working copy; no case here needs CASA for it."""
    (source,) = resolve_inputs(str(ms))
    return make_working_copy(
        source, ms.parent / "data" / f"{ms.stem}.ms", session=CasaSession(ms.parent), **how
    )


def usable_copy(ms: Path) -> WorkingCopy | None:
    """Make the working copy; None where one line says why there is nothing to use, and a remedy."""
    try:
        copy = copy_of(ms)
        check_usable(summarise(copy.ms), copy)
    except SelfcalError as error:
        assert error.cause and error.remedy
        return None
    return copy


def fresh(tmp_path: Path, name: str = "odd") -> Path:
    shutil.rmtree(tmp_path / "data", ignore_errors=True)
    shutil.rmtree(tmp_path / f"{name}.ms", ignore_errors=True)
    return tmp_path / f"{name}.ms"


def numbers(ms: Path) -> dict[str, float]:
    """What the parts of a run make of a working copy: closures, a solve, what is imaged."""
    closures = closure_quantities(read_visibilities(ms), 60.0)
    solved = NativeSolver(corr_dep_flags=True).solve(
        ms, ms.with_suffix(".p"), SolveOptions(solint=SolutionInterval(10.0), minblperant=3)
    )
    store = open_store([ms], Selection("DATA"), memory_bytes=1e9)
    summed = sum(float((b.visibility * b.weight).real.sum()) for b in store.blocks())
    return {
        "closures": len(closures.phases),
        "chi": float(np.abs(closures.phases.phase_rad).sum()),
        "imaged": store.facts.visibilities,
        "mean": summed / sum(float(b.weight.sum()) for b in store.blocks()),
        "snr": solved.median_snr,
        "power": typical_power(ms),
    }


PARTS = st.fixed_dictionaries(
    {
        "window": st.sampled_from([None, 0, 1, 2]),
        "scan": st.sampled_from([None, 1, 2, 3]),
        "antenna": st.sampled_from([None, 0, 3, 7]),
        "hand": st.sampled_from([None, 0, 1]),
    }
)


@FEW
@given(part=PARTS)
def test_any_part_may_be_without_data(tmp_path: Path, part: dict[str, int | None]) -> None:
    """Flagged or taken out: the same, or one line with a remedy."""
    hand = part.pop("hand")
    windows = tuple((4.85e9 + 1.2e8 * i, 3.2e7, n) for i, n in enumerate((4, 8, 4)))
    flagged = odd_data.plain(fresh(tmp_path), windows=windows, integrations=2)
    rows = odd_data.rows_of(flagged, **part)
    if hand is None and not rows.all():
        without = fresh(tmp_path, "without")
        with open_table(flagged) as opened:
            opened.selectrows(np.flatnonzero(~rows)).copy(str(without), deep=True).close()
    odd_data.flag(flagged, rows, hand)
    copy = copy_of(flagged)
    if hand is None and rows.all():
        with pytest.raises(SelfcalError) as caught:
            check_usable(summarise(copy.ms), copy)
        assert caught.value.remedy
        return
    check_usable(summarise(copy.ms), copy)
    found = numbers(copy.ms)
    if part["window"] is not None and part["scan"] is None and part["antenna"] is None:
        assert any(f"window {part['window']} has no" in note for note in copy.notes)
    assert found["imaged"] > 0
    if hand is None:
        expected = numbers(copy_of(without).ms)
        assert found == pytest.approx(expected, rel=1e-4)


@FEW
@given(order=st.permutations([0, 1, 2, 3]), windows=st.sampled_from([(8, 8), (4, 8), (8, 4)]))
def test_the_order_of_correlations_changes_nothing(
    tmp_path: Path, order: list[int], windows: tuple[int, int]
) -> None:
    shapes = tuple((4.97e9 + 1.4e8 * i, 3.2e7, n) for i, n in enumerate(windows))
    errors = StationErrors(phase_walk_deg=60, phase_walk_s=600, pol_offset_deg=20, amp_offset=0.1)
    how: dict[str, Any] = {
        "windows": shapes, "correlations": ("RR", "RL", "LR", "LL"), "errors": errors,
    }  # fmt: skip
    ms = odd_data.plain(fresh(tmp_path), integrations=2, **how)
    before = numbers(copy_of(ms).ms)
    assert not hands_are_copies(ms)
    odd_data.order_hands(ms, order)
    shutil.rmtree(tmp_path / "data")
    assert numbers(copy_of(ms).ms) == pytest.approx(before, rel=1e-5)


@FEW
@given(numbers_of_scans=st.tuples(*[st.sampled_from([-1, 0, 7, 2_000_000_000, -5])] * 3))
def test_numbers_of_scans_are_names(tmp_path: Path, numbers_of_scans: tuple[int, ...]) -> None:
    ms = odd_data.plain(fresh(tmp_path), integrations=2)
    with open_table(ms, write=True) as opened:
        scan = opened.getcol("SCAN_NUMBER")
        opened.putcol("SCAN_NUMBER", np.choose(scan - 1, list(numbers_of_scans)).astype(np.int32))
    copy = copy_of(ms)
    assert numbers(copy.ms)["snr"] > 3
    from libs.gains.normal_equations import accumulate

    sums = accumulate(copy.ms, SolveOptions(solint=PER_INTEGRATION))
    for length in (SolutionInterval(20.0), PER_SCAN):
        whole = sums.binned(length)
        assert whole.weight.sum() == pytest.approx(sums.weight.sum())
    assert len(sums.binned(PER_SCAN).time_s) == len(set(numbers_of_scans))


@FEW
@given(
    value=st.sampled_from([0.0, np.nan, np.inf, 1e30]),
    antenna=st.integers(0, 7),
    window=st.sampled_from([None, 0, 1]),
)
def test_an_antenna_without_uvw_is_flagged_and_named(
    tmp_path: Path, value: float, antenna: int, window: int | None
) -> None:
    ms = odd_data.plain(fresh(tmp_path), integrations=2)
    gone = odd_data.rows_of(ms, antenna=antenna, window=window)
    odd_data.put(ms, "UVW", gone, value)
    copy = copy_of(ms)
    assert copy.repairs.bad_uvw == gone.sum() * 16
    (line,) = [note for note in copy.notes if "u, v, w" in note]
    assert f"(ea{antenna + 1:02d}: {gone.sum() * 16}" in line
    assert ("window" in line) == (window is not None)
    with open_table(copy.ms) as opened:
        assert opened.getcol("FLAG")[gone].all()
        assert np.isfinite(opened.getcol("UVW")).all()
    assert numbers(copy.ms)["mean"] == pytest.approx(1.0, abs=0.5)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("FIELD_ID", 7, "name row 7 of the FIELD table, which has 1"),
        ("ANTENNA2", 99, "name row 99 of the ANTENNA table, which has 8"),
        ("ANTENNA1", -1, "name row -1 of the ANTENNA table"),
        ("DATA_DESC_ID", 5, "name row 5 of the DATA_DESCRIPTION table"),
        ("TIME", np.nan, "have no time"),
        ("TIME", 1e30, "have no time"),
    ],
)
def test_rows_that_cannot_be_used_are_left_out_and_counted(
    tmp_path: Path, column: str, value: float, says: str
) -> None:
    ms = odd_data.plain(fresh(tmp_path), integrations=2)
    some = odd_data.rows_of(ms, scan=2, window=0)
    odd_data.put(ms, column, some, value)
    copy = copy_of(ms)
    (line,) = [note for note in copy.notes if "left out" in note]
    assert line.startswith(f"{some.sum()} rows {says}")
    with open_table(copy.ms) as opened:
        assert opened.nrows() == (~some).sum()
    odd_data.put(ms, column, ~some, value)
    with pytest.raises(SelfcalError, match="no row of the input can be used"):
        copy_of(ms)


def test_a_window_without_frequencies_is_left_out(tmp_path: Path) -> None:
    ms = odd_data.plain(fresh(tmp_path), integrations=2)
    with open_table(f"{ms}::SPECTRAL_WINDOW", write=True) as opened:
        opened.putcell("CHAN_FREQ", 1, np.full(8, np.nan))
    copy = copy_of(ms)
    assert any("window 1, whose frequencies are not positive" in note for note in copy.notes)
    assert summarise(copy.ms).spws_used == (0,)


@pytest.mark.parametrize("column", ["SPECTRAL_WINDOW_ID", "POLARIZATION_ID"])
def test_a_data_description_of_nothing_is_left_out(tmp_path: Path, column: str) -> None:
    ms = odd_data.plain(fresh(tmp_path), integrations=2)
    gone = odd_data.rows_of(ms, window=0)
    with open_table(f"{ms}::DATA_DESCRIPTION", write=True) as opened:
        opened.putcell(column, 0, 2**31 - 1)
    assert survey(*resolve_inputs(str(ms))).start_s > 0  # names of copies and targets
    copy = copy_of(ms)
    (line,) = [note for note in copy.notes if "left out" in note]
    assert line.startswith(f"{gone.sum()} rows are of data description 0, which names a window")
    assert summarise(copy.ms).rows == (~gone).sum()
    assert numbers(copy.ms)["imaged"] > 0


def test_fields_that_are_not_there_are_no_targets(tmp_path: Path) -> None:
    ms = odd_data.plain(fresh(tmp_path), integrations=2)
    odd_data.put(ms, "FIELD_ID", odd_data.rows_of(ms, scan=2), 7)
    found = survey(*resolve_inputs(str(ms)))
    assert set(found.used) == {0}
    odd_data.put(ms, "FIELD_ID", odd_data.rows_of(ms), 7)
    assert not survey(*resolve_inputs(str(ms))).used


def test_channels_that_their_window_does_not_have_are_an_error(tmp_path: Path) -> None:
    ms = odd_data.plain(fresh(tmp_path), integrations=2)
    with open_table(f"{ms}::SPECTRAL_WINDOW", write=True) as opened:
        for name in ("CHAN_FREQ", "CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION"):
            opened.putcell(name, 1, opened.getcell(name, 1)[:5])
        opened.putcell("NUM_CHAN", 1, 5)
    with pytest.raises(SelfcalError, match=r"DATA of window 1 holds 8 x 2 .* say 5 x 2"):
        copy_of(ms)


def test_corrected_data_of_one_window_alone_give_way_to_data(tmp_path: Path) -> None:
    from casacore.tables import makearrcoldesc

    ms = odd_data.plain(fresh(tmp_path), integrations=2)
    first = odd_data.rows_of(ms, window=0)
    with open_table(ms, write=True) as opened:
        opened.addcols(makearrcoldesc("CORRECTED_DATA", 0j, valuetype="complex", ndim=2))
        for row in np.flatnonzero(first).tolist():
            opened.putcell("CORRECTED_DATA", row, opened.getcell("DATA", row))
    copy = copy_of(ms)
    assert copy.datacolumn == "DATA"
    assert f"{(~first).sum()} rows have no CORRECTED_DATA; DATA is used throughout" in copy.notes
    assert copy_of(ms, spw="0").datacolumn == "CORRECTED_DATA"
    asked = copy_of(ms, datacolumn="corrected")
    assert asked.datacolumn == "CORRECTED_DATA"
    assert any(f"{(~first).sum()} rows have no CORRECTED_DATA" in note for note in asked.notes)


@pytest.mark.parametrize("hand", [0, 1])
def test_a_window_with_one_hand_is_imaged_with_the_others(tmp_path: Path, hand: int) -> None:
    ms = odd_data.plain(fresh(tmp_path), integrations=2)
    odd_data.flag(ms, odd_data.rows_of(ms, window=1), hand)
    copy = copy_of(ms)
    dead, alive = ("RR", "LL") if hand == 0 else ("LL", "RR")
    assert f"window 1 has no {dead}: {alive} alone, which is taken for Stokes I" in copy.notes
    for memory in (1e9, 1.0):
        store = open_store([copy.ms], Selection("DATA"), memory_bytes=memory)
        assert store.facts.visibilities == summarise(copy.ms).rows * 8
        assert sum(np.count_nonzero(b.weight) for b in store.blocks()) == store.facts.visibilities


@pytest.mark.parametrize("number", [0, 3, 100])
def test_a_wrong_number_of_channels_is_put_right(tmp_path: Path, number: int) -> None:
    ms = odd_data.plain(fresh(tmp_path), integrations=2)
    before = numbers(copy_of(ms).ms)
    with open_table(f"{ms}::SPECTRAL_WINDOW", write=True) as opened:
        opened.putcell("NUM_CHAN", 1, number)
    shutil.rmtree(tmp_path / "data")
    copy = copy_of(ms)
    assert numbers(copy.ms) == pytest.approx(before)
    with open_table(f"{copy.ms}::SPECTRAL_WINDOW") as opened:
        assert opened.getcol("NUM_CHAN").tolist() == [8, 8]


def test_files_that_are_cut_short_or_missing_are_an_error_with_a_remedy(tmp_path: Path) -> None:
    for name, cut in (("POLARIZATION/table.f0i", True), ("table.f5", False)):
        ms = odd_data.plain(fresh(tmp_path), integrations=2)
        file = ms / name
        content = file.read_bytes()
        file.unlink()
        if cut:
            file.write_bytes(content[: len(content) // 3])
        with pytest.raises(InputError, match=r"odd\.ms cannot be read: casacore says: ") as caught:
            copy_of(ms)
        assert "copy it again" in caught.value.remedy
        if not cut:  # the names of working copies are asked for before anything is copied
            with pytest.raises(InputError, match="cannot be read: casacore says"):
                survey(*resolve_inputs(str(ms)))
