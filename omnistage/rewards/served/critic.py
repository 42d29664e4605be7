"""A judge that OmniCritic trained, as the reward of the next recipe."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omnistage.records.pairs import judge_prompt
from omnistage.records.record import TAGS
from omnistage.records.verdict import VerdictError, parse_verdict
from omnistage.rewards.columns import column, gold_answer, log_parsed, tagged, turns
from omnistage.rewards.served.chat import LLMJudge, plain
from omnistage.rewards.served.parts import media_part

_REPLY_TOKENS = 2048
_WINS = {"A": 1.0, "equal": 0.5, "B": 0.0}


def omnicritic(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for being preferred to the gold answer by a served critic, in both orders, 0 to 1.

    Not published: OmniCritic-R1 trains the judge, and this asks it. The completion's ``<answer>``
    (all of it without one) and the answer in ``solution`` are the two candidates, with the
    record's media. The reward is the mean over both orders of 1 for a win, .5 for a tie and 0 for
    a loss: a judge that prefers the first place, or says equal to everything, pays .5 to all.
    None without a gold answer, or where a verdict cannot be read. The critic is served at
    ``OMNISTAGE_JUDGE_URL`` under the name ``OMNISTAGE_JUDGE_MODEL``.

    Raises:
        InputError: If no critic is set, or it refuses.
        TransientError: If it does not answer.

    Example:
        >>> omnicritic(["a dog"], solution=[None])
        [None]
    """
    size = len(completions)
    golds = [gold_answer(solution) for solution in column(columns, "solution", size)]
    prompts = column(columns, "messages", size)
    media = [column(columns, name, size) for name in TAGS]
    conversations: list[list[dict[str, Any]]] = []
    asked: list[int] = []
    for i, (completion, gold) in enumerate(zip(completions, golds, strict=True)):
        if gold is None:
            continue
        inner = tagged(completion, "answer")
        answer = completion if inner is None else inner
        question = turns(prompts[i])[1]
        shown = dict(zip(TAGS, (items[i] for items in media), strict=True))
        for pair in ((answer, gold), (gold, answer)):
            conversations.append(_conversation(question, *pair, shown))
        asked.append(i)
    rewards: list[float | None] = [None] * size
    if not asked:
        return rewards
    replies = LLMJudge.from_environment().replies(conversations, _REPLY_TOKENS)
    winners = [read_winner(reply) for reply in replies]
    for n, i in enumerate(asked):
        first, second = winners[2 * n : 2 * n + 2]
        if first is not None and second is not None:
            rewards[i] = (_WINS[first] + 1 - _WINS[second]) / 2
    log_parsed(columns, "verdicts", _said(size, asked, winners))
    return rewards


def _said(size: int, asked: list[int], winners: list[str | None]) -> list[str]:
    said = [""] * size
    for n, i in enumerate(asked):
        said[i] = " then ".join(winner or "unreadable" for winner in winners[2 * n : 2 * n + 2])
    return said


def read_winner(reply: str) -> str | None:
    """Return ``A``, ``B`` or ``equal`` of a verdict whose scores say the same, or None.

    Example:
        >>> read_winner('{"score_A": 8, "score_B": 3, "better": "A"}')
        'A'
    """
    try:
        verdict = parse_verdict(reply)
    except VerdictError:
        return None
    return verdict.better if verdict.consistent else None


def _conversation(
    question: str, first: str, second: str, media: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return a judge's prompt with its media as OpenAI's content parts (video as vLLM's)."""
    for tag in TAGS.values():
        question, first, second = (text.replace(tag, "") for text in (question, first, second))
    system, user = judge_prompt(plain(question), plain(first), plain(second))
    parts = [
        media_part(kind, Path(item["path"] if isinstance(item, Mapping) else item))
        for kind, items in media.items()
        for item in items or ()
        if item
    ]
    return [system, {**user, "content": [*parts, {"type": "text", "text": user["content"]}]}]
