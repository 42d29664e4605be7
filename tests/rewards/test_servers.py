"""The rewards that ask a server, against a real HTTP server on loopback."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from omnistage.errors import InputError, TransientError
from omnistage.rewards import REQUIRED_VARIABLES, REWARDS
from omnistage.rewards.http_json import post_json
from omnistage.rewards.humanomni import humanomni_accuracy, humanomni_context, humanomni_logical
from omnistage.rewards.llm_judge import CONSISTENCY, LLMJudge, read_score
from omnistage.rewards.remote import get_rewards, remote

Answer = Callable[[dict[str, Any]], Any]


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: a client that gives up waiting is part of the tests."""


class Server:
    """Answers POST requests with ``answer`` after the first ``faults`` were answered in turn."""

    def __init__(self, answer: Answer, faults: list[int]) -> None:
        self.requests: list[tuple[str, dict[str, Any], str | None]] = []
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    server.requests.append((self.path, body, self.headers["Authorization"]))
                    status = faults.pop(0) if faults else 200
                if status == 0:  # a dropped connection
                    self.close_connection = True
                    return
                content = answer(body) if status == 200 else {"error": "busy"}
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Keep the test's output clean."""

        self._http = QuietServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(answer: Answer, *faults: int) -> Server:
        servers.append(Server(answer, list(faults)))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def lengths(body: dict[str, Any]) -> dict[str, list[float]]:
    return {"rewards": [float(len(q)) for q in body["query"]], "acc_rewards": []}


# The remote reward model


def test_rewards_come_back_in_order(serve: Callable[..., Server]):
    server = serve(lengths)

    assert get_rewards(server.url, ["p", "pp"], ["a", "bbb"], ["1", "2"]) == [2.0, 5.0]
    assert server.requests == [
        (
            "/get_reward",
            {"query": ["pa", "ppbbb"], "prompts": ["p", "pp"], "labels": ["1", "2"]},
            None,
        )
    ]


def test_four_transient_errors_are_survived(serve: Callable[..., Server]):
    server = serve(lengths, 503, 0, 429, 500)

    assert get_rewards(server.url + "/get_reward/", ["p"], ["a"], [""], first_wait=0) == [2.0]
    assert len(server.requests) == 5


def test_the_fifth_fault_ends_it(serve: Callable[..., Server]):
    server = serve(lengths, *[503] * 9)

    with pytest.raises(TransientError, match="did not answer in 5 tries; the last fault: HTTP 503"):
        get_rewards(server.url, ["p"], ["a"], [""], first_wait=0)
    assert len(server.requests) == 5


def test_a_slow_server_is_given_up(serve: Callable[..., Server]):
    release = threading.Event()
    server = serve(lambda body: release.wait(20) and lengths(body))

    with pytest.raises(TransientError, match=r"the last fault: .*Timeout"):
        get_rewards(server.url, ["p"], ["a"], [""], tries=2, timeout=0.1, first_wait=0)
    release.set()


def test_a_refusal_is_not_tried_again(serve: Callable[..., Server]):
    server = serve(lengths, 404)

    with pytest.raises(InputError, match="refused the request: HTTP 404"):
        get_rewards(server.url, ["p"], ["a"], [""])
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"<html>", "did not answer JSON"),
        ([1.0], "a list of 1 numbers"),
        ({"rewards": []}, "a list of 1 numbers"),
        ({"rewards": ["high"]}, "'high' where a finite reward is needed"),
        (b'{"rewards": [NaN]}', "nan where a finite reward is needed"),
    ],
)
def test_a_wrong_answer_is_named(serve: Callable[..., Server], content: object, why: str):
    with pytest.raises(InputError, match=why):
        get_rewards(serve(lambda body: content).url, ["p"], ["a"], [""])


def test_null_leaves_a_sample_out_and_no_completion_asks_nobody(serve: Callable[..., Server]):
    server = serve(lambda body: {"rewards": [None]})

    assert get_rewards(server.url, ["p"], ["a"], [""]) == [None]
    assert get_rewards("http://127.0.0.1:9", [], [], []) == []


def test_the_reward_takes_prompts_and_labels_from_the_columns(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
):
    server = serve(lengths)
    monkeypatch.setenv("OMNISTAGE_REWARD_URL", server.url)
    messages = [[{"role": "user", "content": "1+1?"}], None]

    assert remote(["2", "3"], messages=messages, solution=["$2$", None]) == [5.0, 1.0]
    assert server.requests[0][1]["labels"] == ["$2$", ""]


def test_an_address_that_is_none_is_refused():
    with pytest.raises(InputError, match="not an address"):
        post_json("ftp://example", {})


# The LLM judge


def reply(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("4", 0.8),
        ("Score: 3.5", 0.7),
        ("**5**/5", 1.0),
        ("0", 0.0),
        ("none", None),
        ("10", None),
        ("-", None),
        ("", None),
        (None, None),
    ],
)
def test_the_score_is_the_first_number_from_0_to_5(text: str | None, score: float | None):
    assert read_score(text) == (None if score is None else pytest.approx(score))


def test_the_judge_is_asked_once_for_each_pair(serve: Callable[..., Server]):
    server = serve(
        lambda body: reply("4" if "red dog" in body["messages"][0]["content"] else "hm"), 429
    )
    judge = LLMJudge(server.url + "/v1", "judge-7b", "key", first_wait=0)

    assert judge.scores(CONSISTENCY, [("a red dog", "x {y}"), ("b", "y")]) == [0.8, None]
    assert len(server.requests) == 3
    path, body, authorization = server.requests[0]
    assert (path, authorization) == ("/v1/chat/completions", "Bearer key")
    assert (body["model"], body["temperature"]) == ("judge-7b", 0)


def test_an_answer_that_is_no_chat_completion_is_named(serve: Callable[..., Server]):
    judge = LLMJudge(serve(lambda body: {"choices": []}).url, "m")

    with pytest.raises(InputError, match="did not answer with a chat completion"):
        judge.scores(CONSISTENCY, [("a", "b")])


@pytest.fixture
def judge_says_three(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    server = serve(lambda body: reply("3"))
    monkeypatch.setenv("OMNISTAGE_JUDGE_URL", server.url)
    monkeypatch.setenv("OMNISTAGE_JUDGE_MODEL", "judge")
    return server


def test_free_form_answers_are_judged_beside_the_others(judge_says_three: Server):
    rewards = humanomni_accuracy(
        ["<answer>a dog</answer>", "<answer>B</answer>", "no tag", "<answer>x</answer>"],
        solution=["the dog", "B", "the dog", None],
        problem_type=["free-form", "multiple choice", "free-form", "free-form"],
    )

    assert rewards == [0.6, 1.0, 0.0, None]
    assert len(judge_says_three.requests) == 1


def test_context_is_judged_against_the_solutions_context(judge_says_three: Server):
    gold = "<context>a dog</context>"

    rewards = humanomni_context(["<context>dog</context>", "dog", "x"], solution=[gold, gold, "y"])

    assert rewards == [0.6, 0.0, None]
    prompt = judge_says_three.requests[0][1]["messages"][0]["content"]
    assert "Reference: a dog\nDescription: dog\n" in prompt


def test_reasoning_is_judged_against_its_own_context(judge_says_three: Server):
    both = "<context>a dog</context><think>It barks.</think>"

    assert humanomni_logical([both, "<think>It barks.</think>"]) == [0.6, 0.0]
    assert len(judge_says_three.requests) == 1


@pytest.mark.parametrize("name", sorted(REQUIRED_VARIABLES))
def test_a_missing_address_is_named(name: str, monkeypatch: pytest.MonkeyPatch):
    for variable in REQUIRED_VARIABLES[name]:
        monkeypatch.delenv(variable, raising=False)
    text = "<context>c</context><think>t</think><answer>a</answer>"

    with pytest.raises(InputError, match=f"set {REQUIRED_VARIABLES[name][0]} to"):
        REWARDS[name]([text], solution=[text])
