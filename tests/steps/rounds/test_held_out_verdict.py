"""Held-out baselines may refuse what an image accepted."""

from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import pytest

from libs.imaging.statistics import ImageStatistics
from selfcal.step import TableRef
from steps.images import ImageRecord
from steps.rounds import judging_round
from steps.rounds.judging_round import Judged, with_held_out
from steps.rounds.record import BestState, Refusal, RoundRecord, TrialRecord

STATISTICS = ImageStatistics(**{f.name: 1.0 for f in fields(ImageStatistics)})  # type: ignore[arg-type]
TABLE = TableRef("a.ms", "tables/p0.gcal", round="p0")


class MadeTrial:
    """A trial of which only the image's SNR and its baselines count."""

    def __init__(self, snr: float, uvmax: float = 0.0) -> None:
        self.solved, self.pointings = (), ()
        self.judged_with = {"uvmax": uvmax}
        self.image = type("Image", (), {"statistics": replace(STATISTICS, snr=snr)})


def verdict(
    monkeypatch: pytest.MonkeyPatch, sigma: float, snr: float, **changes: Any
) -> tuple[Judged, BestState]:
    monkeypatch.setattr(judging_round, "held_out_sigma", lambda each: sigma)
    image = ImageRecord(replace(STATISTICS, snr=100.0), "p0", {"uvmax": 0.0}, {})
    best = BestState(image, (TABLE,), held_out_sigma=700.0)
    trial_record = TrialRecord("p", 3.0, "", "", 0.0, 0.0, 0.0, changes.get("beneath", ()))
    solve: Any = SimpleNamespace(noise_followed=changes.get("followed", 0.1))
    judged = Judged(True, "SNR rose", RoundRecord(trial=trial_record, solve=solve))
    trial: Any = MadeTrial(snr, changes.get("uvmax", 0.0))
    return with_held_out(best, trial, judged), best


def test_a_loss_that_the_snr_does_not_outweigh_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    judged, _ = verdict(monkeypatch, 260.0, 110.0)
    assert not judged.accepted
    assert judged.record.refusal is Refusal.NOT_BETTER
    assert "predicted worse than by p0" in judged.reason
    assert "falls by 260 times its error (with model and gains of p0: 700)" in judged.reason


@pytest.mark.parametrize(
    ("sigma", "snr", "changes"),
    [
        (697.0, 100.1, {}),  # by chance
        (650.0, 120.0, {}),  # outweighed
        (900.0, 100.0, {}),
        (40.0, 110.0, {"beneath": ("p0",)}),  # on top of the best state's gains
        (40.0, 110.0, {"uvmax": 5000.0}),  # of other baselines
        (float("nan"), 110.0, {}),
    ],
)
def test_what_cannot_be_compared_or_is_no_worse_refuses_nothing(
    monkeypatch: pytest.MonkeyPatch, sigma: float, snr: float, changes: dict[str, Any]
) -> None:
    judged, _ = verdict(monkeypatch, sigma, snr, **changes)
    assert judged.accepted
    assert judged.record.refusal is None


def test_phases_that_follow_the_noise_more_than_the_source_refuse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged, _ = verdict(monkeypatch, 900.0, 400.0, followed=4.2)
    assert not judged.accepted
    assert judged.record.refusal is Refusal.NOT_BETTER
    assert "4.2 times as bright as the source itself" in judged.reason
    assert verdict(monkeypatch, 900.0, 400.0, followed=0.9)[0].accepted
    assert verdict(monkeypatch, 900.0, 400.0, followed=float("nan"))[0].accepted
