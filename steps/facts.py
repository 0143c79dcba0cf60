"""What earlier steps recorded, under names that a type checker knows.

The records hold flat metrics, a number or a text under each key, the unit in the key. A kind of
facts is a frozen dataclass whose fields are such keys; `latest` reads it from the results of a
run. A field without a default must be on record.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from selfcal.step import StepResult
from steps.context import Context

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "AlignFacts",
    "ClosureFacts",
    "CopyFacts",
    "FlagFacts",
    "GridFacts",
    "InputFacts",
    "ModelFacts",
    "MosaicFacts",
    "RefantFacts",
    "SetupFacts",
    "StartFacts",
    "StartupFacts",
    "as_metrics",
    "closure_facts",
    "flag_facts",
    "grid_facts",
    "model_facts",
    "recorded",
    "refant_facts",
    "setup_facts",
    "start_facts",
    "startup_facts",
]

F = TypeVar("F", bound="DataclassInstance")


def _read(kind: type[F], look_up: Callable[[str], Any]) -> F:
    """Fill the fields of a kind of facts; lists, as JSON keeps them, become tuples."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        value = look_up(field.name)
        if value is not None:
            values[field.name] = tuple(value) if isinstance(value, list) else value
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise LookupError(f"no step has recorded {field.name}")
    return kind(**values)


def latest(context: Context, kind: type[F]) -> F:
    """Return facts from the latest results of steps that were not rejected.

    Raises
    ------
    LookupError
        A field without a default is on no record.
    """
    return _read(kind, context.metric)


def recorded(kind: type[F], metrics: Mapping[str, Any]) -> F:
    """Return facts from the metrics of one result."""
    return _read(kind, metrics.get)


def as_metrics(facts: DataclassInstance) -> dict[str, Any]:
    """Return facts as the metrics of a result; fields that are None are left out."""
    values = {field.name: getattr(facts, field.name) for field in dataclasses.fields(facts)}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value is not None
    }


@dataclass(frozen=True)
class AlignFacts:
    """What ``align`` did.

    Attributes
    ----------
    aligned : tuple of str
        Working copies that were moved or scaled.
    """

    aligned: tuple[str, ...] = ()


@dataclass(frozen=True)
class StartupFacts:
    """What ``startup`` found in the working copies.

    Attributes
    ----------
    working_copies : tuple of str
        Names of the measurement sets in the folder ``data``, in the order of the input.
    instrument, band, telescope, field : str
        An unknown band is empty.
    frequency_hz, min_frequency_hz, max_frequency_hz : float
        Mean of the first working copy; lowest and highest of all.
    antennas : int
        Most antennas with data in one working copy.
    dish_diameter_m : float
    longest_baseline_m, shortest_baseline_m : float
        Of the unflagged data.
    integration_s : float
    scans, rows : int
        Of all working copies.
    channels, spws : int
        Of the first.
    band_slices, spectral_terms : int
        Slices in which the band of all is imaged, and terms of the spectra that its channels tell.
    right_ascension_rad, declination_rad : float
        Phase centre.
    flagged_fraction : float
    repairs : tuple of str
        What was mended in the copies.
    begin_mjd_s, on_source_s : float or None
        First time stamp, MJD seconds; time on the target, s. None in records of earlier versions.
    datacolumn : str
        The column of the input that was copied.
    selections : tuple of mapping
        Of each working copy, in their order: ``vis``, the path of its input, ``field`` and
        ``spw``, what was taken of it, and ``windows``, the numbers of its windows there.
    pointings : tuple of mapping
        Of a mosaic, by field id of every working copy: ``name``, ``ra_deg`` and ``dec_deg``
        (J2000); empty otherwise. The phase centre then is that of the mosaic's image.
    unlike_dishes : bool
        Whether working copies differ in the diameter of their dishes.
    """

    working_copies: tuple[str, ...]
    instrument: str
    telescope: str
    field: str
    frequency_hz: float
    min_frequency_hz: float
    max_frequency_hz: float
    antennas: int
    dish_diameter_m: float
    longest_baseline_m: float
    shortest_baseline_m: float
    integration_s: float
    scans: int
    rows: int
    channels: int
    spws: int
    band_slices: int
    spectral_terms: int
    right_ascension_rad: float
    declination_rad: float
    flagged_fraction: float
    datacolumn: str
    repairs: tuple[str, ...] = ()
    band: str = ""
    selections: tuple[Mapping[str, str], ...] = ()
    begin_mjd_s: float | None = None
    on_source_s: float | None = None
    pointings: tuple[Mapping[str, Any], ...] = ()
    unlike_dishes: bool = False


@dataclass(frozen=True)
class MosaicFacts:
    """The pointings of a mosaic, as `StartupFacts` has them; empty for one field."""

    pointings: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class CopyFacts:
    """Names of the working copies in the folder ``data``, and what was taken of which input."""

    working_copies: tuple[str, ...]
    selections: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True)
class InputFacts:
    """The column of the input that was copied; empty where it is not on record."""

    datacolumn: str = ""


@dataclass(frozen=True)
class SetupFacts:
    """Instrument and band, by which templates differ; empty before ``startup``."""

    instrument: str = ""
    band: str = ""


@dataclass(frozen=True)
class StartFacts:
    """The solutions a run started from (``start_from``), if it did.

    Attributes
    ----------
    started_from : str
        The h5parm; empty for none.
    start_corrected : bool
        Whether the working copies were corrected with it.
    start_stations : tuple of str
        Stations that it has solutions of.
    """

    started_from: str = ""
    start_corrected: bool = False
    start_stations: tuple[str, ...] = ()


@dataclass(frozen=True)
class GridFacts:
    """The grid of the images, where a step has chosen one.

    Attributes
    ----------
    cell_arcsec : float or None
        Pixel size.
    imsize : tuple of int or None
        Width and height, pixels.
    """

    cell_arcsec: float | None = None
    imsize: tuple[int, int] | None = None


@dataclass(frozen=True)
class ClosureFacts:
    """What ``closure_stats`` measured; None where it did not run.

    Attributes
    ----------
    max_coherent_km : float or None
        Longest baseline with coherent closure phases.
    station_coherent_fraction : float or None
        Part of the stations that are coherent.
    """

    max_coherent_km: float | None = None
    station_coherent_fraction: float | None = None

    @property
    def coherent_m(self) -> float:
        """Longest coherent baseline, m; 0 where nothing is known."""
        return 1000 * (self.max_coherent_km or 0.0)


@dataclass(frozen=True)
class ModelFacts:
    """The first model, if there is one.

    Attributes
    ----------
    closure_model : str
        Its file, relative to the work directory; empty where none was accepted.
    closure_model_complete : bool
        Whether it describes all baselines.
    model_origin : str
        ``closures``, ``catalogue`` or ``start_model``, the user's.
    closure_fit : mapping or None
        How closure quantities were formed and fitted: ``average_s``, ``interval_s``, ``uvmin_m``,
        and ``options``, the fields of `libs.closure.search.FitOptions`. None where none were.
    """

    closure_model: str = ""
    closure_model_complete: bool = False
    model_origin: str = "closures"
    closure_fit: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class RefantFacts:
    """Reference antennas, the best first; empty: the solver chooses."""

    refant: tuple[str, ...] = ()


@dataclass(frozen=True)
class FlagFacts:
    """The version of the flags that rounds start from; None before any step made one."""

    flag_version: str | None = None


def startup_facts(context: Context) -> StartupFacts:
    """Return what ``startup`` found."""
    return latest(context, StartupFacts)


def setup_facts(context: Context) -> SetupFacts:
    """Return instrument and band, as far as they are known yet."""
    return latest(context, SetupFacts)


def start_facts(result: StepResult) -> StartFacts:
    """Return what a run of ``startup`` started from."""
    return recorded(StartFacts, result.metrics)


def grid_facts(context: Context) -> GridFacts:
    """Return the grid of the images."""
    return latest(context, GridFacts)


def closure_facts(context: Context) -> ClosureFacts:
    """Return the coherence of the data."""
    return latest(context, ClosureFacts)


def model_facts(context: Context) -> ModelFacts:
    """Return what is known of the first model."""
    return latest(context, ModelFacts)


def refant_facts(context: Context) -> RefantFacts:
    """Return the reference antennas."""
    return latest(context, RefantFacts)


def flag_facts(context: Context) -> FlagFacts:
    """Return the version of the flags that holds."""
    return latest(context, FlagFacts)
