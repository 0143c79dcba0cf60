"""Final images corrected for the primary beam (config key ``primary_beam``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from libs.imaging.interface import ImagingOptions, open_image
from libs.imaging.mosaic import correct_by_response
from libs.imaging.primary_beam import SAME_DISH, ImagedBand, PrimaryBeam, correct_image, find_beam
from libs.ms.subtables import Subtables
from libs.ms.summary import summarise
from steps.context import Context
from steps.data_state import measurement_sets
from steps.facts import startup_facts
from steps.images import Imaged
from steps.instruments import dish_diameter_m

__all__ = ["BEAM_SETTING", "BeamCorrection", "beam_correction"]

BEAM_SETTING = "primary_beam"
_MOST_FREQUENCIES = 32


class BeamCorrection:
    """The primary beam of a run.

    Attributes
    ----------
    said : str
        What it is, or why images are not corrected; empty where nobody asks.
    """

    def __init__(self, context: Context, beam: PrimaryBeam | None, said: str) -> None:
        self._context, self._beam, self.said = context, beam, said

    def products(self, image: Imaged, options: ImagingOptions, name: str) -> dict[str, str]:
        """Correct an image; return the files for the record under names that end with its own."""
        if self._beam is None:
            return {}
        context = self._context
        response = image.products.response
        if response is not None:
            corrected = correct_by_response(image.products, context.options["pb_limit"])
            return {
                f"pb_{name}": context.relative(response),
                f"pbcor_{name}": context.relative(corrected),
            }
        first = measurement_sets(context)[0]
        field = Subtables(first).fields[summarise(first).fields_used[0]]
        made = correct_image(
            image.products.image, self._beam, self._band(image, options),
            field.pointing_rad, context.options["pb_limit"],
        )  # fmt: skip
        return {
            f"pb_{name}": context.relative(made.beam),
            f"pbcor_{name}": context.relative(made.image),
        }

    def _band(self, image: Imaged, options: ImagingOptions) -> ImagedBand:
        """Return how the image came from the frequencies.

        With spectral terms it is the first of them; WSClean's is a mean of its slices.
        """
        found: list[Any] = []
        for ms in measurement_sets(self._context):
            summary = summarise(ms)
            found += [
                summary.frequency_hz[spw][summary.channels_used[spw]] for spw in summary.spws_used
            ]
        every = np.sort(np.concatenate(found))
        chosen = np.linspace(0, len(every) - 1, min(len(every), _MOST_FREQUENCIES))
        frequencies = tuple(float(every[int(place)]) for place in np.rint(chosen))
        if options.nterms == 1 or self._context.tools.imager.name == "wsclean":
            return ImagedBand(frequencies)
        header = open_image(image.products.image)[1]
        axis = next(n for n in (3, 4) if str(header[f"CTYPE{n}"]).startswith("FREQ"))
        return ImagedBand(frequencies, options.nterms, float(header[f"CRVAL{axis}"]))


def beam_correction(context: Context) -> BeamCorrection:
    """Return the primary beam of the run's data, as far as one is known."""
    if context.settings[BEAM_SETTING] == "none":
        return BeamCorrection(context, None, "")
    data = startup_facts(context)
    diameters: list[float] = []
    for ms in measurement_sets(context):
        antennas = Subtables(ms).antennas
        diameters += [antennas[number].diameter_m for number in summarise(ms).antennas_used]
    known = [diameter for diameter in diameters if diameter > 1.0]
    if known and max(known) > SAME_DISH * min(known):
        why = f"dishes of {min(known):g} to {max(known):g} m have no beam in common"
        return BeamCorrection(context, None, f"not corrected for a primary beam: {why}")
    diameter = dish_diameter_m(data.instrument, data.dish_diameter_m)
    beam = find_beam(data.instrument, data.frequency_hz, diameter)
    if beam is None:
        why = f"that of {data.instrument} {data.band}".rstrip() + " is not known here"
        return BeamCorrection(context, None, f"not corrected for the primary beam: {why}")
    return BeamCorrection(context, beam, f"corrected for the primary beam ({beam.name})")
