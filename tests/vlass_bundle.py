"""The resources of a continuum run, made for a simulated set, and a config that uses them."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.coordinates import radec_to_lm
from libs.core.geometry import ARCSEC_PER_RAD
from libs.gains.caltable_writer import write_caltable
from libs.gains.gain_solutions import GainSolutions
from libs.imaging.interface import write_image
from libs.imaging.masks import grid_header
from libs.imaging.mosaic import beam_plane
from libs.imaging.primary_beam import find_beam
from libs.ms import flag_versions
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from libs.simulation.mosaic import MosaicSimulation
from tests.vlass_case import CENTRE_DEG

IMSIZE, CELL = 720, 7.0
NAME = "VLASS1.1.T1t01.J141200"


@dataclass(frozen=True)
class Bundle:
    """A set with its resources and lists.

    Attributes
    ----------
    simulation : MosaicSimulation
    folder : Path
        Folder of the resources before they were packed.
    config : dict
        Settings of ``vlass_cube``.
    """

    simulation: MosaicSimulation
    folder: Path
    config: dict[str, Any]

    def pack(self, change: Callable[[Path], None] | None = None) -> None:
        """Pack the resources, after a change of them where one is given."""
        scratch = self.folder.with_name("scratch")
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(self.folder, scratch)
        if change:
            change(scratch)
        with tarfile.open(self.config["resources"], "w:gz") as tar:
            for path in sorted(scratch.iterdir()):
                tar.add(path, path.name)

    def write(self, path: Path, **changes: Any) -> Path:
        """Write the config."""
        values = {**self.config, **changes}
        path.write_text("".join(f"{key} = {value!r}\n" for key, value in values.items()))
        return path


def make_bundle(
    folder: Path, simulation: MosaicSimulation, groups: str = "['2', '5']", **config: Any
) -> Bundle:
    """Make resources and lists of a set; flags and weights of the set are changed afterwards.

    The flag version ``statwt_1`` has an antenna flagged; the set itself has none, and weights
    that are wrong by a factor.
    """
    ms = simulation.ms
    resources = folder / "resources"
    resources.mkdir(parents=True)
    _flag_version(ms, resources)
    _gain_table(simulation, resources / f"{ms.stem}.hifv_selfcal.s1_1.phase-self-cal.tbl")
    _images(simulation, resources)
    with open_table(ms, write=True) as opened:
        opened.putcol("WEIGHT", 0.1 * opened.getcol("WEIGHT"))
    lists = {}
    common = {
        "phasecenter": "J2000 14:12:00.000 +020.00.00.000", "imagename": f"{NAME}.10.2048.v1",
        "imsize": [IMSIZE, IMSIZE], "cell": [f"{CELL}arcsec"],
    }  # fmt: skip
    extra: dict[str, Mapping[str, Any]] = {
        "SEIP": {"imaging_mode": "VLASS-SE-CONT-MOSAIC", "nterms": 2},
        "CCIP": {"imaging_mode": "VLASS-SE-CUBE", "editmode": "replace"},
    }
    for key, more in extra.items():
        lines = [f"{name}={value!r}" for name, value in {**common, **more}.items()]
        if key == "CCIP":
            lines.append(f"spw={groups}")
        lists[key] = folder / f"{key}_parameter.list"
        lists[key].write_text("# as published\n" + "\n".join(lines) + "\n")
    values = {
        "vis": str(ms), "resources": str(folder / "reimaging_resources.tgz"),
        "seip_list": str(lists["SEIP"]), "ccip_list": str(lists["CCIP"]),
        "workdir": str(folder / "work"), "imager": "native", "uvmax": "12km", "niter": 3000,
        "scales": ["0"], "rms_box": "300arcsec", "rms_step": 20, "cutout": "4000arcsec",
        "quiet": True,
        **config,
    }  # fmt: skip
    bundle = Bundle(simulation, resources, values)
    bundle.pack()
    return bundle


def _flag_version(ms: Path, resources: Path) -> None:
    """Save flags with one antenna flagged as the version of the continuum run; undo them."""
    with open_table(ms, write=True) as opened:
        flag = opened.getcol("FLAG")
        bad = flag.copy()
        bad[(opened.getcol("ANTENNA1") == 3) | (opened.getcol("ANTENNA2") == 3)] = True
        opened.putcol("FLAG", bad)
    flag_versions.save_version(ms, "statwt_1", "after statwt")
    with open_table(ms, write=True) as opened:
        opened.putcol("FLAG", flag)
    saved = Path(f"{ms}.flagversions")
    shutil.move(saved, resources / saved.name)


def _gain_table(simulation: MosaicSimulation, path: Path) -> None:
    """Write the true gains of the lowest window, which are those of all."""
    gains = simulation.gains
    one = GainSolutions(
        gains.time_s, gains.interval_s, gains.frequency_hz[:1], gains.spw[:1], gains.antenna,
        gains.position_m, gains.polarization, gains.gain[:, :1], gains.flag[:, :1],
        gains.snr[:, :1],
    )  # fmt: skip
    write_caltable(path, one, simulation.ms)


def _images(simulation: MosaicSimulation, resources: Path) -> None:
    """Write the model, attenuated by the response of the mosaic, and the masks."""
    header = grid_header((IMSIZE, IMSIZE), CELL, CENTRE_DEG)
    for axis, (kind, value, unit) in ((3, ("FREQ", 3.0e9, "Hz")), (4, ("STOKES", 1.0, ""))):
        header[f"CTYPE{axis}"], header[f"CRVAL{axis}"], header[f"CUNIT{axis}"] = kind, value, unit
        header[f"CRPIX{axis}"], header[f"CDELT{axis}"] = 1.0, 1.0
    header["NAXIS"] = 4
    terms = np.zeros((2, IMSIZE, IMSIZE))
    mask = np.zeros((IMSIZE, IMSIZE))
    for source in simulation.sky:
        x = IMSIZE // 2 - round(source.source.l_arcsec / CELL)
        y = IMSIZE // 2 + round(source.source.m_arcsec / CELL)
        terms[:, y, x] = source.source.flux_jy * np.array([1.0, source.source.spectral_index])
        mask[y - 8 : y + 9, x - 8 : x + 9] = 1.0
    response = _response(simulation)
    for term, plane in enumerate(terms):
        name = f"s13_0.{NAME}.I.iter1.model.tt{term}"
        write_image(plane * response, header, resources / name)
    write_image(mask, header, resources / f"s4_0.{NAME}.QLcatmask-tier1.mask")
    write_image(mask, header, resources / f"s8_0.{NAME}.combined-tier2.mask")
    write_image(mask, header, resources / f"s8_0.{NAME}.secondmask.mask")


def _response(simulation: MosaicSimulation) -> np.ndarray:
    """Return sqrt(sum of B^2) over its largest value, of pointings and windows alike."""
    found = Subtables(simulation.ms)
    beam = find_beam("vla", 3e9, 25.0)
    assert beam is not None
    axis = np.arange(IMSIZE) * CELL / ARCSEC_PER_RAD
    centre = axis[IMSIZE // 2]
    square = np.zeros((IMSIZE, IMSIZE))
    for field in found.fields:
        offset = radec_to_lm(*field.pointing_rad, *np.radians(CENTRE_DEG))
        for spw in simulation.gains.spw:
            hz = tuple(found.windows[int(spw)].frequency_hz)
            square += beam_plane(beam, hz, centre - axis, axis - centre, offset) ** 2.0
    return np.sqrt(square / square.max())
