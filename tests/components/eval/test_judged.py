"""Answers in words scored by an LLM judge, against a real HTTP server on loopback."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components.eval.config import EvalSettings
from components.eval.grading import Graded, grade
from components.eval.judged import judge_answers
from components.eval.records import TestRecord, as_test_record
from components.eval.report.data import ModelResult, ReportData
from components.eval.report.page import build_report
from components.eval.tasks import TASKS
from omnistage.cli.main import main
from omnistage.files import read_json, write_jsonl
from omnistage.rewards.served import client, judgements
from omnistage.rewards.served.client import JudgeSettings
from omnistage.settings import key_config
from tests.components.eval.record_kit import question
from tests.components.eval.report_kit import read
from tests.rewards.served.server_kit import Server, reply

SAYS = {"a scarlet hound": "5", "a cat": "0", "perhaps": "I cannot say"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Says what it is told of an answer."""
    for name in dir(client):
        if name.endswith("_VARIABLE"):
            monkeypatch.setenv(getattr(client, name), "")  # so that it is as before afterwards
    monkeypatch.setattr(judgements, "_open", {})

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        asked = body["messages"][0]["content"]
        return reply(next(said for text, said in SAYS.items() if f"Answer: {text}" in asked))

    server = Server(answer, [])
    yield server
    server.close()


def settings(server: Server) -> JudgeSettings:
    return JudgeSettings(url=f"{server.url}/v1", model="judge", first_wait=0)


def records(count: int = 4) -> list[TestRecord]:
    rows = [question("free_form", "a red dog", n) for n in range(count)]
    return [as_test_record(row, TASKS["free_form"]) for row in rows]


def graded(said: list[str]) -> list[Graded]:
    answers = {f"q{n}": {"text": f"<answer>{s}</answer>" if s else ""} for n, s in enumerate(said)}
    return grade(records(len(said)), answers)


def test_the_judge_sees_what_overlap_does_not(server: Server, tmp_path: Path) -> None:
    """Given an answer in other words, a wrong one, one without a score, and none."""
    said = graded(["a scarlet hound", "a cat", "perhaps", ""])
    judged = judge_answers(records(), {"sft": said}, settings(server), tmp_path.as_uri())
    assert judged == {"sft": {"q0": 1.0, "q1": 0.0, "q2": None, "q3": 0.0}}
    assert len(server.requests) == 3  # an answer that is not there is not asked about
    data = ReportData(
        "r", [ModelResult("sft", said)], records(), {}, judged=judged, bootstrap_samples=100
    )
    report = build_report(data)
    metrics = report.json["tasks"]["free_form"]["models"]["sft"]["metrics"]
    assert metrics["judged"]["value"] == pytest.approx(1 / 3)
    assert read(report.html).row("headline-free_form", "SFT")["LLM judge"] == "33.3%"
    assert "| LLM judge |" in report.markdown


def test_what_the_judge_said_is_kept_in_the_store(server: Server, tmp_path: Path) -> None:
    said = {"sft": graded(["a cat"])}
    for _ in range(2):
        judge_answers(records(1), said, settings(server), tmp_path.as_uri())
        judgements._open.clear()  # as another process
    assert len(server.requests) == 1
    assert len(list((tmp_path / "judgements").rglob("*.json"))) == 1


def test_predictions_from_a_file_are_judged_too(server: Server, tmp_path: Path) -> None:
    """Given answers in other words and without a score; what was said is kept in the home."""
    path = tmp_path / "m.jsonl"
    rows = [("1", "a scarlet hound"), ("2", "perhaps")]
    write_jsonl(path, [{"id": i, "text": text, "solution": "a red dog"} for i, text in rows])
    command = ["eval", "--predictions", str(path), "--out", str(tmp_path / "out")]
    command += ["--judge-url", f"{server.url}/v1", "--home", str(tmp_path / "home")]
    assert main([*command, "--judge", "m", "--task", "free_form"]) == 0
    report = read_json(tmp_path / "out" / "report.json")
    metrics = report["tasks"]["free_form"]["models"]["m"]["metrics"]
    assert metrics["judged"]["value"] == 1.0
    assert report["notes"] == [
        "The LLM judge named no score for 1 answer of m; its figure is of the others."
    ]
    assert main([*command, "--judge", "m", "--task", "ocr"]) == 0
    (note,) = read_json(tmp_path / "out" / "report.json")["notes"]
    assert note == "The LLM judge was not asked: no record is of the task free_form."
    assert len(server.requests) == 2
    assert len(list((tmp_path / "home").rglob("*.json"))) == 2
    assert main([*command, "--task", "free_form"]) == 2  # which model judges is not said


def test_other_tasks_ask_no_judge(server: Server, tmp_path: Path) -> None:
    one = as_test_record(question("choice", "A"), TASKS["choice"])
    answers = grade([one], {"q1": {"text": "<answer>A</answer>"}})
    assert judge_answers([one], {"sft": answers}, settings(server), tmp_path.as_uri()) == {}
    assert server.requests == []


def test_the_judge_is_named_in_the_settings_and_its_address_is_no_part_of_the_key() -> None:
    assert "judge" not in key_config(EvalSettings())
    one = EvalSettings(judge=JudgeSettings(model="m", url="http://a/v1"))
    other = EvalSettings(judge=JudgeSettings(model="m", url="http://b/v1"))
    assert key_config(one)["judge"] == key_config(other)["judge"] == {"model": "m"}
    with pytest.raises(ValidationError, match="name the model that judges"):
        EvalSettings(judge=JudgeSettings(url="http://a/v1"))
