"""Work begun before its step: used where it is of the same data, else done as if never begun."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from libs.core.errors import InputError
from selfcal.ahead import Ahead
from selfcal.context import Context
from selfcal.step import Skip, Step, StepResult
from tests.selfcal.fake_steps import NAMES, Fake, make_pipeline, run


@pytest.fixture
def ahead(tmp_path: Path) -> Iterator[Ahead]:
    made = Ahead(tmp_path / "logs")
    yield made
    made.close()


def test_work_is_done_beside_and_taken_once(ahead: Ahead) -> None:
    ahead.begin("fit", "data", np.add, np.arange(3), 2)
    assert "fit" in ahead
    np.testing.assert_array_equal(ahead.take("fit", "data"), [2, 3, 4])
    assert "fit" not in ahead
    assert ahead.take("fit", "data") is None


def test_arguments_and_results_that_fill_pipes(ahead: Ahead) -> None:
    values = np.random.default_rng(0).normal(size=10**6)
    ahead.begin("fit", "data", np.negative, values)
    np.testing.assert_array_equal(ahead.take("fit", "data"), -values)


def test_work_of_other_data_and_work_that_failed_are_no_results(ahead: Ahead) -> None:
    ahead.begin("fit", "data", abs, -1)
    assert ahead.take("fit", "flagged data") is None
    assert ahead.take("fit", "data") is None, "it was thrown away"
    ahead.begin("fit", "data", math.sqrt, -1)
    assert ahead.take("fit", "data") is None
    assert "math domain error" in (ahead.log_dir / "ahead.log").read_text()


def test_what_prints_and_what_dies_is_no_result_to_be_believed(ahead: Ahead) -> None:
    ahead.begin("fit", "data", os.system, "echo noise")
    assert ahead.take("fit", "data") == 0
    ahead.begin("fit", "data", os.abort)
    assert ahead.take("fit", "data") is None


def test_what_is_not_taken_ends_with_the_run(ahead: Ahead) -> None:
    ahead.begin("fit", "data", time.sleep, 100)
    _, process = ahead._works["fit"]
    ahead.close()
    assert process.returncode is not None


class Early(Fake):
    """Begins its work before its step."""

    begun: ClassVar[list[tuple[list[str], Any]]] = []
    trouble_ahead: ClassVar[list[Exception]] = []

    def begin_ahead(self, context: Context) -> None:
        """Note when it was called and with which options."""
        Early.begun.append((list(context.results), context.options["number"]))
        for error in Early.trouble_ahead:
            raise error


class Changing(Fake):
    """Changes the data where its number says so."""

    def changes_data(self, context: Context) -> bool:
        """By an option of its own."""
        return bool(context.options["number"] > 1)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Early.begun.clear()
    Early.trouble_ahead.clear()


def test_a_step_begins_before_each_that_leaves_the_data_as_they_are(tmp_path: Path) -> None:
    classes: dict[str, type[Step]] = {"second": Changing, "fourth": Early}
    assignments = {"fourth.number": 7}
    assert run(tmp_path / "a", classes=classes, assignments=assignments) == list(NAMES)
    assert Early.begun == [(["first"], 7), (["first", "second"], 7)]
    Early.begun.clear()
    run(tmp_path / "b", classes=classes, assignments={**assignments, "second.number": 2})
    assert Early.begun == [(["first", "second"], 7)]
    expected = "input > first(1) > second(2) > third(1) > fourth(7)"
    assert (tmp_path / "b" / "fourth.txt").read_text() == expected


def test_nothing_is_begun_for_steps_that_do_not_run(tmp_path: Path) -> None:
    classes: dict[str, type[Step]] = {"fourth": Early}
    run(tmp_path, classes=classes, until="third")
    run(tmp_path, classes=classes, only="second")
    assert not Early.begun
    run(tmp_path, classes=classes)
    assert Early.begun == [(["first", "second"], 1)], "the third ran after the second"


@pytest.mark.parametrize("error", [InputError("no data", "look"), Skip("nothing")])
def test_a_failure_ahead_is_left_to_the_step_itself(tmp_path: Path, error: Exception) -> None:
    Early.trouble_ahead.append(error)
    assert run(tmp_path, classes={"third": Early}) == list(NAMES)
    assert len(Early.begun) == 1


class Taking(Early):
    """Takes what it began."""

    def begin_ahead(self, context: Context) -> None:
        """Once."""
        if "work" not in context.ahead:
            context.ahead.begin("work", "key", str.upper, "ahead")

    def run(self, context: Context) -> StepResult:
        """Say where the result is from."""
        return StepResult(reason=context.ahead.take("work", "key") or "here")


def test_a_step_takes_what_it_began(tmp_path: Path) -> None:
    pipeline = make_pipeline(tmp_path, classes={"third": Taking})
    assert pipeline.run()["third"].reason == "AHEAD"
    assert pipeline.run(start="third")["third"].reason == "here"
