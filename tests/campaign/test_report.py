"""What the campaign's report counts."""

from __future__ import annotations

from dataclasses import asdict

from benchmarks.campaign.report import flux_kept, good, near_truth, report, worse_than_start
from benchmarks.campaign.scoring import Score

KINDS = {"array": "VLA A", "sky": "point", "errors": "phases", "noise": "SNR below 100",
         "windows": "1", "flags": "none"}  # fmt: skip


def row(seed: int = 1, **changes):
    base = {
        "snr_perfect": 50.0, "dr_start": 5.0, "dr_final": 50.0, "dr_perfect": 50.0, "ratio": 1.0,
        "flux_ratio": 1.0, "flux_error": 0.001, "error_start": 1.0, "error_final": 0.1,
        "error_perfect": 0.1, "error_sigma": 0.05, "cpu_seconds": 10.0, "rounds": "p0",
    }  # fmt: skip
    return asdict(Score(seed, "a case", "improved", KINDS, **(base | changes)))


def test_flux_is_kept_within_2_per_cent_or_3_sigma() -> None:
    assert flux_kept(row(flux_ratio=1.019))
    assert not flux_kept(row(flux_ratio=0.97))
    assert flux_kept(row(flux_ratio=0.97, flux_error=0.011))
    assert not flux_kept(row(flux_ratio=float("nan")))


def test_a_good_case_needs_range_and_flux() -> None:
    assert good(row())
    assert not good(row(ratio=0.94))
    assert not good(row(flux_ratio=0.9))


def test_worse_needs_more_than_two_sigma() -> None:
    assert not worse_than_start(row(error_start=1.0, error_final=1.09))
    assert worse_than_start(row(error_start=1.0, error_final=1.11))


def test_near_the_truth_is_a_tenth_more_than_perfect_data() -> None:
    assert near_truth(row(error_final=0.1099)) and not near_truth(row(error_final=0.1101))


def test_report_counts_and_names_the_worst() -> None:
    rows = [row(seed) for seed in range(1, 20)] + [row(77, ratio=0.5)]
    rows.append(asdict(Score(99, "a broken case", "not run", KINDS, fault="OSError: disk")))
    said = report(rows)
    assert "20 cases were run, 1 could not be" in said
    assert "19 of 20 (95.0%) reach 0.95" in said
    assert said.index("| 77 |") > said.index("The worst ten")
    assert "99 a broken case: not run, OSError: disk" in said
