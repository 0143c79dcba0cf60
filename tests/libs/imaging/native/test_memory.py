"""What an image takes of the memory allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.core.errors import ConfigError
from libs.imaging.native.memory import image_bytes, memory_for_visibilities


@given(
    pixels=st.integers(16, 20000), nterms=st.integers(1, 3), scales=st.integers(1, 5),
    limit=st.floats(1e6, 1e12),
)  # fmt: skip
def test_image_and_visibilities_share_the_limit_or_it_is_refused(
    pixels: int, nterms: int, scales: int, limit: float
) -> None:
    images = image_bytes((pixels, pixels), nterms, scales)
    try:
        left = memory_for_visibilities((pixels, pixels), nterms, scales, limit)
    except ConfigError:
        assert images + 128e6 > limit
    else:
        assert left > 0 and left + images == pytest.approx(limit)


def test_memory_grows_with_pixels_terms_and_scales() -> None:
    one = image_bytes((4096, 4096), 1, 1)
    assert image_bytes((8192, 4096), 1, 1) == pytest.approx(2 * one, rel=0.01)
    assert image_bytes((4096, 4096), 2, 1) > one and image_bytes((4096, 4096), 1, 5) > one


def test_without_convolutions_less_is_needed() -> None:
    whole = image_bytes((4096, 4096), 1, 1)
    assert image_bytes((4096, 4096), 1, 1, convolved=False) < 0.5 * whole


def test_the_error_names_size_need_and_limit() -> None:
    with pytest.raises(ConfigError, match=r"16384 x 16384 pixels takes .* GB .* 2 GB") as caught:
        memory_for_visibilities((16384, 16384), 1, 1, 2e9)
    assert "imsize" in caught.value.remedy and "memory" in caught.value.remedy
