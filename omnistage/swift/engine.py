"""Asking a model through ms-swift, for the programs that torchrun starts."""

import os
from collections.abc import Mapping
from typing import Any

from omnistage.swift.family import family_named


def open_engine(
    model: str,
    adapter: str | None,
    model_type: str,
    *,
    batch_size: int,
    dtype: str,
    attn_impl: str,
) -> Any:
    """Load a model into ms-swift's ``TransformersEngine``, on this process's GPU if it has one.

    Args:
        model: Its folder.
        adapter: Folder of a LoRA adapter on top of it.
        model_type: Its family.
        batch_size: Prompts that are answered at once.
        dtype: Type of the weights, such as ``bfloat16``.
        attn_impl: Implementation of attention.
    """
    import torch
    from swift.infer_engine import TransformersEngine

    import omnistage.swift.template  # noqa: F401 - registers the templates

    family = family_named(model_type, model)
    cuda = torch.cuda.is_available()
    return TransformersEngine(
        model,
        adapters=[adapter] if adapter else None,
        max_batch_size=batch_size,
        torch_dtype=getattr(torch, dtype),
        attn_impl=attn_impl,
        model_type=family.model_type,
        template_type=family.omnistage_template,
        device_map=f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if cuda else "cpu",
    )


def request_of(row: Mapping[str, Any]) -> Any:
    """Return what an engine is asked for a row with ``messages`` and media."""
    from swift.infer_engine import InferRequest

    images, audios, videos = (row.get(kind) or [] for kind in ("images", "audios", "videos"))
    return InferRequest(row["messages"], images=images, audios=audios, videos=videos)
