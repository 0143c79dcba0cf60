"""The error of the change of the noise near a source."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from libs.core.errors import InputError
from libs.imaging.near_field import near_field_error
from libs.imaging.statistics import measure
from tests.libs.fake_images import BEAM_ARCSEC, CELL_ARCSEC, gaussian, write

SHAPE = (128, 128)
SOURCE = gaussian(SHAPE, 64, 64, 1.0)


def noise(rng: np.random.Generator) -> np.ndarray:
    """Noise of 1 mJy with the beam's shape."""
    sigma = BEAM_ARCSEC / CELL_ARCSEC / math.sqrt(8 * math.log(2)) / math.sqrt(2)
    plane = ndimage.gaussian_filter(rng.normal(size=SHAPE), sigma, mode="wrap")
    return 1e-3 * plane / plane.std()


def written(folder: Path, name: str, left: np.ndarray) -> tuple[Path, Path]:
    image = write(folder / f"{name}-image.fits", SOURCE + left)
    return image, write(folder / f"{name}-residual.fits", left)


def test_the_error_is_the_scatter_of_the_change(tmp_path: Path) -> None:
    """Images share most of their noise: the change scatters less than each noise does."""
    changes, errors = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        shared = noise(rng)
        one = written(tmp_path, "one", shared + 0.4 * noise(rng))
        two = written(tmp_path, "two", shared + 0.4 * noise(rng))
        before, after = measure(*one), measure(*two)
        changes.append(after.near_field_rms_jy_beam / before.near_field_rms_jy_beam - 1)
        errors.append(near_field_error(*two, one[1]))
    assert np.std(changes) == pytest.approx(np.mean(errors), rel=0.35)


def test_the_same_image_has_no_error(tmp_path: Path) -> None:
    one = written(tmp_path, "one", noise(np.random.default_rng(1)))
    assert near_field_error(*one, one[1]) == pytest.approx(0.0, abs=1e-12)


def test_images_of_other_sizes_are_refused(tmp_path: Path) -> None:
    one = written(tmp_path, "one", noise(np.random.default_rng(1)))
    small = write(tmp_path / "small.fits", np.ones((64, 64)))
    with pytest.raises(InputError, match="differ in shape"):
        near_field_error(*one, small)
