"""What is said of a model's size: parameters by part, memory of a step, tokens of a record."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from omnistage.errors import InputError
from omnistage.files import write_jsonl
from omnistage.swift.family import FAMILIES
from omnistage.swift.media import MediaSettings
from omnistage.swift.size.geometry import read_geometry
from omnistage.swift.size.memory import Load, checkpoint_bytes, memory, trainable
from omnistage.swift.size.tokens import estimate
from tests.swift.size.measured_steps import Run
from tests.swift.size.size_kit import MODEL, vl_config

LOAD = Load(
    tuner="full", lora_rank=8, freeze_vit=True, freeze_aligner=True, dtype="bfloat16",
    zero_stage=0, ranks=1, checkpointing=False, sequences=1, tokens=50,
)  # fmt: skip


def test_the_estimate_is_within_a_fifth_of_measured_peaks() -> None:
    """Two sizes in float32 on the CPU, the larger one with gradient checkpointing."""
    small, large = vl_config(256, 16), vl_config(512, 16)
    runs = [Run(small, 256, False), Run(large, 256, True)]
    program = (sys.executable, "-m", "tests.swift.size.measured_steps")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    said = subprocess.run(
        [*program, json.dumps([asdict(run) for run in runs])],
        env=env, check=True, capture_output=True, text=True,
    )  # fmt: skip
    measured = json.loads(said.stdout.splitlines()[-1])
    for run, peak in zip(runs, measured, strict=True):
        found = read_geometry(run.config, "test")
        load = replace(
            LOAD, dtype="float32", freeze_vit=False, freeze_aligner=False, tokens=run.tokens,
            checkpointing=run.checkpointing,
        )  # fmt: skip
        assert memory(found, load).peak == pytest.approx(peak, rel=0.2), run


def test_parameters_are_counted_by_part_without_weights() -> None:
    """transformers' own defaults are those of the 7B Omni: a Qwen2.5-7B with two encoders."""
    found = read_geometry({"model_type": "qwen2_5_omni"}, "test")
    text = sum(found.parameters[part] for part in ("text", "embeddings", "output"))
    assert text == 7_615_616_512  # Qwen2.5-7B
    assert 600e6 < found.parameters["audio"] < 650e6  # Whisper large's encoder
    assert (found.layers, found.layer.hidden, found.layer.keys) == (28, 3584, 512)


def test_the_experts_of_a_mixture_count_in_all_and_those_that_a_token_meets_in_activations() -> (
    None
):
    found = read_geometry({"model_type": "qwen3_omni_moe"}, "test")
    assert (found.layer.experts, found.layer.routed, found.layer.inner) == (128, 8, 8 * 768)
    assert found.parameters["text"] > 128 * 28 * 3 * 768 * 2048
    assert found.linear["text"] > 128 * 28 * 3 * 768


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "llama"}, "here: model_type 'llama' is no model family"),
        ({"model_type": "qwen3_vl", "text_config": {"hidden_size": "wide"}}, "cannot build"),
    ],
)
def test_a_configuration_of_no_model_is_refused(config: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_geometry(config, "here")


def test_states_are_those_of_the_zero_paper() -> None:
    alone = memory(MODEL, LOAD)
    assert (alone.weights, alone.gradients, alone.optimizer) == (20_000, 18_000, 36_000)
    two, three = (memory(MODEL, replace(LOAD, zero_stage=z, ranks=4)) for z in (2, 3))
    assert (two.weights, two.gradients, two.optimizer) == (20_000, 4_500, 12 * 9_000 / 4)
    assert (three.weights, three.gradients) == (5_000, 4_500)


def test_an_adapter_is_small_and_in_float32() -> None:
    lora = replace(LOAD, tuner="lora")
    assert trainable(MODEL, lora) == 8 * 90
    assert trainable(MODEL, replace(lora, freeze_vit=False, freeze_aligner=False)) == 8 * 100
    assert checkpoint_bytes(MODEL, lora) == (4 * 720, 4 * 720 + 8 * 720)
    assert checkpoint_bytes(MODEL, LOAD)[0] == 20_000


def test_checkpointing_keeps_the_input_of_each_layer_and_one_layer_whole() -> None:
    whole = memory(MODEL, LOAD).activations
    kept = memory(MODEL, replace(LOAD, checkpointing=True)).activations
    assert kept == 50 * 10 * 100 * 2 + whole / 10


def test_encoders_that_are_trained_keep_activations_of_their_positions() -> None:
    frozen = memory(MODEL, replace(LOAD, vision=20, audio=10)).activations
    trained = memory(MODEL, replace(LOAD, vision=20, audio=10, freeze_vit=False)).activations
    a_layer = frozen / 50 / 10
    assert trained - frozen == pytest.approx((20 * 4 + 10 * 2) * 2 * a_layer)


def test_sampling_and_training_take_turns() -> None:
    grpo = replace(LOAD, completion=10, rollout=4)
    found = memory(MODEL, grpo)
    assert found.cache == 4 * 50 * 2 * 10 * 20 * 2
    assert found.logits == 10 * 1000 * 8
    states = found.weights + found.gradients + found.optimizer
    assert found.peak == states + max(found.cache, found.activations + found.logits)
    assert memory(MODEL, replace(grpo, reference=True)).weights == 2 * found.weights


def test_tokens_of_records_that_nobody_has_encoded_are_estimated(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "x" * 40}, {"role": "assistant", "content": "y" * 400}]
    record = {"messages": turns, "images": ["a.png"], "videos": ["b.mp4"], "audios": ["c.wav"]}
    write_jsonl(tmp_path / "rl.jsonl", [record])
    facts = [
        {"path": "a.png", "media": {"width": 560, "height": 280}},
        {"path": "b.mp4", "media": {"width": 280, "height": 280, "duration": 8, "has_audio": True}},
        {"path": "c.wav", "media": {"duration": 2.0}},
    ]
    write_jsonl(tmp_path / "rl.media.jsonl", facts)
    family = FAMILIES["qwen2_5_omni"]
    media = MediaSettings(max_pixels=78_400, video_max_pixels=78_400, fps=1.0, fps_max_frames=4)
    (found,) = estimate(tmp_path / "rl.jsonl", True, media, family)
    assert found.tokens == {"text": 11, "image": 100, "video": 2 * 100, "audio": 50}
    with_sound = media.model_copy(update={"use_audio_in_video": True})
    (found,) = estimate(tmp_path / "rl.jsonl", True, with_sound, family)
    assert found.tokens["audio"] == 50 + 200
