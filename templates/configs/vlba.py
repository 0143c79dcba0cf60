"""Self-calibration of VLBI data. Every key but vis is optional; docs/options.md explains each."""

# Measurement set(s) of one target: several are several executions, solved each, imaged together.
vis = "/path/to/data.ms"
workdir = "auto"

# The target, by name or id, and spectral windows as CASA selects them (empty: all).
field = ""
spw = ""

# CORRECTED_DATA when the input has it, else DATA.
datacolumn = "auto"

steps = [
    "startup",
    "save_init_flags",
    "fov_image",
    "run_rflag_init",
    "peel",
    "align",
    "test_image",
    "select_refant",
    "closure_stats",
    "initial_model",
    "p0",
    "p1",
    "p2",
    "ap1",
    "b1",
    "closure_check",
    "split_trial_1",
    "report_results",
    "run_rflag_final",
]

# very_faint, faint, standard_1, standard_2, bright; auto chooses by total flux and SNR.
template = "auto"
# adaptive: held-out data choose intervals and stopping; template: the template's numbers.
rounds = "adaptive"
solver = "native"  # or "casa": gaincal and applycal
imager = "auto"  # native, wsclean or tclean; auto: native, the own one

# Pixels and pixel size, such as 1024 and "0.06arcsec"; auto asks the data.
imsize = "auto"
cell = "auto"
refant = "auto"
instrument = "vlba"

# A small field: the primary beam of a VLBI dish is far larger than any image of interest.

init_parameters = {}  # {"fov_image": {"niter": 500}, "test_image": {"robust": 0.5}}
global_parameters = {}  # {"niter": 50000}
init_parameters["fov_image"] = {"imsize": 512, "cell": "0.002arcsec"}
overrides = {}
