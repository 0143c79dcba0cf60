"""What a step is and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from selfcal.context import Context
    from selfcal.options import Option

__all__ = ["Skip", "Step", "StepResult", "TableRef"]

Status = Literal["done", "skipped", "rejected", "failed"]


@dataclass(frozen=True)
class TableRef:
    """A gain table of the state after a step.

    Attributes
    ----------
    ms : str
        Name of the working copy it belongs to.
    path : str
        The table, relative to the work directory.
    spwmap : tuple of int
        Table spw for each data spw; empty: the same.
    interp : str
        ``linear`` or ``nearest``.
    round : str
        The step that made it.
    """

    ms: str
    path: str
    spwmap: tuple[int, ...] = ()
    interp: str = "linear"
    round: str = ""


@dataclass(frozen=True)
class StepResult:
    """What a step did and decided.

    Attributes
    ----------
    status : str
        ``done``, ``skipped``, ``rejected`` (tried and taken back) or ``failed``.
    reason : str
        The decision and why, one line for a person.
    tables : tuple of TableRef
        The calibration that holds after the step, in order of application.
    products : mapping of str to str
        Files made, relative to the work directory; a step is reused only while they exist.
    metrics : mapping of str to number, str or list
        Measured values, the unit in the key (``rms_jy_beam``).
    template : str
        The template that holds from here on; empty before one is chosen.
    images, gains : tuple of mappings
        Rows for images.csv and gains.csv.
    """

    status: Status = "done"
    reason: str = ""
    tables: tuple[TableRef, ...] = ()
    products: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    template: str = ""
    images: tuple[Mapping[str, Any], ...] = ()
    gains: tuple[Mapping[str, Any], ...] = ()


class Skip(Exception):  # noqa: N818 - not an error: it says that there is nothing to do
    """Raised by a step that has nothing to do.

    Parameters
    ----------
    reason : str
        For the record.
    metrics : mapping, optional
        What was measured on the way to that decision.
    """

    def __init__(self, reason: str, metrics: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.metrics = dict(metrics or {})


class Step(ABC):
    """One stage of a pipeline.

    A subclass writes `run`; logging, resume, skipping and saving belong to the pipeline.

    Parameters
    ----------
    name : str
        The name in the config's list of steps.

    Attributes
    ----------
    options : tuple of Option
        The step's own parameters; templates, config and command line may set these and no others.
    uses : tuple of str
        Settings of the whole run that change what the step does.
    from_template : bool
        Whether the template chosen by then has a section for this step.
    needs : tuple of str
        Steps that must come before it in the list.
    """

    options: ClassVar[tuple[Option, ...]] = ()
    uses: ClassVar[tuple[str, ...]] = ()
    from_template: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def run(self, context: Context) -> StepResult:
        """Do the work; raise `Skip` when there is nothing to do."""

    def changes_data(self, context: Context) -> bool:
        """Whether it may change data, flags or weights of the working copies.

        Flags that it puts back do not count, nor do models and corrected data.
        """
        return False

    def begin_ahead(self, context: Context) -> None:
        """Begin work in `selfcal.ahead.Ahead` that the steps before this one have no influence on.

        Called before each earlier step while none in between changes the data, with the options
        of this step; it may leave everything to `run`.
        """
        return

    def files(self, options: Mapping[str, Any]) -> Sequence[Path]:
        """Return the user's files that the step's options name: changed, they count as changed."""
        return ()

    def identity(self, context: Context) -> Mapping[str, Any]:
        """Return what else the fingerprint covers; the first step adds the input's identity."""
        return {}
