"""Images of single windows (``per_spw``), their names, and the warning of a loss."""

from __future__ import annotations

import numpy as np
import pytest

from libs.ms.tables import open_table
from libs.record.schema import load_record
from steps.record.build import record_of_run
from steps.window_images import WindowImages
from tests.pipeline_case import FIELDS, FIRST, WINDOWS, GainErrors, make_pipeline_case
from tests.quiet_run import QuietRun, quiet_run

STEPS = ("startup", "save_init_flags", "test_image", "p0", "report_results")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> QuietRun:
    """A bright target in windows of which the second is flagged throughout."""
    folder = tmp_path_factory.mktemp("windows")
    case = make_pipeline_case(
        folder, (FIRST,), fields=FIELDS[:2], windows=(*WINDOWS[:2], WINDOWS[3]), antennas=8,
        scans=1, errors=GainErrors(walk_deg=30),
    )  # fmt: skip
    with open_table(case.vis[0], write=True) as opened:
        flag = opened.getcol("FLAG")
        flag[opened.getcol("DATA_DESC_ID") == 1] = True
        opened.putcol("FLAG", flag)
    return quiet_run(
        folder, case.vis, field="1", steps=STEPS, cell="0.05arcsec", per_spw=True, oussid="ous",
    )  # fmt: skip


def test_each_window_with_data_is_imaged_before_and_after(run: QuietRun) -> None:
    measured = run.result("report_results").metrics["windows"]
    assert list(measured) == ["0", "2"]
    for states in measured.values():
        assert states["final"]["snr"] > 1.5 * states["initial"]["snr"]
        assert states["final"]["peak_jy_beam"] == pytest.approx(0.2, rel=0.1)
    whole = run.summary["final"]["snr"]
    assert all(states["final"]["snr"] < whole for states in measured.values())
    assert not list((run.workdir / "images").rglob("*.ms")), "no copies of data are left"


def test_their_products_have_the_pipelines_names(run: QuietRun) -> None:
    stem = "ous.s1.04287+1801_sci"
    products = run.workdir / "products"
    for number in (0, 2):
        for iteration in (0, 1, 3):
            path = products / f"{stem}.spw{number}.cont.I.iter{iteration}.image.fits"
            assert path.stat().st_nlink > 1, "no second copy"
    assert (products / f"{stem}.spw0_1_2.cont.I.iter3.image.fits").exists()
    assert not list(products.glob("*.spw1.*"))


def test_the_record_has_their_figures(run: QuietRun) -> None:
    path = record_of_run(run.workdir)
    assert path is not None
    (target,) = load_record(path).targets
    assert set(target.window_results) == {"0", "2"}
    (change,) = target.flags.values()
    shares = np.array([share.before for share in change.antennas.values()])
    np.testing.assert_allclose(shares, 1 / 3, atol=0.01)


def test_the_run_ends_with_its_solutions_in_force(run: QuietRun) -> None:
    """The images before were made without them."""
    ms = next((run.workdir / "data").glob("*.selfcal.ms"))
    with open_table(ms) as opened:
        data, corrected = opened.getcol("DATA"), opened.getcol("CORRECTED_DATA")
        flag = opened.getcol("FLAG")
    assert np.abs(corrected - data)[~flag].mean() > 0.01


@pytest.mark.parametrize(("after", "warned"), [(90.1, False), (89.9, True), (None, False)])
def test_a_loss_of_more_than_a_tenth_is_warned_of(after: float | None, warned: bool) -> None:
    found = WindowImages(measured={"18": {"initial": {"snr": 100.0}}})
    if after is not None:
        found.measured["18"]["final"] = {"snr": after}
    found.compare()
    assert bool(found.warnings) == warned
    if warned:
        assert found.metrics["warning"].startswith("the SNR of spectral window 18 fell by 10%")
