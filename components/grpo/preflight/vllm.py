"""What vLLM makes of prompts, where it will roll out: tokens, positions, greedy completions."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import Any

from components.grpo.preflight.loaded_model import Generated, LoadedModel, answers, encode
from components.grpo.preflight.spec import PreflightSpec, VLLMEngine

Positions = list[list[int]]
"""Three axes × tokens."""


def start_vllm(spec: PreflightSpec, settings: VLLMEngine, template: Any) -> Any:
    """Start vLLM as GRPO does, with the model's weights without an adapter."""
    import torch
    from swift.infer_engine import VllmEngine

    return VllmEngine(
        spec.model,
        model_type=spec.model_type,
        template=copy(template),
        torch_dtype=getattr(torch, spec.torch_dtype),
        max_num_seqs=16,
        **settings.model_dump(),
    )


def answers_of_vllm(engine: Any, records: list[dict[str, Any]], tokens: int) -> list[Generated]:
    """Generate greedily for records, and tell the positions of their prompts."""
    with noted_positions(engine) as noted:
        return [
            replace(found, positions=noted[tuple(found.prompt)])
            for found in answers(engine, records, tokens)
        ]


@contextmanager
def noted_positions(engine: Any) -> Iterator[dict[tuple[int, ...], Positions]]:
    """Note the positions that vLLM's model gives to each prompt, by its token ids."""
    found: dict[tuple[int, ...], Positions] = {}
    model = engine.inner_model
    own = model.get_mrope_input_positions

    def noted(tokens: list[int], *args: Any, **kwargs: Any) -> Any:
        made = own(tokens, *args, **kwargs)
        found[tuple(tokens)] = made[0].tolist()
        return made

    model.get_mrope_input_positions = noted
    try:
        yield found
    finally:
        del model.get_mrope_input_positions  # the instance's, over its class's


def prompt_of_loss(
    loaded: LoadedModel, template: Any, record: dict[str, Any], length: int
) -> tuple[list[int], Positions]:
    """Return the token ids and positions that the loss is computed with, the first of them.

    Args:
        loaded: The model.
        template: A template in mode ``train``.
        record: A record.
        length: How many: tokens of its prompt.
    """
    import torch
    from swift.utils import to_device

    encoded = encode(template, record, "A")
    ids = list(encoded["input_ids"][:length])
    with torch.inference_mode():
        batch = to_device(template.data_collator([encoded]), loaded.model.device)
        _, inputs = template.pre_forward_hook(loaded.model, None, batch)
    return ids, inputs["position_ids"][-3:, 0, :length].tolist()
