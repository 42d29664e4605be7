"""Having a judge pick the best of the samples of each record, in a pairwise knock-out.

All records are in a contest at a time: each round asks the judge about the next pair of every
contest that is not over, so that there are at most N − 1 rounds, however many records there are.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.eval.grading import Graded
from components.eval.metrics.best_of_n import rounds
from components.eval.records import TestRecord
from omnistage.records.pairs import judge_prompt
from omnistage.records.plain_text import escape_tags
from omnistage.records.record import MEDIA, prompt_of
from omnistage.records.verdict import Better, VerdictError, parse_verdict

Prompt = dict[str, Any]
Asked = Callable[[list[Prompt]], Mapping[str, Mapping[str, Any]]]
"""Has the judge answer prompts; returns ``text`` or ``error`` by their ids."""


@dataclass(slots=True)
class _Contest:
    record: TestRecord
    game: Generator[tuple[str, str], Better | None, int]
    pair: tuple[str, str] | None = None
    winner: int = 0

    def go_on(self, verdict: Better | None = None) -> None:
        try:
            self.pair = next(self.game) if self.pair is None else self.game.send(verdict)
        except StopIteration as end:
            self.pair, self.winner = None, end.value


def best_of(
    records: Sequence[TestRecord], samples: Sequence[Sequence[Graded]], ask: Asked, *, strict: bool
) -> list[Graded]:
    """Return the sample of each record that the judge picks.

    Records that are pairs to judge themselves have no single answer to compare and are left out,
    as are those with an error.

    Args:
        records: All test records.
        samples: A model's answers of each sample, in their order.
        ask: Asks the judge.
        strict: Whether a verdict must have all of the five keys.
    """
    contests = {
        record.id: _Contest(record, rounds([sample[i].answers[0].text for sample in samples]))
        for i, record in enumerate(records)
        if record.task.name != "judge" and record.error is None
    }
    for contest in contests.values():
        contest.go_on()
    number = 0
    while open_ := {i: c for i, c in contests.items() if c.pair is not None}:
        number += 1
        prompts = {f"best {number}\n{i}": (i, _prompt(c)) for i, c in open_.items()}
        replies = ask([{"id": name, **prompt} for name, (_, prompt) in prompts.items()])
        for name, (i, _) in prompts.items():
            contests[i].go_on(_verdict(replies[name], strict))
    return [
        samples[contests[record.id].winner][i]
        for i, record in enumerate(records)
        if record.id in contests
    ]


def _prompt(contest: _Contest) -> Prompt:
    """Return the question, its media where they stand in it, and the two samples."""
    row = contest.record.row
    asked = [m["content"] for m in prompt_of(dict(row)) if m["role"] == "user"]
    assert contest.pair
    first, second = (escape_tags(text) or "(no answer)" for text in contest.pair)
    messages = judge_prompt("\n".join(asked), first, second)
    return {"messages": messages, **{kind: row[kind] for kind in MEDIA if row.get(kind)}}


def _verdict(reply: Mapping[str, Any], strict: bool) -> Better | None:
    try:
        return parse_verdict(reply.get("text") or "", strict=strict).better
    except VerdictError:
        return None
