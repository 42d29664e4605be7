"""Protocols: what each reads, what an unreadable answer counts, and the table side by side."""

from pathlib import Path
from typing import Any, get_args

import pytest

from components.eval.config import ProtocolName
from components.eval.protocols import PROTOCOLS
from components.eval.protocols.letters import read_mmau, read_videomme, read_vlmevalkit
from components.eval.protocols.pairs import read_brackets, read_overall_judgment
from components.eval.protocols.protocol import averaged, score_record
from components.eval.records import TestRecord, as_test_record
from components.eval.stored.score import score_predictions
from components.eval.tasks import TASKS
from omnistage.cli import eval as cli_eval
from omnistage.cli.main import main
from omnistage.files import read_json, read_jsonl, write_jsonl
from tests.components.eval.record_kit import pair, question, verdict

CHOICE = question("choice", "B", options=["A. a dog", "B. a black dog", "C. rain"])


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("**Overall Judgment**: Answer 1 is better.", "A", "B"),
        ("Overall Judgment:\nAnswer 2 is slightly better", "B", "A"),
        ("Therefore - Answer 2 is the better one", "B", "A"),
        ("Answer 1 is better.", None, None),
        ("Overall Judgment: Answer 3 is better", None, None),
        ("Overall Judgment: both are good", None, None),
    ],
)
def test_an_overall_judgment(text: str, first: str | None, second: str | None) -> None:
    assert read_overall_judgment({}, text, 0) == first
    assert read_overall_judgment({}, text, 1) == second


@pytest.mark.parametrize(
    ("text", "said"), [("So [[B]]", "B"), ("[[B]], no, [[A]]", "A"), ("[A]", None)]
)
def test_brackets(text: str, said: str | None) -> None:
    assert read_brackets({}, text, 0) == said


@pytest.mark.parametrize(
    ("text", "vlmevalkit", "videomme", "mmau"),
    [
        ("B", "B", "B", None),
        ("(B)", "B", "B", None),
        ("The answer is B.", "B", "B", None),
        ("A or B", None, "A", None),
        ("B, since one of the dogs is black as the night", None, "B", None),
        ("a black dog", "B", None, "B"),
        ("A black dog.", "A", "A", "B"),  # the article is a letter to both suites
        ("rain", "C", None, "C"),
        ("a dog", "A", None, "A"),
        ("Cannot determine the answer", None, "C", None),
        ("Z, or rain", None, None, "C"),
        ("no idea", None, None, None),
    ],
)
def test_how_a_choice_is_read(
    text: str, vlmevalkit: str | None, videomme: str | None, mmau: str | None
) -> None:
    assert read_vlmevalkit(CHOICE, text, 0) == vlmevalkit
    assert read_videomme(CHOICE, text, 0) == videomme
    assert read_mmau(CHOICE, text, 0) == mmau


def judged(better: str = "B", source: str = "s/x") -> TestRecord:
    row: dict[str, Any] = {**pair(1, "image", better), "source": source}
    return as_test_record(row, TASKS["judge"])


@pytest.mark.parametrize(
    ("protocol", "gold", "score"),
    [
        ("lmms_vl_rewardbench", "B", 0.5),
        ("lmms_mm_rewardbench", "A", 1.0),
        ("lmms_mm_rewardbench", "B", 0.0),
        ("vlmevalkit_mm_rewardbench", "A", 0.0),
        ("omnistage", "A", 0.0),
    ],
)
def test_what_an_unreadable_verdict_counts(protocol: str, gold: str, score: float) -> None:
    found = score_record(PROTOCOLS[protocol], judged(gold), ["no idea", "no idea"])
    assert (found.score, found.valid) == (score, 0.0)


def test_one_order_counts_where_the_protocol_shows_one() -> None:
    texts = ["[[B]]", "[[B]]"]  # by position: right in the first order alone
    assert score_record(PROTOCOLS["vlmevalkit_mm_rewardbench"], judged("B"), texts).score == 1.0
    both = ['{"score_A": 1, "score_B": 9, "better": "B"}'] * 2
    assert score_record(PROTOCOLS["omnistage"], judged("B"), both).score == 0.5


def test_a_missing_answer_is_wrong_under_every_protocol() -> None:
    for name, protocol in PROTOCOLS.items():
        if protocol.fits("judge"):
            assert score_record(protocol, judged("A"), [None, None]).score == 0.0, name


@pytest.mark.parametrize(
    ("text", "r1v", "ours"),
    [
        ("<think>So 65.</think><answer>65</answer>", 1.0, 1.0),
        ("<think>So 65.</think><answer>unclear</answer>", 1.0, 0.0),
        ("<answer>65</answer> or rather 70", 0.0, 1.0),
        ("no idea", 0.0, 0.0),
    ],
)
def test_r1v_looks_for_the_answer_in_all_of_the_text(text: str, r1v: float, ours: float) -> None:
    record = as_test_record(question("math", "65°"), TASKS["math"])
    found = {n: score_record(PROTOCOLS[n], record, [text]) for n in ("r1v_geoqa", "omnistage")}
    assert {n: s.score for n, s in found.items()} == {"r1v_geoqa": r1v, "omnistage": ours}
    assert found["r1v_geoqa"].valid == (text != "no idea")


def test_a_macro_mean_is_the_mean_of_the_groups_and_a_micro_mean_that_of_the_records() -> None:
    records = [judged(source=f"s/{g}") for g in ("a", "a", "a", "b")]
    scores = [1.0, 1.0, 1.0, 0.0]
    assert averaged(PROTOCOLS["lmms_vl_rewardbench"], records, scores).value == 0.5
    assert averaged(PROTOCOLS["lmms_mm_rewardbench"], records, scores).value == 0.75


def test_boxes_in_two_frames_count_by_the_better_and_ours_by_the_true_one() -> None:
    row = question("rec", "[100, 100, 300, 300]", image_size=[400, 400], shown_size=[400, 400])
    record = as_test_record(row, TASKS["rec"])
    thousandths = "<answer>[250, 250, 750, 750]</answer>"
    assert score_record(PROTOCOLS["lmms_rec"], record, [thousandths]).score == 1.0
    assert score_record(PROTOCOLS["omnistage"], record, [thousandths]).score == 0.0
    assert score_record(PROTOCOLS["lmms_rec"], record, ["no box"]).valid == 0.0


def test_the_same_predictions_stand_side_by_side_with_each_difference_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given four records: one letter, one text, one unreadable, one that only ours calls wrong."""
    records = [{**CHOICE, "id": f"q{n}"} for n in range(4)]
    write_jsonl(tmp_path / "records.jsonl", records)
    said = ["B", "A black dog.", "no idea", "I say B"]
    rows = [{"id": f"q{n}", "text": text} for n, text in enumerate(said)]
    write_jsonl(tmp_path / "m.jsonl", rows)
    command = ["eval", "--predictions", str(tmp_path / "m.jsonl"), "--out", str(tmp_path / "out")]
    command += ["--records", str(tmp_path / "records.jsonl")]
    assert main([*command, "--protocol", "vlmevalkit_choice", "--protocol", "mmau"]) == 0
    report = read_json(tmp_path / "out" / "report.json")
    table = report["tasks"]["choice"]["protocols"]
    assert {n: p["models"]["m"]["value"] for n, p in table.items()} == {
        "omnistage": 0.25,
        "vlmevalkit_choice": 0.5,
        "mmau": 0.25,
    }
    assert table["vlmevalkit_choice"]["models"]["m"]["differ"] == ["q3"]
    assert table["mmau"]["models"]["m"]["differ"] == ["q0", "q1"]
    assert table["mmau"]["models"]["m"]["valid"] == 0.25
    page = (tmp_path / "out" / "report.html").read_text()
    assert "VLMEvalKit&#39;s multiple choice" in page
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert "| MMAU's words | wrong | 25.0% (" in markdown
    capsys.readouterr()


def test_predictions_by_number_are_those_of_the_records_in_their_order(tmp_path: Path) -> None:
    records = [{**pair(n, "image", b), "source": "s/x"} for n, b in ((1, "A"), (2, "B"))]
    write_jsonl(tmp_path / "records.jsonl", records)
    rows = [
        {"doc_id": n, "target": "", "filtered_resps": [text]}
        for n, text in ((1, "[[B]]"), (0, "[[A]]"))
    ]
    write_jsonl(tmp_path / "m.jsonl", rows)
    report = score_predictions(
        [tmp_path / "m.jsonl"],
        tmp_path / "out",
        records=tmp_path / "records.jsonl",
        protocols=["lmms_mm_rewardbench"],
    ).json
    table = report["tasks"]["judge"]["protocols"]["lmms_mm_rewardbench"]
    assert table["models"]["m"]["value"] == 1.0
    assert report["notes"] == ["2 pairs answered in one order only; the other counts as wrong."]


def test_a_readable_verdict_in_the_usual_form_is_read_by_our_protocol() -> None:
    texts = [verdict(1, 9, "B"), verdict(9, 1, "A")]
    assert score_record(PROTOCOLS["omnistage"], judged("B"), texts).score == 1.0


def test_settings_and_command_line_know_every_protocol() -> None:
    assert set(get_args(ProtocolName)) == set(cli_eval.PROTOCOLS) == set(PROTOCOLS)


def test_scores_are_those_of_the_suites_own_code() -> None:
    """Given generated predictions with the scores that the code of VLMEvalKit (e8e78f0), lmms-eval
    (75571cf; its second reader, a language model, not asked) and MMAU gave them."""
    rows = list(read_jsonl(Path(__file__).with_name("suites.jsonl")))
    found = [
        {
            n: score_record(PROTOCOLS[n], _suite_record(row), [row["text"]]).score
            for n in row["scores"]
        }
        for row in rows
    ]
    assert found == [row["scores"] for row in rows]
    names = {name for row in rows for name in row["scores"]}
    assert all(len({row["scores"].get(name) for row in rows} - {None}) > 1 for name in names)


def _suite_record(row: dict[str, Any]) -> TestRecord:
    if "options" in row:
        return as_test_record(
            question("choice", row["gold"], options=row["options"]), TASKS["choice"]
        )
    return as_test_record(pair(1, "image", row["gold"]), TASKS["judge"])
