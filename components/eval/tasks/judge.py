"""Judging which of two candidate answers is better; each pair is shown in both orders."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import cast

from components.eval.metrics.bootstrap import Ratio
from components.eval.metrics.judging import Pair, judge_metrics
from components.eval.tasks.task import Prompt, Record, Said, Shown, Task, Ungradable
from omnistage.records.pairs import candidates, find_candidates, media_order, swap_candidates
from omnistage.records.record import prompt_of
from omnistage.records.verdict import (
    BETTER,
    Better,
    VerdictError,
    better_of,
    parse_verdict,
    read_better,
    swap_better,
    swap_json,
)


def _prompts(record: Record) -> list[Prompt]:
    messages = prompt_of(dict(record))
    swapped = swap_candidates(messages, record["id"])
    try:
        mirrored = swap_json(record["solution"])
    except VerdictError as e:
        raise Ungradable(f"the gold verdict cannot be read: {e}") from e
    return [
        Prompt(messages, record["solution"]),
        Prompt(swapped, mirrored, media_order(messages)),
    ]


def _gold(record: Record) -> Better:
    try:
        return read_better(record["solution"])
    except VerdictError as e:
        raise Ungradable(f"the gold verdict cannot be read: {e}") from e


def _read(record: Record, text: str, order: int, strict: bool) -> Better | None:
    try:
        better = parse_verdict(text, strict=strict).better
    except VerdictError:
        return None
    return swap_better(better) if order else better


def _metrics(golds: Sequence[str], said: Sequence[Said]) -> Mapping[str, Ratio]:
    return judge_metrics(cast(Sequence[Better], golds), cast(Sequence[Pair], said))


def _constants(golds: Sequence[str]) -> Mapping[str, list[Said]]:
    """Return what each constant baseline says of every pair.

    ``always A`` and ``always B`` mean the candidate that the data set calls so, in both orders:
    what a label set leaks. ``always first shown`` writes the letter A whatever is shown: right in
    one order of every pair that has a winner, so .5 when there are no ties. ``majority label``
    names the most frequent gold label of these very pairs (the first of A, B, equal among equals).
    """
    counts = Counter(golds)
    majority = max(BETTER, key=lambda label: counts[label])
    both = {"always A": "A", "always B": "B", "always equal": "equal", "majority label": majority}
    said: dict[str, list[Said]] = {n: [(v, v)] * len(golds) for n, v in both.items()}
    return {**said, "always first shown": [("A", swap_better("A"))] * len(golds)}


def _longer(records: Sequence[Record]) -> Mapping[str, list[Said]]:
    """Return the baseline that names the candidate with more characters, ``equal`` for as many."""
    said: list[Said] = []
    for record in records:
        pair = candidates(prompt_of(dict(record))) or ("", "")
        longer = better_of(len(pair[0]), len(pair[1]))
        said.append((longer, longer))
    return {"longer answer": said}


def _show(record: Record) -> Shown:
    messages = prompt_of(dict(record))
    pair = candidates(messages) or ("", "")
    user = next((m["content"] for m in messages if find_candidates(m["content"])), "")
    asked = re.search(r"^Question:[ \t]*(.+)$", user, re.MULTILINE)
    found = find_candidates(user)
    before = user[: found.first[0]] if found else user
    question = asked[1] if asked else re.sub(r"<(image|audio|video)>", "", before).strip()
    return Shown(question, [("A", pair[0]), ("B", pair[1])], _gold(record))


TASK = Task(
    name="judge",
    title="Pairwise judging",
    about="Accuracy is the share of answers that name the better response, over both orders of "
    "every pair; an answer without a valid verdict is wrong.",
    headline="accuracy",
    gold=_gold,
    read=_read,
    score=lambda gold, said: float(gold == said),
    metrics=_metrics,
    prompts=_prompts,
    constants=_constants,
    baselines=_longer,
    show=_show,
    labels=True,
)
