"""GPU hours and their cost in the report."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from components.eval.config import EvalSettings
from components.eval.report.cost import gpu_cost, machine_in_words
from components.eval.report.data import ReportData, StageRun
from components.eval.report.page import build_report
from omnistage.settings import key_config
from tests.components.eval.report_kit import four_pairs, read

H200 = {"nodes": 2, "cpus": 64, "gpus": 16, "gpu": "NVIDIA H200"}
ONE_CPU = {"nodes": 1, "cpus": 1, "gpus": 0, "gpu": ""}


def ran(*stages: StageRun, **fields: Any) -> ReportData:
    return replace(four_pairs(), stages=stages, **fields)


def test_gpu_hours_and_their_cost_by_hand() -> None:
    """Given half an hour on 16 GPUs, ten minutes on a CPU, and a step that says nothing."""
    data = ran(
        StageRun("sft", "1", seconds=1800.0, machine=H200),
        StageRun("mix", "2", seconds=600.0, machine=ONE_CPU),
        StageRun("old", "3", seconds=60.0),
        cost_per_gpu_hour=2.5,
        currency="EUR",
    )
    report = build_report(data)
    assert report.json["provenance"]["cost"] == {
        "gpu_hours": 8.0,
        "unknown": ["old"],
        "per_gpu_hour": 2.5,
        "currency": "EUR",
        "total": 20.0,
    }
    page = read(report.html)
    row = page.row("stages", "sft")
    assert (row["Machine"], row["GPU hours"]) == ("2 nodes, 16 × NVIDIA H200", "8.00")
    assert page.row("stages", "mix")["Machine"] == "1 CPU"
    assert page.row("stages", "old")["GPU hours"] == "–"
    told = "8.00, of the attempts that finished; not known of old; 20.00 EUR at 2.5 EUR an hour"
    assert told in page.text
    assert f"GPU hours: {told}." in report.markdown


def test_without_a_price_there_are_hours_and_without_machines_nothing() -> None:
    hours = build_report(ran(StageRun("sft", "1", seconds=3600.0, machine=H200))).json
    assert hours["provenance"]["cost"]["gpu_hours"] == 16.0
    assert hours["provenance"]["cost"]["total"] is None
    old = build_report(ran(StageRun("sft", "1", seconds=3600.0), cost_per_gpu_hour=1.0))
    assert old.json["provenance"]["cost"] is None
    assert "GPU hours" not in old.html + old.markdown


def test_a_machine_whose_driver_names_no_model_is_told_by_its_number_of_gpus() -> None:
    assert machine_in_words({**H200, "nodes": 1, "gpus": 1, "gpu": ""}) == "1 × GPU"
    assert gpu_cost(four_pairs()) is None


def test_a_price_counts_for_the_key_where_it_is_set() -> None:
    assert not key_config(EvalSettings()).keys() & {"cost_per_gpu_hour", "currency"}
    assert key_config(EvalSettings(cost_per_gpu_hour=2))["cost_per_gpu_hour"] == 2
    for wrong in (-1, float("inf")):
        with pytest.raises(ValidationError):
            EvalSettings(cost_per_gpu_hour=wrong)
