"""vLLM sees the prompts that are trained on, and completes them as transformers does."""

from typing import Any

import pytest

from components.grpo.preflight.loaded_model import LoadedModel, rollout
from tests.on_vllm.vllm_kit import NEW_TOKENS, Seen, ask, trained_on


@pytest.fixture(scope="module")
def seen(engine: Any, asked: dict[str, dict[str, Any]]) -> dict[str, Seen]:
    return dict(zip(asked, ask(engine, list(asked.values())), strict=True))


def test_prompt_ids_and_positions_are_those_of_the_loss(
    seen: dict[str, Seen], asked: dict[str, dict[str, Any]], loaded: LoadedModel, template: Any
) -> None:
    for name, record in asked.items():
        ids, positions = trained_on(loaded, template, record)
        assert seen[name].prompt == ids, name
        assert seen[name].positions == positions, name


def test_greedy_completions_are_those_of_transformers(
    seen: dict[str, Seen], asked: dict[str, dict[str, Any]], loaded: LoadedModel, template: Any
) -> None:
    alone = rollout(loaded, template, list(asked.values()), NEW_TOKENS)
    for name, generated in zip(asked, alone, strict=True):
        assert seen[name].prompt == generated.prompt, name
        assert seen[name].tokens == generated.tokens, name
