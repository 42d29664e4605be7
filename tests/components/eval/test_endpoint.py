"""A served model: what it is asked, what is kept, and every way in which it can fail."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.eval.endpoint import Endpoint, ask_endpoint
from components.eval.stored.score import score_predictions
from omnistage.cli.main import main
from omnistage.errors import InputError, TransientError
from omnistage.files import read_json, read_jsonl, write_jsonl
from omnistage.rewards.served.client import JudgeSettings
from tests.components.eval.record_kit import pair, question, verdict
from tests.rewards.served.server_kit import Answer, Server, reply


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(answer: Answer, *faults: int) -> Server:
        servers.append(Server(answer, list(faults)))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def endpoint(server: Server, **fields: Any) -> Endpoint:
    settings = JudgeSettings(first_wait=0, tries=3, concurrency=2)
    return Endpoint(server.url, "m", settings=settings, **fields)


def questions(folder: Path, count: int = 5) -> Path:
    path = folder / "records.jsonl"
    rows = [question("choice", "B", n, options=["A. x", "B. y"]) for n in range(count)]
    for row in rows:
        row["messages"] = [{"role": "user", "content": f"Question {row['id']}"}]
    write_jsonl(path, rows)
    return path


def text_of(body: dict[str, Any]) -> str:
    return body["messages"][-1]["content"]


def test_media_stand_in_the_prompt_where_their_tags_were(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    (tmp_path / "i.png").write_bytes(b"picture")
    (tmp_path / "a.wav").write_bytes(b"sound")
    row = question("choice", "B", images=["i.png"], audios=["a.wav"])
    row["messages"] = [
        {"role": "system", "content": "Answer."},
        {"role": "user", "content": r"<audio>Is <\image> shown? <image>"},
    ]
    write_jsonl(tmp_path / "records.jsonl", [row])
    server = serve(lambda body: reply("<answer>B</answer>"))
    asked = endpoint(server, api_key="secret", max_tokens=7)
    assert ask_endpoint(asked, tmp_path / "records.jsonl", tmp_path, tmp_path / "p.jsonl") == 0
    ((path, body, key),) = server.requests
    assert (path, key) == ("/chat/completions", "Bearer secret")
    assert "secret" not in repr(asked)
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0, 7)
    system, user = body["messages"]
    assert system == {"role": "system", "content": "Answer."}
    sound, text, picture = user["content"]
    assert base64.b64decode(sound["input_audio"]["data"]) == b"sound"
    assert text == {"type": "text", "text": "Is <image> shown? "}
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")


def test_a_pair_is_asked_in_both_orders_and_scored_as_any_other_models(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    records = tmp_path / "records.jsonl"
    rows = [pair(n, "image", "A") for n in (1, 2)]
    write_jsonl(records, rows)
    for row in rows:
        (tmp_path / row["images"][0]).write_bytes(b"x")
    server = serve(lambda body: reply(verdict(9, 1, "A")))  # by position
    out = tmp_path / "served.jsonl"
    assert ask_endpoint(endpoint(server), records, tmp_path, out) == 0
    assert len(server.requests) == 4
    report = score_predictions([out], tmp_path / "report", records=records).json
    metrics = report["tasks"]["judge"]["models"]["served"]["metrics"]
    assert metrics["accuracy"]["value"] == 0.5
    assert metrics["consistency"]["value"] == 0.0


def test_what_was_answered_is_not_asked_again(tmp_path: Path, serve: Callable[..., Server]) -> None:
    """Given an endpoint that goes down after three answers, and comes back."""
    records, out = questions(tmp_path), tmp_path / "p.jsonl"
    server = serve(lambda body: reply("B"), *[200] * 3, *[503] * 8)
    one = Endpoint(server.url, "m", settings=JudgeSettings(first_wait=0, tries=2, concurrency=1))
    with pytest.raises(TransientError, match="did not answer in 2 tries: HTTP 503"):
        ask_endpoint(one, records, tmp_path, out)
    assert not out.exists()
    back = serve(lambda body: reply("B"))
    again = Endpoint(back.url, "m", settings=one.settings)  # the address does not count
    assert ask_endpoint(again, records, tmp_path, out) == 0
    assert [text_of(body) for _, body, _ in back.requests] == ["Question q3", "Question q4"]
    assert [row["id"] for row in read_jsonl(out)] == [f"q{n}" for n in range(5)]
    other = Endpoint(back.url, "another", settings=one.settings)
    ask_endpoint(other, records, tmp_path, out)
    assert len(back.requests) == 7


@pytest.mark.parametrize("faults", [[0], [429], [500], [0, 200, 503]])
def test_passing_faults_are_survived(
    tmp_path: Path, serve: Callable[..., Server], faults: list[int]
) -> None:
    server = serve(lambda body: reply("B"), *faults)
    assert ask_endpoint(endpoint(server), questions(tmp_path), tmp_path, tmp_path / "p.jsonl") == 0


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_ends_the_run_at_once(
    tmp_path: Path, serve: Callable[..., Server], status: int
) -> None:
    server = serve(lambda body: reply("B"), *[status] * 9)
    with pytest.raises(InputError, match=f"refused the request: HTTP {status}"):
        ask_endpoint(endpoint(server), questions(tmp_path), tmp_path, tmp_path / "p.jsonl")
    assert len(server.requests) <= 2


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"choices": []}, "answered no chat completion"),
        ({"choices": [{"message": {"content": None}}]}, "answered no chat completion"),
        ({"error": "no"}, "answered no chat completion"),
        ([1], "answered no chat completion"),
        (b"<html>", "did not answer JSON"),
    ],
)
def test_an_answer_that_is_none_is_that_records_error_and_counts_as_wrong(
    tmp_path: Path, serve: Callable[..., Server], answer: Any, why: str
) -> None:
    bad = lambda body: answer if "q1" in text_of(body) else reply("<answer>B</answer>")  # noqa: E731
    records, out = questions(tmp_path), tmp_path / "p.jsonl"
    assert ask_endpoint(endpoint(serve(bad)), records, tmp_path, out) == 1
    report = score_predictions([out], tmp_path / "report", records=records).json
    assert report["headline"]["models"]["p"]["value"] == 0.8
    ((error),) = report["errors"]
    assert error["id"] == "q1"
    assert why in error["error"]


def test_a_refused_prompt_and_a_missing_medium_are_named(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    rows = [question("choice", "B", 1), question("choice", "B", 2, images=["none.png"])]
    rows[1]["messages"] = [{"role": "user", "content": "<image>?"}]
    write_jsonl(tmp_path / "records.jsonl", rows)
    server = serve(lambda body: reply("B"), 400)
    out = tmp_path / "p.jsonl"
    assert ask_endpoint(endpoint(server), tmp_path / "records.jsonl", tmp_path, out) == 2
    first, second = read_jsonl(out)
    assert "HTTP 400" in first["first"]["error"]
    assert second["first"]["error"] == "no file none.png"


def test_the_command_asks_and_its_predictions_are_scored(
    tmp_path: Path,
    serve: Callable[..., Server],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMNISTAGE_ENDPOINT_API_KEY", "k")
    server = serve(lambda body: reply("<answer>B</answer>"))
    records, out = questions(tmp_path), tmp_path / "served.jsonl"
    command = ["ask", "--url", server.url, "--model", "m", "--records", str(records)]
    assert main([*command, "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == ["5 of 5 answers", f"{out}: predictions of m"]
    assert server.requests[0][2] == "Bearer k"
    scored = ["eval", "--predictions", str(out), "--records", str(records)]
    assert main([*scored, "--out", str(tmp_path / "r")]) == 0
    assert read_json(tmp_path / "r" / "report.json")["headline"]["models"]["served"]["value"] == 1
    assert main([*command, "--out", str(out), "--max-tokens", "0"]) == 2


def test_samples_and_rotations_are_asked_and_scored(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    """Given a model that is right greedily and in its first sample, and says A in any order."""
    row = question("choice", "A", options=["A. yes", "B. no"])
    row["messages"] = [{"role": "user", "content": "Is it?\nA. yes\nB. no"}]
    records, out = tmp_path / "records.jsonl", tmp_path / "served.jsonl"
    write_jsonl(records, [row])
    server = serve(lambda body: reply("B" if body.get("seed", 0) > 8 else "A"))
    command = ["ask", "--url", server.url, "--model", "m", "--records", str(records)]
    command += ["--out", str(out), "--rotate-options", "--temperature", "0.7", "--seed", "7"]
    assert main([*command, "--samples", "2"]) == 0
    asked = [body for _, body, _ in server.requests]
    sampled = {b["seed"]: (b["temperature"], b["top_p"]) for b in asked if "seed" in b}
    assert sampled == {8: (0.7, 1.0), 9: (0.7, 1.0)}
    assert sorted(text_of(b) for b in asked if b["temperature"] == 0) == [
        "Is it?\nA. no\nB. yes",
        "Is it?\nA. yes\nB. no",
    ]
    assert main([*command, "--samples", "3"]) == 0
    assert len(server.requests) == 5  # only the third sample
    task = score_predictions([out], tmp_path / "r", records=records).json["tasks"]["choice"]
    assert task["sampling"]["models"]["served"]["greedy"]["value"] == 1.0
    assert task["sampling"]["models"]["served"]["mean"]["value"] == pytest.approx(1 / 3)
    assert task["positions"]["models"]["served"]["metrics"]["circular"]["value"] == 0.0
    assert main([*command, "--top-p", "0"]) == 2
