"""What steps say loudly is on record."""

from __future__ import annotations

import logging
from pathlib import Path

from selfcal.heard import hear_warnings
from tests.selfcal.fake_steps import Fake, make_pipeline


def test_warnings_of_the_program_are_heard_once_and_others_not() -> None:
    with hear_warnings() as heard:
        for _ in range(2):
            logging.getLogger("libs.flagging.dead_feeds").warning("%s: feed X is dead", "ea01")
        logging.getLogger("selfcal").info("no warning")
        logging.getLogger("some.library").warning("of a library")
    logging.getLogger("libs").warning("after the step")
    assert heard == ["ea01: feed X is dead"]
    left = [*logging.getLogger("libs").handlers, *logging.getLogger("selfcal").handlers]
    assert not [handler for handler in left if type(handler).__name__ == "_Collector"]


def test_a_step_records_them(tmp_path: Path, monkeypatch) -> None:
    log = logging.getLogger("libs.ms.sanitise")
    monkeypatch.setitem(Fake.trouble, "second", lambda: log.warning("a dead feed"))
    pipeline = make_pipeline(tmp_path)
    results = pipeline.run()
    assert results["second"].metrics["warnings"] == ["a dead feed"]
    assert "warnings" not in results["first"].metrics
    record = pipeline.state.get("second")
    assert record is not None and record.result.metrics["warnings"] == ["a dead feed"]
