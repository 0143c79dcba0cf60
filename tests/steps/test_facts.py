"""Facts of earlier steps under names that a type checker knows."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfcal.step import StepResult
from steps.facts import (
    ClosureFacts,
    GridFacts,
    StartupFacts,
    as_metrics,
    closure_facts,
    grid_facts,
    recorded,
    start_facts,
    startup_facts,
)
from tests.conftest import ROOT

STARTUP = StartupFacts(
    working_copies=("a.ms", "b.ms"), instrument="vla", telescope="VLA", field="3C273",
    frequency_hz=8e9, min_frequency_hz=7.9e9, max_frequency_hz=8.1e9, antennas=27,
    dish_diameter_m=25.0, longest_baseline_m=36e3, shortest_baseline_m=700.0, integration_s=10.0,
    scans=2, rows=100, channels=4, spws=1, band_slices=1, spectral_terms=1,
    right_ascension_rad=1.0, declination_rad=0.5,
    flagged_fraction=0.1, datacolumn="DATA", band="X",
)  # fmt: skip


def context_of(metrics: dict[str, Any]) -> Any:
    return SimpleNamespace(metric=metrics.get)


def test_facts_survive_the_record() -> None:
    stored = json.loads(json.dumps(as_metrics(STARTUP)))
    assert recorded(StartupFacts, stored) == STARTUP
    assert startup_facts(context_of(stored)) == STARTUP
    assert stored["working_copies"] == ["a.ms", "b.ms"] and stored["rows"] == 100


def test_what_is_not_on_record_is_none_or_an_error() -> None:
    assert grid_facts(context_of({})) == GridFacts(None, None)
    assert closure_facts(context_of({})).coherent_m == 0.0
    assert as_metrics(ClosureFacts(2.5)) == {"max_coherent_km": 2.5}
    assert start_facts(StepResult()).started_from == ""
    with pytest.raises(LookupError, match="no step has recorded working_copies"):
        startup_facts(context_of({}))
    partial = as_metrics(replace(STARTUP, band=""))
    del partial["rows"]
    with pytest.raises(LookupError, match="rows"):
        startup_facts(context_of(partial))


@pytest.mark.tools
def test_a_misspelt_fact_does_not_pass_the_type_checker(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from steps.context import Context\n"
        "from steps.facts import startup_facts\n\n\n"
        "def length(context: Context) -> float:\n"
        "    context.tools.solvr\n"
        "    return startup_facts(context).longest_baselin_m\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", "setup.cfg", str(wrong)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert '"StartupFacts" has no attribute "longest_baselin_m"' in said.stdout
    assert '"Tools" has no attribute "solvr"' in said.stdout
