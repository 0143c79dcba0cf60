"""Definition of a step and of its result."""

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
        Name of the working copy to which it belongs.
    path : str
        Path of the table, relative to the work directory.
    spwmap : tuple of int
        Table spw for each data spw; empty when they are the same.
    interp : str
        Interpolation, ``linear`` or ``nearest``.
    round : str
        Name of the step that made it.
    fields : tuple of int
        Ids of the fields to which it applies; empty: all.
    """

    ms: str
    path: str
    spwmap: tuple[int, ...] = ()
    interp: str = "linear"
    round: str = ""
    fields: tuple[int, ...] = ()


@dataclass(frozen=True)
class StepResult:
    """Outcome and decisions of a step.

    Attributes
    ----------
    status : str
        Outcome, ``done``, ``skipped``, ``rejected`` (tried and undone) or ``failed``.
    reason : str
        Decision and its reason, in one line.
    tables : tuple of TableRef
        Calibration tables in force after the step, in order of application.
    products : mapping of str to str
        Files made, relative to the work directory; a step is reused only while they exist.
    metrics : mapping of str to number, str or list
        Measured values with the unit in the key (``rms_jy_beam``).
    template : str
        Name of the template in force from here on; empty before one is chosen.
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


class Skip(Exception):  # noqa: N818 - not an error: there is nothing to do
    """Exception raised by a step that has nothing to do.

    Parameters
    ----------
    reason : str
        Reason, for the record.
    metrics : mapping, optional
        Values measured before that decision.
    """

    def __init__(self, reason: str, metrics: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.metrics = dict(metrics or {})


class Step(ABC):
    """One stage of a pipeline.

    A subclass implements `run`; logging, resume, skipping and saving belong to the pipeline.

    Parameters
    ----------
    name : str
        Name in the config's list of steps.

    Attributes
    ----------
    options : tuple of Option
        Parameters of the step; templates, config and command line may set only these.
    uses : tuple of str
        Settings of the whole run that affect the step.
    uses_files : tuple of str
        Such settings that name a file, whose content affects it.
    from_template : bool
        True when the step needs a section in the template in force.
    needs : tuple of str
        Steps that must come before it in the list.
    """

    options: ClassVar[tuple[Option, ...]] = ()
    uses: ClassVar[tuple[str, ...]] = ()
    uses_files: ClassVar[tuple[str, ...]] = ()
    from_template: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def run(self, context: Context) -> StepResult:
        """Do the work; raise `Skip` when there is nothing to do."""

    def changes_data(self, context: Context) -> bool:
        """Return whether it may change data, flags or weights of the working copies.

        Flags that it restores do not count, nor do models and corrected data.
        """
        return False

    def begin_ahead(self, context: Context) -> None:
        """Begin work in `selfcal.ahead.Ahead` that the steps before this one do not affect.

        It is called before each earlier step while none in between changes the data, with the
        options of this step. It may leave everything to `run`.
        """
        return

    def files(self, options: Mapping[str, Any]) -> Sequence[Path]:
        """Return the user's files that the options name; a changed file makes the step run."""
        return ()

    def identity(self, context: Context) -> Mapping[str, Any]:
        """Return further content of the fingerprint; the first step adds the input's identity."""
        return {}
