"""A model of the sky as one pointing sees it: through its primary beam."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from libs.core.angles import separation_rad
from libs.core.coordinates import radec_to_lm
from libs.imaging.mosaic import beam_plane
from libs.imaging.primary_beam import PrimaryBeam
from libs.imaging.start_model import ComponentSky, ImageSky, SkyComponent, StartModel

__all__ = ["SeenModel"]

Float = NDArray[np.float64]


@dataclass(frozen=True)
class SeenModel:
    """A model times the primary beam of a pointing; nothing is seen beyond the main lobe.

    Attributes
    ----------
    model : ComponentSky or ImageSky
        Of the sky itself, not attenuated.
    beam : PrimaryBeam
    pointing_rad : (float, float)
        Where the dishes point, J2000.
    """

    model: ComponentSky | ImageSky
    beam: PrimaryBeam
    pointing_rad: tuple[float, float]

    @property
    def flux_jy(self) -> float:
        """Total flux density of the model, not attenuated, Jy."""
        return self.model.flux_jy

    def visibilities(
        self, uvw_m: Float, frequency_hz: Float, centre_rad: tuple[float, float]
    ) -> NDArray[np.complexfloating]:
        """Return visibilities (see `StartModel`); over the frequencies the beam is linear.

        Parameters
        ----------
        uvw_m : (..., 3) float64
        frequency_hz : (nfreq,) float64
            Of one window.
        centre_rad : (float, float)
        """
        low, high = float(np.min(frequency_hz)), float(np.max(frequency_hz))
        values = self._at(low).visibilities(uvw_m, frequency_hz, centre_rad)
        if not high > low:
            return values
        share = (np.asarray(frequency_hz) - low) / (high - low)
        upper = self._at(high).visibilities(uvw_m, frequency_hz, centre_rad)
        return np.asarray(values * (1.0 - share) + upper * share)

    def _at(self, frequency_hz: float) -> StartModel:
        """Return the model attenuated as at one frequency."""
        if isinstance(self.model, ComponentSky):
            seen = (self._attenuated(one, frequency_hz) for one in self.model.components)
            return ComponentSky(tuple(one for one in seen if one is not None))
        image, gridder = self.model, self.model.model.gridder
        nx, ny = gridder.imsize
        columns, rows = np.arange(nx, dtype=np.float64), np.arange(ny, dtype=np.float64)
        l_rad = gridder.offset_rad[0] + (nx // 2 - columns) * gridder.cell_rad
        m_rad = gridder.offset_rad[1] + (rows - ny // 2) * gridder.cell_rad
        place = radec_to_lm(*self.pointing_rad, *image.centre_rad)
        power = beam_plane(self.beam, (frequency_hz,), l_rad, m_rad, place)
        return replace(image, model=replace(image.model, terms=image.model.terms * power))

    def _attenuated(self, one: SkyComponent, frequency_hz: float) -> SkyComponent | None:
        """Return a component times the beam at its place; None where it is not seen."""
        place = np.array([one.ra_rad, one.dec_rad])
        angle = separation_rad(place, np.array(self.pointing_rad))
        power = float(np.nan_to_num(self.beam.power(np.array([float(angle)]), frequency_hz)[0]))
        if not power > 0:
            return None
        # a logarithmic spectrum is of ratios, the other one of Jy
        spectrum = one.spectrum if one.logarithmic else tuple(c * power for c in one.spectrum)
        return replace(one, flux_jy=one.flux_jy * power, spectrum=spectrum)
