"""The report in KFP's own artifacts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp import dsl

from components.eval.grading import grade
from components.eval.records import as_test_record
from components.eval.report.data import ModelResult, ReportData
from components.eval.report.page import build_report
from components.eval.tasks import TASKS
from omnistage.files import write_json
from omnistage.store.folder import FolderStore
from omnistage.task.kfp_body import confusion_matrix, publish_report
from tests.components.eval.record_kit import question
from tests.components.eval.report_kit import four_pairs


def published(folder: Path, data: ReportData) -> tuple[dsl.HTML, dsl.Metrics, Any]:
    """KFP's artifacts of a report."""
    store = FolderStore(folder / "store")
    out = store.work_folder("eval", "k") / "out"
    out.mkdir(parents=True)
    report = build_report(data)
    (out / "report.html").write_text(report.html)
    write_json(out / "report.json", report.json)
    made = store.commit(out, "EvalReport", "eval", "k")
    html = dsl.HTML(name="html", uri=str(folder / "kfp" / "html"))
    metrics, confusion = dsl.Metrics(name="metrics"), dsl.ClassificationMetrics(name="confusion")
    publish_report(made, html, metrics, confusion)
    return html, metrics, confusion.metadata


def test_kubeflow_shows_page_figures_and_confusion_of_the_last_model(tmp_path: Path) -> None:
    """GRPO is right in both orders of three pairs, and in one of the fourth, whose gold is B."""
    html, metrics, confusion = published(tmp_path, four_pairs())
    assert Path(html.path).read_text().startswith("<!doctype html>")
    assert metrics.metadata["grpo_accuracy"] == 0.875
    assert confusion["confusionMatrix"] == {
        "annotationSpecs": [{"displayName": "A"}, {"displayName": "B"}],
        "rows": [{"row": [4, 0]}, {"row": [1, 3]}],
    }


def test_unreadable_answers_are_a_class_of_their_own(tmp_path: Path) -> None:
    base = replace(four_pairs(), models=four_pairs().models[:1])
    *_, confusion = published(tmp_path, base)
    names = [a["displayName"] for a in confusion["confusionMatrix"]["annotationSpecs"]]
    assert names == ["A", "B", "(invalid)"]
    rows = [r["row"] for r in confusion["confusionMatrix"]["rows"]]
    assert rows == [[0, 0, 4], [0, 0, 4], [0, 0, 0]]


Counts = st.dictionaries(st.sampled_from(["A", "B", "C", "D", ""]), st.integers(1, 9))


@given(st.dictionaries(st.sampled_from("ABC"), Counts, min_size=1))
def test_the_matrix_is_square_and_loses_no_answer(table: dict[str, dict[str, int]]) -> None:
    classes, counts = confusion_matrix(table)
    assert {len(row) for row in counts} == {len(classes)} == {len(counts)}
    assert len(set(classes)) == len(classes)
    assert sum(map(sum, counts)) == sum(sum(row.values()) for row in table.values())


def test_without_classes_there_is_no_matrix(tmp_path: Path) -> None:
    one = as_test_record(question("ocr", "a word"), TASKS["ocr"])
    answers = grade([one], {"q1": {"text": "<answer>a word</answer>"}})
    data = ReportData("r", [ModelResult("sft", answers)], [one], {}, bootstrap_samples=100)
    _, metrics, confusion = published(tmp_path, data)
    assert confusion == {}
    assert metrics.metadata["sft_word_accuracy"] == pytest.approx(1.0)
