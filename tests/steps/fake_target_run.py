"""Stands in for auto_selfcal.py: writes what a run leaves, or fails as it would."""

import json
import sys
from pathlib import Path

import yaml

config = yaml.safe_load(Path(sys.argv[1]).read_text())
workdir = Path(config["workdir"])
outcome = Path(sys.argv[2].removeprefix("--outcome="))
(workdir / "asked.json").write_text(json.dumps(sys.argv[3:]))
how = config.get("refant", "")
(part,) = config["executions"].values()
if part["field"] in how.split("+"):
    print("selfcal: this is for people, not for programs")
    cause, remedy = "step p0 failed: the imager died", "look at its log"
    outcome.write_text(json.dumps({"code": 1, "cause": cause, "remedy": remedy}))
    sys.exit(1)
if how == "crash":
    raise RuntimeError("something nobody thought of")
state = {"image": "i.fits", "peak_jy_beam": 1.0, "rms_jy_beam": 0.1, "snr": 10.0,
         "dynamic_range": 11.0, "total_flux_jy": 1.0}  # fmt: skip
final = {**state, "snr": 100.0 + float(part["field"])}
summary = {"status": "improved", "initial": state, "final": final, "accepted": {"p0": "better"},
           "rejected": {}, "tables": ["t"], "h5parm": "solutions.h5", "warnings": ["loud"],
           "versions": {"wsclean": "3"}, "longest_baseline_km": 1.0}  # fmt: skip
(workdir / "summary.json").write_text(json.dumps(summary))
