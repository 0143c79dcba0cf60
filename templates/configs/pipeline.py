"""Self-calibration of the targets of a pipeline's project: ALMA or VLA, one execution or several.

Every key but vis is optional; docs/pipeline.md and docs/options.md explain each.
"""

# The calibrated measurement sets of the project, one for each execution, in any order. Fields and
# windows are matched by name, direction and frequency, whatever their ids are.
vis = ["/path/to/uid___A002_X1.ms", "/path/to/uid___A002_X2.ms"]
workdir = "auto"  # work_NAME of the data, here in this folder

# Every target in every band is a run of its own: "all" (those with the intent OBSERVE_TARGET) or
# names, such as ["04287+1801", "G34.3 core#1"]. --cluster local:2 runs two at a time.
targets = "all"
# Windows and channels as numbered in the first execution that has them; empty: all.
spw = ""

# Line-free ranges: cont.dat beside this file, if there is one. "find" flags lines without it.
contfile = "auto"
lines = "none"

# CORRECTED_DATA when the input has it, else DATA.
datacolumn = "auto"

steps = [
    "startup",
    "save_init_flags",
    "fov_image",
    "run_rflag_init",
    "test_image",
    "select_refant",
    "closure_stats",
    "initial_model",
    "p0",
    "p1",
    "p2",
    "ap1",
    "split_trial_1",
    "report_results",
]

# Held-out data choose intervals and stopping. By hand: solints = ["inf_EB", "inf", "30s", "int"].
rounds = "adaptive"
solints = []
template = "auto"
# A target that did not improve tries the solutions of an improved neighbour.
neighbours = "auto"
solver = "native"
imager = "auto"  # native, wsclean or tclean; auto: native, the own one

# Pixels and pixel size, such as 1024 and "0.06arcsec"; auto asks the data.
imsize = "auto"
cell = "auto"
refant = "auto"
instrument = "auto"

# Channels of the working copies are averaged as far as continuum and map allow.
overrides = {"startup": {"channel_width": "auto"}}
