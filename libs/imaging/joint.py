"""Parts of the options of imaging: the pointings of a mosaic, and stages of CLEAN."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from libs.core.errors import ConfigError

__all__ = ["CleanStage", "Mosaic"]


@dataclass(frozen=True)
class Mosaic:
    """Pointings that are imaged jointly, with the primary beam of each.

    Attributes
    ----------
    field_ids : tuple of int
        FIELD_IDs of the pointings, the same in every measurement set.
    instrument : str
        Name in templates/instruments.yaml, by which the primary beam is found.
    dish_diameter_m : float
        Diameter of the dishes.
    least_power : float
        Part of the largest sensitivity below which the image is blank, 0 to 1.
    unlike : bool
        Whether measurement sets differ in their dishes, so that the diameters of its own antennas
        give the beam of each; within a set they are alike.
    """

    field_ids: tuple[int, ...]
    instrument: str
    dish_diameter_m: float
    least_power: float = 0.1
    unlike: bool = False

    def __post_init__(self) -> None:
        if not self.field_ids or len(set(self.field_ids)) < len(self.field_ids):
            raise ConfigError(
                f"the mosaic's fields are {list(self.field_ids)}", "give each pointing once"
            )
        if not 0.0 < self.least_power < 1.0:
            raise ConfigError(
                f"a mosaic is blanked below {self.least_power} of its largest sensitivity",
                "give a number between 0 and 1",
            )


@dataclass(frozen=True)
class CleanStage:
    """One of several stages of CLEAN; each goes on from the one before.

    Attributes
    ----------
    nsigma : float
        Depth at which the stage ends, in sigma of the residual's robust noise.
    niter : int
        Largest number of minor iterations of the stage.
    mask : Path or None
        FITS image on the grid of the image, nonzero where CLEAN may put components.
    response : float
        Where the response of a mosaic is lower CLEAN puts no components; 0: no such limit.
    cycleniter : int
        Largest number of minor iterations before the next residual (tclean); 0: no limit.
    """

    nsigma: float
    niter: int = 20000
    mask: Path | None = None
    response: float = 0.0
    cycleniter: int = 0

    def __post_init__(self) -> None:
        if not self.nsigma > 0.0 or self.niter < 1 or self.cycleniter < 0:
            raise ConfigError(
                f"CLEAN to {self.nsigma} sigma with {self.niter} iterations,"
                f" {self.cycleniter} a cycle, is no stage",
                "give nsigma above 0 and niter above 0",
            )
        if not 0.0 <= self.response < 1.0:
            raise ConfigError(f"a response of {self.response} is no limit", "give 0 to 1")
