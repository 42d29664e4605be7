"""Predictions of other suites, each in exactly its layout, graded without a model."""

import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from components.eval.stored.answers import NO_PREDICTION
from components.eval.stored.predictions import read_predictions
from components.eval.stored.score import score_predictions
from components.eval.tasks import TASKS
from omnistage.cli import eval as cli_eval
from omnistage.cli.main import main
from omnistage.errors import InputError
from omnistage.files import read_json, write_jsonl
from tests.components.eval.record_kit import pair, question, verdict

CHOICES = [("0", "B", "(b) a dog"), ("1", "A", "C"), ("2", "C", "C.")]
"""Index, gold and prediction: two of three are right."""


def lmms_eval(folder: Path) -> Path:
    path = folder / "20260801_samples_omnibench.jsonl"
    rows = [
        {"doc_id": int(i), "target": gold, "input": "Which?", "filtered_resps": [said]}
        for i, gold, said in CHOICES
    ]
    write_jsonl(path, rows)
    return path


def vlmevalkit(folder: Path, suffix: str) -> Path:
    head = ["index", "question", "A", "B", "C", "answer", "prediction"]
    rows = [[int(i), "Which?", "a cat", "a dog", "a cow", g, said] for i, g, said in CHOICES]
    path = folder / f"model_MMBench.{suffix}"
    if suffix == "xlsx":
        book = openpyxl.Workbook()
        for row in [head, *rows]:
            book.worksheets[0].append(row)
        book.save(path)
    elif suffix == "tsv":
        lines = ["\t".join(map(str, row)) for row in [head, *rows]]
        path.write_text("\n".join(lines) + "\n")
    else:
        path.write_text(json.dumps([dict(zip(head, row, strict=True)) for row in rows]))
    return path


def evalscope(folder: Path) -> Path:
    for kind in ("predictions", "reviews"):
        (folder / kind / "qwen").mkdir(parents=True)
    path = folder / "predictions" / "qwen" / "mmau_test.jsonl"

    def row(index: str, said: str) -> dict[str, Any]:
        output = {"choices": [{"message": {"role": "assistant", "content": said}}]}
        asked = [{"role": "user", "content": "Which?"}]
        return {"index": int(index), "model": "qwen", "model_output": output, "messages": asked}

    write_jsonl(path, [row(i, said) for i, _, said in CHOICES])
    reviews = [{"index": int(i), "target": gold, "sample_score": {}} for i, gold, _ in CHOICES]
    write_jsonl(folder / "reviews" / "qwen" / "mmau_test.jsonl", reviews)
    return path


def ms_swift(folder: Path) -> Path:
    path = folder / "infer.jsonl"
    rows = [
        {
            "response": said,
            "labels": gold,
            "logprobs": None,
            "messages": [{"role": "user", "content": "Which?"}],
        }
        for _, gold, said in CHOICES
    ]
    write_jsonl(path, rows)
    return path


def ours(folder: Path) -> Path:
    path = folder / "grpo.jsonl"
    rows = [
        {"id": i, "task": "choice", "gold": gold, "first": {"text": said}}
        for i, gold, said in CHOICES
    ]
    write_jsonl(path, rows)
    return path


@pytest.mark.parametrize("layout", ["lmms", "xlsx", "tsv", "json", "evalscope", "swift", "ours"])
def test_every_layout_is_read_and_scored_alike(tmp_path: Path, layout: str) -> None:
    makers = {"lmms": lmms_eval, "evalscope": evalscope, "swift": ms_swift, "ours": ours}
    path = makers[layout](tmp_path) if layout in makers else vlmevalkit(tmp_path, layout)
    assert [p.gold for p in read_predictions(path)] == ["B", "A", "C"]
    report = score_predictions([path], tmp_path / "out", task="choice").json
    model = report["tasks"]["choice"]["models"][path.stem]
    assert model["metrics"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert (tmp_path / "out" / "report.html").is_file()


def test_models_are_compared_on_the_records_that_are_given(tmp_path: Path) -> None:
    """Given verdicts in both orders, and a second model whose file lacks a record: it counts as
    wrong, by name."""
    records = tmp_path / "test.jsonl"
    write_jsonl(records, [pair(1, "image", "A"), pair(2, "image", "B")])
    right = {"first": {"text": verdict(9, 1, "A")}, "second": {"text": verdict(1, 9, "B")}}
    wrong = {"first": {"text": verdict(9, 1, "A")}, "second": {"text": verdict(9, 1, "A")}}
    for name, second in (("old", []), ("new", [{"id": "r2", "gold": "B", **wrong}])):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"id": "r1", "gold": "A", **right}, *second])
    files = [tmp_path / "old.jsonl", tmp_path / "new.jsonl"]
    report = score_predictions(files, tmp_path / "out", records=records).json
    assert {n: m["value"] for n, m in report["headline"]["models"].items()} == {
        "old": 0.5,
        "new": 0.75,
    }
    assert report["errors"] == [{"model": "old", "id": "r2", "error": NO_PREDICTION}]
    assert list(report["tasks"]["judge"]["differences"]) == ["new_minus_old"]


def test_what_cannot_be_scored_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = lmms_eval(tmp_path)
    with pytest.raises(InputError, match="do not say their task; give --task"):
        score_predictions([path], tmp_path)
    with pytest.raises(InputError, match="graded against their pairs; give --records"):
        score_predictions([path], tmp_path, task="judge")
    other = tmp_path / "other.jsonl"
    write_jsonl(other, [question("math", "1", 9)])
    with pytest.raises(InputError, match="predicts none of the 1 record"):
        score_predictions([path], tmp_path, records=other)
    with pytest.raises(InputError, match="no known layout of predictions; the first row has id"):
        read_predictions(other)
    write_jsonl(other, [{"id": "1", "text": "A"}])
    with pytest.raises(InputError, match="record '1' has no gold answer in the file"):
        score_predictions([other], tmp_path, task="choice")
    (tmp_path / "bad.xlsx").write_text("no sheet")
    with pytest.raises(InputError, match="not a readable sheet"):
        read_predictions(tmp_path / "bad.xlsx")


def test_the_command_prints_the_verdict_and_the_reports_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code = main(
        ["eval", "--predictions", str(ours(tmp_path)), "--task", "choice", "--out", str(out)]
    )
    said, path = capsys.readouterr().out.splitlines()
    assert code == 0
    assert said.startswith("GRPO reaches 66.7% Accuracy")
    assert said == read_json(out / "report.json")["summary"]
    assert path == str(out / "report.html")
    assert set(cli_eval.TASKS) == set(TASKS)
