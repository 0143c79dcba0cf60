"""Random configs and command lines: every key with values that suit it and values that do not."""

from __future__ import annotations

import contextlib
import io
import traceback
from pathlib import Path
from typing import Any

import numpy as np

import auto_selfcal
from benchmarks.torture.outcomes import Attempt
from selfcal.options import UNITS
from steps import STEPS
from steps.run_options import RUN_OPTIONS

__all__ = ["random_settings"]

_ODD: tuple[Any, ...] = (
    "", "auto", "none", -1, 0, 1, 2.5, 1e300, "nan", "inf", None, True, [], [1, "a"], {},
    {"p0": {"solint": "30s"}}, {"nothing": {}}, "ä\n€", "../..", "/", "30 parsec", "1e-400s",
    "p0", ["p0", "p1"], b"bytes", float("nan"), "[1, 2", "{", "0x10", "1:30", "on",
)  # fmt: skip
_WORDS = (
    "--list", "--dry-run", "--quiet", "--restart", "--from", "--until", "--only", "--set",
    "--workdir", "--cluster", "--outcome", "--nothing", "-h", "p0", "startup", "imager=tclean",
    "p0.solint=30s", "=", "a.b.c=1", "p0.solint=[", "local:2", "inline", "",
)  # fmt: skip


def random_settings(number: int, seed: int, data: Path, folder: Path) -> Attempt:
    """Try a random config with random words, in this process: nothing runs but the checks."""
    rng = np.random.default_rng([seed, number])
    suffix = str(rng.choice([".py", ".yaml"]))
    config = folder / f"config_{number}{suffix}"
    values: dict[str, Any] = {"vis": str(data), "workdir": str(folder / "never")}
    for option in rng.choice(np.array(RUN_OPTIONS, object), rng.integers(0, 6), replace=False):
        values[option.name] = _value(rng, option)
    if rng.random() < 0.2:
        values[str(rng.choice(["nothing", "p0", "imsiez", "overrides"]))] = _pick(rng, _ODD)
    text = "".join(
        f"{name} = {value!r}\n" if suffix == ".py" else f"{name}: {value!r}\n"
        for name, value in values.items()
    )
    if rng.random() < 0.1:
        place = int(rng.integers(0, len(text)))
        text = text[:place] + str(rng.choice(["(", "\t", "'", ":", "\x00"])) + text[place + 1 :]
    config.write_text(text, encoding="utf-8")
    words = [str(config), *(str(word) for word in rng.choice(_WORDS, rng.integers(0, 4)))]
    if not {"--list", "-h"} & set(words):
        words.append("--dry-run")
    with contextlib.chdir(folder):  # a word may name a file to write
        return _in_process(f"{' '.join(words)} | {text!r}", words)


def _pick(rng: np.random.Generator, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def _value(rng: np.random.Generator, option: Any) -> Any:
    """Return a value that suits an option, or one that probably does not."""
    if rng.random() < 0.4:
        return _pick(rng, _ODD)
    if option.choices:
        return str(rng.choice(option.choices))
    if option.kind in UNITS:
        return UNITS[option.kind][1]
    if option.kind == "names":
        return list(rng.choice(list(STEPS), 3))
    usual = {
        "int": 3, "float": 0.5, "bool": True, "size": 256, "table": {"p0": {"niter": 10}},
        "path": "some/file", "paths": ["a.ms", "b.ms"],
    }  # fmt: skip
    return usual.get(option.kind, option.default)


def _in_process(what: str, words: list[str]) -> Attempt:
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = auto_selfcal.main(words)
    except SystemExit as end:  # argparse's own
        code = int(end.code) if isinstance(end.code, int) else 1
    except Exception:  # noqa: BLE001 - what a user would see as a traceback is what is counted
        return Attempt(what, 1, traceback.format_exc())
    return Attempt(what, code, said.getvalue())
