"""Samples and rotations from files: the figures of the eval step, without a model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.eval.stored.answers import by_record
from components.eval.stored.predictions import Prediction
from components.eval.stored.score import score_predictions
from omnistage.errors import InputError
from omnistage.files import read_jsonl, write_jsonl
from tests.components.eval.record_kit import question
from tests.components.eval.report_kit import read

SAID = {0: "BBA", 1: "CAA", 2: "DDC"}
"""Three samples of each record; the gold answers are B, A and C."""
GOLDS = "BAC"


def ours(folder: Path) -> Path:
    rows = [
        {"id": str(i), "task": "choice", "gold": GOLDS[i], "sample": n, "first": {"text": said}}
        for i, each in SAID.items()
        for n, said in enumerate(each, 1)
    ]
    write_jsonl(folder / "m.jsonl", rows)
    return folder / "m.jsonl"


def repeated(folder: Path) -> Path:
    rows = [{"id": i, "text": said, "solution": GOLDS[i]} for i, s in SAID.items() for said in s]
    write_jsonl(folder / "m.jsonl", rows)
    return folder / "m.jsonl"


def lmms_eval(folder: Path) -> Path:
    """With repeats, of which the filter takes the first."""
    rows = [
        {"doc_id": i, "target": GOLDS[i], "filtered_resps": said[0], "resps": list(said)}
        for i, said in SAID.items()
    ]
    write_jsonl(folder / "m.jsonl", rows)
    return folder / "m.jsonl"


def lmms_eval_k(folder: Path) -> Path:
    """With the filter take_first_k."""
    rows = [{"doc_id": i, "target": GOLDS[i], "filtered_resps": list(s)} for i, s in SAID.items()]
    write_jsonl(folder / "m.jsonl", rows)
    return folder / "m.jsonl"


def evalscope(folder: Path) -> Path:
    """With repeats of 3, which have an index each."""
    for kind in ("predictions", "reviews"):
        (folder / kind / "qwen").mkdir(parents=True)
    path = folder / "predictions" / "qwen" / "m.jsonl"
    numbered = [(3 * i + n, i, said) for i, each in SAID.items() for n, said in enumerate(each)]
    output = lambda said: {"choices": [{"message": {"role": "assistant", "content": said}}]}  # noqa: E731
    write_jsonl(path, [{"index": n, "model_output": output(said)} for n, _, said in numbered])
    reviews = [
        {"index": n, "target": GOLDS[i], "sample_score": {"sample_id": n, "group_id": i}}
        for n, i, _ in numbered
    ]
    write_jsonl(folder / "reviews" / "qwen" / "m.jsonl", reviews)
    return path


@pytest.mark.parametrize("layout", [ours, repeated, lmms_eval, lmms_eval_k, evalscope])
def test_several_completions_of_a_record_are_its_samples(
    tmp_path: Path, layout: Callable[[Path], Path]
) -> None:
    """By hand: 2, 2 and 1 of 3 samples are right; the majority is right of the first two."""
    report = score_predictions([layout(tmp_path)], tmp_path / "out", task="choice")
    found = report.json["tasks"]["choice"]["sampling"]
    of = found["models"]["m"]
    values = {k: of[k]["value"] for k in ("greedy", "mean", "majority")}
    assert values == {
        k: pytest.approx(v) for k, v in zip(values, [1 / 3, 5 / 9, 2 / 3], strict=True)
    }
    passed = {k: v["value"] for k, v in of["pass"].items()}
    assert passed == {"1": pytest.approx(5 / 9), "2": pytest.approx((1 + 1 + 2 / 3) / 3), "3": 1.0}
    assert (found["samples"], found["budgets"]) == (3, ["1", "2", "3"])
    assert report.json["notes"] == [
        "m: the answer to each record is its first sample, no greedy one."
    ]
    assert read(report.html).row("sampling-choice", "m")["pass@3"].startswith("100.0%")
    rows = list(read_jsonl(tmp_path / "out" / "samples" / "m.jsonl"))
    assert [(r["sample"], r["first"]["text"]) for r in rows if r["id"] == "1"] == [
        (1, "C"),
        (2, "A"),
        (3, "A"),
    ]


def test_what_an_evaluation_left_is_scored_again_with_its_samples(tmp_path: Path) -> None:
    first = score_predictions([ours(tmp_path)], tmp_path / "out", task="choice").json
    judgements = tmp_path / "out" / "judgements" / "m.jsonl"
    again = score_predictions([judgements], tmp_path / "again").json
    assert again["tasks"]["choice"]["sampling"] == first["tasks"]["choice"]["sampling"]


def test_a_greedy_answer_stands_beside_the_samples(tmp_path: Path) -> None:
    """Given a greedy row, a second model with fewer samples, and a sample that is not there."""
    greedy = [{"id": str(i), "text": GOLDS[i], "solution": GOLDS[i]} for i in SAID]
    samples = [{**row, "sample": n, "text": "A"} for row in greedy for n in (1, 2)]
    write_jsonl(tmp_path / "two.jsonl", [*greedy, *samples[:-1]])
    files = [ours(tmp_path), tmp_path / "two.jsonl"]
    report = score_predictions(files, tmp_path / "out", task="choice")
    found = report.json["tasks"]["choice"]["sampling"]
    assert found["models"]["two"]["greedy"]["value"] == 1.0
    assert found["models"]["two"]["mean"]["value"] == pytest.approx(1 / 3)
    assert [found["models"][m]["samples"] for m in ("m", "two")] == [3, 2]
    assert report.json["notes"][1:] == [
        "two: 1 sample of 3 records with 2 each is missing and wrong."
    ]
    page = read(report.html)
    assert page.row("sampling-choice", "two")["pass@3"] == "–"
    assert "up to 3 samples of each record" in page.text


def test_records_of_another_task_need_no_samples(tmp_path: Path) -> None:
    rows = [{"id": "c", "task": "choice", "text": t, "solution": "A"} for t in "AB"]
    write_jsonl(
        tmp_path / "m.jsonl", [*rows, {"id": "n", "task": "ocr", "text": "a", "solution": "a"}]
    )
    report = score_predictions([tmp_path / "m.jsonl"], tmp_path / "out").json
    assert report["tasks"]["choice"]["sampling"]["samples"] == 2
    assert report["tasks"]["ocr"]["sampling"] == {}


def circular(folder: Path, model: Callable[[list[str]], str]) -> Path:
    """A sheet of VLMEvalKit for CircularEval: every record again with its options moved on."""
    lines = ["index\tquestion\tA\tB\tC\tanswer\tprediction"]
    for n in (1, 2):
        own = ["a cat", "a dog", "an ox"]
        for places in range(3):
            there = [own[(i - places) % 3] for i in range(3)]
            gold = "ABC"[there.index("a dog")]
            row = [str(n + places * 1_000_000), "Which?", *there, gold, model(there)]
            lines.append("\t".join(row))
    (folder / "m.tsv").write_text("\n".join(lines) + "\n")
    return folder / "m.tsv"


@pytest.mark.parametrize(
    ("model", "given", "accuracy", "every_time", "places"),
    [
        (lambda there: "B", 1.0, 1 / 3, 0.0, {"A": 0, "B": 1, "C": 0}),
        (lambda there: "ABC"[there.index("a dog")], 1.0, 1.0, 1.0, dict.fromkeys("ABC", 1 / 3)),
        (lambda there: "ABC"[there.index("an ox")], 0.0, 0.0, 0.0, dict.fromkeys("ABC", 1 / 3)),
    ],
    ids=["place", "right", "wrong"],
)
def test_circular_rows_of_vlmevalkit_are_rotations(
    tmp_path: Path,
    model: Callable[[list[str]], str],
    given: float,
    accuracy: float,
    every_time: float,
    places: dict[str, float],
) -> None:
    report = score_predictions([circular(tmp_path, model)], tmp_path / "out").json
    task = report["tasks"]["choice"]
    assert task["records"] == 2
    of = task["positions"]["models"]["m"]
    assert of["given"]["value"] == given
    assert of["metrics"]["accuracy"]["value"] == pytest.approx(accuracy)
    assert of["metrics"]["circular"]["value"] == every_time
    assert of["by_place"] == {k: pytest.approx(v) for k, v in places.items()}


@given(st.permutations(["w", "x", "y", "z"]), st.integers(0, 3))
def test_only_options_that_move_on_together_are_a_rotation(order: list[str], places: int) -> None:
    """Given another order of the options, whose gold answer moves with them or not."""
    own = ["w", "x", "y", "z"]
    options = lambda texts: [f"{'ABCD'[n]}. {text}" for n, text in enumerate(texts)]  # noqa: E731
    record = Prediction("7", ("A",), "B", options=options(own))
    row = Prediction("1000007", ("A",), "ABCD"[order.index("x")], options=options(order))
    found = by_record([record, row], "f")
    turned = next((r for r in (1, 2, 3) if [*own[-r:], *own[:-r]] == order), 0)
    assert list(found["7"].rotations) == ([turned] if turned else [])
    assert ("1000007" in found) == (turned == 0)
    other = Prediction("1000007", ("A",), "ABCD"[places], options=options(own[-1:] + own[:-1]))
    assert bool(by_record([record, other], "f")["7"].rotations) == (places == 2)


def test_our_rotations_need_the_records_options(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "q1", "text": "A", "solution": "A"},
        {"id": "q1", "rotation": 1, "text": "B", "solution": "A"},
    ]
    write_jsonl(tmp_path / "m.jsonl", rows)
    record = question("choice", "A", options=["A. yes", "B. no"])
    write_jsonl(tmp_path / "records.jsonl", [record])
    report = score_predictions(
        [tmp_path / "m.jsonl"], tmp_path / "out", records=tmp_path / "records.jsonl"
    ).json
    of = report["tasks"]["choice"]["positions"]["models"]["m"]
    assert of["metrics"]["circular"]["value"] == 1.0
    with pytest.raises(InputError, match="rotation 1 of record 'q1', which has 0 options; give"):
        score_predictions([tmp_path / "m.jsonl"], tmp_path / "out", task="choice")


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([{"sample": 1}, {"sample": 1}], "m.jsonl: sample 1 of record '1' is there twice"),
        ([{"rotation": 2}, {"rotation": 2}], "rotation 2 of record '1' is there twice"),
        ([{}, {}, {"sample": 1}], "there twice without a sample's number, and with numbers"),
        ([{"sample": "one"}], "row 1 is not like the first: .*sample is 'one', not a whole number"),
        ([{"sample": -1}], "sample is -1, not a whole number"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(
    tmp_path: Path, rows: list[dict[str, Any]], why: str
) -> None:
    path = tmp_path / "m.jsonl"
    write_jsonl(path, [{"id": "1", "text": "A", "solution": "A", **row} for row in rows])
    with pytest.raises(InputError, match=why):
        score_predictions([path], tmp_path / "out", task="choice")
