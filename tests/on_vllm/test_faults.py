"""What vLLM would do otherwise than transformers, besides what test_parity.py compares."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from omnistage.swift.rollout.barred import BarredTokens
from tests.on_vllm.vllm_kit import ask


def test_suppressed_tokens_get_no_probability() -> None:
    """vLLM passes over ``suppress_tokens``; its model's configuration tells them nevertheless."""
    told = SimpleNamespace(try_get_generation_config=lambda: {"suppress_tokens": [1, 3]})
    untold = SimpleNamespace(try_get_generation_config=dict)
    device = torch.device("cpu")
    barring = BarredTokens(SimpleNamespace(model_config=told), device, False)
    assert barring.apply(torch.zeros(2, 4)).isinf().tolist() == [[False, True, False, True]] * 2
    assert not barring.is_argmax_invariant()
    free = BarredTokens(SimpleNamespace(model_config=untold), device, False)
    assert free.apply(torch.zeros(2, 4)).equal(torch.zeros(2, 4))


def test_clips_of_several_rates_are_refused(engine: Any, asked: dict[str, dict[str, Any]]) -> None:
    """vLLM takes one rate for a prompt, of which ms-swift keeps the first with a warning."""
    videos = asked["clip with sound"]["videos"] + asked["clip of 7.75 s"]["videos"]
    record = {**asked["two clips"], "videos": videos}
    with pytest.raises(ValueError, match="its clips are sampled at 4 and .* frames a second"):
        ask(engine, [record])
