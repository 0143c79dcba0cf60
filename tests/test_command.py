"""The command's own words: help, versions, configs to edit, what is installed."""

from __future__ import annotations

import json
import logging
import platform
import re
import resource
import shlex
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

import auto_selfcal
from selfcal import __version__
from steps import STEPS
from steps.ready_configs import ready_config_names
from steps.run_options import RUN_OPTIONS, load_run_config, run_settings
from tests.conftest import ROOT
from tests.libs.small_ms import make_ms

CONFIGS = ready_config_names()


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    try:
        found = auto_selfcal.main(arguments)
    except SystemExit as end:
        found = int(end.code or 0)
    text = capsys.readouterr()
    assert found == code, text
    return text.out + text.err


def test_help_shows_every_key_with_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "-h")
    for option in RUN_OPTIONS:
        assert option.name in text and option.meaning in text
    for step in STEPS:
        assert step in text


@pytest.mark.parametrize("name", auto_selfcal.COMMANDS)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert name in said(capsys, name, "-h")


@pytest.mark.parametrize("words", [("--field", "NGC 1"), ("--field=NGC 1",)])
def test_a_key_of_the_config_given_as_an_argument_is_explained(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """As other programs have it; the remedy is a command that works."""
    text = said(capsys, str(ROOT / "config.py"), *words, code=2)
    assert "give --set 'field=NGC 1'" in text and "usage" not in text


def test_help_takes_less_than_half_a_second() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, str(ROOT / "auto_selfcal.py"), "-h"]
    subprocess.run(words, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < 0.5, "CPU seconds, which other programs do not add to"


@pytest.mark.parametrize("name", ["", *auto_selfcal.COMMANDS])
def test_help_waits_for_no_library(name: str) -> None:
    code = (
        "import sys\nsys.path.insert(0, sys.argv.pop(1))\nimport auto_selfcal\n"
        "try:\n    auto_selfcal.main()\nfinally:\n"
        "    heavy = {'numpy', 'astropy', 'casacore', 'numba', 'h5py', 'matplotlib'}\n"
        "    print('loaded:', sorted(heavy & set(sys.modules)))\n"
    )
    words = [sys.executable, "-c", code, str(ROOT), *([name] if name else []), "-h"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("loaded: []\n"), done.stdout + done.stderr


def test_the_log_handlers_of_a_caller_stay(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root, mine = logging.getLogger(), logging.NullHandler()
    root.addHandler(mine)
    before, level = list(root.handlers), root.level
    try:
        work = str(tmp_path / "work")
        said(capsys, "--workdir", work, "--set", "vis=none.ms", "--until", "startup", code=1)
        assert root.handlers == before and root.level == level
    finally:
        root.removeHandler(mine)
    assert "none.ms" in (tmp_path / "work" / "run.log").read_text()


@pytest.mark.parametrize(
    ("word", "guess"),
    [("slutions", " (did you mean 'solutions'?)"), ("feild", " (did you mean 'field'?)"),
     ("bogus", "")],
)  # fmt: skip
def test_a_word_that_is_no_command(
    capsys: pytest.CaptureFixture[str], word: str, guess: str
) -> None:
    text = said(capsys, word, "list", "x.h5", code=2)
    assert text.startswith(f"selfcal: unknown command '{word}'{guess}: known: ")
    for name in auto_selfcal.COMMANDS:
        assert name in text


@pytest.mark.parametrize("word", ["my.py", "sub/config", "my.yaml"])
def test_a_word_that_may_be_a_config(capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert f"config {word} does not exist" in said(capsys, word, code=2)


def test_how_it_ended_is_written_for_programs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    outcome = tmp_path / "outcome.json"
    words = ["--outcome", str(outcome), "--workdir", str(tmp_path / "work")]
    said(capsys, "--list", *words)
    assert json.loads(outcome.read_text())["code"] == 0
    text = said(capsys, "--set", "imager=wscleen", *words, code=2)
    found = json.loads(outcome.read_text())
    assert found["code"] == 2 and found["kind"] == "ConfigError"
    assert text == f"selfcal: {found['cause']}: {found['remedy']}\n"
    said(capsys, "--set", "vis=none.ms", "--until", "startup", *words, code=1)
    found = json.loads(outcome.read_text())
    assert found["code"] == 1 and found["cause"] == "none.ms does not exist"


def test_init_says_a_command_that_works_from_another_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here and there").mkdir()
    monkeypatch.chdir(tmp_path / "here and there")
    text = said(capsys, "init", "vla", "-o", "my.py")
    (words,) = re.findall(r"then python (.*)$", text.strip())
    monkeypatch.chdir("/")
    argv = [sys.executable, *shlex.split(words), "--list", "--workdir", str(tmp_path / "work")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "not run yet" in done.stdout, done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--version").strip() == f"selfcal {__version__}"


@pytest.mark.parametrize("name", CONFIGS)
def test_init_writes_a_config_that_is_valid(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    target = tmp_path / "my.py"
    assert "set vis" in said(capsys, "init", name, "-o", str(target))
    settings = run_settings(load_run_config(target), target, {})
    assert set(settings["steps"]) <= set(STEPS)
    # keys are explained where they stand
    assert target.read_text().count("#") >= 8
    assert "exists" in said(capsys, "init", name, "-o", str(target), code=2)


def test_init_of_an_unknown_instrument(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown instrument 'vlla'" in said(capsys, "init", "vlla", code=2)


def test_list_before_anything_ran(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = said(capsys, "--list", "--workdir", str(tmp_path / "work"))
    assert text.count("not run yet") == len(load_run_config(ROOT / "config.py")["steps"])
    assert not (tmp_path / "work").exists()


def test_doctor_says_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "doctor")
    for word in ("casatools", "python-casacore", "imager"):
        assert word in text.lower()


def test_inspect_tells_what_data_hold(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    vis = make_ms(tmp_path / "two.ms", antennas=5, scans=2, fields=("NGC 1", "J0001+1"))
    text = said(capsys, "inspect", str(vis))
    assert re.search(r"^ 0  NGC 1 +- +1 ", text, re.MULTILINE)
    assert re.search(r"^  0 +8 ", text, re.MULTILINE)
    assert "5 antennas" in text and "columns: DATA" in text
    assert "on one core" in text and "GB" in text
    # the command that it suggests is accepted
    words = shlex.split(next(line for line in text.splitlines() if line.endswith("--dry-run")))
    assert words[-2] == "field=NGC 1"
    assert "no field" in said(
        capsys, "--set", f"vis={vis}", "--set", "field=3", "--dry-run", code=1
    )
    said(capsys, *words[words.index("--set") :])


def test_the_schema_holds_for_every_ready_config(capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads(said(capsys, "config", "schema"))
    assert set(schema["properties"]) == {option.name for option in RUN_OPTIONS}
    assert set(schema["properties"]["overrides"]["properties"]) == set(STEPS)
    solint = schema["properties"]["overrides"]["properties"]["p1"]["properties"]["solint"]
    assert "Solution interval" in solint["description"] or "interval" in solint["description"]
    assert schema["properties"]["imager"]["enum"] == ["auto", "native", "wsclean", "tclean"]
    for kind in ("field", "calibrate"):
        assert json.loads(said(capsys, "config", "schema", kind))["properties"]["vis"]


def test_init_all_writes_every_key(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "my.py"
    said(capsys, "init", "vla", "--all", "-o", str(path))
    text = path.read_text()
    for option in RUN_OPTIONS:
        assert re.search(rf"^(# )?{option.name} = ", text, re.MULTILINE), option.name
    bare = re.sub(r"^# (\w+ = )", r"\1", text.split("# Keys not used")[1], flags=re.MULTILINE)
    path.write_text(text.split("# Keys not used")[0] + "#" + bare)
    run_settings(load_run_config(path), path)  # all of it is a config that holds


def test_completion_knows_commands_steps_and_switches(capsys: pytest.CaptureFixture[str]) -> None:
    script = said(capsys, "completion", "bash")
    test = script + textwrap.dedent("""
        COMP_WORDS=(auto-selfcal --from split); COMP_CWORD=2; _auto_selfcal; echo "${COMPREPLY[@]}"
        COMP_WORDS=(auto-selfcal insp); COMP_CWORD=1; _auto_selfcal; echo "${COMPREPLY[@]}"
        COMP_WORDS=(auto-selfcal --log); COMP_CWORD=1; _auto_selfcal; echo "${COMPREPLY[@]}"
    """)
    done = subprocess.run(["bash", "-c", test], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["split_trial_1", "inspect", "--log-json"], done.stderr


def test_a_bundle_for_a_bug_report_holds_no_data(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    for name in ("steps.csv", "run.log", "summary.json", "logs/report.log", "data/a.ms/table.dat"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(name)
    said(capsys, "doctor", "--bundle", str(work))
    names = zipfile.ZipFile(tmp_path / "work-report.zip").namelist()
    assert {"doctor.txt", "steps.csv", "run.log", "summary.json", "logs/report.log"} == set(names)
    said(capsys, "doctor", "--bundle", str(tmp_path), code=2)


def test_report_open_starts_a_browser(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.reports.fake_run import make_run

    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    said(capsys, "report", "--open", str(make_run(tmp_path / "work")))
    assert opened == [(tmp_path / "work" / "report.html").as_uri()]
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    text = said(capsys, "report", "--open", str(tmp_path / "work"), code=1)
    assert "no browser could be started" in text


def test_on_finish_and_the_log_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    vis = make_ms(tmp_path / "a.ms", antennas=5)
    work, mark, log = tmp_path / "work", tmp_path / "mark", tmp_path / "log.jsonl"
    command = f"sh -c 'echo $SELFCAL_STATUS $SELFCAL_WORKDIR > {mark}'"
    words = ["--set", f"vis={vis}", "--workdir", str(work), "--set", "steps=[startup]"]
    said(capsys, *words, "--set", f"on_finish={command}", "--log-json", str(log))
    assert mark.read_text().split() == ["unchanged", str(work)]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"time", "level", "logger", "message"} <= set(lines[0])
    assert any("startup" in line["message"] for line in lines)
    text = said(capsys, *words, "--set", "on_finish=/no/such/program")
    assert "on_finish: /no/such/program cannot be run" in text
    assert "does not parse" in said(capsys, *words, "--set", 'on_finish="\'"', code=2)


def test_the_log_begins_with_the_command_and_the_host(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said(capsys, "--workdir", str(tmp_path), "--set", "vis=none.ms", code=1)
    first = (tmp_path / "run.log").read_text().splitlines()[0]
    assert platform.node() in first and shlex.join(sys.argv) in first and __version__ in first


def test_a_program_beside_the_run_that_dies_does_not_take_it_along() -> None:
    """Writing to it is an error that is told; the signal of a broken pipe would end the run."""
    script = textwrap.dedent(f"""
        import runpy, signal, sys
        sys.argv = ["auto_selfcal.py", "--version"]
        try:
            runpy.run_path({str(ROOT / "auto_selfcal.py")!r}, run_name="__main__")
        except SystemExit:
            print(signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "True", done.stderr


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(ROOT / 'auto_selfcal.py'))} -h"
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -n 1 >/dev/null"], capture_output=True, text=True
    )
    assert done.stderr == ""
