"""A reward model behind HTTP, as LMM-R1 and OpenRLHF serve it."""

import math
from collections.abc import Sequence
from typing import Any

from omnistage.errors import InputError
from omnistage.rewards.columns import column, gold_answer, prompt_text
from omnistage.rewards.served.client import (
    JudgeSettings,
    judge_settings,
    post_json,
    required_variable,
    utf8,
)
from omnistage.rewards.served.judgements import ask_all

REWARD_URL_VARIABLE = "OMNISTAGE_REWARD_URL"
_AT_ONCE = 32
"""Completions of one request."""

Question = tuple[str, str, str]
"""Prompt, completion, gold answer."""


def remote(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay what the reward server at ``OMNISTAGE_REWARD_URL`` pays, in its own range.

    Published (LMM-R1): ``POST /get_reward {query, prompts, labels}``, five tries of 180 s; the
    answer's ``rewards`` are paid.

    | case | published | here | why |
    | --- | --- | --- | --- |
    | null, NaN, too few rewards | NaN in the loss | None for null, else an error | it is seen |
    | the same completion again | asked again | kept in the store | it costs as much again |
    | a batch | one request | requests of 32, side by side | a large one times out |

    Raises:
        InputError: If the variable is not set, or as ``get_rewards`` does.
        TransientError: If the server does not answer.

    Example:
        >>> remote([])
        []
    """
    if not completions:
        return []
    url = required_variable(
        REWARD_URL_VARIABLE, "the address of the reward server, http://host:port"
    )
    size = len(completions)
    prompts = [prompt_text(messages) for messages in column(columns, "messages", size)]
    labels = [gold_answer(solution) or "" for solution in column(columns, "solution", size)]
    return get_rewards(url, prompts, completions, labels)


def get_rewards(
    url: str,
    prompts: Sequence[str],
    completions: Sequence[str],
    labels: Sequence[str],
    settings: JudgeSettings | None = None,
) -> list[float | None]:
    """Ask a server that speaks ``POST /get_reward {query, prompts, labels}`` (LMM-R1).

    Args:
        url: The server's address, with or without ``/get_reward``.
        prompts: The prompts.
        completions: The completions; a query is its prompt with its completion behind.
        labels: The gold answers, empty where there is none.
        settings: Tries, time-out, concurrency and budget; those of the environment by default.

    Returns:
        The answer's ``rewards``, in the server's own range; null is None.

    Raises:
        InputError: If the answer does not hold one finite reward a completion.
        TransientError: If the server did not answer.
    """
    settings = settings or judge_settings()
    address = url.rstrip("/").removesuffix("/get_reward") + "/get_reward"

    def ask(batch: list[Question]) -> list[float | None]:
        asked, texts, golds = zip(*batch, strict=True)
        queries = [prompt + text for prompt, text in zip(asked, texts, strict=True)]
        payload = {"query": queries, "prompts": list(asked), "labels": list(golds)}
        answer = post_json(address, payload, settings=settings)
        rewards = answer.get("rewards") if isinstance(answer, dict) else None
        if not isinstance(rewards, list) or len(rewards) != len(batch):
            raise InputError(f"{address} must answer 'rewards', a list of {len(batch)} numbers")
        return [_number(reward, address) for reward in rewards]

    texts = (list(map(utf8, column)) for column in (prompts, completions, labels))
    questions = list(zip(*texts, strict=True))
    return ask_all(questions, lambda question: [address, question], ask, settings, _AT_ONCE)


def _number(reward: object, address: str) -> float | None:
    if reward is None:
        return None
    if isinstance(reward, bool) or not isinstance(reward, int | float) or not math.isfinite(reward):
        raise InputError(f"{address} answered {reward!r} where a finite reward is needed")
    return float(reward)
