"""Evaluation: base, SFT and GRPO model on the same test records, and the report."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.eval.report.data import (
    Answer,
    EvalRecord,
    Judgement,
)
from omnistage.errors import InputError, StageFailedError
from omnistage.records.pairs import candidates, find_candidates, swap_candidates
from omnistage.records.record import MEDIA, modality_of, prompt_of
from omnistage.records.training_data import with_media_root
from omnistage.records.verdict import (
    VerdictError,
    parse_verdict,
    read_better,
    swap_better,
    swap_json,
)
from omnistage.rewards import REWARDS

SWAPPED = "#swapped"


def read_test_records(
    path: Path, root: Path, model: Path, most: int | None
) -> list[dict[str, Any]]:
    """Return the test records with absolute media paths.

    Raises:
        InputError: If there is none, or one is not a pair to judge.
    """
    rows = []
    for number, row in enumerate(with_media_root(path, root, model), 1):
        if row["task"] != "judge" or candidates(prompt_of(row)) is None:
            raise InputError(
                f"{path}:{number} ({row['id']}): task {row['task']!r} without two candidates; this "
                "stage evaluates pairwise judging"
            )
        rows.append(row)
        if len(rows) == most:
            break
    if not rows:
        raise InputError(f"{path}: no test records; eval needs a test split")
    return rows


def prompts_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return two prompts a record, in its own order and with the candidates exchanged.

    They are grouped by medium, so that a batch needs little padding.
    """
    prompts = []
    for row in rows:
        media = {k: row[k] for k in MEDIA if row.get(k)}
        messages = prompt_of(dict(row))
        prompts.append({"id": row["id"], "messages": messages, **media})
        swapped = swap_candidates(messages, row["id"])
        prompts.append({"id": row["id"] + SWAPPED, "messages": swapped, **media})
    return sorted(prompts, key=lambda p: [k in p for k in MEDIA])


def judgements_of(
    rows: Sequence[Mapping[str, Any]], answers: Mapping[str, str], rewards: Sequence[str]
) -> list[Judgement]:
    """Grade a model's answers.

    A reward is the mean over both orders, each graded against the gold verdict for its own order.

    Args:
        rows: The test records.
        answers: Text by prompt id.
        rewards: Names of the rewards.

    Raises:
        StageFailedError: If an answer is missing.
    """
    missing = [r["id"] for r in rows for s in ("", SWAPPED) if r["id"] + s not in answers]
    if missing:
        raise StageFailedError(f"{len(missing)} answers are missing, the first of {missing[0]}")
    columns = {k: [row.get(k) for row in rows] for k in ("solution", "messages", "cmp_gt")}
    mirrored = {**columns, "solution": [swap_json(row["solution"]) for row in rows]}
    graded: dict[str, list[float | None]] = {}
    for name in rewards:
        first = REWARDS[name]([answers[r["id"]] for r in rows], **columns)
        second = REWARDS[name]([answers[r["id"] + SWAPPED] for r in rows], **mirrored)
        graded[name] = [
            None if a is None or b is None else (a + b) / 2
            for a, b in zip(first, second, strict=True)
        ]
    return [
        Judgement(
            id=row["id"],
            modality=modality_of(row),
            gold=read_better(row["solution"]),
            first=_answer(answers[row["id"]], mirrored=False),
            second=_answer(answers[row["id"] + SWAPPED], mirrored=True),
            rewards={name: graded[name][n] for name in rewards},
        )
        for n, row in enumerate(rows)
    ]


def _answer(text: str, *, mirrored: bool) -> Answer:
    try:
        verdict = parse_verdict(text, strict=True)
    except VerdictError:
        return Answer(text=text, valid=False, better=None)
    better = swap_better(verdict.better) if mirrored else verdict.better
    return Answer(text=text, valid=True, better=better)


def report_record(row: Mapping[str, Any]) -> EvalRecord:
    """Return a test record as the report shows it."""
    pair = candidates(prompt_of(dict(row)))
    assert pair is not None  # read_test_records has checked it
    user = next(m["content"] for m in prompt_of(dict(row)) if find_candidates(m["content"]))
    kind = next((k for k in ("videos", "images", "audios") if row.get(k)), None)
    asked = re.search(r"^Question:[ \t]*(.+)$", user, re.MULTILINE)
    found = find_candidates(user)
    before = user[: found.first[0]] if found else user
    question = asked[1] if asked else re.sub(r"<(image|audio|video)>", "", before).strip()
    return EvalRecord(
        id=row["id"],
        modality=modality_of(row),
        question=question,
        response_a=pair[0],
        response_b=pair[1],
        gold=read_better(row["solution"]),
        media=Path(row[kind][0]) if kind else Path(),
        media_type={"videos": "video", "audios": "audio"}.get(kind or "", "image"),  # pyright: ignore[reportArgumentType]
    )
