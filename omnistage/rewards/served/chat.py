"""A language model behind an OpenAI-compatible endpoint: chat, and scores 0 to 5 as a judge."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from omnistage.errors import InputError
from omnistage.rewards.served.client import (
    KEY_VARIABLE,
    MODEL_VARIABLE,
    URL_VARIABLE,
    JudgeSettings,
    judge_settings,
    post_json,
    required_variable,
    utf8,
)
from omnistage.rewards.served.judgements import ask_all

_SCORE = re.compile(r"(?<![\d.])([0-5](?:\.\d{1,3})?)(?![\d.]*\d)")

CONSISTENCY = """\
Grade how well the answer agrees with the reference.
5: every fact, detail and relation agrees. 3 or 4: the core agrees, minor details differ.
1 or 2: some of it agrees, key facts differ. 0: unrelated or contradicting.
Reference: {reference}
Answer: {text}
Reply with the score, a number from 0 to 5, and nothing else."""

COVERAGE = """\
Grade how well the description covers the main points of the reference. Other wording and further
details do no harm.
5: all the core points. 4: most of them. 2: a few or only side points. 1: barely related.
0: another topic.
Reference: {reference}
Description: {text}
Reply with the score, a number from 0 to 5, and nothing else."""

RATIONALITY = """\
Grade the reasoning against the evidence it starts from. Give one point for each of these: it uses
clues from the image, video or sound; it checks or reconsiders its answer against them; its steps
follow logically; it analyses the question; it assumes nothing the evidence does not support and
does not contradict itself.
Evidence: {reference}
Reasoning: {text}
Reply with the score, a number from 0 to 5, and nothing else."""


def plain(text: str) -> str:
    """Return a text that no chat template takes for a control token: ``<|…`` becomes ``< |…``.

    Lone surrogates, which no request can carry, become question marks.
    """
    return utf8(text).replace("<|", "< |")


@dataclass(frozen=True, slots=True)
class LLMJudge:
    """A judge to ask.

    Attributes:
        url: Base address, such as ``http://host:8000/v1``.
        model: Name of the model it serves.
        api_key: Sent as a bearer token if not empty.
        settings: Concurrency, tries, time-out and budget.
    """

    url: str
    model: str
    api_key: str = ""
    settings: JudgeSettings = field(default_factory=JudgeSettings)

    @classmethod
    def from_environment(cls) -> "LLMJudge":
        """Read the judge's address, model and key from the environment.

        Raises:
            InputError: If address or model is not set.
        """
        return cls(
            required_variable(URL_VARIABLE, "the base address of the judge, http://host:port/v1"),
            required_variable(MODEL_VARIABLE, "the name of the model that judges"),
            os.environ.get(KEY_VARIABLE, "").strip(),
            judge_settings(),
        )

    def scores(self, template: str, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """Grade pairs of (reference, text), several at a time.

        Returns:
            For each pair a score from 0 to 1, or None if the judge named no number from 0 to 5.

        Raises:
            InputError: If the judge refuses or its answer has not the form of a chat completion.
            TransientError: If it does not answer.
        """
        plain_pairs = ((plain(reference), plain(text)) for reference, text in pairs)
        prompts = [template.format(reference=one, text=other) for one, other in plain_pairs]
        replies = self.replies([[{"role": "user", "content": prompt}] for prompt in prompts], 16)
        return [read_score(reply) for reply in replies]

    def replies(self, conversations: Sequence[list[dict[str, Any]]], tokens: int) -> list[str]:
        """Return the judge's greedy reply to each conversation.

        Args:
            conversations: Messages in OpenAI's form.
            tokens: Most tokens of a reply.

        Raises:
            InputError: If the judge refuses or its answer has not the form of a chat completion.
            TransientError: If it does not answer.
        """
        address = self.url.rstrip("/") + "/chat/completions"
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else None

        def body(messages: list[dict[str, Any]]) -> dict[str, Any]:
            settings = {"temperature": 0, "max_tokens": tokens}
            return {"model": self.model, "messages": messages, **settings}

        def ask(asked: list[list[dict[str, Any]]]) -> list[str]:
            answer = post_json(address, body(asked[0]), headers=headers, settings=self.settings)
            try:
                reply = answer["choices"][0]["message"]["content"]
            except (TypeError, KeyError, IndexError) as e:
                raise InputError(f"{address} did not answer with a chat completion") from e
            return [reply if isinstance(reply, str) else ""]

        return ask_all(conversations, body, ask, self.settings)


def read_score(reply: object) -> float | None:
    """Return the first number from 0 to 5 in a reply, over 5, or None.

    Example:
        >>> read_score("Score: 3.5"), read_score("none")
        (0.7, None)
    """
    match = _SCORE.search(reply) if isinstance(reply, str) else None
    return min(float(match.group(1)), 5.0) / 5.0 if match else None
