"""The options of a run: what a config file may say."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from libs.core.errors import ConfigError
from selfcal.options import Option
from selfcal.settings import Settings, build_settings, load_config
from steps import STEPS
from steps.peel_setting import direction_of
from steps.solints import with_solints
from steps.work_directory import AUTO_WORKDIR, name_workdir

__all__ = [
    "FILE_SETTINGS",
    "RUN_OPTIONS",
    "check_files",
    "file_for",
    "load_run_config",
    "run_settings",
]

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
    Option("mosaic", "choice", "auto", "auto: pointings of one name whose primary beams overlap are"
           " one target, with one model and common gains", choices=("auto", "never")),
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
    Option("align", "choice", "auto", "auto: executions of one target whose positions or"
           " fluxes differ are brought to those of the one with the most data",
           choices=("auto", "never")),
    Option("peel", "names", "auto", "auto: sources outside the image or in a sidelobe that are"
           " brighter than all else get gains of their own and are subtracted; never; or directions"
           " (\"13h31m08.3s +30d30m33s\")", words=("auto", "never")),
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
    Option("mask", "files", "", "your own mask (also usermask), within which CLEAN works and models"
           " are: a FITS image, or regions of ds9 or CASA (CRTF); {name: file} for targets or"
           " bands; empty: the program's", also=("usermask",)),
    Option("start_model", "files", "", "your own model to start from (also usermodel): a FITS image"
           " in Jy/pixel or a list of its Taylor terms, a list of components (WSClean, DP3) or a"
           " catalogue (VOTable, CSV, FITS); {name: file} for targets or bands; empty: the"
           " program's", also=("usermodel",)),
    Option("model_flux_unit", "choice", "", "Jy or mJy, for a catalogue that gives none",
           choices=("", "Jy", "mJy")),
    Option("refant", "names", "auto", "reference antennas in order of preference", words=AUTO),
    Option("instrument", "str", "auto", "as in templates/instruments.yaml, or other;"
           " auto: by the telescope's name"),
    Option("band", "str", "auto", "band name as in templates/instruments.yaml"),
    Option("per_spw", "bool", False, "image each spectral window by itself too, before and after; a"
           " loss of SNR over 10 % is warned of"),
    Option("oussid", "str", "", "beginning of the names of products; empty: the name of the first"
           " execution"),
    Option("stage", "str", "1", "stage of a larger pipeline, in the names of products"),
    Option("primary_beam", "choice", "auto", "auto: the final images are also made corrected for"
           " the primary beam, where one is known (vla, alma, meerkat, gmrt)",
           choices=("auto", "none")),
    Option("stokes", "str", "I", "Stokes parameters of the final images, such as I, IV or IQUV;"
           " they are as good as the calibration of the feeds was before"),
    Option("init_parameters", "table", {}, "parameters of fov_image and test_image"),
    Option("global_parameters", "table", {}, "parameters for every step that knows them"),
    Option("overrides", "table", {}, "parameters by step, over what the template says"),
    Option("threads", "int", 0, "threads the imager may use; 0: one for small images, which"
           " makes them repeat bit by bit, else every core", minimum=0),
    Option("memory", "memory", "auto", "memory the imager may use, not for tclean; auto: 60 %"
           " of the machine's", words=AUTO, minimum=1),
    Option("tool_stall", "time", "600s", "a tool without output and CPU use this long is killed"),
    Option("on_finish", "str", "", "command to run when the run has ended, with SELFCAL_STATUS and"
           " SELFCAL_WORKDIR in its environment"),
    Option("plots", "bool", True, "draw figures for papers in plots/; False: only the comparison"
           " and those of closure quantities, which pages show"),
    Option("quiet", "bool", False, "print warnings and the final table only"),
)  # fmt: skip


FILE_SETTINGS = ("mask", "start_model")
"""Settings that name files of the user, for all targets or by target or band."""

# the model and all judgements are Stokes I
STOKES_SETS = ("I", "IV", "IQU", "IQUV", "IQ", "IU", "IQV", "IUV")


AUTO_OR_NEVER = ("auto", "never")


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
    if settings["stokes"] != "I" and "split_trial_1" not in steps:
        raise ConfigError(
            "stokes has no effect without the step split_trial_1", "add it to the steps"
        )
    if settings["stokes"] not in STOKES_SETS:
        raise ConfigError(
            f"stokes = {settings['stokes']} is not imaged",
            "use some of I, Q, U, V in this order, such as I, IV or IQUV",
        )
    for words in settings["peel"] if settings["peel"] not in AUTO_OR_NEVER else ():
        direction_of(words)
    if settings["model_flux_unit"] and not settings["start_model"]:
        raise ConfigError("model_flux_unit without start_model", "name the catalogue")
    for name in FILE_SETTINGS:
        for file in _named_files(name, settings[name], bool(settings["targets"])):
            if file and not Path(file).expanduser().is_file():
                raise ConfigError(f"{name} = {file} is no file", f"correct {name}")


def _named_files(name: str, value: Any, by_target: bool) -> list[str]:
    """Return the files that a setting names."""
    if isinstance(value, Mapping):
        if not by_target:
            raise ConfigError(
                f"{name} gives files by target, and there are no targets", "name the one file"
            )
        return [file for item in value.values() for file in _named_files(name, item, True)]
    if isinstance(value, str):
        return [value]
    if name == "mask":
        raise ConfigError("mask is a list of files", "name one, with all regions in it")
    return list(value)


def file_for(value: Any, names: Collection[str]) -> Any:
    """Return what a setting that may give files by target or band gives for one target.

    Parameters
    ----------
    value : object
        As written in the config.
    names : collection of str
        Names of the target, the most special first: its label, its field and band, its field,
        its band.

    Returns
    -------
    object
        The value itself where it is for all targets; empty where it has none for this one.
    """
    if not isinstance(value, Mapping):
        return value
    return next((value[name] for name in names if name in value), "")


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
