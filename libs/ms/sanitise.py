"""Make the values of a working copy safe for every tool: bad values are flagged and counted."""

from __future__ import annotations

import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.ms.columns import ensure_data_column
from libs.ms.rows import chunks
from libs.ms.subtables import PARALLEL_HANDS, Subtables, put_antenna_names
from libs.ms.tables import column_names, open_table

__all__ = [
    "Repairs",
    "add_scratch_columns",
    "clean_weights",
    "match_sigma",
    "name_antennas",
    "sanitise",
    "spread_weight",
]

log = logging.getLogger(__name__)

# Beyond this the square of a visibility overflows float32 in tools that form |V|^2.
LARGEST_VISIBILITY = 1e15


@dataclass(frozen=True)
class Repairs:
    """Faults found in the visibilities of a working copy, all of which were then flagged.

    Counts are of visibilities (row x channel x correlation) that were not flagged before.

    Attributes
    ----------
    total : int
        All visibilities.
    flagged_before : int
        Visibilities flagged in the input.
    not_finite : int
        Visibilities that are NaN, infinite or larger than 1e15.
    exactly_zero : int
        Visibilities that are 0 + 0j in all channels.
    bad_weight : int
        Visibilities with a negative, infinite or NaN weight.
    zero_weight : int
        Visibilities with weight 0.
    sigma_rewritten : int
        Rows whose SIGMA did not match their WEIGHT.
    """

    total: int = 0
    flagged_before: int = 0
    not_finite: int = 0
    exactly_zero: int = 0
    bad_weight: int = 0
    zero_weight: int = 0
    sigma_rewritten: int = 0

    def __add__(self, other: Repairs) -> Repairs:
        mine, theirs = asdict(self), asdict(other)
        return Repairs(**{key: mine[key] + theirs[key] for key in mine})

    @property
    def unusable_weights(self) -> bool:
        """True when every visibility unflagged in the input was lost because of its weight."""
        left = self.total - self.flagged_before - self.not_finite - self.exactly_zero
        return left > 0 and self.bad_weight + self.zero_weight >= left

    def lines(self) -> tuple[str, ...]:
        """Describe the repairs in words; empty when there were none."""
        found = (
            (self.not_finite, "visibilities were NaN, infinite or absurdly large and were flagged"),
            (self.exactly_zero, "visibilities were exactly zero and were flagged"),
            (
                self.bad_weight,
                "visibilities had a negative, infinite or NaN weight and were flagged",
            ),
            (self.zero_weight, "visibilities had no weight and were flagged"),
            (
                self.sigma_rewritten,
                "rows had a SIGMA that disagreed with their weight and was rewritten",
            ),
        )
        return tuple(f"{number} {words}" for number, words in found if number)


def clean_weights(
    weight: NDArray[np.floating[Any]],
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Set unusable weights to zero.

    Returns
    -------
    weight : float32 array
        Weights, finite and not negative.
    bad, zero : bool arrays
        Masks of the weights that were negative, infinite or NaN, and of those that were 0.
    """
    bad = ~np.isfinite(weight) | (weight < 0)
    zero = weight == 0
    return np.where(bad, 0, weight).astype(np.float32), bad, zero


def spread_weight(spectrum: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the WEIGHT that goes with a WEIGHT_SPECTRUM: the mean over channels with weight.

    CASA takes WEIGHT as the weight of one channel; other writers store the sum over channels or 1
    there, so that WEIGHT and WEIGHT_SPECTRUM contradict each other.

    Parameters
    ----------
    spectrum : (nrow, nchan, ncorr) float32
        Weights by channel.

    Returns
    -------
    (nrow, ncorr) float32
        Weights; 0 where no channel has weight.
    """
    held = np.count_nonzero(spectrum, axis=1)
    total = spectrum.sum(axis=1, dtype=np.float64)
    return (total / np.maximum(held, 1)).astype(np.float32)


def sigma_of(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return SIGMA = WEIGHT^(-1/2), and 0 where there is no weight, as CASA does."""
    with np.errstate(divide="ignore"):
        sigma = 1.0 / np.sqrt(weight.astype(np.float64))
    return np.where(weight > 0, sigma, 0.0).astype(np.float32)


def _has_spectrum(ms: Path, name: str = "WEIGHT_SPECTRUM") -> bool:
    """Tell a weight spectrum with values in every row from one that is only declared."""
    if name not in column_names(ms):
        return False
    with open_table(ms) as opened:
        if opened.nrows() == 0:
            return False
        # An empty cell has no shape; one query finds any such row.
        defined = all(
            opened.iscelldefined(name, row) for row in {0, opened.nrows() // 2, opened.nrows() - 1}
        )
        return bool(defined) and opened.query(f"!isdefined({name})").nrows() == 0


def sanitise(ms: Path, *, quantised: bool = False) -> Repairs:
    """Flag values that no tool can use and make weights consistent, in place.

    A correlation of a row that is exactly zero in all channels was never measured. Flagged DATA
    and weights become 0; FLAG takes in FLAG_ROW; WEIGHT, SIGMA and SIGMA_SPECTRUM are made to
    agree with WEIGHT_SPECTRUM where there is one.

    Parameters
    ----------
    ms : Path
        The working copy, changed in place.
    quantised : bool
        True for input compressed to a few bits (Dysco), where zero is a value like any other.

    Returns
    -------
    Repairs
    """
    with_spectrum = _has_spectrum(ms)
    present = column_names(ms)
    useless = [
        name
        for name in ("WEIGHT_SPECTRUM", "SIGMA_SPECTRUM")
        if name in present and not (with_spectrum and _has_spectrum(ms, name))
    ]
    if useless:
        with open_table(ms, write=True) as opened:
            opened.removecols(useless)
    names = ["DATA", "FLAG", "FLAG_ROW", "WEIGHT", "SIGMA"]
    names += ["WEIGHT_SPECTRUM"] if with_spectrum else []
    with_sigma = "SIGMA_SPECTRUM" in column_names(ms)
    repairs = Repairs()
    with open_table(ms, write=True) as opened:
        for chunk in chunks(ms, names):
            values, found = _sanitised(chunk.columns, quantised)
            if with_sigma:
                values["SIGMA_SPECTRUM"] = sigma_of(values["WEIGHT_SPECTRUM"])
            part = opened.selectrows(chunk.rows)
            for name, value in values.items():
                part.putcol(name, value)
            part.close()
            repairs += found
    for line in repairs.lines():
        log.warning("%s: %s", ms.name, line)
    return repairs


def _sanitised(
    columns: dict[str, NDArray[Any]], quantised: bool
) -> tuple[dict[str, NDArray[Any]], Repairs]:
    """Return the repaired values of one chunk, and the faults found."""
    data = columns["DATA"]
    before = columns["FLAG"] | columns["FLAG_ROW"][:, None, None]
    spectrum = columns.get("WEIGHT_SPECTRUM")
    weight, bad, zero = clean_weights(columns["WEIGHT"] if spectrum is None else spectrum)
    if spectrum is None:
        bad, zero = (np.broadcast_to(mask[:, None, :], data.shape) for mask in (bad, zero))
    # comparisons with NaN are False, so this also catches NaN
    lost = ~((np.abs(data.real) < LARGEST_VISIBILITY) & (np.abs(data.imag) < LARGEST_VISIBILITY))
    empty = np.zeros(data.shape, dtype=bool)
    if not quantised:
        empty |= (data == 0).all(axis=1, keepdims=True)
    flag = before | lost | empty | bad | zero
    row_weight = weight if spectrum is None else spread_weight(weight)
    sigma = sigma_of(row_weight)
    rewritten = ~np.isclose(columns["SIGMA"], sigma, rtol=1e-3, atol=0, equal_nan=False)
    values: dict[str, NDArray[Any]] = {
        "DATA": np.where(lost, 0, data).astype(np.complex64),
        "FLAG": flag,
        "FLAG_ROW": flag.all(axis=(1, 2)),
        "WEIGHT": row_weight,
        "SIGMA": sigma,
    }
    if spectrum is not None:
        values["WEIGHT_SPECTRUM"] = weight
    fresh = ~before
    found = Repairs(
        total=flag.size,
        flagged_before=int(before.sum()),
        not_finite=int((fresh & lost).sum()),
        exactly_zero=int((fresh & empty).sum()),
        bad_weight=int((fresh & bad & ~lost & ~empty).sum()),
        zero_weight=int((fresh & zero & ~lost & ~empty).sum()),
        sigma_rewritten=int((rewritten & ~flag.all(axis=1)).any(axis=1).sum()),
    )
    return values, found


def match_sigma(ms: Path) -> None:
    """Set SIGMA and SIGMA_SPECTRUM to WEIGHT^(-1/2) and WEIGHT_SPECTRUM^(-1/2), in place.

    CASA takes the weights of a solve on DATA from SIGMA, and those of an image from WEIGHT. A tool
    that changes only one of them leaves the two in contradiction.
    """
    present = column_names(ms)
    pairs = [("WEIGHT", "SIGMA"), ("WEIGHT_SPECTRUM", "SIGMA_SPECTRUM")]
    pairs = [pair for pair in pairs if set(pair) <= set(present)]
    with open_table(ms, write=True) as opened:
        for chunk in chunks(ms, [weight for weight, _ in pairs]):
            part = opened.selectrows(chunk.rows)
            for weight, sigma in pairs:
                part.putcol(sigma, sigma_of(chunk[weight]))
            part.close()


def add_scratch_columns(ms: Path) -> None:
    """Create MODEL_DATA (1 in the parallel hands, as a point of 1 Jy) and CORRECTED_DATA (= DATA).

    ``clearcal`` and ``delmod`` leave the same state: models attached as keywords are removed too.
    """
    unit = [
        np.array([name in PARALLEL_HANDS for name in setup.correlations], dtype=np.complex64)
        for setup in Subtables(ms).setup_of
    ]
    for name in ("MODEL_DATA", "CORRECTED_DATA"):
        ensure_data_column(ms, name)
    with open_table(ms, write=True) as opened:
        for key in opened.keywordnames():
            if key.startswith(("model_", "definedmodel_field")):
                opened.removekeyword(key)
        for chunk in chunks(ms, ("DATA",)):
            part = opened.selectrows(chunk.rows)
            part.putcol("CORRECTED_DATA", chunk["DATA"])
            model = np.broadcast_to(unit[chunk.data_desc_id], chunk["DATA"].shape)
            part.putcol("MODEL_DATA", np.ascontiguousarray(model))
            part.close()


def name_antennas(ms: Path, *, from_stations: bool) -> tuple[str, ...]:
    """Name the antennas that lack a usable name, in place.

    A blank name becomes the station's or ``ANT<id>``, as elsewhere in `libs.ms`. Data imported
    from UVFITS may name antennas ``1``, ``2``..., which tools take for ids, and have the
    telescopes' codes as stations; with ``from_stations`` those codes become the names.

    Returns
    -------
    tuple of str
        Changes made, ``"1 -> AA"``.
    """
    antennas = Subtables(ms).antennas
    stations = [antenna.station for antenna in antennas]
    codes = [re.fullmatch(r"[A-Za-z]\w*", station) for station in stations]
    by_code = from_stations and all(codes) and len(set(stations)) == len(stations)
    names: list[str] = []
    changes = []
    for i, antenna in enumerate(antennas):
        better = antenna.station if by_code and antenna.own_name.isdigit() else antenna.name
        if better in names:
            better = f"{better}_{i}"
        if better != antenna.own_name:
            changes.append(f"{antenna.own_name or '(blank)'} -> {better}")
        names.append(better)
    if changes:
        put_antenna_names(ms, names)
    return tuple(changes)
