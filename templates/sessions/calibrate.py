"""A session of calibrators and targets. Every key but vis is optional; see docs/sessions.md."""

# All data of one session: measurement sets, UVFITS or uvh5 files. They are never written.
vis = ["/path/to/session.ms"]
workdir = "work_calibrate"

# Who is who; auto finds out by positions, intents, times and closure phases.
flux_calibrator = "auto"
phase_calibrators = "auto"
targets = "auto"

# Scans of the flux calibrator that are used: all, last, or a list of numbers.
flux_scans = "all"
# auto: parts of the band whose centres differ by more than 20 % are calibrated apart.
tunings = "auto"

refant = "auto"
solver = "native"  # or "casa": gaincal, bandpass and applycal
imager = "auto"  # native, wsclean or tclean; auto: native, the own one

# Fraction of the channels flagged at each edge of a window, and what flags the calibrators.
edges = 0.037
flag_methods = ["tfcrop", "clip"]  # of tfcrop, rflag, clip, extend; [] for none

# How targets are self-calibrated: a ready config (vla, emerlin, ata, ...); auto: standard steps.
target_config = "auto"
target_settings = {}  # {"template": "faint", "imsize": 1024}
overrides = {}  # {"p1": {"solint": "30s"}}
