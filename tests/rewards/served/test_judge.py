"""The LLM judge, against a real HTTP server on loopback."""

from collections.abc import Callable

import pytest

from omnistage.errors import InputError
from omnistage.rewards import REQUIRED_VARIABLES, REWARDS
from omnistage.rewards.humanomni import humanomni_accuracy, humanomni_context, humanomni_logical
from omnistage.rewards.served.chat import CONSISTENCY, LLMJudge, read_score
from tests.rewards.served.server_kit import AT_ONCE, Server, reply


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
    judge = LLMJudge(server.url + "/v1", "judge-7b", "key", AT_ONCE)

    assert judge.scores(CONSISTENCY, [("a red dog", "x {y}"), ("b", "y")]) == [0.8, None]
    assert len(server.requests) == 3
    path, body, authorization = server.requests[0]
    assert (path, authorization) == ("/v1/chat/completions", "Bearer key")
    assert (body["model"], body["temperature"]) == ("judge-7b", 0)


def test_an_answer_that_is_no_chat_completion_is_named(serve: Callable[..., Server]):
    judge = LLMJudge(serve(lambda body: {"choices": []}).url, "m")

    with pytest.raises(InputError, match="did not answer with a chat completion"):
        judge.scores(CONSISTENCY, [("a", "b")])


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
