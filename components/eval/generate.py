"""Generate an answer to every prompt with every model: the program that torchrun starts.

``python -m components.eval.generate SPEC``, see :class:`JudgeSpec`. Each process takes every n-th
prompt and appends its answers to ``<rank>.jsonl`` in the model's folder as they come; prompts that
a killed run has answered are not asked again. A prompt that cannot be answered, because its medium
cannot be read or it is too long, gets a row that says why.
"""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel

from omnistage.files import check_readable, read_jsonl
from omnistage.records.record import MEDIA
from omnistage.swift.engine import open_engine, request_of

Row = dict[str, Any]
_MESSAGE = 300  # characters of an error kept
_WHOLE_VOCABULARY = 1_000_000


class JudgedModel(BaseModel):
    """A model to ask."""

    name: str
    """Its step in the recipe, or ``base``."""
    model: str
    """Model folder."""
    adapter: str | None = None
    """LoRA adapter on top of it."""
    digests: list[str] = []
    """Content digests of the artifacts it is made of."""
    answers: str = ""
    """Folder for its answers: JSONL with ``id``, and ``text`` or ``error``."""


class JudgeSpec(BaseModel):
    """What the program is told."""

    models: list[JudgedModel]
    prompts: str
    """JSONL with ``id``, ``messages`` and media with absolute paths; ids are unique. ``sampling``
    has ``temperature``, ``top_p`` and ``seed`` of a prompt that is not answered greedily."""
    batch_size: int
    max_completion_length: int
    dtype: str
    attn_impl: str
    model_type: str
    """Family of the models, the ``model_type`` of ``config.json``."""


def answered(folder: Path) -> dict[str, Row]:
    """Return a model's answers by prompt id; a line that a kill cut short is removed."""
    found: dict[str, Row] = {}
    for path in sorted(folder.glob("*.jsonl")):
        whole = path.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end != len(whole):
            with path.open("r+b") as f:
                f.truncate(end)
        found.update((row["id"], row) for row in read_jsonl(path))
    return found


def answer_all(
    prompts: Sequence[Row],
    ask: Callable[[Sequence[Row]], Sequence[str | Exception]],
    target: Path,
    batch_size: int,
) -> None:
    """Ask batch by batch and append a row for each prompt to ``target``.

    Args:
        prompts: The prompts that have no answer yet.
        ask: Answers a batch; an exception in its result is about that prompt alone. When it
            raises one, the prompts of the batch are asked one by one.
        target: Where the rows go.
        batch_size: Prompts asked at once.
    """
    with target.open("ab") as f:
        for start in range(0, len(prompts), batch_size):
            batch = prompts[start : start + batch_size]
            for prompt, answer in zip(batch, _each(batch, ask), strict=True):
                if not isinstance(answer, str):
                    check_readable(path for kind in MEDIA for path in prompt.get(kind) or ())
                what = {"text": answer} if isinstance(answer, str) else {"error": _told(answer)}
                f.write(orjson.dumps({"id": prompt["id"], **what}) + b"\n")
            f.flush()


def _each(
    batch: Sequence[Row], ask: Callable[[Sequence[Row]], Sequence[str | Exception]]
) -> Sequence[str | Exception]:
    try:
        return ask(batch)
    except MemoryError:
        raise
    except Exception as e:
        # Of out-of-memory errors no record is to blame: the run fails, and goes on after a change.
        if "out of memory" in str(e):
            raise
        return [e] if len(batch) == 1 else [_each([prompt], ask)[0] for prompt in batch]


def _told(error: Exception) -> str:
    """Return an error in one line, without folders of this machine."""
    lines = str(error).strip().splitlines()
    text = re.sub(r"/(?:[^\s/'\"]+/)+", "", lines[-1]) if lines else ""
    return f"{type(error).__name__}: {text}"[:_MESSAGE]


def main(spec: JudgeSpec, rank: int, processes: int) -> None:
    """Ask every model for this process's share of the prompts."""
    import torch
    from swift.infer_engine import RequestConfig

    prompts = list(read_jsonl(Path(spec.prompts)))[rank::processes]
    for model in spec.models:
        done = answered(Path(model.answers))
        left = [p for p in prompts if p["id"] not in done]
        if not left:
            continue
        engine = open_engine(
            model.model,
            model.adapter,
            spec.model_type,
            batch_size=spec.batch_size,
            dtype=spec.dtype,
            attn_impl=spec.attn_impl,
        )
        # A prompt that cannot be encoded comes back as its exception; ms-swift reads the attribute
        # but declares it nowhere.
        setattr(engine, "strict", False)  # noqa: B010

        def ask(batch: Sequence[Row], engine: Any = engine) -> list[str | Exception]:
            requests = [request_of(prompt) for prompt in batch]
            config = RequestConfig(max_tokens=spec.max_completion_length, **decoding_of(batch))
            torch.manual_seed(_seed(batch))
            responses: list[Any] = engine.infer(requests, config, use_tqdm=False)
            return [
                r if isinstance(r, Exception) else r.choices[0].message.content for r in responses
            ]

        target = Path(model.answers) / f"{rank}.jsonl"
        greedy = [p for p in left if "sampling" not in p]
        for part in (greedy, [p for p in left if "sampling" in p]):  # no batch is of both
            answer_all(part, ask, target, spec.batch_size)
        del engine, ask


def decoding_of(batch: Sequence[Row]) -> dict[str, Any]:
    """Return how a batch is decoded: greedily, or sampled from all tokens but for ``top_p``.

    Of a ``top_k`` that is not set, ms-swift takes the one in the model's own settings.
    """
    sampling = batch[0].get("sampling")
    if not sampling:
        return {"temperature": 0}
    whole = {"top_k": _WHOLE_VOCABULARY}
    return {"temperature": sampling["temperature"], "top_p": sampling["top_p"], **whole}


def _seed(batch: Sequence[Row]) -> int:
    """Return the seed of a batch; batches differ, and the same batch is answered the same again."""
    ids = [[prompt["id"], prompt.get("sampling", {}).get("seed")] for prompt in batch]
    return int(hashlib.sha256(orjson.dumps(ids)).hexdigest()[:8], 16)


if __name__ == "__main__":
    main(
        JudgeSpec.model_validate_json(Path(sys.argv[1]).read_bytes()),
        int(os.environ.get("RANK", 0)),
        int(os.environ.get("WORLD_SIZE", 1)),
    )
