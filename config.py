"""What to self-calibrate and how. Every key is optional but vis; docs/options.md explains each.

As shipped it demonstrates the program on real data: the quasar 3C 273 and its jet observed with
the VLA, with known gain errors applied, so that there is something to recover.
"""

# Measurement set(s), a UVFITS file, or a demonstration (demo:3c273, demo:3c273-raw, demo:ngc5921).
vis = "demo:3c273"

# Everything the run makes goes here (auto: work_NAME, after the data); the input is never written.
workdir = "auto"

# Field and spectral windows, as CASA selects them; empty: the only field, all windows.
field = ""
spw = ""

# The steps, in order.
steps = [
    "startup",  # working copies of the data
    "save_init_flags",  # save (or restore) the initial flags; statwt where it can help
    "fov_image",  # the whole primary beam: which sources there are
    "run_rflag_init",  # RFI flagging of the raw data, in the bands that need it
    "peel",  # bright sources outside the image: subtracted with gains of their own
    "align",  # several executions: one position and one flux scale, where they differ
    "test_image",  # the image before self-calibration: chooses the template
    "select_refant",  # orders the reference antennas
    "closure_stats",  # how far in baseline length closure phases show a source
    "initial_model",  # a model fitted to closure quantities, which phase errors cannot spoil
    "p0",  # first phase round; the template is chosen again on its image
    "p1",  # phase round in place of p0
    "p2",  # phase round on top of p1, on shorter intervals
    "ap1",  # amplitude and phase round on top of the phases
    "b1",  # bandpasses on top of all gains, where the windows have channels enough
    "split_trial_1",  # the calibrated data and their images
    "report_results",  # tables, figures, report.html
    "run_rflag_final",  # flags what stands out of the residuals, in a split of its own
]

# very_faint, faint, standard_1, standard_2, bright; auto chooses by total flux and SNR.
template = "auto"

# The program's own imager (native); wsclean and tclean are others.
imager = "auto"

# Pixels and pixel size, such as 1024 and "0.06arcsec"; auto asks the data.
imsize = "auto"
cell = "auto"

# Reference antennas in order of preference; auto sorts them by their solutions.
refant = "auto"

# Parameters of the first images, of every step that knows them, and of single steps.
init_parameters = {}  # {"fov_image": {"niter": 500}, "test_image": {"robust": 0.5}}
global_parameters = {}  # {"niter": 50000}
overrides = {}  # {"p1": {"solint": "30s"}}
