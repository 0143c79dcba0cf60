"""Compilation of the numerical kernels at installation, so that the first run need not wait.

Numba keeps compiled code beside the modules; in a read-only installation each run compiles anew.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from libs.closure.coherence import baseline_coherence, station_coherence
from libs.closure.formation import BaselineVisibilities
from libs.closure.model import FitOptions, fit_components
from libs.closure.statistics import closure_quantities
from libs.gains.apply_kernels import apply_gains
from libs.gains.kernels import accumulate_rows
from libs.gains.native_solve import solve_gains
from libs.gains.normal_equations import NormalEquations
from libs.gains.referencing import reference_phases
from libs.gains.tec import solve_tec
from libs.heldout.choose import choose_solve
from libs.heldout.coherence import held_out_coherence
from libs.imaging.native.averaging import plan_averaging
from libs.imaging.native.convolution import Convolver
from libs.imaging.native.deconvolution import CleanSettings, clean
from libs.imaging.native.gridding import Gridder
from libs.imaging.native.samples import Selection, SetLayout, make_block
from libs.imaging.native.source_scores import sum_rows
from libs.imaging.native.weighting import make_weighting

__all__ = ["warm_up"]


def _solver() -> None:
    nant = 6
    one, two = np.triu_indices(nant, 1)
    vis = np.ones((2, 1, len(one), 2), complex)
    for calmode in ("p", "a", "ap"):
        for gaintype in ("G", "T"):
            fit = solve_gains(
                vis, np.ones(vis.shape), one, two, nant,
                calmode=calmode, gaintype=gaintype,
            )  # fmt: skip
            reference_phases(fit.gain, fit.flag, np.arange(nant), calmode)
    wide = np.ones((2, 4, len(one), 2), complex)
    solve_tec(wide, np.ones(wide.shape), one, two, nant, np.linspace(1.2e8, 1.6e8, 4))


def _data() -> None:
    """Compile kernels of visibilities, with arrays of the types found in measurement sets."""
    nrow, nchan, ncorr, nant = 3, 2, 2, 3
    vis = np.ones((nrow, nchan, ncorr), np.complex64)
    flag, sigma = np.zeros(vis.shape, bool), np.ones((nrow, 1, ncorr), np.float32)
    one, two = np.array([0, 0, 1], np.int32), np.array([1, 2, 2], np.int32)
    hands, slot, row = np.arange(2), np.zeros(nrow, np.int32), np.zeros(nrow, np.int64)
    gain, solved = np.ones((1, 1, nant, 2), complex), np.ones((1, 1, nant, 2), bool)
    sums = np.zeros((1, 1, nrow, 2), complex), np.zeros((1, 1, nrow, 2))
    threads = numba.get_num_threads()
    accumulate_rows(
        vis, vis, flag, np.zeros(nrow, bool), sigma, True, one, two, slot, np.zeros(nrow),
        np.zeros(nchan, np.int64), hands, gain, solved, row, nant, False, threads, *sums,
        np.zeros((threads, 1, 1, 2)),
    )  # fmt: skip
    apply_gains(
        vis, flag, np.empty((0, 0, 0), np.float32), one, two, row, gain, solved, hands, hands,
        True, np.empty_like(vis),
    )  # fmt: skip


def _held_out() -> None:
    rng = np.random.default_rng(0)
    nant, ntime, nblock = 8, 4, 4
    one, two = np.triu_indices(nant, 1)
    gain = np.exp(1j * rng.normal(0, 1, (ntime, 1, nant, 1)))
    vis = np.repeat(np.repeat(gain[:, :, one] * gain[:, :, two].conj(), nblock, 1), 2, 3)
    zeros = np.zeros(ntime, np.int64)
    sums = NormalEquations(
        10.0 * np.arange(ntime, dtype=np.float64), np.full(ntime, 10.0), zeros, zeros, zeros,
        np.linspace(1.2e8, 1.6e8, nblock), np.zeros(nblock, np.int64), tuple("ABCDEFGH"),
        rng.normal(0, 1e3, (nant, 3)), one, two, ("X", "Y"), 100 * vis,
        np.full(vis.shape, 100.0), np.ones(ntime),
    )  # fmt: skip
    for calmode in ("p", "ap"):
        choice = choose_solve(sums, calmode=calmode, channels_per_block=1)
        held_out_coherence(sums, choice.scores[0].candidate)


def _closure() -> None:
    rng = np.random.default_rng(0)
    nant, ntime = 6, 12
    one, two = np.triu_indices(nant, 1)
    uvw = rng.normal(0, 1e4, (len(one), ntime, 3))
    vis = 1 + 0.5 * np.exp(2j * np.pi * uvw[:, None, :, 0] * 1e-4)
    vis = vis + rng.normal(0, 0.01, vis.shape) + 1j * rng.normal(0, 0.01, vis.shape)
    data = BaselineVisibilities(
        np.arange(ntime, dtype=np.float64) * 10, tuple("ABCDEF"), one, two, np.array([1.4e9]),
        uvw, vis,
        np.full(vis.shape, 0.01),
    )  # fmt: skip
    station_coherence(data, 30.0)
    baseline_coherence(data, 30.0)
    fit_components(closure_quantities(data, 30.0), FitOptions(max_components=3))


def _imager() -> None:
    """Compile the kernels between a measurement set's columns and a CLEANed image."""
    nrow, nchan = 4, 2
    vis = np.ones((nrow, nchan, 2), np.complex64)
    one, two = np.zeros(nrow, np.int32), np.ones(nrow, np.int32)
    columns: dict[str, NDArray[Any]] = {
        "UVW": np.ones((nrow, 3)), "DATA": vis, "FLAG": np.zeros(vis.shape, bool),
        "FLAG_ROW": np.zeros(nrow, bool), "TIME": np.arange(nrow, dtype=np.float64),
        "ANTENNA1": one, "ANTENNA2": two,
    }  # fmt: skip
    frequency = np.array([1.0e9, 1.1e9])
    layout = SetLayout(Path(), (frequency,), (1e8,), np.zeros(1, np.int64), ((0, 1),))
    block = make_block(
        columns, np.ones((nrow, 1, 2), np.float32), frequency, (0, 1), Selection("DATA"), layout, 0
    )
    assert block is not None
    make_weighting([block], (16, 16), 1e-5, briggs=True).of(block)
    values, index = block.visibility, np.zeros(len(block.time_s), np.int64)
    sum_rows(
        block.uvw_m, frequency, block.weight, values, values, values, np.zeros(4), index,
        index + block.antenna1, index + block.antenna2, np.zeros((1, 2, 7)),
        np.zeros((1, 2, 2, 7)), np.zeros((7, 7)), np.zeros((7, 7)),
    )  # fmt: skip
    plan = plan_averaging(block, 1e-3, 1e9, with_terms=False)
    for model in (None, np.zeros((nrow, nchan), np.complex64), np.zeros((nrow, nchan), complex)):
        plan.sums(block, model)
    psf = np.zeros((1, 32, 32), np.float32)
    psf[0, 16, 16] = 1.0
    settings = CleanSettings(5, 0.1, 0.5, 1, 0.0, 0.0)
    dirty = psf[:, 8:24, 8:24].astype(np.float64)
    clean(dirty, Convolver(psf, (0.0,)), settings, lambda model: dirty)
    # a field beside the phase centre, whose w term takes three terms of a series
    grid = Gridder((32, 32), 1e-7, (1e-3, 0.0))
    uvw = np.array([[10.0, 20.0, 2e5]])
    for model, accuracy in ((dirty[0], 1e-6), (dirty[0], 1e-4)):
        seen = grid.visibilities(uvw, np.array([1e9]), np.pad(model, 8), accuracy)
        grid.image(uvw, np.array([1e9]), seen.astype(np.complex64), accuracy)


def warm_up() -> float:
    """Compile every kernel that a standard run uses; return the seconds it took."""
    start = time.monotonic()
    _solver()
    _data()
    _held_out()
    _closure()
    _imager()
    return time.monotonic() - start


if __name__ == "__main__":
    print(f"kernels compiled in {warm_up():.0f} s")
