"""The options of a run: what a config file may say."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from libs.core.errors import ConfigError
from selfcal.options import Option
from selfcal.settings import Settings, build_settings, load_config
from steps import STEPS
from steps.solints import with_solints
from steps.work_directory import AUTO_WORKDIR, name_workdir

__all__ = ["RUN_OPTIONS", "check_files", "load_run_config", "run_settings"]

AUTO = ("auto",)

RUN_OPTIONS: tuple[Option, ...] = (
    Option("vis", "paths", "demo:3c273",
           "measurement set(s), UVFITS or uvh5 files, or demo:3c273, demo:3c273-raw, demo:ngc5921"),
    Option("workdir", "path", AUTO_WORKDIR, "where everything the run makes is written; auto:"
           " work_NAME, after the data and the field", words=AUTO),
    Option("field", "str", "", "field to self-calibrate, by name or id; empty: the only one"),
    Option("executions", "table", {}, "field and spw of each measurement set of vis where they are"
           " not alike: {'a.ms': {'field': '1', 'spw': '0~3'}}; field and spw stay empty then"),
    Option("targets", "names", "", "fields, each a run of its own in each band; all: those with the"
           " intent OBSERVE_TARGET; empty: one run"),
    Option("neighbours", "choice", "auto", "auto: a target that stayed as it was tries the"
           " solutions of the nearest improved one", choices=("auto", "never")),
    Option("cluster", "str", "inline", "where targets run: inline, local:N, tcp://host:port or"
           " slurm.yaml"),
    Option("spw", "str", "", "spectral windows, CASA syntax; empty: all"),
    Option("contfile", "path", "auto", "file of line-free frequency ranges (cont.dat); auto:"
           " cont.dat beside the config, if there is one; empty: none", words=("auto",)),
    Option("lines", "choice", "none", "find: without a contfile, channels that stand out of the"
           " continuum are flagged in the working copy", choices=("none", "find")),
    Option("datacolumn", "choice", "auto", "column to start from; auto: CORRECTED_DATA if present",
           choices=("auto", "data", "corrected")),
    Option("start_from", "path", "", "h5parm whose solutions the data are corrected with first; the"
           " run's are multiplied onto them"),
    Option("start_direction", "str", "", "direction of start_from to take as it is; empty: for"
           " each station the nearest with good solutions"),
    Option("steps", "names", "", "the steps, in order; empty: the standard list"),
    Option("template", "str", "auto", "template of the rounds; auto: chosen by flux and SNR"),
    Option("imager", "choice", "auto", "auto: native, the program's own; or WSClean or CASA tclean",
           choices=("auto", "native", "wsclean", "tclean")),
    Option("solver", "choice", "native", "what solves for and applies the gains",
           choices=("native", "casa")),
    Option("rounds", "choice", "adaptive", "adaptive: held-out data choose intervals and stopping,"
           " one image a round; template: the template's numbers",
           choices=("adaptive", "template")),
    Option("solints", "names", "", "solution intervals of the phase rounds by hand, such as inf_EB,"
           " inf, 30s, int: p0, p1 and on, inf_EB for constants of the whole execution; empty:"
           " chosen"),
    Option("imsize", "size", "auto", "image size in pixels, one number or a pair", words=AUTO),
    Option("cell", "angle", "auto", "pixel size", words=AUTO),
    Option("mask", "path", "", "your own mask, within which CLEAN works and models are: a FITS"
           " image, or regions of ds9 or CASA (CRTF); empty: the program's"),
    Option("start_model", "path", "", "your own model to start from: a FITS image in Jy/pixel, a"
           " list of components (WSClean, DP3) or a catalogue (VOTable, CSV, FITS); empty: the"
           " program's"),
    Option("model_flux_unit", "choice", "", "Jy or mJy, for a catalogue that gives none",
           choices=("", "Jy", "mJy")),
    Option("refant", "names", "auto", "reference antennas in order of preference", words=AUTO),
    Option("instrument", "str", "auto", "as in templates/instruments.yaml, or other;"
           " auto: by the telescope's name"),
    Option("band", "str", "auto", "band name as in templates/instruments.yaml"),
    Option("primary_beam", "choice", "auto", "auto: the final images are also made corrected for"
           " the primary beam, where one is known (vla, alma, meerkat, gmrt)",
           choices=("auto", "none")),
    Option("init_parameters", "table", {}, "parameters of fov_image and test_image"),
    Option("global_parameters", "table", {}, "parameters for every step that knows them"),
    Option("overrides", "table", {}, "parameters by step, over what the template says"),
    Option("threads", "int", 0, "threads the imager may use; 0: one for small images, which"
           " makes them repeat bit by bit, else every core", minimum=0),
    Option("memory", "memory", "auto", "memory the imager may use, not for tclean; auto: 60 %"
           " of the machine's", words=AUTO, minimum=1),
    Option("tool_stall", "time", "600s", "a tool without output and CPU use this long is killed"),
    Option("quiet", "bool", False, "print warnings and the final table only"),
)  # fmt: skip


_FILES = ("mask", "start_model")


def check_files(settings: Settings, steps: Collection[str]) -> None:
    """Check that the files of the user that later steps read are there, and that one reads them.

    Raises
    ------
    ConfigError
        One is not.
    """
    if settings["start_model"] and "initial_model" not in steps:
        raise ConfigError(
            "start_model has no effect without the step initial_model", "add it before p0"
        )
    if settings["model_flux_unit"] and not settings["start_model"]:
        raise ConfigError("model_flux_unit without start_model", "name the catalogue")
    for name in _FILES:
        if settings[name] and not Path(settings[name]).expanduser().is_file():
            raise ConfigError(f"{name} = {settings[name]} is no file", f"correct {name}")


def load_run_config(path: Path) -> dict[str, Any]:
    """Return what a run's config file assigns; see `selfcal.settings.load_config`."""
    return load_config(path, RUN_OPTIONS)


def run_settings(
    config: Mapping[str, Any],
    path: Path | None = None,
    assignments: Mapping[str, Any] | None = None,
) -> Settings:
    """Return the settings of a run; see `selfcal.settings.build_settings`."""
    settings = build_settings(config, path, assignments or {}, list(STEPS), RUN_OPTIONS)
    return with_solints(name_workdir(settings))
