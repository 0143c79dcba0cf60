"""The images of a run as the page's viewer shows them: cut-outs on the source, on one grid."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from libs.core.errors import SelfcalError
from reports.colours import coloured
from reports.encoding import half_floats, packed_bits, png_uri
from reports.image_figures import Panel, zoom_box
from reports.image_view import View, read_shown
from reports.records import Run
from reports.run_panels import UNTOUCHED, comparable_steps, compared_panels, step_panel

__all__ = ["Frame", "Viewer", "read_viewer"]

MOST_SIDE = 256
MOST_FRAMES = 12
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frame:
    """A step's image on the viewer's grid.

    Attributes
    ----------
    label, status, caption : str
    image : View
    residual : (ny, nx) float64 or None
        Residual, Jy/beam.
    mask : (ny, nx) bool or None
    """

    label: str
    status: str
    caption: str
    image: View
    residual: NDArray[np.float64] | None
    mask: NDArray[np.bool_] | None

    @property
    def sigma(self) -> float:
        """Noise of the residual (1.4826 MAD), or of the image where there is none, Jy/beam."""
        plane = self.image.plane if self.residual is None else self.residual
        good = plane[np.isfinite(plane)]
        if not good.size:
            return math.nan
        return float(1.4826 * np.median(np.abs(good - np.median(good))))


@dataclass(frozen=True)
class Viewer:
    """Images of a run on one grid.

    Attributes
    ----------
    frames : tuple of Frame
        In the order of the run; the untouched data's last.
    centre_deg : (float, float) or None
        RA and Dec of the reference position.
    frame : str
        Its reference frame, such as ``ICRS``.
    cut : bool
        True where the frames show a part of the images.
    left_out : int
        Number of steps whose images are not shown.
    whole : tuple of Frame
        Where the frames show a part: the whole image, reduced, of the first and last ones.
    final : str
        Label of the frame that is the run's result; empty where there is none.
    """

    frames: tuple[Frame, ...]
    centre_deg: tuple[float, float] | None
    frame: str
    cut: bool
    left_out: int
    whole: tuple[Frame, ...] = ()
    final: str = ""

    @property
    def result(self) -> Frame | None:
        """The run's result, else the last accepted image; None where there is none of its own."""
        own = [f for f in self.frames if f.status == "done" and f.label != UNTOUCHED]
        return next((f for f in own if f.label == self.final), own[-1] if own else None)

    def payload(self) -> dict[str, Any]:
        """Return what the page's script needs."""
        found = self._part(self.frames)
        whole = self._part(self.whole) if self.whole else None
        return found | {"whole": whole, "final": self.result.label if self.result else ""}

    def _part(self, frames: Sequence[Frame]) -> dict[str, Any]:
        first = frames[0].image
        height, width = first.plane.shape
        return {
            "width": width, "height": height, "extent": first.extent_arcsec,
            "centre": self.centre_deg, "frame": self.frame,
            "frames": [_frame(frame) for frame in frames],
        }  # fmt: skip

    def thumbnails(self) -> list[tuple[str, str]]:
        """Return label and picture of the first, the last and the untouched image, in one scale.

        They stand for the viewer where scripts do not run.
        """
        named = [frame for frame in self.frames if frame.label != UNTOUCHED]
        own = [frame for frame in named if frame.status == "done"] or named
        last = self.result or own[-1]
        chosen = [own[0], *([last] if last.label != own[0].label else [])]
        chosen += [frame for frame in self.frames if frame.label == UNTOUCHED]
        sigma = min((f.sigma for f in chosen if f.sigma > 0), default=1.0)
        peak = max(float(np.nanmax(frame.image.plane)) for frame in chosen)
        top = math.asinh(max(peak, sigma) / sigma)
        return [
            (
                f.label,
                png_uri(coloured(np.arcsinh(f.image.plane[::-1] / sigma) / top, "brightness")),
            )
            for f in chosen
        ]


def _frame(frame: Frame) -> dict[str, Any]:
    plane = np.nan_to_num(frame.image.plane)
    largest = float(np.abs(plane).max()) or 1.0
    # in half floats the noise must not fall below their smallest number
    scale = max(frame.sigma if math.isfinite(frame.sigma) else 0.0, largest / 60000) or 1.0
    beam = frame.image.beam_arcsec_deg
    return {
        "label": frame.label, "status": frame.status, "caption": frame.caption, "scale": scale,
        "sigma": frame.sigma if math.isfinite(frame.sigma) else 0.0,
        "peak": float(plane.max()), "beam": beam, "image": half_floats(plane / scale),
        "residual": "" if frame.residual is None else half_floats(
            np.nan_to_num(frame.residual) / scale),
        "mask": "" if frame.mask is None else packed_bits(frame.mask),
    }  # fmt: skip


def read_viewer(run: Run) -> Viewer | None:
    """Return the images of a run; None where none can be read.

    Parameters
    ----------
    run : Run
    """
    steps = comparable_steps(run)
    panels = [panel for row in steps if (panel := step_panel(run, row))]
    own = {panel.image for panel in panels}
    others = [p for p in compared_panels(run, panels) if p.label == UNTOUCHED]
    unseen = [panel for panel in others if panel.image not in own]
    panels = [_renamed(panel, others) for panel in panels] + unseen
    chosen = _most_telling(panels)
    try:
        box = zoom_box(chosen)
        found = [frame for panel in chosen if (frame := _read(panel, box))]
    except SelfcalError:
        logger.warning("the images are not shown", exc_info=True)
        return None
    shape = found[0].image.plane.shape if found else ()
    found = [frame for frame in found if frame.image.plane.shape == shape]
    if not found:
        return None
    centre, name = _reference(chosen[0].image)
    final = run.file((run.summary.get("final") or {}).get("image"))
    label = next((panel.label for panel in chosen if panel.image == final), "")
    whole = _whole(chosen, label) if box is not None else ()
    cut, left_out = box is not None, len(panels) - len(found)
    return Viewer(tuple(found), centre, name, cut, left_out, whole, label)


def _whole(panels: Sequence[Panel], final: str) -> tuple[Frame, ...]:
    """Return the whole images, reduced, of the first, the last accepted and the untouched data."""
    kept = [p for p in panels if p.status != "rejected" and p.label != UNTOUCHED]
    results = [p for p in kept[1:] if p.label == final] or kept[1:]
    chosen = [*kept[:1], *results[-1:], *(p for p in panels if p.label == UNTOUCHED)]
    found = [frame for panel in chosen if (frame := _read(panel, None))]
    shape = found[0].image.plane.shape if found else ()
    return tuple(frame for frame in found if frame.image.plane.shape == shape)


def _renamed(panel: Panel, others: Sequence[Panel]) -> Panel:
    """Return a panel under the name of the untouched data where it is theirs."""
    same = next((other for other in others if other.image == panel.image), None)
    if same is None:
        return panel
    return Panel(UNTOUCHED, panel.image, panel.residual, panel.mask, same.caption, panel.status)


def _most_telling(panels: Sequence[Panel]) -> list[Panel]:
    """Return at most so many panels as a page can hold: the first and the last ones."""
    if len(panels) <= MOST_FRAMES:
        return list(panels)
    return [panels[0], *panels[-(MOST_FRAMES - 1) :]]


def _read(panel: Panel, box: tuple[int, int, int, int] | None) -> Frame | None:
    image = read_shown(panel.image, box, max_side=MOST_SIDE)
    if not np.isfinite(image.plane).any():
        return None
    residual = read_shown(panel.residual, box, max_side=MOST_SIDE).plane if panel.residual else None
    mask = read_shown(panel.mask, box, max_side=MOST_SIDE).plane > 0 if panel.mask else None
    same = image.plane.shape
    return Frame(
        panel.label, panel.status, panel.caption, image,
        residual if residual is not None and residual.shape == same else None,
        mask if mask is not None and mask.shape == same else None,
    )  # fmt: skip


def _reference(path: Path) -> tuple[tuple[float, float] | None, str]:
    """Return the reference position (deg) of an image and its frame."""
    header = fits.getheader(path)
    if not str(header.get("CTYPE1", "")).startswith("RA"):
        return None, ""
    equinox = header.get("EQUINOX")
    frame = str(header.get("RADESYS", "") or ("FK5" if equinox == 2000 else "ICRS")).strip()
    return (float(header["CRVAL1"]), float(header["CRVAL2"])), frame
