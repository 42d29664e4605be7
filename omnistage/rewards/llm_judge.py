"""A language model as judge, behind an OpenAI-compatible endpoint: scores 0 to 5, over 5."""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from omnistage.errors import InputError
from omnistage.rewards.http_json import TIMEOUT, TRIES, post_json, required_variable

URL_VARIABLE = "OMNISTAGE_JUDGE_URL"
MODEL_VARIABLE = "OMNISTAGE_JUDGE_MODEL"
KEY_VARIABLE = "OMNISTAGE_JUDGE_API_KEY"
_SIDE_BY_SIDE = 8
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


@dataclass(frozen=True, slots=True)
class LLMJudge:
    """A judge to ask.

    Attributes:
        url: Base address, such as ``http://host:8000/v1``.
        model: Name of the model it serves.
        api_key: Sent as a bearer token if not empty.
        tries: How often to ask in all.
        timeout: Seconds to wait for one answer.
        first_wait: Seconds before the second try; it doubles each time.
    """

    url: str
    model: str
    api_key: str = ""
    tries: int = TRIES
    timeout: float = TIMEOUT
    first_wait: float = 1.0

    @classmethod
    def from_environment(cls) -> "LLMJudge":
        """Read ``OMNISTAGE_JUDGE_URL``, ``OMNISTAGE_JUDGE_MODEL`` and ``OMNISTAGE_JUDGE_API_KEY``.

        Raises:
            InputError: If one of the first two is not set.
        """
        return cls(
            required_variable(URL_VARIABLE, "the base address of the judge, http://host:port/v1"),
            required_variable(MODEL_VARIABLE, "the name of the model that judges"),
            os.environ.get(KEY_VARIABLE, "").strip(),
        )

    def scores(self, template: str, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """Grade pairs of (reference, text), several at a time.

        Returns:
            For each pair a score from 0 to 1, or None if the judge named no number from 0 to 5.

        Raises:
            InputError: If the judge refuses or its answer has not the form of a chat completion.
            TransientError: If it does not answer.
        """
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            return list(pool.map(lambda pair: self._score(template, *pair), pairs))

    def _score(self, template: str, reference: str, text: str) -> float | None:
        prompt = template.format(reference=reference, text=text)
        address = self.url.rstrip("/") + "/chat/completions"
        answer = post_json(
            address,
            {
                "model": self.model,
                "messages": [{"role": "user", "content": prompt}],
                "temperature": 0,
                "max_tokens": 16,
            },
            headers={"Authorization": f"Bearer {self.api_key}"} if self.api_key else None,
            tries=self.tries,
            timeout=self.timeout,
            first_wait=self.first_wait,
        )
        try:
            reply = answer["choices"][0]["message"]["content"]
        except (TypeError, KeyError, IndexError) as e:
            raise InputError(f"{address} did not answer with a chat completion") from e
        return read_score(reply)


def read_score(reply: object) -> float | None:
    """Return the first number from 0 to 5 in a reply, over 5, or None."""
    match = _SCORE.search(reply) if isinstance(reply, str) else None
    return min(float(match.group(1)), 5.0) / 5.0 if match else None
