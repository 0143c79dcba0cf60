"""Self-calibration of ALMA data: line-free channels of one target or several.

Every key but vis is optional;
docs/options.md explains each.
"""

# Measurement set(s) of one target: several are several executions, solved each, imaged together.
vis = "/path/to/uid_target.ms"
workdir = "auto"

# The target, by name or id, and spectral windows as CASA selects them (empty: all).
field = ""
spw = ""

# Several targets, each a run of its own in each band: names, or "all" (those with the intent
# OBSERVE_TARGET); leave field empty then. --cluster local:2 runs two at a time.
targets = ""

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
instrument = "alma"

# Line-free channels as CASA selects them, for example spw = "25:0~400;800~1919,27".

init_parameters = {}  # {"fov_image": {"niter": 500}, "test_image": {"robust": 0.5}}
global_parameters = {}  # {"niter": 50000}
overrides = {}  # {"ap1": {"solint": "inf"}}
