"""The flux scale carried over from a calibrator of known flux to others by the antennas' gains."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.gains.caltable import SpwGains, read_caltable
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

__all__ = ["TransferredFlux", "mean_flux", "transfer_flux"]

# rms of a Gaussian from its median absolute deviation; error of a median beside that of a mean
_MAD_RMS, _MEDIAN_ERROR = 1.4826, 1.2533


@dataclass(frozen=True)
class TransferredFlux:
    """The flux of a calibrator in a spectral window.

    Attributes
    ----------
    field : str
    spw : int
        -1 for the mean of all.
    frequency_hz : float
    flux_jy, error_jy : float
        Median over antennas and polarizations, and its error from their scatter.
    gains : int
        Antennas and polarizations that took part.
    """

    field: str
    spw: int
    frequency_hz: float
    flux_jy: float
    error_jy: float
    gains: int


def transfer_flux(
    table: Path, scaled: Path, reference: Sequence[int], others: Mapping[str, Sequence[int]]
) -> list[TransferredFlux]:
    """Find the fluxes of calibrators that were solved as 1 Jy; write a table on the true scale.

    If the antennas' gains are the same on all fields, those solved with a model of 1 Jy are too
    large by the root of the flux.

    Parameters
    ----------
    table : Path
        Gains of amplitude and phase on all calibrators.
    scaled : Path
        Copy of it whose gains are all of one scale; an existing one is replaced.
    reference : sequence of int
        FIELD_ID of the calibrator whose model has its flux.
    others : mapping of str to sequence of int
        Names and ids of those of unknown flux.

    Returns
    -------
    list of TransferredFlux
        By calibrator and window.

    Raises
    ------
    InputError
        In no window an antenna has gains on both.
    """
    found = read_caltable(table)
    channel_hz = Subtables(table).channel_hz
    fluxes: list[TransferredFlux] = []
    for name, ids in others.items():
        own = []
        for spw, part in found.spws.items():
            ratio = _ratios(part, reference, ids)
            if len(ratio):
                middle = float(np.median(ratio))
                spread = _MAD_RMS * float(np.median(np.abs(ratio - middle)))
                error = _MEDIAN_ERROR * spread / np.sqrt(len(ratio))
                own.append(
                    TransferredFlux(
                        name, spw, float(channel_hz[spw].mean()), middle, float(error), len(ratio)
                    )
                )
        if not own:
            raise InputError(
                f"no antenna has gains on {name} and on the flux calibrator",
                "look at the flags of both, or name other calibrators",
            )
        fluxes += own
    _write_scaled(table, scaled, others, fluxes)
    return fluxes


def _ratios(part: SpwGains, reference: Sequence[int], others: Sequence[int]) -> NDArray[np.float64]:
    """Squared ratios of mean amplitudes, of the antennas and polarizations that have both."""
    one, two = part.of_fields(reference), part.of_fields(others)
    if one is None or two is None:
        return np.zeros(0)
    sizes = []
    for item in (one, two):
        good = ~item.flag & (np.abs(item.gain) > 0)
        total = np.where(good, np.abs(item.gain), 0).sum(axis=(0, 1))
        count = good.sum(axis=(0, 1))
        sizes.append(np.where(count > 0, total / np.maximum(count, 1), np.nan))
    ratio = (sizes[1] / sizes[0]) ** 2
    return np.asarray(ratio[np.isfinite(ratio)], np.float64)


def _write_scaled(
    table: Path,
    scaled: Path,
    others: Mapping[str, Sequence[int]],
    fluxes: Sequence[TransferredFlux],
) -> None:
    shutil.rmtree(scaled, ignore_errors=True)
    part = scaled.with_name(f".{scaled.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(table, part)
    with open_table(part, write=True) as opened:
        field, spw = opened.getcol("FIELD_ID"), opened.getcol("SPECTRAL_WINDOW_ID")
        for name, ids in others.items():
            for flux in (one for one in fluxes if one.field == name):
                rows = np.flatnonzero(np.isin(field, list(ids)) & (spw == flux.spw))
                some = opened.selectrows(rows)
                for column in ("CPARAM", "PARAMERR"):
                    some.putcol(column, some.getcol(column) / np.sqrt(flux.flux_jy))
                some.close()
    part.rename(scaled)


def mean_flux(fluxes: Sequence[TransferredFlux]) -> TransferredFlux:
    """Mean over the windows of one calibrator, weighted by their errors."""
    flux = np.array([one.flux_jy for one in fluxes])
    error = np.array([one.error_jy for one in fluxes])
    weight = 1 / np.maximum(error, 1e-6 * flux) ** 2
    return replace(
        fluxes[0], spw=-1,
        frequency_hz=float(np.mean([one.frequency_hz for one in fluxes])),
        flux_jy=float(np.average(flux, weights=weight)),
        error_jy=float(weight.sum() ** -0.5), gains=sum(one.gains for one in fluxes),
    )  # fmt: skip
