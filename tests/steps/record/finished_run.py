"""A run as it is left when it has ended, made without images: true gains as its solutions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from libs.casa.session import CasaSession
from libs.gains.caltable_writer import write_caltable
from libs.gains.gain_solutions import GainSolutions
from libs.inputs.working_copy import make_working_copy, resolve_inputs
from libs.ms.subtables import Subtables
from libs.ms.summary import summarise
from selfcal.state import State
from selfcal.step import StepResult, TableRef
from steps.facts import StartupFacts, as_metrics
from tests.pipeline_case import FIELDS, FIRST, SECOND, PipelineCase, make_pipeline_case

TARGET = "04287+1801"
STATISTICS = {
    "peak_jy_beam": 0.1, "rms_jy_beam": 0.01, "snr": 10.0, "near_field_rms_jy_beam": 0.011,
    "near_field_snr": 9.0, "dynamic_range": 9.5, "total_flux_jy": 0.2, "beam_major_arcsec": 0.5,
    "beam_minor_arcsec": 0.4, "beam_pa_deg": 10.0,
}  # fmt: skip
SOLVED = {"kind": "round", "calmode": "p", "solint_s": 12.0, "combine": ["spw"], "gaintype": "T"}
SECONDS = {"total": 0.1, "imaging": 0.0, "solving": 0.1}


def small_case(folder: Path, executions: int = 1) -> PipelineCase:
    """The calibrator and two targets, in a second or two."""
    both = (FIRST, replace(SECOND, field_order=(2, 0, 1)))
    return make_pipeline_case(
        folder, both[:executions], fields=FIELDS[:3], antennas=5, scans=1, scan_s=48.0,
        noise_jy=0.005, perfect=True,
    )  # fmt: skip


def finish_run(
    workdir: Path,
    case: PipelineCase,
    name: str = TARGET,
    *,
    spw: str = "",
    flagged: Sequence[int] = (),
    flagged_share: float = 0.0,
    accepted: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Leave what a run of one target leaves; the antennas ``flagged`` have no solutions.

    Of the others a share, drawn at random, is flagged as well.
    """
    for folder in ("data", "tables", "images/test_image"):
        (workdir / folder).mkdir(parents=True)
    session = CasaSession(workdir)
    sources = resolve_inputs([str(ms) for ms in case.vis])
    copies, refs = [], []
    for source, order, gains in zip(sources, case.fields_of, case.gains, strict=True):
        field = [case.fields[i].name for i in order].index(name)
        copy = make_working_copy(
            source, workdir / "data" / f"{source.name}.ms", field=str(field), spw=spw,
            session=session,
        )  # fmt: skip
        copies.append(copy)
        table = workdir / "tables" / f"p0.{source.name}.gcal"
        write_caltable(table, gains_of_copy(gains, copy.ms, flagged, flagged_share), copy.ms)
        refs.append(TableRef(copy.ms.name, f"tables/{table.name}", (), "linear", "p0"))
    image = workdir / "images/test_image/test_image-image.fits"
    image.write_bytes(b"an image")
    state = State(workdir)
    facts = startup_facts_of([copy.ms for copy in copies], name, copies[0].datacolumn)
    state.append("startup", "f0", StepResult(metrics=as_metrics(facts)), SECONDS, {})
    judged = {"judged": "test_image", "judged_with": {}, "cell_arcsec": 0.05, "imsize": [128, 128]}
    products = {"image": str(image.relative_to(workdir))}
    state.append("test_image", "f1", StepResult(products=products, metrics=STATISTICS | judged),
                 SECONDS, {})  # fmt: skip
    better = STATISTICS | {"snr": 30.0, "rms_jy_beam": 0.004, "judged": "p0", "judged_with": {}}
    state.append("p0", "f2", StepResult(
        "done" if accepted else "rejected", "SNR 10 to 30", tables=tuple(refs) if accepted else (),
        metrics=SOLVED | better,
    ), SECONDS, {})  # fmt: skip
    values = {"vis": [str(ms) for ms in case.vis], "steps": ["startup", "test_image", "p0"],
              "oussid": "", "stage": "1", **(settings or {})}  # fmt: skip
    resolved = {key: {"value": value} for key, value in values.items()}
    (workdir / "resolved.yaml").write_text(yaml.safe_dump(resolved))
    summary = {"status": "improved" if accepted else "unchanged", "tables": [r.path for r in refs]}
    (workdir / "summary.json").write_text(json.dumps(summary))
    return workdir


def startup_facts_of(copies: Sequence[Path], name: str, datacolumn: str) -> StartupFacts:
    used = summarise(copies[0])
    return StartupFacts(
        working_copies=tuple(copy.name for copy in copies), instrument="alma", band="6",
        telescope="ALMA", field=name, frequency_hz=used.mean_frequency_hz,
        min_frequency_hz=used.min_frequency_hz, max_frequency_hz=used.max_frequency_hz,
        antennas=5, dish_diameter_m=12.0, longest_baseline_m=used.longest_baseline_m,
        shortest_baseline_m=used.shortest_baseline_m, integration_s=12.0, scans=1, rows=used.rows,
        channels=used.channels, spws=len(used.spws_used), band_slices=1,
        spectral_terms=1,
        right_ascension_rad=float(used.direction_rad[0]),
        declination_rad=float(used.direction_rad[1]), flagged_fraction=0.0, datacolumn=datacolumn,
    )  # fmt: skip


def gains_of_copy(
    gains: GainSolutions, copy: Path, flagged: Sequence[int], share: float
) -> GainSolutions:
    """The gains of the windows and times of a working copy, under its own numbers."""
    windows = Subtables(copy).windows
    place = [int(np.argmin(np.abs(gains.frequency_hz - each.mean_hz))) for each in windows]
    begin, end = summarise(copy).time_range_s
    inside = (gains.time_s >= begin - 1) & (gains.time_s <= end + 1)
    flag = np.zeros((int(inside.sum()), len(place), len(gains.antenna), 2), bool)
    flag[:, :, list(flagged)] = True
    flag |= np.random.default_rng(1).random(flag.shape) < share
    gain = gains.gain[inside][:, place]
    return replace(
        gains, time_s=gains.time_s[inside], interval_s=gains.interval_s[inside],
        frequency_hz=gains.frequency_hz[place], spw=np.arange(len(place)),
        gain=np.where(flag, 1, gain), flag=flag, snr=np.where(flag, 0.0, 50.0),
    )  # fmt: skip
