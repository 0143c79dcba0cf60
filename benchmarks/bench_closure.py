"""Closure models: what they recover and how long they take.

Run from the project's root: ``python -m benchmarks.bench_closure [FOLDER WITH THE EHT UVFITS]``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.closure_cases import (
    ARCSEC,
    JET_SOURCE,
    LOFAR_SOURCE,
    Gaussian,
    jet_case,
    lofar_case,
    noise_case,
    read_uvfits,
)
from libs.closure.coherence import baseline_coherence, station_coherence
from libs.closure.formation import BaselineVisibilities
from libs.closure.model import ComponentModel, FitOptions, fit_components
from libs.closure.statistics import closure_quantities

T = TypeVar("T")


def run(
    name: str,
    data: BaselineVisibilities,
    interval_s: float,
    truth: Sequence[Gaussian] = (),
    options: FitOptions | None = None,
) -> ComponentModel:
    """Fit one case; print its ladder, its components and the seconds each part took."""
    closures, seconds = timed(lambda: closure_quantities(data, interval_s))
    _, statistic = timed(
        lambda: (station_coherence(data, interval_s), baseline_coherence(data, interval_s))
    )
    total = sum(g.flux_jy for g in truth)
    cpu = time.process_time()
    model = fit_components(closures, options, total_flux_jy=total)
    cpu = time.process_time() - cpu
    print(f"\n== {name}: {data.vis.size} visibilities, {len(data.antenna)} stations")
    print(
        f"   closure quantities {len(closures.phases)} + {len(closures.amplitudes)}: "
        f"{seconds:.2f} s, statistics {statistic:.2f} s; "
        f"fit {model.seconds:.2f} s wall, {cpu:.2f} s CPU"
    )
    for tried in model.ladder:
        print(
            f"   {'*' if tried.taken else ' '} {tried.name:34s} {tried.n_parameters:3d} parameters"
            f"  reduced chi2 {tried.reduced_chi2:9.3f}  BIC {tried.bic:12.1f}"
        )
    print(f"   {'accepted' if model.accepted else 'not accepted'}: {model.reason}")
    if model.two_component:
        two = model.two_component
        print(f"   two components {'accepted' if two.accepted else 'not accepted'}: {two.reason}")
    if model.accepted:
        show(model, truth)
    return model


def show(model: ComponentModel, truth: Sequence[Gaussian]) -> None:
    """Print the components, and the truth beneath each where it is known."""
    largest = max(max(abs(c.l_rad), abs(c.m_rad), c.major_rad) for c in model.components)
    unit, factor = ("arcsec", 1.0) if largest > 0.05 * ARCSEC else ("mas", 1e3)
    if largest < 5e-4 * ARCSEC:
        unit, factor = "uas", 1e6
    for n, c in enumerate(model.components):
        fields = [
            f"{value / ARCSEC * factor:8.3f} +- {error / ARCSEC * factor:.3f}"
            for value, error in (
                (c.l_rad, c.l_err_rad),
                (c.m_rad, c.m_err_rad),
                (c.major_rad, c.major_err_rad),
                (c.minor_rad, c.minor_err_rad),
            )
        ]
        print(f"   {c.flux_jy:.4f} +- {c.flux_err_jy:.4f} Jy  {'  '.join(fields)} {unit}")
        if n < len(truth):
            g = truth[n]
            values = np.array([g.l_arcsec, g.m_arcsec, g.major_arcsec, g.minor_arcsec]) * factor
            print(f"     true {g.flux_jy:.4f} Jy  " + "  ".join(f"{v:8.3f}" for v in values))


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """Result and seconds."""
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started


def main() -> None:
    """Run all cases; the first run compiles the kernels and is not shown."""
    fit_components(closure_quantities(jet_case(), 600))
    run("LOFAR, core and component, 300 deg per 10 min", lofar_case(), 60, LOFAR_SOURCE)
    run("VLBI jet of four components", jet_case(), 120, JET_SOURCE)
    run("noise only", noise_case(), 60)
    default = Path(os.environ.get("SELFCAL_DATA", "../shared/data")) / "eht"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    files = sorted(folder.glob("*.uvfits"))
    if not files:
        print(f"\nno UVFITS files in {folder}: the M87 case is left out")
    # Errors beyond thermal noise as the EHT states them: 2 deg, and up to 10 % in amplitude.
    options = FitOptions(field_rad=60e-6 * ARCSEC, phase_floor_rad=0.035, amplitude_floor=0.1)
    for path in files:
        run(f"M87, {path.name}", read_uvfits(path), 120, options=options)


if __name__ == "__main__":
    main()
