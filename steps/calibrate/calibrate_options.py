"""The config keys of a session's calibration."""

from __future__ import annotations

from selfcal.options import Option

__all__ = ["CALIBRATE_OPTIONS"]

_AUTO = ("auto",)

_DATA_OPTIONS = (
    Option("vis", "paths", "", "measurement sets, UVFITS or uvh5 files of one session; never"
           " written"),
    Option("project", "path", "", "folder of a project's sessions as the ATA writes them, in place"
           " of vis; never written"),
    Option("sessions", "str", "*", "sessions of the project to take, by name with * and ?"),
    Option("workdir", "path", "work_calibrate", "where everything the run makes is written"),
    Option("datacolumn", "choice", "data", "column of vis to start from",
           choices=("auto", "data", "corrected")),
    Option("flagger", "choice", "auto", "flags full-resolution data of a project: aoflagger, the"
           " program's own (native) or none; auto: AOFlagger where it is installed",
           choices=("auto", "aoflagger", "native", "none")),
    Option("average_channels", "int", 1, "channels of a project's data averaged into one",
           minimum=1),
    Option("average_time", "time", "0s", "integration a project's data are averaged to; 0: none",
           minimum=0),
)  # fmt: skip

CALIBRATE_OPTIONS: tuple[Option, ...] = (
    *_DATA_OPTIONS,
    Option("steps", "names", "", "the steps, in order; empty: all that the data need"),
    Option("flux_calibrator", "str", "auto", "name of the field of known flux; auto: within 5"
           " arcsec of a standard"),
    Option("phase_calibrators", "names", "auto", "names of the fields observed between the"
           " targets; auto: by intents, else what brackets others and is compact", words=_AUTO),
    Option("targets", "names", "auto", "names of the fields to calibrate; auto: the others",
           words=_AUTO),
    Option("flux_scans", "names", "all", "scans of the flux calibrator that are used: all, last,"
           " or their numbers"),
    Option("tunings", "choice", "auto", "auto: parts of the band whose centres differ by more than"
           " 20 % are calibrated apart", choices=("auto", "together", "apart")),
    Option("refant", "names", "auto", "reference antennas in order of preference", words=_AUTO),
    Option("solver", "choice", "native", "what solves for and applies the gains",
           choices=("native", "casa")),
    Option("imager", "choice", "auto", "auto: native, the program's own; or WSClean or CASA tclean",
           choices=("auto", "native", "wsclean", "tclean")),
    Option("edges", "float", 0.037, "fraction of the channels flagged at each edge of a window",
           minimum=0),
    Option("flag_methods", "names", ["tfcrop", "clip"], "methods that flag the calibrators",
           choices=("tfcrop", "rflag", "clip", "extend")),
    Option("interval", "time", "auto", "solution interval of the phases before delays and bandpass;"
           " auto: held-out data choose", words=("auto", "int", "inf")),
    Option("delays", "choice", "auto", "auto: delays are solved for where windows have 8 channels"
           " or more", choices=("auto", "yes", "no")),
    Option("passes", "int", 2, "times that all is solved; residuals are flagged in between",
           minimum=1),
    Option("minblperant", "int", 4, "fewest baselines an antenna must have for a solution",
           minimum=2),
    Option("minsnr", "float", 3.0, "solutions below this SNR are flagged"),
    Option("imsize", "int", "auto", "pixels of the calibrators' images; auto: by the beam",
           words=_AUTO, minimum=16),
    Option("cell", "angle", "auto", "pixel size of the images; auto: by the baselines",
           words=_AUTO),
    Option("clean_depth", "float", 5.0, "depth of CLEAN on the calibrators, in noises of the image"
           " before", minimum=0),
    Option("target_config", "str", "auto", "how a target is self-calibrated: a ready config's name"
           " or a config file; auto: the standard steps"),
    Option("target_settings", "table", {}, "other settings of a target's run (template, imsize)"),
    Option("overrides", "table", {}, "parameters of the steps of the targets' runs"),
    Option("global_parameters", "table", {}, "parameters for every step of the targets' runs that"
           " knows them"),
    Option("source_finder", "choice", "auto", "what finds the sources of the final images: pybdsf"
           " or the program's own (native); auto: PyBDSF where it is installed",
           choices=("auto", "native", "pybdsf")),
    Option("catalogue", "path", "", "list of sources that those found are matched with"),
    Option("cluster", "str", "inline", "where targets run: inline, local:N, tcp://host:port or"
           " slurm.yaml"),
    Option("threads", "int", 0, "threads the imager may use; 0: as many as it likes", minimum=0),
    Option("tool_stall", "time", "1200s", "a tool or a target's run silent and idle this long is"
           " killed"),
    Option("quiet", "bool", False, "print warnings and the result only"),
)  # fmt: skip
