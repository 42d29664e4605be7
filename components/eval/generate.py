"""Generate a verdict for every prompt with every model: the program that torchrun starts.

``python -m components.eval.generate SPEC``, see :class:`JudgeSpec`. Each process takes every n-th
prompt and appends its answers to ``<model>.<rank>.jsonl``; prompts that a killed run has answered
are not asked again.
"""

import os
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from omnistage.files import read_jsonl
from omnistage.swift.family import family_named

MEDIA = ("images", "audios", "videos")


class JudgedModel(BaseModel):
    """A model to ask."""

    name: Literal["base", "sft", "grpo"]
    model: str
    """Model folder."""
    adapter: str | None = None
    """LoRA adapter on top of it."""


class JudgeSpec(BaseModel):
    """What the program is told."""

    models: list[JudgedModel]
    prompts: str
    """JSONL with ``id``, ``messages`` and media with absolute paths; ids are unique."""
    answers: str
    """Folder for the answers: JSONL with ``id`` and ``text``."""
    batch_size: int
    max_completion_length: int
    dtype: str
    attn_impl: str
    model_type: str
    """Family of the models, the ``model_type`` of ``config.json``."""


def answered(folder: Path, model: str) -> dict[str, str]:
    """Return the answers of a model by prompt id; a line that a kill cut short does not count."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob(f"{model}.*.jsonl")):
        whole = path.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end != len(whole):
            path.write_bytes(whole[:end])
        found.update((row["id"], row["text"]) for row in read_jsonl(path))
    return found


def main(spec: JudgeSpec, rank: int, processes: int) -> None:
    """Ask every model for this process's share of the prompts."""
    import orjson
    import torch
    from swift.infer_engine import InferRequest, RequestConfig, TransformersEngine

    prompts = list(read_jsonl(Path(spec.prompts)))[rank::processes]
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    family = family_named(spec.model_type, "eval")
    config = RequestConfig(max_tokens=spec.max_completion_length, temperature=0)
    for model in spec.models:
        done = answered(Path(spec.answers), model.name)
        left = [p for p in prompts if p["id"] not in done]
        if not left:
            continue
        engine = TransformersEngine(
            model.model,
            adapters=[model.adapter] if model.adapter else None,
            max_batch_size=spec.batch_size,
            torch_dtype=getattr(torch, spec.dtype),
            attn_impl=spec.attn_impl,
            model_type=family.model_type,
            template_type=family.template,
            device_map=device,
        )
        with (Path(spec.answers) / f"{model.name}.{rank}.jsonl").open("ab") as f:
            for start in range(0, len(left), spec.batch_size):
                batch = left[start : start + spec.batch_size]
                requests = [_request(InferRequest, p) for p in batch]
                responses: list[Any] = engine.infer(requests, config, use_tqdm=False)
                for prompt, response in zip(batch, responses, strict=True):
                    text = response.choices[0].message.content
                    f.write(orjson.dumps({"id": prompt["id"], "text": text}) + b"\n")
                f.flush()
        del engine


def _request(cls: Any, prompt: dict[str, Any]) -> Any:
    return cls(messages=prompt["messages"], **{k: prompt.get(k, []) for k in MEDIA})


if __name__ == "__main__":
    main(
        JudgeSpec.model_validate_json(Path(sys.argv[1]).read_bytes()),
        int(os.environ.get("RANK", 0)),
        int(os.environ.get("WORLD_SIZE", 1)),
    )
