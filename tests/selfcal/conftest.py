"""Fixtures of the engine's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.selfcal.fake_steps import Fake


@pytest.fixture(autouse=True)
def no_trouble() -> Iterator[None]:
    """Forget what an earlier test had fake steps do."""
    Fake.trouble.clear()
    Fake.ran.clear()
    yield
    Fake.trouble.clear()
