"""The data a run hands over: the split, averaged as asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from libs.casa.session import CasaSession
from libs.ms.summary import summarise
from libs.ms.tables import open_table
from tests.steps.fake_tools import Looks, make_run

NAMES = ("startup", "test_image", "select_refant", "p0", "split_trial_1")
SCRIPT = {"test_image": Looks(1.0, 0.02), "selfcal_p0": Looks(1.0, 0.01)}


@pytest.mark.tools
@pytest.mark.parametrize(
    ("options", "integration_s", "channels"),
    [
        ({}, 10.0, 2),
        ({"average_time": "40s", "average_channels": 2}, 40.0, 1),
        ({"average_time": "35s"}, 30.0, 2),
    ],
)
def test_calibrated_data_are_averaged_as_asked(
    tmp_path: Path,
    session: CasaSession,
    options: dict[str, Any],
    integration_s: float,
    channels: int,
) -> None:
    pipeline, _ = make_run(
        tmp_path, SCRIPT, names=NAMES, config={"overrides": {"split_trial_1": options}}
    )
    pipeline.context.tools.session = session
    result = pipeline.run()["split_trial_1"]
    made = summarise(tmp_path / result.products["calibrated_ms"])
    assert made.integration_s == pytest.approx(integration_s)
    assert made.channels == channels
    assert ("averaged over" in result.reason) == bool(options)
    with open_table(made.path) as opened:
        data, flag = opened.getcol("DATA"), opened.getcol("FLAG")
    # noise of 0.05 a visibility, and what the solutions add
    averaged = integration_s / 10 * 2 / channels
    assert np.abs(data[~flag] - 1).std() < 0.1 / np.sqrt(averaged) + 0.02
    assert result.metrics["calibrated_bytes"] > 0
