"""The standard list of steps, apart from the registry, which depends on every step's code."""

from __future__ import annotations

__all__ = ["STANDARD", "WHOLE_EXECUTION"]

STANDARD = (
    "startup", "save_init_flags", "fov_image", "run_rflag_init", "peel", "align", "test_image",
    "select_refant", "closure_stats", "initial_model", "p0", "p1", "p2", "ap1", "b1",
    "split_trial_1", "report_results", "run_rflag_final",
)  # fmt: skip

WHOLE_EXECUTION = "inf_EB"
"""The solution interval of a whole execution, as observatories' pipelines call it."""
