"""Self-calibration of ATA data. Every key but vis is optional; docs/options.md explains each."""

# Measurement set(s), or all uvh5 files of the observation (pip install -e '.[ata]'): parts of the
# band, tunings and scans are joined.
vis = ["/path/to/first.uvh5", "/path/to/second.uvh5"]
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
instrument = "ata"

# Where data without a phase centre are phased to:
# init_parameters = {"startup": {"phase_centre": "13h31m08.29s +30d30m33.0s"}}
init_parameters = {}
global_parameters = {}  # {"niter": 50000}
overrides = {}
