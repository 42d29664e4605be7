"""Of 200 prompts of each kind, vLLM sees and scores every one as the trainer does."""

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.download.tiny.media import SUFFIX, draw
from components.download.tiny.text import ASPECTS, SYSTEM_PROMPT, user_prompt
from components.grpo.preflight.loaded_model import LoadedModel, with_mode
from tests.on_vllm.vllm_kit import ask, draw_clip, request

COUNT = 200
BATCH = 20
KINDS = ("text", "image", "audio", "clip with sound", "mute clip")


def prompts(kind: str, folder: Path) -> list[dict[str, Any]]:
    """Return prompts whose wording, media and lengths of clips differ."""
    rng = np.random.default_rng(KINDS.index(kind))
    return [_prompt(kind, number, folder, rng) for number in range(COUNT)]


def _prompt(kind: str, number: int, folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    medium: Any = "video" if "clip" in kind else kind
    aspects = ASPECTS["image" if kind == "text" else medium]
    aspect = aspects[number % len(aspects)]
    answers = tuple(rng.permutation(aspect.answers)[:2])
    text = user_prompt(medium, f"{number}", aspect.question, answers)
    if kind == "text":
        return {"messages": _turns(text)}
    path = folder / f"{kind} {number}{SUFFIX[medium]}"
    if medium == "video":
        draw_clip(path, rng.uniform(1, 7.5), sound=kind != "mute clip", seed=number)
    else:
        traits = {a.name: int(rng.integers(len(a.answers))) for a in aspects}
        path.write_bytes(draw(medium, traits, (number,)))
    if medium == "audio" and number % 2:
        _play_faster(path, 22_050)
    return {"messages": _turns(f"<{medium}>{text}"), f"{medium}s": [str(path)]}


def _play_faster(path: Path, rate: int) -> None:
    """Give a sound another sample rate, so that it has to be resampled."""
    with wave.open(str(path)) as sound:
        samples = sound.readframes(sound.getnframes())
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, rate, 0, "NONE", ""))
        sound.writeframes(samples)


def _turns(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": text}]


def trainers_logprobs(
    loaded: LoadedModel, template: Any, asked: list[dict[str, Any]], answers: list[list[int]]
) -> tuple[list[list[int]], list[torch.Tensor]]:
    """Return the trainer's prompts, and its log-probabilities of the answers' tokens."""
    from swift.utils import to_device

    trainer = with_mode(template, "train")
    rows = []
    for record, answer in zip(asked, answers, strict=True):
        turns = [*request(record)["messages"], {"role": "assistant", "content": answer}]
        rows.append(trainer.encode({**request(record), "messages": turns}))
    with torch.inference_mode():
        batch = to_device(trainer.data_collator([dict(row) for row in rows]), "cpu")
        batch.pop("labels", None)
        _, inputs = trainer.pre_forward_hook(loaded.model, None, batch)
        scores = loaded.model(**inputs).logits.log_softmax(-1)
    found, seen = [], []
    for number, answer in enumerate(answers):
        ids = list(rows[number]["input_ids"])
        start = next(i for i, label in enumerate(rows[number]["labels"]) if label != -100)
        assert ids[start : start + len(answer)] == answer
        pad = inputs["attention_mask"].shape[1] - len(ids)
        left = pad if trainer.padding_side == "left" else 0
        where = torch.arange(start - 1, start - 1 + len(answer)) + left
        found.append(scores[number, where, torch.tensor(answer)])
        seen.append(ids[:start])
    return seen, found


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_equal_and_log_perplexities_within_rounding(
    kind: str, tmp_path: Path, engine: Any, loaded: LoadedModel, template: Any
) -> None:
    asked = prompts(kind, tmp_path)
    sampled = ask(engine, asked, temperature=1.0, max_tokens=8)
    largest = 0.0
    for first in range(0, COUNT, BATCH):
        part = slice(first, first + BATCH)
        answers = [seen.tokens for seen in sampled[part]]
        ids, scores = trainers_logprobs(loaded, template, asked[part], answers)
        assert [seen.prompt for seen in sampled[part]] == ids
        for seen, score in zip(sampled[part], scores, strict=True):
            difference = abs(float(score.mean()) - float(np.mean(seen.logprobs)))
            largest = max(largest, difference)
    assert largest <= 1e-5
