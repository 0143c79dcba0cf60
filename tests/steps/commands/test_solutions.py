"""The solutions command: what it prints, writes and returns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import auto_selfcal
from libs.core.angles import parse_direction
from libs.h5parm.global_table import write_with_entries
from libs.h5parm.provenance import Entry
from libs.h5parm.reader import read_h5parm, write_h5parm
from steps.commands import solution_actions
from tests.archives import unpacked
from tests.libs.solset_examples import STATIONS, flagged, jones, solset


def main(words: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    try:
        return auto_selfcal.main(["solutions", *words])
    except SystemExit as end:
        return int(end.code or 0)


@pytest.fixture
def store(tmp_path) -> Path:
    """Make a table of two directions; B lacks UK608HBA."""
    table = solset(directions={"A": (217.0, 35.0), "B": (218.0, -35.5)}, phase_rad=0.3)
    arrays = table.weight.copy()
    arrays[:, :, STATIONS.index("UK608HBA"), 1] = 0
    table = solset(
        directions={"A": (217.0, 35.0), "B": (218.0, -35.5)}, phase_rad=0.3, weight=arrays
    )
    entries = [
        Entry(d, s, source=d, run="r1", date="2026-01-01T00:00:00.000Z", coherence=0.9)
        for d in "AB"
        for s in STATIONS
    ]
    write_with_entries(tmp_path / "store.h5", table, entries)
    return tmp_path / "store.h5"


@pytest.mark.parametrize(
    ("ra", "dec", "expected"),
    [
        ("217.5", "-35.5", (217.5, -35.5)),
        ("14h30m", "-35d30m", (217.5, -35.5)),
        ("14:30:00", "+35:30:00", (217.5, 35.5)),
        ("217.5deg", "0.5rad", (217.5, np.rad2deg(0.5))),
    ],
)
def test_directions(ra, dec, expected) -> None:
    np.testing.assert_allclose(np.rad2deg(parse_direction(ra, dec)), expected)


def test_list(store, capsys) -> None:
    assert main(["list", str(store)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 7
    assert lines[0].split()[:4] == ["direction", "RA_deg", "Dec_deg", "station"]
    assert lines[1].split() == [
        *("A", "217.00000", "+35.00000", "CS001HBA0", "1.00", "0.90"),
        *("2026-01-01T00:00:00.000Z", "A", "-", "r1"),
    ]


def test_check(store, tmp_path, capsys) -> None:
    import h5py

    assert main(["check", str(store)]) == 0
    assert "conform" in capsys.readouterr().out
    bad = tmp_path / "bad.h5"
    write_h5parm(bad, solset())
    with h5py.File(bad, "a") as file:
        del file["sol000/phase000/weight"]
    assert main(["check", str(store), str(bad)]) == 1
    assert "no dataset weight" in capsys.readouterr().out


def test_best(store, tmp_path, capsys) -> None:
    out = tmp_path / "best.h5"
    words = ["best", str(store), "--direction", "14h32m", "-35d30m", "-o", str(out)]
    assert main([*words, "--name", "T", "--max-separation", "1deg"]) == 0
    text = capsys.readouterr().out
    assert [line.split()[1] for line in text.splitlines()[1:5]] == ["B", "B", "B", "-"]
    assert "no solutions in any direction" not in text
    table = read_h5parm(out)
    assert table.direction == ("T",)
    assert not table.valid[:, :, 3].any()
    assert main([*words, "--max-separation", "1deg", "--missing", "unit"]) == 0
    assert read_h5parm(out).valid.all()
    assert main([*words, "--max-separation", "far"]) == 2


def test_combine(store, tmp_path) -> None:
    a, b, out = (tmp_path / f"{n}.h5" for n in ("a", "b", "out"))
    write_h5parm(a, solset(phase_rad=0.3))
    write_h5parm(b, flagged(solset(phase_rad=0.5), station="DE601HBA"))
    assert main(["combine", str(a), str(b), "-o", str(out), "--frequencies", "150,130"]) == 0
    table = read_h5parm(out)
    assert table.frequency_hz.tolist() == [130e6, 150e6]
    np.testing.assert_allclose(table.phase_rad[0, 0, :, 0, 0], [0.8, 0.3, 0.8, 0.8])
    words = ["combine", str(a), str(b), "-o", str(out)]
    assert main([*words, "--frequencies", "x"]) == 2
    assert main([*words, "--soltabs", "phase000"]) == 0
    assert main([*words, "--soltabs", "phase009"]) == 1


def test_merge(store, tmp_path, capsys) -> None:
    into = tmp_path / "field.h5"
    assert main(["merge", str(into), str(store)]) == 0
    assert "7 entries added" in capsys.readouterr().out
    assert main(["merge", str(into), str(store)]) == 0
    assert "0 entries added, 0 replaced, 7 unchanged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["list", "nothing.h5"], 1, "no h5parm nothing.h5"),
        (["best", "nothing.h5", "--direction", "abc", "1"], 2, "is not a direction"),
        (["best", "nothing.h5", "--direction", "1", "95"], 2, "beyond a pole"),
        (["merge", "into.h5", "nothing.h5"], 1, "no h5parm nothing.h5"),
        (["apply", "nothing.h5", "b.ms"], 1, "no h5parm nothing.h5"),
        (["nonsense"], 2, "invalid choice"),
        ([], 2, "required"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(words, code, text, capsys, tmp_path) -> None:
    assert main(words) == code
    error = capsys.readouterr().err
    assert text in error
    assert "Traceback" not in error


def test_export_and_apply(shared_data, tmp_path, capsys, monkeypatch) -> None:
    from libs.gains.caltable import read_solutions

    archive = shared_data / "lofar" / "lofar_hba_intl.ms.tar.gz"
    ms = unpacked(archive, tmp_path)
    h5, table = tmp_path / "s.h5", tmp_path / "s.gcal"
    solutions = solset(frequency_hz=[1.3e8, 1.55e8], antenna=STATIONS[1:], seed=1)
    write_h5parm(h5, solutions)
    assert main(["export", str(h5), "--ms", str(ms), "-o", str(table)]) == 0
    gains = read_solutions(table, ms)
    assert gains.polarization == ("R", "L")
    i = gains.antenna.index("DE602HBA")
    assert not gains.flag[:, :, i].any()
    assert gains.flag[:, :, gains.antenna.index("CS001HBA0")].all()
    np.testing.assert_allclose(gains.gain[:, 0, i], solutions.gain[:, 0, 1, 0], rtol=1e-5)
    done = []
    monkeypatch.setattr(
        solution_actions, "apply_solutions", lambda *call: done.append(call) or "applied"
    )
    assert main(["apply", str(h5), str(ms)]) == 0
    assert capsys.readouterr().out.endswith("applied\n")
    assert done[0][0] == ms
    assert done[0][1].antenna == gains.antenna
    write_h5parm(h5, jones(1))
    assert main(["export", str(h5), "--ms", str(ms), "-o", str(table)]) == 1
    assert "full-Jones" in capsys.readouterr().err
