"""GRPO rolls out with vLLM, trained for real; a run whose rollout drifts is stopped."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.grpo.stage import STAGE as GRPO
from components.grpo.watch.watch import ROLLOUT_KL
from omnistage.errors import StageFailedError
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Manifest
from omnistage.swift.media import process_environment
from omnistage.torchrun.warm import forking
from tests.swift.test_families import Bench, inputs_of
from tests.swift.test_families import data as data  # the fixture

FAMILY = "qwen2_5_omni"
SETTINGS: dict[str, Any] = {
    "vllm": {},
    "tuner": "lora",
    "lora_dropout": 0.0,
    "freeze_vit": False,
    "freeze_aligner": False,
    "num_generations": 4,
    "max_completion_length": 12,
    "learning_rate": 2e-2,
    "beta": 0.0,
    "max_steps": 8,
    # The model knows nothing: its completions are no text.
    "watch": {"garbled_patience": 100, "patience": 100},
}
IMPORTED = (
    "swift.infer_engine.vllm_engine",
    "swift.pipelines.train.rlhf",
    "swift.rlhf_trainers.grpo_trainer",
    "vllm.model_executor.models.qwen2_5_omni_thinker",
)
REWARD = """
def brief(completions, **columns):
    return [-len(completion) / 100 for completion in completions]
"""
"""Has a spread although the model knows nothing; a fault comes in its file, which is imported."""

NO_SYNC = """
from swift.rlhf_trainers.rollout_mixin import RolloutTrainerMixin

RolloutTrainerMixin._move_model_to_vllm = lambda self, *args, **kwargs: None
"""
OTHER_PROMPTS = """
from swift.template.templates.qwen import Qwen2_5OmniTemplate

from omnistage.swift.rollout.positions import Qwen2_5Omni
from omnistage.swift.template import OmniTemplate

OmniTemplate.replace_tag = Qwen2_5OmniTemplate.replace_tag
del Qwen2_5Omni.get_mrope_input_positions
"""
FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "vLLM keeps the weights that it began with": (NO_SYNC, {}),
    "vLLM is given an adapter that no request names": ("", {"vllm_enable_lora": True}),
    "vLLM gets ms-swift's own prompts": (OTHER_PROMPTS, {}),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with forking(IMPORTED, process_environment(0)):
        kept = dict(os.environ)
        yield Bench(FolderStore(tmp_path_factory.mktemp("store")))
        os.environ.clear()
        os.environ.update(kept)


def own_reward(folder: Path, fault: str = "") -> dict[str, Any]:
    path = folder / "own.py"
    path.write_text(fault + REWARD)
    return {**SETTINGS, "reward_weights": {f"{path}:brief": 1.0}}


def test_vllm_rolls_out_with_the_trainers_probabilities(
    bench: Bench, data: Manifest, tmp_path: Path
) -> None:
    made = bench.train(FAMILY, GRPO, inputs_of(bench, data, FAMILY), **own_reward(tmp_path))
    curve = bench.curve(made)
    # More than the six of an epoch: media that were seen with other weights are seen again.
    assert [row["global_step/max_steps"] for row in curve] == [f"{n}/8" for n in range(1, 9)]
    assert min(row["grad_norm"] for row in curve) > 0
    assert all(abs(row[ROLLOUT_KL]) < 1e-6 for row in curve)
    assert all(row["rollout_correction/log_ppl_abs_diff"] < 1e-5 for row in curve)
    assert made.metadata["watch"]["means"][ROLLOUT_KL] < 1e-6
    assert "same tokens as plain inference" in made.metadata["preflight"]["vLLM parity"]
    assert (bench.folder(made) / "adapter" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_rollout_that_drifts_stops_the_run(
    fault: str, bench: Bench, data: Manifest, tmp_path: Path
) -> None:
    code, arguments = FAULTS[fault]
    settings = own_reward(tmp_path, code) | {"preflight": False}
    with pytest.raises(StageFailedError, match=r"vLLM and the trainer differ by .* nats a token"):
        bench.train(
            FAMILY, GRPO, inputs_of(bench, data, FAMILY), **settings, swift_arguments=arguments
        )
