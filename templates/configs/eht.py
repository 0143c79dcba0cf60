"""Self-calibration of sparse millimetre VLBI (EHT): the phases come from a closure model.

Every key but vis is optional; docs/options.md explains each.
"""

# Measurement set(s) or UVFITS of one target: several are solved each and imaged together.
vis = "/path/to/data.uvfits"
workdir = "auto"

# The target, by name or id, and spectral windows as CASA selects them (empty: all).
field = ""
spw = ""

# CORRECTED_DATA when the input has it, else DATA.
datacolumn = "auto"

steps = [
    "startup",
    "save_init_flags",
    "test_image",
    "select_refant",
    "closure_stats",
    "initial_model",
    "p0",
    "p1",
    "p2",
    "ap1",
    "closure_check",
    "split_trial_1",
    "report_results",
]

# very_faint, faint, standard_1, standard_2, bright; auto chooses by total flux and SNR.
template = "auto"
# adaptive: held-out data choose intervals and stopping; template: the template's numbers.
rounds = "adaptive"
solver = "native"  # or "casa": gaincal and applycal
imager = "auto"  # native, wsclean or tclean; auto: native, the own one

# 0.77 mas: CLEAN works within clean_radius, the rest shows the sidelobes it leaves.
imsize = 512
cell = "1.5e-6arcsec"
refant = "auto"
instrument = "vlba"

# A few baselines have sidelobes nearly as high as the peak: CLEAN only where the source can be,
# deep, without masks of its own; weights nearly uniform, or the one large station is all that is
# seen. Baselines within a site see far more extended emission than the image can hold.
init_parameters = {
    "test_image": {
        "clean_radius": "50e-6arcsec",
        "uvmin": "100km",
        "robust": -1,
        "niter": 20000,
        "nsigma_automask": 0,
        "nsigma_autothreshold": 0.3,
    },
}

# Errors that do not close: 2 deg in closure phases, 2 % in amplitudes (Event Horizon Telescope
# Collaboration 2019, ApJ 875, L3). Stations with two baselines are calibrated as well. Rounds are
# judged by closure quantities too: an image of wrong amplitudes has the wrong flux and noise.
global_parameters = {
    "phase_floor": 0.035,
    "amplitude_floor": 0.02,
    "interval": "120s",
    "minblperant": 2,
    "closure_test": True,
    "solve_uvmin": "100km",
}

# The image has no position of its own: the closure model goes to the middle of the disc. Few
# closure amplitudes leave the size of the source open: stations are good to 20 %, and to 5 %
# where network calibration has compared them with a neighbour, whose amplitudes fix the flux.
overrides = {
    "initial_model": {
        "uvmin": "100km",
        "field_of_view": "25e-6arcsec",
        "breadth": 4,
        "station_error": 0.2,
        "site_error": 0.05,
        "centre": "centroid",
    },
    # Pointing changes from scan to scan; a scan seen by few stations may lose them. The first
    # cycle solves against the closure model, the second against its image.
    "ap1": {
        "flux_from": "sites",
        "solint": "inf",
        "combine": [],
        "max_cycles": 2,
        "max_new_flags": 0.3,
        "max_snr_loss": 0.1,
    },
    "split_trial_1": {"robust_values": ["-2", "0"], "with_multiscale": False},
}
