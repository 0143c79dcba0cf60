"""Make the values of a working copy safe for every tool: bad values are flagged and counted."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.ms.columns import ensure_data_column
from libs.ms.rows import Chunk, chunks
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
# No baseline is longer: antennas in orbit have been 4e8 m away at most.
LARGEST_UVW_M = 1e9
_LISTED = 3  # antennas in a message


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
    bad_uvw : int
        Visibilities of cross-correlations whose u, v and w are zero, NaN, infinite or larger than
        the distance of the Moon.
    bad_weight : int
        Visibilities with a negative, infinite or NaN weight.
    zero_weight : int
        Visibilities with weight 0.
    sigma_rewritten : int
        Rows whose SIGMA did not match their WEIGHT.
    places : dict of str to str
        Antennas and windows of each kind, in words.
    remarks : tuple of str
        Windows and hands without data, in words.
    """

    total: int = 0
    flagged_before: int = 0
    not_finite: int = 0
    exactly_zero: int = 0
    bad_uvw: int = 0
    bad_weight: int = 0
    zero_weight: int = 0
    sigma_rewritten: int = 0
    places: dict[str, str] = dataclass_field(default_factory=dict, compare=False)
    remarks: tuple[str, ...] = dataclass_field(default=(), compare=False)

    def __add__(self, other: Repairs) -> Repairs:
        mine, theirs = asdict(self), asdict(other)
        places = mine.pop("places") | theirs["places"]
        return Repairs(**{key: mine[key] + theirs[key] for key in mine}, places=places)

    @property
    def unusable_weights(self) -> bool:
        """True when every visibility unflagged in the input was lost because of its weight."""
        left = self.total - self.flagged_before
        left -= self.not_finite + self.exactly_zero + self.bad_uvw
        return left > 0 and self.bad_weight + self.zero_weight >= left

    def lines(self) -> tuple[str, ...]:
        """Describe the repairs in words; empty when there were none."""
        found = (
            ("not_finite", "visibilities were NaN, infinite or absurdly large", "flagged"),
            ("exactly_zero", "visibilities were exactly zero", "flagged"),
            ("bad_uvw", "visibilities had u, v, w of zero or no number", "flagged"),
            ("bad_weight", "visibilities had a negative, infinite or NaN weight", "flagged"),
            ("zero_weight", "visibilities had no weight", "flagged"),
            ("sigma_rewritten", "rows had a SIGMA that disagreed with their weight", "rewritten"),
        )
        repaired = (
            f"{getattr(self, kind)} {words}{self.places.get(kind, '')}: {done}"
            for kind, words, done in found
            if getattr(self, kind)
        )
        return (*repaired, *self.remarks)


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
    names = ["DATA", "FLAG", "FLAG_ROW", "WEIGHT", "SIGMA", "UVW", "ANTENNA1", "ANTENNA2"]
    names += ["WEIGHT_SPECTRUM"] if with_spectrum else []
    with_sigma = "SIGMA_SPECTRUM" in column_names(ms)
    repairs = Repairs()
    found_in = Subtables(ms)
    tally = _Tally(found_in)
    with open_table(ms, write=True) as opened:
        for chunk in chunks(ms, names):
            values, found, wrong = _sanitised(chunk.columns, quantised)
            tally.add(chunk, wrong, values["FLAG"])
            if with_sigma:
                values["SIGMA_SPECTRUM"] = sigma_of(values["WEIGHT_SPECTRUM"])
            part = opened.selectrows(chunk.rows)
            for name, value in values.items():
                part.putcol(name, value)
            part.close()
            repairs += found
    repairs = replace(repairs, places=tally.words(), remarks=tally.without_data())
    for line in repairs.lines():
        log.warning("%s: %s", ms.name.removesuffix(".part"), line)
    return repairs


def _numbers(windows: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(windows))))


class _Tally:
    """Counter of faults and of the data left, by antenna, spectral window and hand."""

    def __init__(self, found: Subtables) -> None:
        self.antennas = found.antenna_names
        self.setup_of, self.spw_of = found.setup_of, found.spw_of
        self.by_antenna: dict[str, NDArray[np.int64]] = {}
        self.by_window: dict[str, NDArray[np.int64]] = {}
        self.present = np.zeros(len(found.windows), bool)
        self.left: dict[int, NDArray[np.int64]] = {}

    def add(
        self, chunk: Chunk, wrong: dict[str, NDArray[np.bool_]], flag: NDArray[np.bool_]
    ) -> None:
        """Count the visibilities of a chunk, (nrow, nchan, ncorr) each."""
        self.present[chunk.spw] = True
        left = self.left.setdefault(chunk.data_desc_id, np.zeros(flag.shape[2], np.int64))
        left += np.count_nonzero(~flag, axis=(0, 1))
        for kind, where in wrong.items():
            rows = where.sum(axis=(1, 2))
            if not rows.any():
                continue
            each = self.by_antenna.setdefault(kind, np.zeros(len(self.antennas), np.int64))
            for end in ("ANTENNA1", "ANTENNA2"):
                np.add.at(each, chunk[end], rows)
            window = self.by_window.setdefault(kind, np.zeros(len(self.present), np.int64))
            window[chunk.spw] += rows.sum()

    def without_data(self) -> tuple[str, ...]:
        """Return the windows, and the hands of other windows, without unflagged visibilities."""
        found: dict[str, list[int]] = {}
        for ddid, left in sorted(self.left.items()):
            setup = self.setup_of[ddid]
            alive = [setup.correlations[i] for i in setup.parallel if left[i]]
            dead = [setup.correlations[i] for i in setup.parallel if not left[i]]
            if not alive:
                text = "no unflagged visibility"
            elif alive == ["I"] or len(alive) > 1:
                continue
            else:
                missing = f"no {' and no '.join(dead)}: " if dead else ""
                text = f"{missing}{alive[0]} alone, which is taken for Stokes I"
            found.setdefault(text, []).append(int(self.spw_of[ddid]))
        return tuple(
            f"window {_numbers(windows)} has {text}"
            if len(set(windows)) == 1
            else f"windows {_numbers(windows)} have {text}"
            for text, windows in found.items()
        )

    def words(self) -> dict[str, str]:
        """Return where each kind of fault was found, ``" (ea05: 468, window 1)"``."""
        said = {}
        for kind, each in self.by_antenna.items():
            total = int(self.by_window[kind].sum())
            order = np.argsort(-each, kind="stable")[:_LISTED]
            whole = [i for i in order if each[i] == total]
            # every visibility has two antennas; those in all faulty ones are the cause
            named = whole or [i for i in order if each[i]]
            text = ", ".join(f"{self.antennas[i]}: {each[i]}" for i in named)
            affected = int(np.count_nonzero(each))
            if not whole and affected > len(named):
                text = f"{affected} antennas, most of {text}"
            windows = np.flatnonzero(self.by_window[kind])
            if len(windows) < self.present.sum():
                text += f"; window {_numbers(windows.tolist())}"
            said[kind] = f" ({text})"
        return said


def _without_uvw(columns: dict[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Return which rows are cross-correlations without a baseline, (nrow,)."""
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.sqrt((columns["UVW"] ** 2).sum(axis=1))
    # NaN fails both comparisons
    good = (length > 0) & (length < LARGEST_UVW_M)
    return np.asarray(~good & (columns["ANTENNA1"] != columns["ANTENNA2"]))


def _sanitised(
    columns: dict[str, NDArray[Any]], quantised: bool
) -> tuple[dict[str, NDArray[Any]], Repairs, dict[str, NDArray[np.bool_]]]:
    """Return the repaired values of one chunk, the faults found, and where they were."""
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
    nowhere = _without_uvw(columns)
    flag = before | lost | empty | bad | zero | nowhere[:, None, None]
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
    if nowhere.any():
        values["UVW"] = np.where(nowhere[:, None], 0.0, columns["UVW"])
    wrong, fresh = {}, ~before
    for kind, mask in (
        ("not_finite", lost),
        ("exactly_zero", empty & ~lost),
        ("bad_uvw", np.broadcast_to(nowhere[:, None, None], data.shape)),
        ("bad_weight", bad),
        ("zero_weight", zero),
    ):
        wrong[kind] = fresh & mask
        fresh = fresh & ~mask
    found = Repairs(
        total=flag.size,
        flagged_before=int(before.sum()),
        not_finite=int(wrong["not_finite"].sum()),
        exactly_zero=int(wrong["exactly_zero"].sum()),
        bad_uvw=int(wrong["bad_uvw"].sum()),
        bad_weight=int(wrong["bad_weight"].sum()),
        zero_weight=int(wrong["zero_weight"].sum()),
        sigma_rewritten=int((rewritten & ~flag.all(axis=1)).any(axis=1).sum()),
    )
    return values, found, wrong


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
