"""The memory that a run's imager may use: its option, its check, its way to the imager."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.core.errors import ConfigError
from steps.run_options import run_settings
from steps.tools import check_memory
from tests.steps.fake_tools import Looks, make_run


@pytest.mark.parametrize(
    ("text", "wanted"), [("8GB", 8e9), ("500 MB", 5e8), ("2GiB", 2 * 2**30), ("auto", "auto")]
)
def test_memory_has_a_unit(text: str, wanted: object) -> None:
    assert run_settings({"memory": text})["memory"] == wanted


@pytest.mark.parametrize("text", ["8", "8s", "-1GB", "0GB", "plenty"])
def test_other_memories_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="memory"):
        run_settings({"memory": text})


@pytest.mark.parametrize("imager", ["auto", "native"])
def test_an_image_that_cannot_fit_is_refused_before_the_run(imager: str) -> None:
    asked = {"imager": imager, "memory": "1GB", "imsize": 8192}
    with pytest.raises(ConfigError, match="8192 x 8192 pixels takes"):
        check_memory(run_settings(asked))
    check_memory(run_settings(asked | {"imsize": 512}))
    check_memory(run_settings(asked | {"imsize": "auto"}))
    check_memory(run_settings(asked | {"imager": "wsclean"}))


def test_tclean_takes_no_limit() -> None:
    with pytest.raises(ConfigError, match="tclean"):
        check_memory(run_settings({"imager": "tclean", "memory": "8GB"}))
    check_memory(run_settings({"imager": "tclean"}))


def test_every_image_of_a_run_is_told_the_limit(tmp_path: Path) -> None:
    names = ("startup", "save_init_flags", "fov_image", "test_image")
    pipeline, imager = make_run(
        tmp_path / "run", {"": Looks()}, names=names, config={"memory": "3GB"}
    )
    pipeline.run()
    assert len(imager.asked) == 2
    assert {options.memory_bytes for options in imager.asked} == {3e9}
