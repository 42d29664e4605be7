"""An LLM judge's scores of answers in words, where the settings name one.

Overlap of words says little of whether an answer is right. The judge is that of the rewards: it is
asked how well an answer agrees with the gold one, and what it said is kept in the store.
"""

import os
from collections.abc import Mapping, Sequence

from components.eval.grading import Graded
from components.eval.records import TestRecord
from omnistage.files import counted
from omnistage.rewards.served.chat import CONSISTENCY, LLMJudge
from omnistage.rewards.served.client import CACHE_VARIABLE, JudgeSettings

Judged = dict[str, float | None]
"""Score of each record's answer, 0 to 1, by the record's id; None where the judge named none."""


def judge_answers(
    records: Sequence[TestRecord],
    models: Mapping[str, Sequence[Graded]],
    settings: JudgeSettings,
    store: str,
) -> dict[str, Judged]:
    """Return the judge's scores by model of the ``free_form`` records.

    An answer that cannot be read, and a record without an answer, are worth 0 and not asked about.

    Args:
        records: All test records.
        models: Each model's answers, in their order.
        settings: Where the judge is and how it is asked.
        store: URI of the store, which keeps what it said.

    Raises:
        InputError: If no address or model is set, or the judge refuses.
        TransientError: If it does not answer.
    """
    asked = [(n, r) for n, r in enumerate(records) if r.task.name == "free_form"]
    if not asked:
        return {}
    os.environ.update(settings.variables())
    os.environ[CACHE_VARIABLE] = f"{store}/judgements"
    judge = LLMJudge.from_environment()
    found: dict[str, Judged] = {}
    for name, graded in models.items():
        said = {r.id: graded[n].said[0] for n, r in asked}
        golds = {r.id: r.gold for _, r in asked}
        answered = {i: text for i, text in said.items() if text}
        scores = judge.scores(CONSISTENCY, [(golds[i], text) for i, text in answered.items()])
        found[name] = {**dict.fromkeys(said, 0.0), **dict(zip(answered, scores, strict=True))}
    return found


def judge_notes(records: Sequence[TestRecord], judged: Mapping[str, Judged]) -> list[str]:
    """Return what a reader must know of what the judge did not score.

    Args:
        records: All test records.
        judged: The judge's scores by model.
    """
    if not any(record.task.name == "free_form" for record in records):
        return ["The LLM judge was not asked: no record is of the task free_form."]
    unread = {name: list(scores.values()).count(None) for name, scores in judged.items()}
    return [
        f"The LLM judge named no score for {counted(count, 'answer')} of {name}; its figure is of "
        "the others."
        for name, count in unread.items()
        if count
    ]
