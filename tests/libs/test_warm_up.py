"""What is compiled at installation is what a run calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.synthetic_ms import make_ms
from libs import warm_up
from libs.gains.apply_kernels import divide_out
from libs.gains.kernels import accumulate_rows
from libs.gains.native import NativeSolver
from libs.gains.solution_interval import PER_INTEGRATION, PER_SCAN
from libs.gains.solver import SolveOptions
from libs.imaging.interface import ImagingOptions, open_image
from libs.imaging.native.native import NativeImager
from libs.imaging.native.w_series import _add_next, _weigh
from libs.imaging.phase_centre import field_centre


def test_kernels_that_see_visibilities_are_those_that_a_solve_calls(tmp_path: Path) -> None:
    warm_up._data()
    used = (accumulate_rows, divide_out)
    compiled = [list(kernel.signatures) for kernel in used]
    ms = make_ms(tmp_path / "a.ms", integrations=4, spws=2).path
    solver = NativeSolver()
    first = solver.solve(
        ms, tmp_path / "p.G", SolveOptions(solint=PER_INTEGRATION, refant=("ea01",))
    )
    options = SolveOptions(solint=PER_SCAN, calmode="ap", refant=("ea01",))
    second = solver.solve(ms, tmp_path / "ap.G", options, [first.applied])
    solver.apply(ms, [first.applied, second.applied])
    assert [list(kernel.signatures) for kernel in used] == compiled


@pytest.mark.parametrize("offset_arcsec", [0.0, 200.0])
def test_kernels_of_the_w_term_are_those_that_an_image_calls(
    tmp_path: Path, offset_arcsec: float
) -> None:
    warm_up._imager()
    used = (_weigh, _add_next)
    compiled = [list(kernel.signatures) for kernel in used]
    ms = make_ms(tmp_path / "a.ms", integrations=4, spws=2).path
    centre = field_centre(ms, 0)
    products = NativeImager().image(
        ImagingOptions(
            vis=(ms,), folder=tmp_path, basename="i", imsize=(256, 256), cell_arcsec=0.5,
            niter=50, update_model=True,
            phase_centre_deg=(centre.ra_deg, centre.dec_deg + offset_arcsec / 3600),
        )
    )  # fmt: skip
    assert open_image(products.model)[0].any()
    assert [list(kernel.signatures) for kernel in used] == compiled
