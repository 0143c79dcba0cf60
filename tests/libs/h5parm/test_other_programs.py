"""h5parm files between this program and others: DP3, LoSoTo and WSClean."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from libs.core.angles import tec_phase_rad
from libs.h5parm.reader import read_h5parm, write_h5parm
from libs.h5parm.regrid import regrid
from tests.archives import unpacked
from tests.libs.solset_examples import flagged, solset, with_tec


def program(name: str) -> str:
    """Return the path of a program, on the PATH or in this environment, or skip."""
    beside = Path(sys.executable).parent
    found = shutil.which(name, path=f"{beside}{os.pathsep}{os.environ['PATH']}")
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(scope="module")
def lofar_ms(shared_data, tmp_path_factory) -> Path:
    """Unpack the real LOFAR measurement set."""
    archive = shared_data / "lofar" / "lofar_hba_intl.ms.tar.gz"
    return unpacked(archive, tmp_path_factory.mktemp("lofar"))


def dp3_applies(ms: Path, h5parm: Path, tmp_path: Path, *steps: str, table: str = "out.ms"):
    """Return the data DP3 makes with the given applycal corrections, and its flags."""
    from libs.ms.tables import open_table

    out = tmp_path / table
    words = [f"msin={ms}", f"msout={out}", f"steps=[{','.join(s.split(':')[0] for s in steps)}]"]
    for step in steps:
        name, correction = step.split(":")
        words += [f"{name}.type=applycal", f"{name}.parmdb={h5parm}"]
        words.append(f"{name}.correction={correction}")
        if correction == "fulljones":
            words.append(f"{name}.soltab=[amplitude000,phase000]")
    done = subprocess.run(
        [program("DP3.py"), *words],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with open_table(out) as opened:
        return opened.getcol("DATA"), opened.getcol("FLAG")


class Data:
    """The visibilities of a small measurement set and where each row stands."""

    def __init__(self, ms: Path) -> None:
        from libs.ms.tables import open_table

        with open_table(ms) as opened:
            self.vis, self.flag = opened.getcol("DATA"), opened.getcol("FLAG")
            times = opened.getcol("TIME")
            self.antenna1, self.antenna2 = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
        with open_table(f"{ms}::ANTENNA") as opened:
            self.names, self.position = tuple(opened.getcol("NAME")), opened.getcol("POSITION")
        with open_table(f"{ms}::SPECTRAL_WINDOW") as opened:
            self.frequency_hz = opened.getcol("CHAN_FREQ")[0]
        self.time_s, self.row_time = np.unique(times, return_inverse=True)

    def solset(self, **options):
        """Random gains on the grid of the data."""
        return solset(
            time_s=self.time_s,
            **{"frequency_hz": self.frequency_hz, "antenna": self.names, **options},
        )

    def corrected(self, gain):
        """V / (g_p conj(g_q)), or J_p^-1 V J_q^-H; ``gain`` is (time, chan, ant, pol)."""
        if gain.shape[-1] == 2:
            gain = gain[..., [0, 0, 1, 1]] * [1, 0, 0, 1]
        matrix = np.linalg.inv(gain.reshape(*gain.shape[:-1], 2, 2))
        one, two = matrix[self.row_time, :, self.antenna1], matrix[self.row_time, :, self.antenna2]
        vis = self.vis.reshape(*self.vis.shape[:2], 2, 2)
        return (one @ vis @ np.conj(np.swapaxes(two, -1, -2))).reshape(self.vis.shape)


def assert_close(got, flag, expected, data) -> None:
    """Assert equal visibilities, where not flagged, to float precision."""
    good = ~(flag | data.flag)
    assert good.mean() > 0.5
    assert np.abs(got - expected)[good].max() < 1e-6 * np.abs(expected[good]).max()


@pytest.mark.tools
def test_dp3_divides_by_our_gains(lofar_ms, tmp_path) -> None:
    data = Data(lofar_ms)
    gone = data.names[3]
    table = flagged(data.solset(seed=1), station=gone)
    write_h5parm(tmp_path / "s.h5", table)
    got, flag = dp3_applies(lofar_ms, tmp_path / "s.h5", tmp_path, "p:phase000", "a:amplitude000")
    assert_close(got, flag, data.corrected(table.gain[:, :, :, 0]), data)
    assert flag[(data.antenna1 == 3) | (data.antenna2 == 3)].all()


@pytest.mark.tools
def test_dp3_takes_our_tec(lofar_ms, tmp_path) -> None:
    data = Data(lofar_ms)
    tec = np.random.default_rng(1).uniform(-0.1, 0.1, (len(data.time_s), len(data.names), 1))
    table = replace(data.solset(frequency_hz=[150e6], polarization=("I",)), tec_tecu=tec)
    write_h5parm(tmp_path / "t.h5", table)
    got, flag = dp3_applies(lofar_ms, tmp_path / "t.h5", tmp_path, "t:tec000")
    phase = tec_phase_rad(tec, data.frequency_hz)
    assert_close(got, flag, data.corrected(np.exp(1j * phase) * np.ones(2)), data)


@pytest.mark.tools
@pytest.mark.parametrize(
    "steps",
    [("p:phase000", "a:amplitude000"), ("t:tec000", "r:phase001", "a:amplitude000")],
    ids=["whole", "parts"],
)
def test_dp3_takes_the_whole_phase_or_its_parts(lofar_ms, tmp_path, steps) -> None:
    data = Data(lofar_ms)
    table = data.solset(seed=5)
    tec = np.random.default_rng(6).uniform(-0.1, 0.1, (len(data.time_s), len(data.names), 1))
    table = replace(table, tec_tecu=tec)
    write_h5parm(tmp_path / "t.h5", table)
    got, flag = dp3_applies(lofar_ms, tmp_path / "t.h5", tmp_path, *steps)
    assert_close(got, flag, data.corrected(table.gain[:, :, :, 0]), data)


@pytest.mark.tools
def test_wsclean_facets_take_the_whole_phase(wsclean, tmp_path) -> None:
    """A point source behind TECs, phases and amplitudes comes out as bright as it is."""
    from astropy.io import fits

    from libs.ms.tables import open_table
    from tests.libs.small_ms import make_ms

    ms = make_ms(tmp_path / "a.ms", antennas=7, times=12, channels=4)
    data = Data(ms)
    with open_table(f"{ms}::FIELD") as fields:
        place = fields.getcol("PHASE_DIR")[0, 0]
    table = data.solset(seed=7, directions={"A": np.rad2deg(place)})
    rng = np.random.default_rng(8)
    table = replace(
        table, amplitude=1 + 0.2 * (table.amplitude - 1.25),
        tec_tecu=rng.uniform(-1, 1, (len(data.time_s), len(data.names), 1)),
    )  # fmt: skip
    write_h5parm(tmp_path / "s.h5", table)
    gain = table.gain[:, :, :, 0]
    one, two = gain[data.row_time, :, data.antenna1], gain[data.row_time, :, data.antenna2]
    with open_table(ms, write=True) as opened:
        opened.putcol("DATA", (data.vis * one * np.conj(two)).astype(np.complex64))
    region = tmp_path / "f.reg"
    ra, dec = np.rad2deg(place)
    corners = ((-0.1, -0.1), (0.1, -0.1), (0.1, 0.1), (-0.1, 0.1))
    points = ",".join(f"{ra + x / np.cos(place[1]):.6f},{dec + y:.6f}" for x, y in corners)
    region.write_text(f"fk5\npolygon({points})\n")
    words = ["-size", "128", "128", "-scale", "0.5asec", "-no-update-model-required"]
    facets = ["-facet-regions", str(region), "-apply-facet-solutions", str(tmp_path / "s.h5")]
    peaks = {}
    for name, more in (("bad", []), ("good", [*facets, "phase000,amplitude000"])):
        done = subprocess.run(
            [wsclean, "-name", str(tmp_path / name), *words, *more, str(ms)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        # with solutions the image free of their mean is the -pb one
        suffix = "image-pb" if more else "image"
        with fits.open(tmp_path / f"{name}-{suffix}.fits") as file:
            peaks[name] = float(np.abs(file[0].data).max())
    assert peaks["bad"] < 0.7
    assert peaks["good"] == pytest.approx(1.0, rel=0.005)


@pytest.mark.tools
def test_dp3_agrees_on_products_of_real_jones_matrices(lofar_ms, shared_data, tmp_path) -> None:
    """The product of two tables undoes what applying one after the other undoes."""
    from libs.h5parm.combine import combine, on_axes

    data = Data(lofar_ms)
    read = [read_h5parm(shared_data / "lofar" / f"fulljones{i}.h5") for i in (1, 2)]
    # The tables are of another night: their first times stand for those of the data.
    placed = []
    for table in read:
        table = regrid(table, table.time_s, data.frequency_hz)
        table = on_axes(table, data.names, data.position)
        at = regrid(table, table.time_s[0] + np.arange(len(data.time_s)) * 100.0, data.frequency_hz)
        placed.append(replace(at, time_s=data.time_s))
    first, second = placed
    write_h5parm(tmp_path / "product.h5", combine(first, second).solset)
    got, flag = dp3_applies(lofar_ms, tmp_path / "product.h5", tmp_path, "j:fulljones")
    data.vis = data.corrected(first.gain[:, :, :, 0])
    assert_close(got, flag, data.corrected(second.gain[:, :, :, 0]), data)


@pytest.mark.tools
def test_dp3_picks_one_of_several_directions(lofar_ms, tmp_path) -> None:
    data = Data(lofar_ms)
    table = data.solset(seed=2, directions={"A": (241.0, 55.0), "B": (242.0, 55.5)})
    write_h5parm(tmp_path / "s.h5", table, {"provenance": np.zeros(2, dtype=[("a", "S3")])})
    words = [f"msin={lofar_ms}", f"msout={tmp_path / 'o.ms'}", "steps=[p]", "p.type=applycal"]
    words += [f"p.parmdb={tmp_path / 's.h5'}", "p.correction=phase000", "p.direction=[B]"]
    subprocess.run(
        [program("DP3.py"), *words],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
    )
    from libs.ms.tables import open_table

    with open_table(tmp_path / "o.ms") as opened:
        got, flag = opened.getcol("DATA"), opened.getcol("FLAG")
    assert_close(got, flag, data.corrected(np.exp(1j * table.phase_rad[:, :, :, 1])), data)


_LOSOTO_TEC = """
import sys
import numpy as np
from losoto.h5parm import h5parm
file = h5parm(sys.argv[1])
solset = file.getSolset("sol000")
tec, whole, rest = (solset.getSoltab(name) for name in ("tec000", "phase000", "phase001"))
assert tec.getType() == "tec" and tec.getAxesNames() == ["time", "ant", "dir"]
values, axes = whole.getValues()
parts = rest.getValues(retAxesVals=False) - 8.4479745e9 * (
    tec.getValues(retAxesVals=False)[:, None, :, :, None] / axes["freq"][:, None, None, None]
)
np.testing.assert_allclose(np.exp(1j * values), np.exp(1j * parts), atol=1e-4)
file.close()
"""


@pytest.mark.tools
def test_losoto_reads_tecs_and_phases(tmp_path) -> None:
    python = Path(program("losoto")).with_name("python")
    write_h5parm(tmp_path / "s.h5", with_tec())
    done = subprocess.run(
        [python, "-c", _LOSOTO_TEC, tmp_path / "s.h5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


_LOSOTO = """
import sys
import numpy as np
from losoto.h5parm import h5parm
file = h5parm(sys.argv[1])
assert file.getSolsetNames() == ["sol000"], file.getSolsetNames()
solset = file.getSolset("sol000")
assert len(solset.getAnt()) == 4 and list(solset.getSou()) == ["[A]"], solset.getSou()
arrays = {}
for soltab in solset.getSoltabs():
    values, axes = soltab.getValues()
    assert soltab.getAxesNames() == ["time", "freq", "ant", "dir", "pol"]
    assert list(axes["pol"]) == ["XX", "YY"] and list(axes["dir"]) == ["[A]"]
    arrays[soltab.getType()] = values
    arrays[soltab.getType() + "_weight"] = soltab.getValues(retAxesVals=False, weight=True)
np.savez(sys.argv[2], **arrays)
file.close()
"""


@pytest.mark.tools
def test_losoto_reads_what_we_wrote(tmp_path) -> None:
    python = Path(program("losoto")).with_name("python")
    table = flagged(solset(seed=4), station="DE602HBA", times=1)
    write_h5parm(tmp_path / "s.h5", table, {"provenance": np.zeros(2, dtype=[("a", "S3")])})
    done = subprocess.run(
        [python, "-c", _LOSOTO, tmp_path / "s.h5", tmp_path / "read.npz"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    read = np.load(tmp_path / "read.npz")
    good = table.valid
    np.testing.assert_array_equal(read["phase"][good], table.phase_rad[good])
    np.testing.assert_array_equal(read["amplitude"][good], table.amplitude[good])
    assert np.isnan(read["phase"][~good]).all()
    np.testing.assert_array_equal(read["phase_weight"] > 0, good)
