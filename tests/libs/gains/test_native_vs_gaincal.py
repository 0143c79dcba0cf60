"""The native solver against gaincal and applycal, option by option, on real data."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from casacore.tables import table
from numpy.typing import NDArray

from benchmarks.synthetic_ms import make_ms
from libs.casa.session import CasaSession, demo_data
from libs.gains.caltable import CalTable, read_caltable
from libs.gains.casa_solver import applycal_arguments, gaincal_arguments
from libs.gains.native import NativeSolver, fit_normal_equations
from libs.gains.normal_equations import NormalEquations, accumulate
from libs.gains.referencing import reference_phases
from libs.gains.solution_interval import PER_INTEGRATION, PER_SCAN, SolutionInterval
from libs.gains.solver import AppliedTable, SolveOptions

pytestmark = pytest.mark.tools

SNR_MARGIN = 0.1  # solutions this close to minsnr may be flagged by one and not the other
PHASE_SHARE = 0.1  # of a solution's own error


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gaincal")


@pytest.fixture(scope="module")
def quasar(folder: Path, session: CasaSession) -> Path:
    """3C 273 at 8 GHz, VLA: 4 correlations, one channel, flags; model 1 Jy."""
    ms = folder / "3c273.ms"
    session.run("importuvfits", fitsfile=demo_data("3C273XC1.fits"), vis=ms)
    session.run("clearcal", vis=ms, addmodel=True)
    return ms


@pytest.fixture(scope="module")
def calibrator(folder: Path, session: CasaSession) -> Path:
    """1445+099 of NGC 5921, VLA, raw: 2 correlations, 63 channels, 4 scans; model 1 Jy."""
    whole, ms = folder / "ngc5921.ms", folder / "1445.ms"
    session.run("importuvfits", fitsfile=demo_data("NGC5921.fits"), vis=whole)
    session.run("split", vis=whole, outputvis=ms, field="1", datacolumn="data")
    session.run("clearcal", vis=ms, addmodel=True)
    return ms


@pytest.fixture(scope="module")
def windows(folder: Path) -> Path:
    """Simulated: 3 spws, 2 scans, 12 antennas, random flags, uneven weights, antennas absent."""
    rng = np.random.default_rng(5)
    position = np.array([-1.6e6, -5.04e6, 3.55e6]) + rng.normal(0, 1000, (12, 3))
    made = make_ms(
        folder / "windows.ms", position_m=position, integrations=8, scans=2, spws=3,
        noise_jy=0.1, seed=5,
    )  # fmt: skip
    with table(str(made.path), ack=False, readonly=False) as opened:
        flag, sigma = opened.getcol("FLAG"), opened.getcol("SIGMA")
        flag |= rng.random(flag.shape) < 0.05
        itime = np.searchsorted(made.time_s, opened.getcol("TIME"))
        for antenna, low, high in ((3, 0, 3), (0, 5, 9)):
            at = (opened.getcol("ANTENNA1") == antenna) | (opened.getcol("ANTENNA2") == antenna)
            flag[at & (itime >= low) & (itime < high)] = True
        opened.putcol("FLAG", flag)
        opened.putcol("SIGMA", sigma * rng.uniform(0.7, 1.4, sigma.shape).astype(np.float32))
    return made.path


def solve_both(
    session: CasaSession,
    ms: Path,
    folder: Path,
    options: SolveOptions,
    prior: tuple[AppliedTable, ...] = (),
    *,
    own_flags: bool = True,
) -> tuple[CalTable, CalTable]:
    """Tables of gaincal and of the native solver; ``own_flags``: correlations flagged apart."""
    theirs, ours = folder / "theirs.tb", folder / "ours.tb"
    shutil.rmtree(theirs, ignore_errors=True)
    arguments = gaincal_arguments(ms, theirs, options, prior, options.refant)
    session.run("gaincal", **{**arguments, "corrdepflags": own_flags})
    NativeSolver(corr_dep_flags=own_flags).solve(ms, ours, options, prior)
    return read_caltable(theirs), read_caltable(ours)


def assert_agree(theirs: CalTable, ours: CalTable, options: SolveOptions) -> None:
    assert ours.kind == theirs.kind
    assert list(ours.spws) == list(theirs.spws)
    for spw, a in theirs.spws.items():
        b = ours.spws[spw]
        # gaincal weights the mean time by cross hands too, so it may differ where flags do
        assert (np.abs(b.time_s - a.time_s) < np.maximum(5, 0.05 * b.interval_s)).all()
        # from where no antenna links an interval to the last one gaincal flags all that follows;
        # here a new reference starts, as two subarrays need it
        known = a.refant >= 0
        np.testing.assert_array_equal(b.refant[known], a.refant[known])
        differ = (a.flag != b.flag) & known[(...,) + (None,) * (a.flag.ndim - known.ndim)]
        near = np.abs(np.maximum(a.snr, b.snr) / max(options.minsnr, 1e-9) - 1) < SNR_MARGIN
        assert not (differ & ~near).any(), f"{(differ & ~near).sum()} flags differ"
        both = ~a.flag & ~b.flag
        assert both.any()
        error = 1 / a.snr[both]
        phase = np.abs(np.angle(b.gain[both] / a.gain[both]))
        assert (phase / error).max() < PHASE_SHARE
        size = np.abs(np.abs(b.gain[both]) / np.abs(a.gain[both]) - 1)
        assert (size / error).max() < PHASE_SHARE


MODES = [("p", "G"), ("p", "T"), ("a", "T"), ("ap", "G")]
INTERVALS = [("int", ()), (40.0, ()), ("inf", ()), ("inf", ("scan",))]


@pytest.mark.parametrize(("solint", "combine"), INTERVALS)
@pytest.mark.parametrize(("calmode", "gaintype"), MODES)
def test_quasar(
    session: CasaSession, quasar: Path, tmp_path: Path, calmode: str, gaintype: str,
    solint: float | str, combine: tuple[str, ...],
) -> None:  # fmt: skip
    options = SolveOptions(
        solint=SolutionInterval.parse(solint), combine=frozenset(combine),
        calmode=calmode, gaintype=gaintype,  # type: ignore[arg-type]
        refant=("1", "2"),
    )  # fmt: skip
    assert_agree(*solve_both(session, quasar, tmp_path, options), options)


@pytest.mark.parametrize("calmode", ["p", "ap"])
def test_quasar_with_any_flagged_correlation_left_out(
    session: CasaSession, quasar: Path, tmp_path: Path, calmode: str
) -> None:
    options = SolveOptions(solint=SolutionInterval(25.0), calmode=calmode, refant=("1", "2"))  # type: ignore[arg-type]
    assert_agree(*solve_both(session, quasar, tmp_path, options, own_flags=False), options)


@pytest.fixture(scope="module")
def start(session: CasaSession, calibrator: Path, folder: Path) -> AppliedTable:
    """Phases by scan, which take out the difference of the two polarizations."""
    made = folder / "start.G"
    options = SolveOptions(solint=PER_SCAN, refant=("1",))
    session.run("gaincal", **gaincal_arguments(calibrator, made, options, (), ("1",)))
    return AppliedTable(made)


@pytest.mark.parametrize(("solint", "combine"), INTERVALS[1:])
@pytest.mark.parametrize(("calmode", "gaintype"), [("p", "T"), ("a", "G"), ("ap", "T")])
def test_calibrator_with_a_prior_table(
    session: CasaSession, calibrator: Path, start: AppliedTable, tmp_path: Path, calmode: str,
    gaintype: str, solint: float | str, combine: tuple[str, ...],
) -> None:  # fmt: skip
    if solint == 40.0:
        solint = 70.0  # integrations of 30 s
    options = SolveOptions(
        solint=SolutionInterval.parse(solint), combine=frozenset(combine),
        calmode=calmode, gaintype=gaintype,  # type: ignore[arg-type]
        refant=("1", "2"),
    )  # fmt: skip
    assert_agree(*solve_both(session, calibrator, tmp_path, options, (start,)), options)


@pytest.mark.parametrize(
    "how",
    [
        {}, {"uvmin_m": 300.0}, {"uvmin_m": 50.0, "uvmax_m": 700.0},
        {"uvmax_m": 500.0, "minblperant": 16}, {"minblperant": 26}, {"refant": ("28", "3", "9")},
        {"minsnr": 250.0}, {"solnorm": True, "calmode": "ap"},
    ],
)  # fmt: skip
def test_calibrator_raw(
    session: CasaSession, calibrator: Path, tmp_path: Path, how: dict[str, object]
) -> None:
    options = SolveOptions(**{"solint": PER_INTEGRATION, "refant": ("1", "2"), **how})  # type: ignore[arg-type]
    assert_agree(*solve_both(session, calibrator, tmp_path, options), options)


def test_two_priors_nearest_and_linear(session: CasaSession, quasar: Path, tmp_path: Path) -> None:
    phases = SolveOptions(solint=PER_SCAN, refant=("1",))
    both = SolveOptions(solint=SolutionInterval(60.0), calmode="ap", refant=("3",))
    for name, how in (("p.G", phases), ("ap.G", both)):
        session.run("gaincal", **gaincal_arguments(quasar, tmp_path / name, how, (), how.refant))
    prior = (AppliedTable(tmp_path / "p.G"), AppliedTable(tmp_path / "ap.G", interp="nearest"))
    for options in (
        SolveOptions(solint=PER_INTEGRATION, refant=("1",)),
        SolveOptions(solint=SolutionInterval(25.0), calmode="ap", refant=("1",)),
    ):
        assert_agree(*solve_both(session, quasar, tmp_path, options, prior), options)


@pytest.mark.parametrize("solint", ["int", 35.0, "inf"])
@pytest.mark.parametrize("calmode", ["p", "ap"])
def test_several_windows_with_hand_over(
    session: CasaSession, windows: Path, tmp_path: Path, calmode: str, solint: float | str
) -> None:
    """The preferred reference antenna, ea04, is absent at first, the second one later."""
    options = SolveOptions(
        solint=SolutionInterval.parse(solint), calmode=calmode, refant=("ea04", "ea01")
    )  # type: ignore[arg-type]
    assert_agree(*solve_both(session, windows, tmp_path, options), options)


def test_combined_windows(session: CasaSession, windows: Path, tmp_path: Path) -> None:
    """Gains of one spw in all: the spw the table is labelled with and the map are right."""
    one = tmp_path / "one.ms"
    shutil.copytree(windows, one)
    start = NativeSolver().solve(
        windows, tmp_path / "a.G", SolveOptions(solint=PER_SCAN, refant=("ea02",))
    )
    options = SolveOptions(
        solint=SolutionInterval(35.0),
        combine=frozenset({"spw", "scan"}),
        refant=("ea02",),
        gaintype="T",
    )
    assert_agree(*solve_both(session, one, tmp_path, options, (start.applied,)), options)


def one_step(
    vis: NDArray[np.complex128], weight: NDArray[np.float64], p: NDArray[np.int64],
    q: NDArray[np.int64], gain: NDArray[np.complex128],
) -> NDArray[np.complex128]:  # fmt: skip
    """One step of gaincal's solver: gradient over twice the diagonal of the hessian."""
    residual = gain[p] * gain[q].conj() - vis
    gradient, hessian = np.zeros_like(gain), np.zeros(gain.shape)
    np.add.at(gradient, p, weight * residual * gain[q])
    np.add.at(gradient, q, weight * residual.conj() * gain[p])
    np.add.at(hessian, p, weight * np.abs(gain[q]) ** 2)
    np.add.at(hessian, q, weight * np.abs(gain[p]) ** 2)
    return -np.divide(gradient, 2 * hessian, out=np.zeros_like(gain), where=hessian > 0)


def iterate_as_gaincal(sums: NormalEquations, settled: int) -> NDArray[np.complex128]:
    """Phase-only gains by gaincal's own iteration, until chi2 has settled so many times.

    gaincal takes chi2 for settled when a step changes it by less than a tenth, and stops after
    six such steps, which can be before its gains have come to rest.
    """
    p, q = sums.antenna1, sums.antenna2
    total, weight = sums.vis[0, 0], sums.weight[0, 0]
    used = weight > 0
    size = np.abs(total)
    vis = np.where(used, total / np.where(used, size, 1), 0)
    weight = np.where(used, size**2 / np.where(used, weight, 1), 0)

    def chi2(gain: NDArray[np.complex128]) -> float:
        return float((weight * np.abs(gain[p] * gain[q].conj() - vis) ** 2).sum())

    gain = np.ones((len(sums.antenna), vis.shape[1]), complex)
    gain[q[p == 0]] = np.where(used[p == 0], vis[p == 0].conj(), 1)
    last, count = np.inf, 0
    for _ in range(200):
        now = chi2(gain)
        count += abs(now - last) < 0.1 * now
        if count > settled:
            break
        last = now
        step = one_step(vis, weight, p, q, gain)
        best = min((chi2(gain + s * step), s) for s in (0.5, 1.0, 1.5, 2.0))[1]
        gain = gain + best * step
    return gain


def test_gaincal_stops_before_it_has_converged(
    session: CasaSession, calibrator: Path, tmp_path: Path
) -> None:
    """On short baselines gaincal is off by more than PHASE_SHARE: more of its steps lead here."""
    options = SolveOptions(
        solint=PER_SCAN, refant=("1",), uvmax_m=400.0, combine=frozenset({"scan"})
    )
    theirs, ours = solve_both(session, calibrator, tmp_path, options)
    sums = accumulate(calibrator, options)
    fit = fit_normal_equations(sums, options, guess_from=[0])
    settled, _, _ = reference_phases(
        iterate_as_gaincal(sums, 150)[None, None], fit.flag, np.arange(len(sums.antenna)), "p"
    )
    good = ~theirs.spws[0].flag & ~ours.spws[0].flag
    native = ours.spws[0].gain
    error = 1 / ours.spws[0].snr[good]
    rest = np.abs(np.angle(native / settled))[good] / error
    early = np.abs(np.angle(native / theirs.spws[0].gain))[good] / error
    assert rest.max() < 0.01
    assert rest.max() < 0.1 * early.max()


COLUMNS = ("CORRECTED_DATA", "FLAG", "WEIGHT", "WEIGHT_SPECTRUM", "FLAG_ROW", "SIGMA")


def columns(ms: Path) -> dict[str, NDArray[np.generic]]:
    with table(str(ms), ack=False) as opened:
        names = [name for name in COLUMNS if name in opened.colnames()]
        return {n: opened.getcol(n) for n in names if opened.iscelldefined(n, 0)}


def assert_applied_alike(
    session: CasaSession, ms: Path, folder: Path, tables: list[AppliedTable], **how: bool
) -> None:
    theirs, ours = folder / "theirs.ms", folder / "ours.ms"
    for target in (theirs, ours):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(ms, target)
    session.run("applycal", **applycal_arguments(theirs, tables, **how))
    NativeSolver().apply(ours, tables, **how)
    a, b = columns(theirs), columns(ours)
    assert set(a) == set(b)
    np.testing.assert_array_equal(b["FLAG"], a["FLAG"])
    np.testing.assert_array_equal(b["FLAG_ROW"], a["FLAG_ROW"])
    size = np.maximum(np.abs(a["CORRECTED_DATA"]), 1e-20)
    assert (np.abs(b["CORRECTED_DATA"] - a["CORRECTED_DATA"]) / size).max() < 3e-6
    for name in set(a) & {"WEIGHT", "WEIGHT_SPECTRUM", "SIGMA"}:
        np.testing.assert_allclose(b[name], a[name], rtol=3e-6)


@pytest.mark.parametrize("how", [
    {"calwt": False, "flag_unsolved": True},
    {"calwt": True, "flag_unsolved": True},
    {"calwt": False, "flag_unsolved": False},
])  # fmt: skip
@pytest.mark.parametrize("data", ["quasar", "calibrator", "windows"])
def test_application(
    session: CasaSession, request: pytest.FixtureRequest, tmp_path: Path, data: str,
    how: dict[str, bool],
) -> None:  # fmt: skip
    ms: Path = request.getfixturevalue(data)
    refant = ("ea02",) if data == "windows" else ("1",)
    minsnr = {"quasar": 50.0, "calibrator": 200.0, "windows": 20.0}[data]
    spwmap = (0, 0, 0) if data == "windows" else ()
    solves = {
        "first.G": SolveOptions(
            solint=SolutionInterval(40.0), calmode="ap", refant=refant, minsnr=minsnr
        ),
        "second.T": SolveOptions(
            solint=PER_SCAN, gaintype="T", combine=frozenset({"spw"}), refant=refant, minsnr=0
        ),
    }
    for name, options in solves.items():
        made = tmp_path / name
        session.run("gaincal", **gaincal_arguments(ms, made, options, (), refant))
    first, second = tmp_path / "first.G", tmp_path / "second.T"
    tables = [AppliedTable(first), AppliedTable(second, spwmap)]
    assert_applied_alike(session, ms, tmp_path, tables, **how)
    assert_applied_alike(session, ms, tmp_path, [AppliedTable(first, interp="nearest")], **how)


@pytest.mark.parametrize("kind", ["G", "T", "spw", "blocks"])
def test_casa_applies_our_tables(
    session: CasaSession, windows: Path, tmp_path: Path, kind: str
) -> None:
    options = SolveOptions(
        solint=SolutionInterval(35.0), calmode="ap", gaintype="T" if kind == "T" else "G",
        refant=("ea02",),
        combine=frozenset({"spw"} if kind == "spw" else ()), minsnr=0 if kind != "G" else 20,
    )  # fmt: skip
    solver = NativeSolver(channels_per_block=2 if kind == "blocks" else None)
    result = solver.solve(windows, tmp_path / "ours.tb", options)
    assert_applied_alike(
        session, windows, tmp_path, [result.applied], calwt=False, flag_unsolved=True
    )


def test_single_correlation(session: CasaSession, tmp_path: Path) -> None:
    made = make_ms(tmp_path / "one.ms", corr=("LL",), noise_jy=0.05, integrations=6)
    for gaintype in ("G", "T"):
        options = SolveOptions(
            solint=SolutionInterval(25.0), calmode="ap", gaintype=gaintype, refant=("ea01",)
        )  # type: ignore[arg-type]
        theirs, ours = solve_both(session, made.path, tmp_path, options)
        assert_agree(theirs, ours, options)
        assert_applied_alike(
            session, made.path, tmp_path, [AppliedTable(tmp_path / "ours.tb")],
            calwt=False, flag_unsolved=True,
        )  # fmt: skip
