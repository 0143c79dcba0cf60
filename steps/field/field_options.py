"""The config keys of a field."""

from __future__ import annotations

from libs.catalogues.query import SERVICES
from libs.catalogues.radii import CALIBRATOR_RADIUS_DEG, TARGET_RADIUS_DEG
from selfcal.options import Option

__all__ = ["FIELD_OPTIONS"]

_FLUX_UNITS = ("", "Jy", "mJy")
_SERVICES = tuple(SERVICES)

_PREPARE_OPTIONS = (
    Option("prepare", "choice", "auto", "what makes the sources' data: native, dp3, or auto: DP3"
           " where it is installed and takes the data", choices=("auto", "native", "dp3")),
    Option("phase_up", "str", "", "core stations (CS*) that DP3 adds up to ST001 in the sources'"
           " data; empty: none"),
)  # fmt: skip

FIELD_OPTIONS: tuple[Option, ...] = (
    Option("vis", "paths", "", "measurement sets of the field, not averaged; never written"),
    Option("workdir", "path", "work_field", "where everything the run makes is written"),
    Option("sources", "paths", "", "lists of sources (CSV, VOTable, FITS), or lotss: ask LoTSS",
           words=_SERVICES),
    Option("lbcs", "path", "", "LBCS calibrators with their flags, a list; or lbcs: ask LBCS",
           words=_SERVICES),
    Option("components", "path", "", "list of the sources' Gaussians with their Parent_Source"),
    Option("flux_unit", "choice", "", "Jy or mJy, for lists that give none", choices=_FLUX_UNITS),
    Option("layers", "names", ["100mJy", "10mJy"],
           "least flux of each layer; LBCS calibrators are in the first"),
    Option("radius", "angle", f"{TARGET_RADIUS_DEG}deg", "sources within this of the centre",
           minimum=0),
    Option("calibrator_radius", "angle", f"{CALIBRATOR_RADIUS_DEG}deg",
           "LBCS calibrators within this of the centre", minimum=0),
    Option("datacolumn", "str", "DATA", "column of vis to start from"),
    Option("initial_solutions", "path", "", "h5parm to begin the global table with"),
    Option("average_time", "time", "auto", "integration of a source's data; auto: by its map",
           words=("auto",), minimum=0),
    Option("average_frequency", "frequency", "auto",
           "channel width of a source's data; auto: by its map", words=("auto",), minimum=0),
    Option("smearing", "float", 0.02, "amplitude that auto averaging may cost at the map's edge",
           minimum=0.0001),
    *_PREPARE_OPTIONS,
    Option("uvmin", "length", "20km",
           "shorter baselines of a source's data are flagged: they see the rest of the field",
           minimum=0),
    Option("map_size", "angle", "auto", "width of the maps; auto: 20 arcsec to 2 arcmin by shape",
           words=("auto",), minimum=1),
    Option("cell", "angle", "auto", "pixel size of the maps; auto: by the baselines",
           words=("auto",)),
    Option("min_good_fraction", "float", 0.5, "best solutions: least part not flagged", minimum=0),
    Option("min_coherence", "float", 0.5, "best solutions: least coherence", minimum=0),
    Option("max_separation", "angle", "inf", "best solutions: farthest direction used",
           words=("inf",)),
    Option("again", "choice", "auto", "calibrate a layer's sources again once the others of the"
           " layer are out of the data; auto: where these count beside the noise",
           choices=("auto", "never", "always")),
    Option("subtract_snr", "float", 7.0, "sources of a lower image SNR are not subtracted",
           minimum=0),
    Option("source_config", "str", "lofar",
           "how a source is calibrated: a ready config's name or a config file"),
    Option("source_steps", "names", "", "steps of a source; empty: those of source_config"),
    Option("overrides", "table", {}, "parameters of a source's steps"),
    Option("source_settings", "table", {}, "other settings of a source's run (template, solver)"),
    Option("global_parameters", "table", {},
           "parameters for every step of the sources' runs that knows them"),
    Option("cluster", "str", "inline", "inline, local:N, tcp://host:port or slurm.yaml"),
    Option("threads", "int", "auto", "threads of each source; auto: the cores shared out",
           words=("auto",), minimum=1),
    Option("tool_stall", "time", "1200s", "a source's run silent and idle this long is killed"),
    Option("quiet", "bool", False, "print warnings and the result only"),
)  # fmt: skip
