"""The verdict a judge writes: five JSON keys that compare two candidate answers.

The format is OmniCritic-R1's (arXiv 2602.00846): ``score_A`` and ``score_B`` (integers 0 to 10),
``better`` (``A``, ``B`` or ``equal``), ``reasoning`` (``<think>…</think>``) and ``final_verdict``
(``<answer>[[A]]</answer>``). The order of the keys has no meaning.

Example:
    >>> parse_verdict('{"score_A": 8, "score_B": 3, "better": "A"}').better
    'A'
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import orjson

Better = Literal["A", "B", "equal"]

VERDICT_KEYS = ("score_A", "score_B", "better", "reasoning", "final_verdict")
BETTER: tuple[Better, ...] = ("A", "B", "equal")
MAX_SCORE = 10

_FENCE = "```"
_THINK = re.compile(r"<think>.*?</think>", re.DOTALL)
_ANSWER = re.compile(r"<answer>\[\[(A|B|equal)\]\]</answer>")
_MIRROR = {"A": "B", "B": "A"}
# A capital A or B that stands alone; the underscore of `score_A` does not make it a longer word.
_NAME = re.compile(r"(?<![^\W_])(?<![-'])([AB])(?![^\W_]|-\w)")
# A letter that is part of another name; what else is called A or B is a candidate.
_OTHER_NAME = re.compile(
    r"\b(?i:vitamin|hepatitis|influenza|plan|type|group|grade|class|section|figure|appendix|team|"
    r"block|exhibit|category|phase|channel|building|zone|gate|lane|room|blood|angle|vertex|node)s?"
    r"\s+[AB](?![^\W_]|-\w)"
)
_SENTENCE_START = re.compile(r"(?:^|[.!?:;>\n])[\s\"(*]*$")
# What follows a candidate's name and hardly ever an article: such words, and verbs ("A names it").
_AFTER_NAME = re.compile(r"\s+(?:is|can|cannot|and|or|but|also|vs|[a-z]*[^\Wsiu]s)\b")


class VerdictError(ValueError):
    """The text is not a verdict; the message says which part is missing or wrong."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judgement of candidate A against candidate B.

    Attributes:
        score_a: Score of candidate A, 0 to 10.
        score_b: Score of candidate B, 0 to 10.
        better: The winner, or ``equal``.
        reasoning: The reasoning with its ``<think>`` tags; empty when there was none.
        final_verdict: The tagged verdict; empty when there was none.
    """

    score_a: int
    score_b: int
    better: Better
    reasoning: str = ""
    final_verdict: str = ""

    @property
    def consistent(self) -> bool:
        """Whether ``better`` says what the scores say: ``equal`` means equal scores."""
        return self.better == better_of(self.score_a, self.score_b)

    def to_dict(self) -> dict[str, int | str]:
        """Return the five keys and their values, in the order of ``VERDICT_KEYS``."""
        values = (self.score_a, self.score_b, self.better, self.reasoning, self.final_verdict)
        return dict(zip(VERDICT_KEYS, values, strict=True))


def better_of(score_a: float, score_b: float) -> Better:
    """Return the candidate with the higher score, or ``equal``."""
    if score_a == score_b:
        return "equal"
    return "A" if score_a > score_b else "B"


def read_object(text: str) -> tuple[dict[str, Any], bool]:
    """Read the one JSON object a text consists of.

    A Markdown fence around the whole text (with or without ``json``) is opened; prose before or
    after the object is not tolerated.

    Returns:
        The object, and whether it stood in a fence.

    Raises:
        VerdictError: If the text is not one JSON object.
    """
    body = text.strip()
    fenced = len(body) >= 2 * len(_FENCE) and body.startswith(_FENCE) and body.endswith(_FENCE)
    if fenced:
        body = body[len(_FENCE) : -len(_FENCE)]
        if body[:4].lower() == "json":
            body = body[4:]
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as e:
        raise VerdictError(f"not JSON: {e}") from e
    if not isinstance(value, dict):
        raise VerdictError(f"a JSON object is needed, this is a {type(value).__name__}")
    return value, fenced


def read_score(value: object) -> int | None:
    """Return a score as an integer clipped to 0..10, or None if it is not a number.

    Fractions are cut off and digits in a string are read (``"8"``), as OmniCritic's content
    reward does; true and false are no scores.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = int(value)
    except (ValueError, OverflowError):
        return None
    return max(0, min(MAX_SCORE, number))


def has_exact_fields(fields: Mapping[str, Any]) -> bool:
    """Whether both scores are integers from 0 to 10 and ``better`` is one of the three values."""
    scores = (fields.get("score_A"), fields.get("score_B"))
    return (
        all(type(score) is int and 0 <= score <= MAX_SCORE for score in scores)
        and fields.get("better") in BETTER
    )


def has_think_tag(reasoning: object) -> bool:
    """Whether the reasoning is a text that starts with ``<think>…</think>``."""
    return isinstance(reasoning, str) and _THINK.match(reasoning.strip()) is not None


def verdict_letter(final_verdict: object) -> Better | None:
    """Return the letter of ``<answer>[[A]]</answer>``, or None for anything else."""
    match = _ANSWER.fullmatch(final_verdict.strip()) if isinstance(final_verdict, str) else None
    return cast(Better, match.group(1)) if match else None


def parse_verdict(text: str | Mapping[str, Any], *, strict: bool = False) -> Verdict:
    """Read a verdict.

    By default it is read as generously as a right answer deserves: inside a Markdown fence, with
    keys missing or added, scores cast to integers and clipped to 0..10; only the two scores and
    ``better`` are needed. Strict reading demands what the judge's prompt demands: no fence,
    exactly the five keys, integer scores from 0 to 10, reasoning that starts with
    ``<think>…</think>``, and a tagged verdict that agrees with ``better``.

    Whether ``better`` agrees with the scores is not checked here; see ``Verdict.consistent``.

    Args:
        text: The JSON text, or the object it holds.
        strict: Whether to refuse every departure from the format.

    Raises:
        VerdictError: If it cannot be read; the message says why.
    """
    fields, fenced = (text, False) if isinstance(text, Mapping) else read_object(text)
    if strict:
        _check_strict(fields, fenced)
    score_a, score_b = read_score(fields.get("score_A")), read_score(fields.get("score_B"))
    better = fields.get("better")
    if score_a is None or score_b is None:
        raise VerdictError("score_A and score_B must be numbers")
    if better not in BETTER:
        raise VerdictError(f"better must be A, B or equal, not {better!r}")
    reasoning, final_verdict = fields.get("reasoning"), fields.get("final_verdict")
    return Verdict(
        score_a,
        score_b,
        better,
        reasoning if isinstance(reasoning, str) else "",
        final_verdict if isinstance(final_verdict, str) else "",
    )


def _check_strict(fields: Mapping[str, Any], fenced: bool) -> None:
    if fenced:
        raise VerdictError("the JSON stands in a code fence")
    if set(fields) != set(VERDICT_KEYS):
        raise VerdictError(f"the keys must be exactly {', '.join(VERDICT_KEYS)}")
    if not has_exact_fields(fields):
        raise VerdictError("the scores must be integers from 0 to 10 and better A, B or equal")
    if not has_think_tag(fields["reasoning"]):
        raise VerdictError("reasoning must start with <think>…</think>")
    if verdict_letter(fields["final_verdict"]) != fields["better"]:
        raise VerdictError("final_verdict must be <answer>[[…]]</answer> and agree with better")


def swap(verdict: Verdict) -> Verdict:
    """Return the verdict for the same two candidates shown in the other order.

    Scores, winner, tagged verdict and the candidates' names in the reasoning are exchanged.

    Raises:
        VerdictError: If the reasoning has a letter that names something else, as in "vitamin A".
    """
    other = _OTHER_NAME.search(verdict.reasoning)
    if other:
        raise VerdictError(f"{other[0]!r} names no candidate")
    return replace(
        verdict,
        score_a=verdict.score_b,
        score_b=verdict.score_a,
        better=swap_better(verdict.better),
        reasoning=swap_names(verdict.reasoning),
        final_verdict=swap_names(verdict.final_verdict),
    )


def read_better(text: str | Mapping[str, Any]) -> Better:
    """Return the winner that a gold verdict names; a preference has no more than that.

    Raises:
        VerdictError: If it names none.
    """
    fields = text if isinstance(text, Mapping) else read_object(text)[0]
    better = fields.get("better")
    if better not in BETTER:
        raise VerdictError(f"better must be A, B or equal, not {better!r}")
    return better


def swap_json(text: str) -> str:
    """Do what ``swap`` does to a verdict's JSON text, keeping the order of its keys.

    A preference, which names the winner alone, is exchanged too.

    Raises:
        VerdictError: If the text is not a verdict.
    """
    fields, _ = read_object(text)
    if set(fields) == {"better"}:
        return json.dumps({"better": swap_better(read_better(fields))})
    swapped = swap(parse_verdict(fields)).to_dict()
    values = {key: swapped.get(key, value) for key, value in fields.items()}
    return json.dumps(values, ensure_ascii=False)


def swap_better(better: Better) -> Better:
    """Return the same winner under the exchanged names; ``equal`` stays."""
    return cast(Better, _MIRROR.get(better, better))


def swap_names(text: str) -> str:
    """Exchange the candidates' names in prose: ``Response A``, ``[[A]]``, ``score_A``, bare ``A``.

    Only capital letters are names ("answer a question" is left alone). A capital ``A`` that opens
    a sentence may be the article ("A dog barks"): it is a name if the text also speaks of ``B``
    or a verb such as *is* or *names* follows, and is left alone otherwise.
    """
    speaks_of_b = any(match.group(1) == "B" for match in _NAME.finditer(text))

    def exchange(match: re.Match[str]) -> str:
        letter = match.group(1)
        if letter == "A" and not speaks_of_b and _may_be_article(text, match):
            return letter
        return _MIRROR[letter]

    return _NAME.sub(exchange, text)


def _may_be_article(text: str, match: re.Match[str]) -> bool:
    opens_sentence = _SENTENCE_START.search(text, max(0, match.start() - 8), match.start())
    followed_by_word = re.compile(r"\s+[a-z]").match(text, match.end())
    return bool(opens_sentence and followed_by_word and not _AFTER_NAME.match(text, match.end()))
