"""Self-calibration of one LOFAR source with international stations: the ladder to 800 km.

Every key but vis is optional;
docs/options.md explains each.
"""

# Measurement set(s) of one target: several are several executions, solved each, imaged together.
vis = "/path/to/source.ms"
workdir = "auto"

# The target, by name or id, and spectral windows as CASA selects them (empty: all).
field = ""
spw = ""

# CORRECTED_DATA when the input has it, else DATA.
datacolumn = "auto"

# h5parm of before, such as a field's solutions.h5: the data are corrected with the best solutions
# it has for this target, and the run's are multiplied onto them. Empty: none.
start_from = ""

steps = [
    "startup",
    "save_init_flags",
    "closure_stats",
    "test_image",
    "select_refant",
    "initial_model",
    "l1",
    "l2",
    "l3",
    "l4",
    "l5",
    "ap1",
    "b1",
    "split_trial_1",
    "report_results",
]

# very_faint, faint, standard_1, standard_2, bright; auto chooses by total flux and SNR.
template = "auto"
# adaptive: held-out data choose intervals and stopping; template: the template's numbers.
rounds = "adaptive"
solver = "native"  # or "casa": gaincal and applycal
imager = "auto"  # native, wsclean or tclean; auto: native, the own one


# The map of one source: as wide as its catalogue entry asks for, 20 arcsec to 2 arcmin.
imsize = "auto"
cell = "0.1arcsec"
refant = "auto"
instrument = "lofar"

# l1 to l5 climb from the maximum coherent baseline to ladder_top; a station without coherent
# solutions keeps those of a longer interval or, failing that, what it came with.

# catalogue: "lotss.csv" or another list, or "lotss" or "first" to ask the survey. It gives the
# map's width (map_size holds where it does not) and the first model of a source it resolves, for
# which components names the list of its Gaussians. The first image takes the baselines on which
# closure phases show the source, at least 80 km.
init_parameters = {
    "closure_stats": {"catalogue": "", "components": "", "map_size": "2arcmin"},
    "test_image": {"uvmax": "coherent"},
}
global_parameters = {}  # {"niter": 50000}
overrides = {}  # {"l5": {"ladder_top": "1200km"}, "split_trial_1": {"average_time": "auto"}}
