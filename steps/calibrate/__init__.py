"""First-generation calibration: from the correlator's data to calibrated, imaged targets."""
