"""Answer every prompt several times and grade the answers: the program that torchrun starts.

``python -m components.grpo.difficulty.sample SPEC``. Each process takes every n-th prompt and
appends its accuracies to ``<rank>.jsonl`` as they come; prompts that a killed run has answered are
not asked again.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import orjson
from pydantic import BaseModel

from omnistage.files import read_jsonl
from omnistage.rewards import REWARDS, RewardFunction, register
from omnistage.swift.engine import open_engine, request_of


class SampleSpec(BaseModel):
    """What the program is told."""

    model: str
    """Model folder."""
    adapter: str | None
    """LoRA adapter on top of it."""
    model_type: str
    """The model's family."""
    rows: str
    """The trainer's input file: prompts with gold columns and absolute media paths."""
    answers: str
    """Folder for the accuracies: JSONL with ``id`` and ``accuracy``."""
    reward: str
    """Its mean over a prompt's answers is the accuracy."""
    reward_code: dict[str, str]
    """The recipe's own rewards."""
    samples: int
    """Answers to each prompt."""
    batch_size: int
    """Answers sampled at once."""
    max_completion_length: int
    temperature: float
    top_p: float
    top_k: int
    dtype: str
    attn_impl: str
    seed: int


def sampled(folder: Path) -> dict[Any, float | None]:
    """Return the accuracies that are known by id; a line that a kill cut short does not count."""
    found: dict[Any, float | None] = {}
    for path in sorted(folder.glob("*.jsonl")):
        whole = path.read_bytes()
        for line in whole[: whole.rfind(b"\n") + 1].splitlines():
            row = orjson.loads(line)
            found[row["id"]] = row["accuracy"]
    return found


def accuracy(reward: RewardFunction, row: dict[str, Any], answers: Sequence[str]) -> float | None:
    """Return the mean of a reward over the answers to a prompt; None where it grades none."""
    columns = {name: [value] * len(answers) for name, value in row.items()}
    graded = [value for value in reward(answers, **columns) if value is not None]
    return fmean(graded) if graded else None


def main(spec: SampleSpec, rank: int, processes: int) -> None:
    """Ask this process's share of the prompts."""
    import torch
    from swift.infer_engine import RequestConfig

    register(spec.reward_code)
    done = sampled(Path(spec.answers))
    rows = [r for r in list(read_jsonl(Path(spec.rows)))[rank::processes] if r["id"] not in done]
    if not rows:
        return
    engine = open_engine(
        spec.model,
        spec.adapter,
        spec.model_type,
        batch_size=spec.batch_size,
        dtype=spec.dtype,
        attn_impl=spec.attn_impl,
    )
    config = RequestConfig(
        max_tokens=spec.max_completion_length,
        temperature=spec.temperature,
        top_p=spec.top_p,
        top_k=spec.top_k,
    )
    torch.manual_seed(spec.seed + rank)
    reward, at_once = REWARDS[spec.reward], max(1, spec.batch_size // spec.samples)
    path = Path(spec.answers) / f"{rank}.jsonl"
    _cut(path)
    with path.open("ab") as f:
        for first in range(0, len(rows), at_once):
            batch = rows[first : first + at_once]
            requests = [request_of(row) for row in batch for _ in range(spec.samples)]
            responses: list[Any] = engine.infer(requests, config, use_tqdm=False)
            texts = [response.choices[0].message.content for response in responses]
            for number, row in enumerate(batch):
                answers = texts[number * spec.samples : (number + 1) * spec.samples]
                seen = {"id": row["id"], "accuracy": accuracy(reward, row, answers)}
                f.write(orjson.dumps(seen) + b"\n")
            f.flush()


def _cut(path: Path) -> None:
    """Remove a last line that a kill cut short."""
    if path.exists():
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.rfind(b"\n") + 1])


if __name__ == "__main__":
    main(
        SampleSpec.model_validate_json(Path(sys.argv[1]).read_bytes()),
        int(os.environ.get("RANK", 0)),
        int(os.environ.get("WORLD_SIZE", 1)),
    )
