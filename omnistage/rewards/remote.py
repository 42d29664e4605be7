"""A reward model behind HTTP, as LMM-R1 and OpenRLHF serve it."""

import math
from collections.abc import Sequence
from typing import Any

from omnistage.errors import InputError
from omnistage.rewards.columns import column, gold_answer, prompt_text
from omnistage.rewards.http_json import TIMEOUT, TRIES, post_json, required_variable

URL_VARIABLE = "OMNISTAGE_REWARD_URL"


def remote(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Ask the reward server named by the environment variable ``OMNISTAGE_REWARD_URL``.

    Raises:
        InputError: If the variable is not set, or as ``get_rewards`` does.
        TransientError: If the server does not answer.
    """
    url = required_variable(URL_VARIABLE, "the address of the reward server, http://host:port")
    size = len(completions)
    prompts = [prompt_text(messages) for messages in column(columns, "messages", size)]
    labels = [gold_answer(solution) or "" for solution in column(columns, "solution", size)]
    return get_rewards(url, prompts, completions, labels)


def get_rewards(
    url: str,
    prompts: Sequence[str],
    completions: Sequence[str],
    labels: Sequence[str],
    *,
    tries: int = TRIES,
    timeout: float = TIMEOUT,
    first_wait: float = 1.0,
) -> list[float | None]:
    """Ask a server that speaks ``POST /get_reward {query, prompts, labels}`` (LMM-R1).

    Args:
        url: The server's address, with or without ``/get_reward``.
        prompts: The prompts.
        completions: The completions; a query is its prompt with its completion behind.
        labels: The gold answers, empty where there is none.
        tries: How often to ask in all.
        timeout: Seconds to wait for one answer.
        first_wait: Seconds before the second try; it doubles each time.

    Returns:
        The answer's ``rewards``, in the server's own range; null is None.

    Raises:
        InputError: If the answer does not hold one finite reward a completion.
        TransientError: If the server did not answer.
    """
    if not completions:
        return []
    address = url.rstrip("/").removesuffix("/get_reward") + "/get_reward"
    queries = [prompt + text for prompt, text in zip(prompts, completions, strict=True)]
    answer = post_json(
        address,
        {"query": queries, "prompts": list(prompts), "labels": list(labels)},
        tries=tries,
        timeout=timeout,
        first_wait=first_wait,
    )
    rewards = answer.get("rewards") if isinstance(answer, dict) else None
    if not isinstance(rewards, list) or len(rewards) != len(completions):
        raise InputError(f"{address} must answer 'rewards', a list of {len(completions)} numbers")
    return [_number(reward, address) for reward in rewards]


def _number(reward: object, address: str) -> float | None:
    if reward is None:
        return None
    if isinstance(reward, bool) or not isinstance(reward, int | float) or not math.isfinite(reward):
        raise InputError(f"{address} answered {reward!r} where a finite reward is needed")
    return float(reward)
