"""The remote reward model, against a real HTTP server on loopback."""

import threading
from collections.abc import Callable

import pytest

from omnistage.errors import InputError, TransientError
from omnistage.rewards.served.client import JudgeSettings, post_json
from omnistage.rewards.served.reward_server import get_rewards, remote
from tests.rewards.served.server_kit import AT_ONCE, Server, lengths


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

    assert get_rewards(server.url + "/get_reward/", ["p"], ["a"], [""], AT_ONCE) == [2.0]
    assert len(server.requests) == 5


def test_the_fifth_fault_ends_it(serve: Callable[..., Server]):
    server = serve(lengths, *[503] * 9)

    with pytest.raises(TransientError, match="did not answer in 5 tries: HTTP 503"):
        get_rewards(server.url, ["p"], ["a"], [""], AT_ONCE)
    assert len(server.requests) == 5


def test_a_slow_server_is_given_up(serve: Callable[..., Server]):
    release = threading.Event()
    server = serve(lambda body: release.wait(20) and lengths(body))

    with pytest.raises(TransientError, match=r"in 2 tries: .*Timeout"):
        get_rewards(
            server.url, ["p"], ["a"], [""], JudgeSettings(tries=2, timeout=0.1, first_wait=0)
        )
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
