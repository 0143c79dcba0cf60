"""Sessions of an ATA project to calibrate. Every key but project is optional: docs/sessions.md."""

# The project's folder as the telescope writes it, PROJECT/SESSION/SCAN/LoB.C0352/*.uvh5
# (pip install -e '.[ata]'); it is never written. Sessions by name, with * and ?.
project = "/path/to/project"
sessions = "*"
workdir = "work_ata"

# At full resolution: aoflagger, native or none; auto: AOFlagger where it is installed.
flagger = "auto"
average_channels = 1
average_time = "0s"  # 0: as observed

# The delay engine is updated by the first scan of the flux calibrator: only the last one counts.
flux_scans = "last"
# Local oscillators whose centres differ by more than 20 % are calibrated apart.
tunings = "auto"

# Who is who; auto finds out by positions, times and closure phases.
flux_calibrator = "auto"
phase_calibrators = "auto"
targets = "auto"
refant = "auto"

# 50 of 1344 channels at each edge, and what flags the calibrators.
edges = 0.037
flag_methods = ["tfcrop", "clip"]

target_config = "ata"
target_settings = {}
