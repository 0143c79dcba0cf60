"""Gain tables written and read back, and what is done with them in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.synthetic_ms import make_ms
from libs.core.errors import ConfigError, InputError
from libs.gains.caltable import (
    apply_spwmap,
    full_spwmap,
    normalise_amplitude,
    read_caltable,
    read_solutions,
    write_caltable,
)
from libs.gains.gain_solutions import GainSolutions


@pytest.fixture(scope="module")
def ms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ms(tmp_path_factory.mktemp("ms") / "small.ms", integrations=3, scans=2, spws=2).path


def solutions_for(seed: int = 1, polarization: tuple[str, ...] = ("R", "L")) -> GainSolutions:
    rng = np.random.default_rng(seed)
    shape = (6, 2, 8, len(polarization))
    gain = rng.uniform(0.5, 2, shape) * np.exp(1j * rng.uniform(-3, 3, shape))
    flag = rng.random(shape) < 0.2
    gain[flag] = 1
    scan = np.repeat([0, 1], 3)
    return GainSolutions(
        time_s=5e9 + 10.0 * np.arange(6) + 300.0 * scan, interval_s=np.full(6, 10.0),
        frequency_hz=np.array([5.003e9, 5.103e9]), spw=np.array([0, 1]),
        antenna=tuple(f"ea{i + 1:02d}" for i in range(8)), position_m=np.zeros((8, 3)),
        polarization=polarization, gain=gain, flag=flag,
        snr=np.where(flag, 0, rng.uniform(5, 50, shape)),
    )  # fmt: skip


@pytest.mark.parametrize("polarization", [("R", "L"), ("X", "Y"), ("I",)])
def test_round_trip(ms: Path, tmp_path: Path, polarization: tuple[str, ...]) -> None:
    true = solutions_for(2, polarization)
    write_caltable(tmp_path / "a.G", true, ms)
    back = read_solutions(tmp_path / "a.G")
    assert back.polarization == polarization
    assert back.antenna == true.antenna
    np.testing.assert_array_equal(back.spw, true.spw)
    for name in ("time_s", "interval_s", "frequency_hz"):
        np.testing.assert_allclose(getattr(back, name), getattr(true, name), rtol=1e-12)
    np.testing.assert_array_equal(back.flag, true.flag)
    np.testing.assert_allclose(back.gain, true.gain, rtol=1e-6)
    np.testing.assert_allclose(back.snr, true.snr, rtol=1e-6)


def test_table_says_what_casa_asks_for(ms: Path, tmp_path: Path) -> None:
    write_caltable(tmp_path / "a.T", solutions_for(1, ("I",)), ms)
    table = read_caltable(tmp_path / "a.T")
    assert table.kind == "T Jones"
    assert table.ms_name == ms.name
    assert table.spws[0].scan.tolist() == [1, 1, 1, 2, 2, 2]
    error = table.spws[1].error
    good = ~table.spws[1].flag
    size, snr = np.abs(table.spws[1].gain), table.spws[1].snr
    np.testing.assert_allclose(error[good], size[good] / snr[good], rtol=1e-5)


def test_one_correlation_is_written_with_two_gains(ms: Path, tmp_path: Path) -> None:
    write_caltable(tmp_path / "a.G", solutions_for(1, ("L",)), ms)
    part = read_caltable(tmp_path / "a.G").spws[0]
    assert part.gain.shape[3] == 2
    assert part.flag[..., 1].all()


def test_frequency_blocks_make_a_bandpass_table(ms: Path, tmp_path: Path) -> None:
    blocks = replace(
        solutions_for(), spw=np.array([1, 1]), frequency_hz=np.array([5.101e9, 5.105e9])
    )
    write_caltable(tmp_path / "a.B", blocks, ms)
    assert read_caltable(tmp_path / "a.B").kind == "B Jones"
    back = read_solutions(tmp_path / "a.B")
    np.testing.assert_allclose(back.frequency_hz, blocks.frequency_hz)
    np.testing.assert_allclose(back.gain, blocks.gain, rtol=1e-6)


def test_a_common_gain_in_frequency_blocks_stands_for_both_feeds(ms: Path, tmp_path: Path) -> None:
    """A bandpass table has two gains: neither may be left flagged, or half the data are lost."""
    blocks = replace(
        solutions_for(1, ("I",)), spw=np.array([1, 1]), frequency_hz=np.array([5.101e9, 5.105e9])
    )
    write_caltable(tmp_path / "a.B", blocks, ms)
    back = read_solutions(tmp_path / "a.B")
    assert back.polarization == ("R", "L")
    for feed in (0, 1):
        np.testing.assert_array_equal(back.flag[..., feed], blocks.flag[..., 0])
        np.testing.assert_allclose(back.gain[..., feed], blocks.gain[..., 0], rtol=1e-6)


def test_solutions_left_out_are_absent(ms: Path, tmp_path: Path) -> None:
    kept = np.ones((6, 2), bool)
    kept[2, 0] = kept[4] = False
    write_caltable(tmp_path / "a.G", solutions_for(), ms, kept=kept)
    table = read_caltable(tmp_path / "a.G")
    assert [len(table.spws[spw].time_s) for spw in (0, 1)] == [4, 5]
    back = read_solutions(tmp_path / "a.G")
    assert back.shape[0] == 5
    assert back.flag[2, 0].all()


def test_an_older_table_is_replaced_whole(ms: Path, tmp_path: Path) -> None:
    write_caltable(tmp_path / "a.G", solutions_for(1), ms)
    write_caltable(tmp_path / "a.G", solutions_for(3), ms)
    np.testing.assert_array_equal(read_solutions(tmp_path / "a.G").flag, solutions_for(3).flag)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.G"]


def test_wrong_antennas_are_refused(ms: Path, tmp_path: Path) -> None:
    few = solutions_for()
    few = replace(
        few, antenna=few.antenna[:5], position_m=few.position_m[:5], gain=few.gain[:, :, :5],
        flag=few.flag[:, :, :5], snr=few.snr[:, :, :5],
    )  # fmt: skip
    with pytest.raises(InputError, match="5 antennas"):
        write_caltable(tmp_path / "a.G", few, ms)


def test_a_measurement_set_is_no_gain_table(ms: Path) -> None:
    with pytest.raises(InputError, match="not a table of complex gains"):
        read_caltable(ms)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.01, 100))
def test_normalised_amplitudes_have_mean_power_one(seed: int, scale: float) -> None:
    true = solutions_for(seed)
    scaled = replace(true, gain=np.where(true.flag, 1, true.gain * scale))
    out, factor = normalise_amplitude(scaled)
    good = ~out.flag
    for spw in range(2):
        power = np.abs(out.gain[:, spw][good[:, spw]]) ** 2
        assert power.mean() == pytest.approx(1)
    np.testing.assert_allclose(
        (out.gain * factor[None, :, None, None])[good], scaled.gain[good], rtol=1e-12
    )
    again, one = normalise_amplitude(out)
    np.testing.assert_allclose(one, 1)
    np.testing.assert_allclose(again.gain, out.gain)


def test_spwmap_is_completed_as_casa_does() -> None:
    assert full_spwmap((), 3, 3) == (0, 1, 2)
    assert full_spwmap((1,), 3, 3) == (1, 1, 1)
    assert full_spwmap((2, 0), 3, 3) == (2, 0, 2)
    with pytest.raises(ConfigError, match="4 entries"):
        full_spwmap((0, 0, 0, 0), 3, 3)
    with pytest.raises(ConfigError, match="lacks"):
        full_spwmap((5,), 3, 3)


def test_mapped_solutions_are_those_of_the_spw_named() -> None:
    true = solutions_for()
    mapped = apply_spwmap(true, (1, 1, 0), (1e9, 2e9, 3e9))
    assert mapped.spw.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(mapped.gain[:, 0], true.gain[:, 1])
    np.testing.assert_array_equal(mapped.gain[:, 2], true.gain[:, 0])
    assert apply_spwmap(true, (0,), (1e9, 2e9)).frequency_hz.tolist() == [1e9, 2e9]
