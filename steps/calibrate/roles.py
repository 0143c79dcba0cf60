"""Which field is what: flux calibrator, phase calibrators, targets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from libs.catalogues.flux_standards import STANDARDS, find_standard, named_standard
from libs.core.errors import InputError
from libs.ms.scans import Visit
from selfcal.options import nearest

__all__ = ["FieldFacts", "Roles", "choose_roles", "read_roles"]

# residual closure phases above this, of a source of good SNR, are no compact calibrator's
_COMPACT_DEG = 15.0
_LEAST_SNR = 5.0
_FLUX, _PHASE, _TARGET = "CALIBRATE_FLUX", "CALIBRATE_PHASE", "OBSERVE_TARGET"


@dataclass(frozen=True)
class FieldFacts:
    """What is known of the fields of one name.

    Attributes
    ----------
    name : str
    ids : tuple of int
    ra_rad, dec_rad : float
        J2000.
    intents : tuple of str
    visits : tuple of Visit
    closure_deg : float
        Rms of the closure phases of scans, less what noise makes of it; NaN where unknown.
    snr : float
        Of one baseline and scan; NaN where unknown.
    """

    name: str
    ids: tuple[int, ...]
    ra_rad: float
    dec_rad: float
    intents: tuple[str, ...]
    visits: tuple[Visit, ...]
    closure_deg: float = math.nan
    snr: float = math.nan

    def has(self, intent: str) -> bool:
        """Whether an intent is among those of the field."""
        return any(intent in one for one in self.intents)

    @property
    def compact(self) -> bool:
        """Whether closure phases say that it is a point of good SNR."""
        return self.snr > _LEAST_SNR and self.closure_deg < _COMPACT_DEG


@dataclass(frozen=True)
class Roles:
    """The fields of a session by what they are for.

    Attributes
    ----------
    flux_calibrator, standard : str
        Field, and the standard that it is.
    phase_calibrators, targets : tuple of str
    calibrator_of : mapping of str to str
        The phase calibrator of each target.
    ids : mapping of str to tuple of int
        FIELD_ID by name.
    why : mapping of str to str
        Reason of each role, in words.
    warnings : tuple of str
    """

    flux_calibrator: str
    standard: str
    phase_calibrators: tuple[str, ...]
    targets: tuple[str, ...]
    calibrator_of: Mapping[str, str]
    ids: Mapping[str, tuple[int, ...]]
    why: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def calibrators(self) -> tuple[str, ...]:
        """Flux calibrator and phase calibrators, each once."""
        return tuple(dict.fromkeys((self.flux_calibrator, *self.phase_calibrators)))

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields."""
        return (*self.calibrators, *self.targets)

    def field_ids(self, *names: str) -> tuple[int, ...]:
        """FIELD_ID of some fields."""
        return tuple(number for name in names for number in self.ids[name])

    def as_json(self) -> str:
        """Return the roles as a file holds them."""
        return json.dumps(asdict(self), indent=1) + "\n"


def read_roles(path: Path) -> Roles:
    """Read the roles that were recorded."""
    found: dict[str, Any] = json.loads(path.read_text())
    for name in ("phase_calibrators", "targets", "warnings"):
        found[name] = tuple(found[name])
    found["ids"] = {name: tuple(ids) for name, ids in found["ids"].items()}
    return Roles(**found)


def choose_roles(
    fields: Sequence[FieldFacts],
    flux_calibrator: str = "auto",
    phase_calibrators: Sequence[str] | str = "auto",
    targets: Sequence[str] | str = "auto",
) -> Roles:
    """Find out which field is what; names given by hand win.

    Parameters
    ----------
    fields : sequence of FieldFacts
        Fields with data.
    flux_calibrator : str
    phase_calibrators, targets : sequence of str or "auto"

    Raises
    ------
    InputError
        A name is not among the fields, none is a standard, or no calibrator brackets a target.
    """
    known = {field.name: field for field in fields}
    given = [flux_calibrator] if flux_calibrator != "auto" else []
    for names in (phase_calibrators, targets):
        given += [] if isinstance(names, str) else list(names)
    for name in given:
        if name not in known:
            raise InputError(
                f"there is no field '{name}'{nearest(name, known)}",
                f"the fields with data are {', '.join(known)}",
            )
    why: dict[str, str] = {}
    flux, standard, warnings = _flux_calibrator(fields, known, flux_calibrator, why)
    wanted = () if isinstance(targets, str) else tuple(targets)
    phase = _phase_calibrators(fields, flux, phase_calibrators, wanted, why)
    chosen = wanted or tuple(
        field.name for field in fields
        if field.name not in (flux, *phase) and find_standard(field.ra_rad, field.dec_rad) is None
    )  # fmt: skip
    for name in chosen:
        why.setdefault(name, "named in the config" if wanted else "neither of the calibrators")
    calibrator_of = {name: _nearest(known[name], [known[one] for one in phase]) for name in chosen}
    return Roles(
        flux, standard, phase, chosen, calibrator_of,
        {name: known[name].ids for name in dict.fromkeys((flux, *phase, *chosen))}, why, warnings,
    )  # fmt: skip


def _flux_calibrator(
    fields: Sequence[FieldFacts], known: Mapping[str, FieldFacts], name: str, why: dict[str, str]
) -> tuple[str, str, tuple[str, ...]]:
    """The flux calibrator, its standard, and warnings."""
    found = {field.name: find_standard(field.ra_rad, field.dec_rad) for field in fields}
    if name != "auto":
        standard = found[name] or named_standard(name)
        why[name] = "named in the config"
        if standard is None:
            raise InputError(
                f"{name} is none of the flux standards",
                f"name one of {', '.join(one.name for one in STANDARDS)} among the fields",
            )
    else:
        there = [one for one, standard in found.items() if standard]
        if not there:
            raise InputError(
                f"no standard among the fields {', '.join(known)}",
                "observe one of "
                + ", ".join(one.name for one in STANDARDS)
                + ", or name flux_calibrator",
            )
        steady = [one for one in there if not found[one].variable]  # type: ignore[union-attr]
        by_intent = [one for one in there if known[one].has(_FLUX)]
        name = next(iter([*(o for o in by_intent if o in steady), *by_intent, *steady, *there]))
        standard = found[name]
        why[name] = f"within 5 arcsec of {standard.name}" if standard else ""
    assert standard is not None
    said = (
        f"{standard.name} is variable: its flux of 2016 may be wrong by several per cent"
        if standard.variable else "",
    )  # fmt: skip
    return name, standard.name, tuple(filter(None, said))


def _phase_calibrators(
    fields: Sequence[FieldFacts],
    flux: str,
    given: Sequence[str] | str,
    targets: Sequence[str],
    why: dict[str, str],
) -> tuple[str, ...]:
    if not isinstance(given, str):
        why.update({name: "named in the config" for name in given if name != flux})
        return tuple(given)
    others = [f for f in fields if f.name != flux and f.name not in targets]
    by_intent = [f.name for f in others if f.has(_PHASE)]
    if by_intent:
        why.update(dict.fromkeys(by_intent, f"intent {_PHASE}"))
        return tuple(by_intent)
    found = []
    for field in others:
        between = [
            other.name for other in fields if other.name not in (field.name, flux)
            and _brackets(field, other)
        ]  # fmt: skip
        if between and field.compact and not field.has(_TARGET):
            found.append(field.name)
            why[field.name] = (
                f"observed before and after {', '.join(between)}; closure phases of"
                f" {field.closure_deg:.1f} deg at an SNR of {field.snr:.0f}"
            )
    # of two that bracket each other the one visited more often is the calibrator
    most = max((len(f.visits) for f in others if f.name in found), default=0)
    found = [f.name for f in others if f.name in found and 2 * len(f.visits) > most]
    why_left = [f.name for f in others if f.name not in found]
    for name in why_left:
        why.pop(name, None)
    return tuple(found)


def _brackets(one: FieldFacts, other: FieldFacts) -> bool:
    """Whether one was observed before the other's first visit's end and after its last's begin."""
    first, last = other.visits[0], other.visits[-1]
    return one.visits[0].begin_s < first.begin_s and one.visits[-1].end_s > last.end_s


def _nearest(target: FieldFacts, calibrators: Sequence[FieldFacts]) -> str:
    """The nearest phase calibrator that was observed before and after a target."""
    usable = [one for one in calibrators if _brackets(one, target)]
    if not usable:
        listed = ", ".join(one.name for one in calibrators) or "no phase calibrator was found"
        raise InputError(
            f"nothing brackets the target {target.name} in time ({listed})",
            "name phase_calibrators observed before and after it, or leave it out of targets",
        )
    return min(usable, key=lambda one: _distance(one, target)).name


def _distance(one: FieldFacts, other: FieldFacts) -> float:
    cosine = math.sin(one.dec_rad) * math.sin(other.dec_rad) + math.cos(one.dec_rad) * math.cos(
        other.dec_rad
    ) * math.cos(one.ra_rad - other.ra_rad)
    return math.acos(max(-1.0, min(1.0, cosine)))
