"""Images of a self-calibrated VLA Sky Survey set by groups of windows; see docs/vlass_cube.md."""

# The set that the continuum run left. It is never written.
vis = "/path/to/VLASS_split_split.ms"
# What the continuum run left with it: self-cal table, flag versions, models and masks.
resources = "reimaging_resources.tgz"
# The parameter lists of the continuum (grid of its model) and of the cube (groups of windows).
seip_list = "SEIP_parameter.list"
ccip_list = "CCIP_parameter.list"
workdir = "work_vlass"

# tclean, as in production; native: the quick mode, the program's own imager.
imager = "tclean"
# After statwt WEIGHT is 1 / SIGMA^2; "as_published": the weights before, which CASA leaves there.
weights = "sigma"

# Which groups are left out for their flags.
plane_reject = {"apply": True, "exclude_spw": "", "flagpct_thresh": 0.9, "nfield_thresh": 12}

# Depth of the stages of CLEAN: within the masks, then where the response is above pb_mask.
nsigma_masked = 3.0
nsigma_pb = 4.5
pb_mask = 0.4

# Where groups are imaged: inline, local:N, tcp://host:port or slurm.yaml.
cluster = "inline"
