"""By source and length, calibration of scores, and boxes drawn on pictures."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_auc_score

from components.eval.grading import grade
from components.eval.metrics.calibration import GAPS, auroc, by_gap
from components.eval.records import TestRecord, as_test_record
from components.eval.report.data import ModelResult, ReportData
from components.eval.report.page import Report, build_report
from components.eval.tasks import TASKS
from tests.components.eval.record_kit import question
from tests.components.eval.report_kit import answer, four_pairs, judgement, made_up, read, record


def reported(records: list[TestRecord], texts: dict[str, list[str]]) -> Report:
    models = [
        ModelResult(
            name,
            grade(records, {r.id: {"text": t} for r, t in zip(records, said, strict=True)}),
        )
        for name, said in texts.items()
    ]
    return build_report(ReportData("r", models, records, {}, bootstrap_samples=100))


GOLDS = {
    "choice": "A",
    "multi_choice": "A,B",
    "yes_no": "yes",
    "emotion": "happy",
    "math": "$x^2$",
    "numeric": "1.5",
    "regression": "3",
    "ocr": "stop here",
    "rec": "[1, 1, 3, 3]",
    "free_form": "a red dog",
}


@pytest.mark.parametrize("task", GOLDS)
def test_there_is_a_page_for_every_task(task: str) -> None:
    """Given a right answer and one that cannot be read; judging has its own tests."""
    assert {*GOLDS, "judge"} == set(TASKS)
    records = [
        as_test_record(question(task, GOLDS[task], n, options=["A. x", "B. y"]), TASKS[task])
        for n in range(2)
    ]
    report = reported(records, {"sft": [f"<answer>{GOLDS[task]}</answer>", ""]})
    figures = report.json["tasks"][task]
    value = figures["models"]["sft"]["metrics"][figures["metric"]]["value"]
    assert read(report.html).row(f"headline-{task}", "SFT")["Errors"] == "0"
    assert f"{100 * value:.1f}%" in report.html
    assert report.markdown.startswith("# r\n")


# By source and length


def questions(count: int, **fields: Any) -> list[TestRecord]:
    rows = [question("choice", "AB"[n % 2], n, **fields) for n in range(count)]
    return [as_test_record(row, TASKS["choice"]) for row in rows]


def test_every_source_and_category_has_its_own_figure() -> None:
    records = [
        replace(r, row={**r.row, "source": f"MMAU/{'music' if n < 4 else 'speech'}"})
        for n, r in enumerate(questions(6))
    ]
    said = [f"<answer>{r.gold if n < 4 else 'C'}</answer>" for n, r in enumerate(records)]
    report = reported(records, {"sft": said})
    groups = report.json["tasks"]["choice"]["breakdown"]["source"]
    assert {n: (g["records"], g["models"]["sft"]["value"]) for n, g in groups.items()} == {
        "MMAU/music": (4, 1.0),
        "MMAU/speech": (2, 0.0),
    }
    row = read(report.html).row("by-source-choice", "MMAU/music")
    assert row["Records"] == "4"
    assert row["SFT"].startswith("100.0%")


def test_lengths_are_quarters_of_the_records_in_order() -> None:
    records = questions(80)
    long = [
        replace(r, row={**r.row, "messages": [{"role": "user", "content": "x" * (n + 1)}]})
        for n, r in enumerate(records)
    ]
    said = [f"<answer>{r.gold if n < 40 else 'C'}</answer>" for n, r in enumerate(long)]
    groups = reported(long, {"sft": said}).json["tasks"]["choice"]["breakdown"]
    assert list(groups) == ["length of the question"]
    quarters = groups["length of the question"]
    assert [g["records"] for g in quarters.values()] == [20, 20, 20, 20]
    assert [g["models"]["sft"]["value"] for g in quarters.values()] == [1.0, 1.0, 0.0, 0.0]
    assert next(iter(quarters)) == " 1 to 20 characters"


def test_what_has_one_group_only_is_not_parted() -> None:
    assert build_report(four_pairs()).json["tasks"]["judge"]["breakdown"] == {}


# Calibration


def test_right_answers_by_the_gap_of_the_scores() -> None:
    bins = by_gap([0, 1, 2, 9, 9], [False, True, False, True, True])
    assert [b["count"] for b in bins] == [1, 2, 0, 0, 2]
    assert [b["accuracy"] for b in bins] == [0.0, 0.5, None, None, 1.0]
    assert [(b["low"], b["high"]) for b in bins] == list(GAPS)


@given(st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=2, max_size=60))
def test_auroc_is_scikit_learns(pairs: list[tuple[int, bool]]) -> None:
    gaps, right = zip(*pairs, strict=True)
    if len(set(right)) == 1:
        assert auroc(gaps, right) is None
    else:
        assert auroc(gaps, right) == pytest.approx(roc_auc_score(np.array(right), np.array(gaps)))


def test_a_judge_sure_when_right_is_told_from_one_whose_scores_say_nothing() -> None:
    def text(better: str, gap: int) -> str:
        a, b = (gap, 0) if better == "A" else (0, gap)
        return json.dumps({"score_A": a, "score_B": b, "better": better})

    records = [record(f"i{n}", "A") for n in range(8)]
    sure, flat = [], []
    for n, r in enumerate(records):
        better: Any = "A" if n < 4 else "B"
        told = answer(better, text(better, 9 if n < 4 else 1))
        sure.append(judgement(r, told, told, {}))
        same = answer(better, text(better, 5))
        flat.append(judgement(r, same, same, {}))
    models = [ModelResult("sft", sure), ModelResult("grpo", flat)]
    report = build_report(ReportData("r", models, records, {}, bootstrap_samples=100))
    found = report.json["tasks"]["judge"]["calibration"]
    assert found["sft"]["auroc"] == 1.0
    assert found["grpo"]["auroc"] == 0.5
    assert [b["accuracy"] for b in found["sft"]["bins"]] == [None, 0.0, None, None, 1.0]
    row = read(report.html).row("calibration-judge", "SFT")
    assert (row["Gap 7 to 10"], row["AUROC"]) == ("100.0% of 8", "1.000")


def test_answers_without_scores_have_no_calibration() -> None:
    assert build_report(four_pairs()).json["tasks"]["judge"]["calibration"] == {}


def test_a_page_with_every_section_keeps_to_its_policy(tmp_path: Path) -> None:
    html = build_report(made_up(tmp_path, pairs=45)).html
    assert 'id="calibration"' in html
    assert " style=" not in html


# Boxes


def test_the_gold_box_and_the_models_are_drawn_in_the_images_own_pixels(tmp_path: Path) -> None:
    """Given an image that is shown to the model at half its size."""
    Image.new("RGB", (400, 200), "white").save(tmp_path / "i.png")
    row = question(
        "rec",
        "[100, 50, 300, 150]",
        images=[str(tmp_path / "i.png")],
        image_size=[400, 200],
        shown_size=[200, 100],
    )
    record = as_test_record(row, TASKS["rec"])
    said = {"sft": ["<answer>[50, 25, 150, 75]</answer>"], "grpo": ["none"]}
    html = reported([record], said).html
    drawn = re.search(r'<svg viewBox="0 0 400 200" preserveAspectRatio="none".*?</svg>', html)
    assert drawn
    rects = re.findall(r'class="box ([\w-]+)" x="(.*?)" y="(.*?)" width="(.*?)" height', drawn[0])
    assert rects == [
        ("gold-box", "100.0", "50.0", "200.0"),
        ("sft", "100.0", "50.0", "200.0"),
    ]
    assert 'aria-label="Boxes: gold, SFT"' in drawn[0]


def test_a_box_on_an_image_that_cannot_be_read_is_not_drawn(tmp_path: Path) -> None:
    row = question("rec", "[1, 1, 3, 3]", images=[str(tmp_path / "none.png")])
    record = as_test_record(row, TASKS["rec"])
    html = reported([record], {"sft": ["<answer>[1, 1, 3, 3]</answer>"]}).html
    assert 'class="boxed"' not in html
