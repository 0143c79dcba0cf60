"""Names of intervals and files."""

from __future__ import annotations

from typing import Any

import pytest

from steps.record.collect import interval_name, safe_name, window_key
from steps.record.products import ProductNames


@pytest.mark.parametrize(
    ("metrics", "name"),
    [
        ({}, ""),
        ({"solint_s": "int"}, "int"),
        ({"solint_s": 30.0}, "30s"),
        ({"solint_s": 9.99987, "combine": ["spw"]}, "10s"),
        ({"solint_s": "inf", "combine": ["spw"]}, "inf"),
        ({"solint_s": "inf", "combine": ["scan"]}, "inf_EB"),
        ({"solint_s": 4500.0, "combine": ["scan", "spw"]}, "inf_EB"),
        ({"solint_s": 4500.0, "combine": []}, "4500s"),
        ({"solint_s": 60.0, "combine": ["scan"]}, "60s"),
    ],
)
def test_the_name_of_an_interval(metrics: dict[str, Any], name: str) -> None:
    assert interval_name(metrics) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("04287+1801", "04287+1801"),
        ("G34.3 core#1", "G34.3_core_1"),
        ("uid://A001/X1", "uid___A001_X1"),
        ("..", "field"),
        ("../../x", "_.._x"),
    ],
)
def test_names_that_are_safe_in_files(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_executions_share_the_endings_of_windows_names() -> None:
    one, two = (f"X{i}#ALMA_RB_06#BB_1#SW-01#FULL_RES" for i in (1, 2))
    assert window_key(one) == window_key(two)
    assert window_key("spw0 217.000000 GHz") == "spw0 217.000000 GHz"


def test_names_of_products_are_those_of_the_pipelines() -> None:
    names = ProductNames("oussid", "2_2", "04287+1801", (16, 18, 20))
    stem = "oussid.s2_2.04287+1801_sci"
    assert names.image(1) == f"{stem}.spw16_18_20.cont.I.iter1"
    assert names.image(2, "solint1_prior") == f"{stem}.spw16_18_20.cont.solint1_prior.I.iter2"
    assert names.image(3, window=18) == f"{stem}.spw18.cont.I.iter3"
    table = names.table("eb1.04287+1801.spw16_18_20.selfcal.ms", "inf_EB", "p")
    assert table == "eb1.04287+1801.spw16_18_20.selfcal.ms.hif_selfcal.2_2.inf_EB.p.tbl"
    assert names.table("a.ms", "300s", "ap").endswith(".300s.ap.tbl")
    many = ProductNames("oussid", "1", "x", tuple(range(100, 240)))
    assert many.image(0) == "oussid.s1.x_sci.spw100-239.cont.I.iter0", "short enough for a file"
