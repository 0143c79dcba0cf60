"""UVFITS files of known content come out as they went in, and as CASA's importuvfits has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from libs.casa.session import CasaSession, demo_data
from libs.core.errors import InputError
from libs.inputs import uvfits_to_ms, working_copy
from libs.inputs.uvfits_header import read_uvfits_header
from libs.inputs.uvfits_to_ms import import_uvfits
from libs.ms.subset import NotUnderstoodError
from libs.ms.tables import open_table
from tests.libs.uvfits_file import CENTRE_M, LIGHT_M_S, POSITION_M, Uvfits


def read(ms: Path, name: str, table: str = "") -> Any:
    with open_table(f"{ms}::{table}" if table else ms) as opened:
        return opened.getcol(name)


@pytest.mark.parametrize("blocks", [1, 1000])
@pytest.mark.parametrize(
    "file",
    [
        Uvfits(),
        Uvfits(nif=1, axis=False, sources=(), codes=(-1, -2)),
        Uvfits(nif=1, codes=(-5, -6, -7, -8)),
        Uvfits(big_baselines=True, integration=False),
    ],
    ids=["several IFs", "no IF axis, one source", "linear", "2048"],
)
def test_what_went_in_comes_out(
    file: Uvfits, blocks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvfits_to_ms, "BLOCK_BYTES", uvfits_to_ms.BLOCK_BYTES // blocks**2)
    ms = tmp_path / "a.ms"
    import_uvfits(file.write(tmp_path / "a.uvfits"), ms)
    vis, weight = file.arrays()
    groups, order = np.array(file.groups()), [0, 2, 3, 1] if len(file.codes) == 4 else [0, 1]
    flat = (-1, file.nchan, len(file.codes))
    assert np.array_equal(read(ms, "DATA"), vis.reshape(flat)[..., order])
    assert np.array_equal(read(ms, "FLAG"), ~(weight > 0).reshape(flat)[..., order])
    assert np.array_equal(read(ms, "WEIGHT_SPECTRUM"), np.abs(weight).reshape(flat)[..., order])
    uvw = np.repeat(file.uvw_s().astype(np.float32) * LIGHT_M_S, file.nif, axis=0)
    assert np.allclose(read(ms, "UVW"), uvw, rtol=1e-6)
    for name, place in (("ANTENNA1", 2), ("ANTENNA2", 3)):
        assert np.array_equal(read(ms, name), np.repeat(groups[:, place], file.nif))
    assert np.array_equal(read(ms, "DATA_DESC_ID"), np.tile(np.arange(file.nif), len(groups)))
    start_s = (2450000.5 - 2400000.5) * 86400
    assert np.allclose(
        read(ms, "TIME"), start_s + 10 * np.repeat(groups[:, 0], file.nif), atol=1e-3
    )
    assert np.allclose(read(ms, "INTERVAL"), 9.5 if file.integration else 10.0)
    assert np.array_equal(read(ms, "SCAN_NUMBER"), np.repeat(
        1 + groups[:, 0] if len(file.sources) > 1 else np.ones(len(groups)), file.nif
    ))  # fmt: skip
    assert read(ms, "NAME", "FIELD") == list(file.sources or ["alone"])
    assert np.allclose(read(ms, "POSITION", "ANTENNA"), CENTRE_M + POSITION_M)
    assert read(ms, "STATION", "ANTENNA") == ["AA", "BB", "CC"]
    with open_table(f"{ms}::SPECTRAL_WINDOW") as opened:
        for row in range(file.nif):
            step = -1e6 if row % 2 else 1e6
            centre = 8e9 + 1e8 * row
            expected = centre + step * (np.arange(file.nchan) - 1)
            assert np.allclose(opened.getcell("CHAN_FREQ", row), expected, rtol=1e-12)
            assert np.allclose(opened.getcell("CHAN_WIDTH", row), 1e6)


def test_numbers_of_double_precision_are_read(tmp_path: Path) -> None:
    single, double = tmp_path / "single.uvfits", tmp_path / "double.uvfits"
    Uvfits().write(single)
    header = read_uvfits_header(single)
    content = single.read_bytes()
    head, rest = content[: header.data_offset], content[header.data_offset :]
    count = header.groups * (len(header.parameters) + int(np.prod(header.shape)))
    tables = rest[-(-4 * count // 2880) * 2880 :]  # after whole blocks of 2880 bytes
    numbers = np.frombuffer(rest[: 4 * count], ">f4").astype(">f8").tobytes()
    card = b"BITPIX  =                  -32"
    assert card in head
    double.write_bytes(
        head.replace(card, card.replace(b"-32", b"-64"))
        + numbers + bytes(-len(numbers) % 2880) + tables
    )  # fmt: skip
    for path in (single, double):
        import_uvfits(path, path.with_suffix(".ms"))
    for name in ("DATA", "FLAG", "WEIGHT_SPECTRUM", "UVW", "TIME", "ANTENNA1", "ANTENNA2"):
        assert np.array_equal(
            read(double.with_suffix(".ms"), name), read(single.with_suffix(".ms"), name)
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"primary": {"EPOCH": 1975.0}, "sources": ()}, "equinox 1975"),
        ({"primary": {"VELREF": 1}}, "VELREF = 1"),
        ({"primary": {"SPECSYS": "SOMEWHERE"}}, "SPECSYS = 'SOMEWHERE'"),
        ({"primary": {"BSCALE": 2.0}}, "BSCALE"),
        ({"primary": {"CTYPE5": "BEAM"}}, "axis 5 is 'BEAM'"),
        ({"antenna": {"TIMSYS": "GPS"}}, "times are GPS"),
        ({"antenna": {"XYZHAND": "NONE"}}, "XYZHAND"),
        ({"antenna": {"ARRAYX": None}}, "where the array is"),
        ({"source": {"PMRA": ("1D", np.array([0.0, 1e-3]))}}, "sources that move"),
        ({"source": {"ID. NO.": ("1J", np.array([1, 7]))}}, "not in AIPS SU"),
    ],
)
def test_what_is_not_understood_is_said(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = Uvfits(**change).write(tmp_path / "a.uvfits")
    with pytest.raises(NotUnderstoodError, match=message):
        import_uvfits(file, tmp_path / "a.ms")


def test_stokes_parameters_and_cut_files_are_errors(tmp_path: Path) -> None:
    file = Uvfits(codes=(1, 2, 3, 4)).write(tmp_path / "a.uvfits")
    with pytest.raises(InputError, match="Stokes parameters"):
        import_uvfits(file, tmp_path / "a.ms")
    whole = Uvfits(sources=(), nchan=600).write(tmp_path / "b.uvfits").read_bytes()
    cut = tmp_path / "cut.uvfits"
    cut.write_bytes(whole[: len(whole) // 3])
    with pytest.raises((InputError, NotUnderstoodError)):
        import_uvfits(cut, tmp_path / "b.ms")


class _Session:
    """Stands in for CASA: imports by making a note of it."""

    log_dir = Path("logs")

    def __init__(self) -> None:
        self.asked: list[str] = []

    def run(self, task: str, **kwargs: Any) -> None:
        self.asked.append(task)
        import_uvfits(Uvfits().write(Path(f"{kwargs['vis']}.uvfits")), Path(kwargs["vis"]))


def test_casa_imports_what_is_not_understood_and_a_note_says_why(tmp_path: Path) -> None:
    session = _Session()
    for change, tasks in (({}, []), ({"antenna": {"TIMSYS": "GPS"}}, ["importuvfits"])):
        file = Uvfits(**change).write(tmp_path / "a.uvfits")
        (source,) = working_copy.resolve_inputs(str(file))
        copy = working_copy.make_working_copy(
            source, tmp_path / "w.ms", field="one", session=session
        )
        assert session.asked == tasks
        assert any("because its times are GPS" in note for note in copy.notes) == bool(tasks)
        session.asked.clear()


# columns that importuvfits writes and this does not, or in another way on purpose
_OTHERS = {
    "FLAG_CATEGORY",  # empty here
    "PROCESSOR_ID", "STATE_ID",  # -1 there: rows of no table
}  # fmt: skip


def _assert_as_casa(own: Path, casa: Path) -> None:
    """Compare main tables row by row, and the subtables that say where and at what frequency."""
    with open_table(own) as mine, open_table(casa) as theirs:
        assert mine.nrows() == theirs.nrows()
        for name in set(theirs.colnames()) - _OTHERS - {"WEIGHT", "SIGMA"}:
            assert np.array_equal(mine.getcol(name), theirs.getcol(name)), name
        weight, total = mine.getcol("WEIGHT"), theirs.getcol("WEIGHT")
        # the sum over channels there; infinite where any is
        spectrum = mine.getcol("WEIGHT_SPECTRUM")
        known = np.isfinite(spectrum).all(axis=1)
        count = np.maximum(np.count_nonzero(spectrum, axis=1), 1)
        assert np.allclose((weight * count)[known], total[known], rtol=1e-6)
    for table, columns in {
        "ANTENNA": ("NAME", "STATION", "POSITION", "OFFSET", "MOUNT", "DISH_DIAMETER"),
        "FIELD": ("NAME", "PHASE_DIR", "SOURCE_ID"),
        "SPECTRAL_WINDOW": (
            "CHAN_FREQ", "CHAN_WIDTH", "REF_FREQUENCY", "TOTAL_BANDWIDTH", "MEAS_FREQ_REF",
            "NET_SIDEBAND",
        ),
        "POLARIZATION": ("CORR_TYPE", "CORR_PRODUCT"),
        "DATA_DESCRIPTION": ("SPECTRAL_WINDOW_ID", "POLARIZATION_ID"),
        "FEED": ("ANTENNA_ID", "RECEPTOR_ANGLE", "POLARIZATION_TYPE"),
    }.items():  # fmt: skip
        for column in columns:
            mine, theirs = read(own, column, table), read(casa, column, table)
            if isinstance(mine, np.ndarray) and mine.dtype.kind == "f":
                assert np.allclose(mine, theirs, rtol=1e-13, atol=0), (table, column)
            else:
                assert np.array_equal(mine, theirs), (table, column)
    with open_table(f"{own}::FIELD") as mine, open_table(f"{casa}::FIELD") as theirs:
        frames = [o.getcolkeyword("PHASE_DIR", "MEASINFO")["Ref"] for o in (mine, theirs)]
        assert frames[0] == frames[1]


def _both(path: Path, folder: Path, session: CasaSession) -> tuple[Path, Path]:
    own, casa = folder / "own.ms", folder / "casa.ms"
    import_uvfits(path, own)
    session.run("importuvfits", fitsfile=path, vis=casa, antnamescheme="new")
    return own, casa


@pytest.mark.tools
@pytest.mark.parametrize("name", ["3C273XC1.fits", "NGC5921.fits", "3DDAT.fits"])
def test_as_casa_imports_vla_data(name: str, tmp_path: Path, session: CasaSession) -> None:
    _assert_as_casa(*_both(demo_data(name), tmp_path, session))


@pytest.mark.tools
@pytest.mark.parametrize(
    "name",
    [
        "vlba/mojave.uvfits",
        "eht/SR1_M87_2017_095_lo_hops_netcal_StokesI.uvfits",
        "eht/SR1_M87_2017_096_hi_hops_netcal_StokesI.uvfits",
        "eht/SR1_M87_2017_100_lo_hops_netcal_StokesI.uvfits",
    ],
)
def test_as_casa_imports_vlbi_data(
    name: str, tmp_path: Path, session: CasaSession, shared_data: Path
) -> None:
    own, casa = _both(shared_data / name, tmp_path, session)
    _assert_as_casa(own, casa)
    # CASA takes times of the EHT, whose keyword is TIMESYS, for TAI
    with open_table(own) as opened:
        assert opened.getcolkeyword("TIME", "MEASINFO")["Ref"] == "UTC"


@pytest.mark.tools
@pytest.mark.parametrize(
    "file",
    [Uvfits(), Uvfits(nif=1, sources=(), codes=(-1, -2)), Uvfits(telescope="EVLA")],
    ids=["several IFs", "one source", "EVLA"],
)
def test_as_casa_imports_made_data(file: Uvfits, tmp_path: Path, session: CasaSession) -> None:
    own, casa = _both(file.write(tmp_path / "a.uvfits"), tmp_path, session)
    # CASA keeps rows for antennas that the file skips
    with open_table(casa) as opened:
        assert np.array_equal(opened.getcol("UVW"), read(own, "UVW"))
        assert np.array_equal(opened.getcol("DATA"), read(own, "DATA"))
        assert np.array_equal(opened.getcol("FLAG"), read(own, "FLAG"))
        number = np.array([0, 1, 4])
        assert np.array_equal(opened.getcol("ANTENNA1"), number[read(own, "ANTENNA1")])
        assert np.array_equal(opened.getcol("ANTENNA2"), number[read(own, "ANTENNA2")])
    assert np.allclose(
        read(casa, "POSITION", "ANTENNA")[[0, 1, 4]], read(own, "POSITION", "ANTENNA"), rtol=1e-13
    )
    names = read(casa, "NAME", "ANTENNA")
    assert [names[i] for i in (0, 1, 4)] == read(own, "NAME", "ANTENNA")
    assert np.array_equal(read(casa, "CHAN_FREQ", "SPECTRAL_WINDOW"),
                          read(own, "CHAN_FREQ", "SPECTRAL_WINDOW"))  # fmt: skip
