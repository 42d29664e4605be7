"""The same prompts answered several times at a temperature, for pass@k and self-consistency."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.eval.grading import Graded
from components.eval.records import TestRecord
from omnistage.files import write_jsonl

Prompt = dict[str, Any]


def sampled_prompts(
    prompts: Sequence[Prompt], count: int, temperature: float, top_p: float, seed: int
) -> list[Prompt]:
    """Return every prompt ``count`` times, with ids that :func:`sampled_answers` knows.

    Args:
        prompts: With ``id``, ``messages`` and media.
        count: Samples of each.
        temperature: Over 0; 1 samples the model's own distribution.
        top_p: Only of the most likely tokens that have this probability together.
        seed: Of all of them.

    Returns:
        The prompts, each with how it is to be decoded under ``sampling``.
    """
    decoding = {"temperature": temperature, "top_p": top_p, "seed": seed}
    return [
        {**prompt, "id": _sample_id(n, prompt["id"]), "sampling": {"number": n, **decoding}}
        for n in range(1, count + 1)
        for prompt in prompts
    ]


def sampled_answers(
    number: int, records: Sequence[TestRecord], answers: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the answers of the sample of this number, from 1, by the id of the prompt itself.

    Args:
        number: Of the sample.
        records: All test records.
        answers: A model's answers by prompt id, those to :func:`sampled_prompts` among them.
    """
    return {
        i: answers[_sample_id(number, i)]
        for record in records
        if record.error is None
        for i in record.prompt_ids
        if _sample_id(number, i) in answers
    }


def write_samples(
    path: Path, records: Sequence[TestRecord], samples: Sequence[Sequence[Graded]]
) -> None:
    """Write the graded answers of a model's samples: the line of a judgement, with ``sample``.

    Args:
        path: The file.
        records: All test records.
        samples: A model's answers of each sample.
    """
    by_id = {record.id: record for record in records}
    rows = (
        {"sample": number, **g.row(by_id[g.id])}
        for number, graded in enumerate(samples, 1)
        for g in graded
    )
    write_jsonl(path, rows)


def _sample_id(number: int, prompt_id: str) -> str:
    return f"sample {number}\n{prompt_id}"
