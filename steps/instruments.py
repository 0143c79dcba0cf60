"""Which instrument and band the data are from, by the numbers in templates/instruments.yaml."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from selfcal.options import Option, unknown_name
from selfcal.template_files import TEMPLATE_DIR
from selfcal.yaml_files import read_value_mapping

__all__ = ["SETUP", "dish_diameter_m", "identify"]


@lru_cache(maxsize=1)
def _numbers() -> dict[str, Any]:
    return read_value_mapping(TEMPLATE_DIR / "instruments.yaml")


def _setup() -> tuple[Option, Option]:
    bands = {band for known in _numbers()["bands_ghz"].values() for band in known}
    return (
        Option("instrument", "choice", "other", "instrument of the data",
               choices=(*_numbers()["telescopes"], "other")),
        Option("band", "choice", "", "band of the data", choices=tuple(sorted(bands))),
    )  # fmt: skip


SETUP = _setup()
"""What differences of templates and rules may name."""


def identify(
    telescope: str, frequency_hz: float, instrument: str = "auto", band: str = "auto"
) -> tuple[str, str]:
    """Return instrument and band; what the config names wins.

    Parameters
    ----------
    telescope : str
        TELESCOPE_NAME of the data.
    frequency_hz : float
        Mean frequency.
    instrument, band : str
        As in the config, or ``auto``.

    Returns
    -------
    (str, str)
        ``other`` and an empty band where the numbers know nothing.

    Raises
    ------
    ConfigError
        The config names an instrument or band that is not known.
    """
    names = _numbers()["telescopes"]
    if instrument == "auto":
        upper = telescope.upper()
        found = [key for key, known in names.items() if upper in [name.upper() for name in known]]
        instrument = found[0] if found else "other"
    elif instrument not in names and instrument != "other":
        raise unknown_name("instrument", instrument, [*names, "other"])
    bands = _numbers()["bands_ghz"].get(instrument, {})
    if band != "auto":
        if bands and band not in bands:
            raise unknown_name(f"band of {instrument}", band, list(bands))
        return instrument, band
    ghz = frequency_hz / 1e9
    return instrument, next((key for key, (low, high) in bands.items() if low <= ghz < high), "")


def dish_diameter_m(instrument: str, measured_m: float) -> float:
    """Return the dish diameter, m: the data's own, or the instrument's when they have none."""
    return measured_m if measured_m > 1.0 else float(_numbers()["dish_m"].get(instrument, 25.0))
