"""A tiny model of every family goes through encoding, SFT, preflight and GRPO, as a large would."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from components.download.stage import MODEL_STAGE
from components.download.stage import STAGE as DOWNLOAD
from components.dpo.stage import STAGE as DPO
from components.grpo.stage import STAGE as GRPO
from components.rewrite_paths.stage import STAGE as REWRITE
from components.sft.stage import STAGE as SFT
from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.files import read_jsonl
from omnistage.settings import parse_config
from omnistage.stage.contract import Stage, TaskRuntime
from omnistage.stage.execute import execute, prepare
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Manifest
from omnistage.swift.family import FAMILIES

pytestmark = pytest.mark.pipeline

OTHERS = [name for name in FAMILIES if name != "qwen2_5_omni"]  # which test_tiny.py trains
VARIANTS: dict[str, dict[str, Any]] = {
    "qwen3_omni_moe": {"advantage_estimator": "rloo", "beta": 0.04},
    "qwen2_5_vl": {
        "advantage_estimator": "reinforce_plus_plus",
        "importance_sampling_level": "sequence",
        "num_iterations": 2,
        "epsilon": 3e-4,
        "epsilon_high": 4e-4,
    },
    "qwen3_vl": {"loss_type": "dapo", "dynamic_sample": True, "soft_overlong": 4},
}
"""GRPO's variants, each of which is run on one family."""
SETTINGS: dict[str, Any] = {
    "per_device_batch_size": 8,
    "batch_size": 8,
    "learning_rate": 2e-3,
    "max_length": 1024,
    "dtype": "float32",
    "gradient_checkpointing": False,
    "save_steps": 100,
    "logging_steps": 1,
    "workers": 0,
}


@dataclass(frozen=True)
class Bench:
    """A store and what is in it."""

    store: FolderStore

    def make(self, stage: Stage[Any], config: dict[str, Any], **inputs: Manifest) -> Manifest:
        settings = parse_config(stage.config, config, stage.name)
        return execute(stage, settings, inputs, self.store).manifest

    def folder(self, manifest: Manifest) -> Path:
        return self.store.local(manifest)

    def curve(self, manifest: Manifest) -> list[dict[str, Any]]:
        rows = read_jsonl(self.folder(manifest) / "logs" / "logging.jsonl")
        return [row for row in rows if "loss" in row]

    def train(self, family: str, stage: Stage[Any], inputs: dict[str, Manifest], **own: Any) -> Any:
        return self.make(stage, SETTINGS | {"media": media(family)} | own, **inputs)


@pytest.fixture(scope="module")
def bench(warm: None, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(FolderStore(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def data(bench: Bench) -> Manifest:
    sizes = {"sft": 24, "rl": 12, "test": 6}
    return bench.make(DOWNLOAD, {"sources": [{"type": "tiny", "settings": sizes}]})


def media(family: str) -> dict[str, Any]:
    pixels = 4 * FAMILIES[family].token_side ** 2
    return {
        "max_pixels": pixels,
        "video_max_pixels": pixels,
        "fps": 2.0,
        "fps_max_frames": 4,
        "use_audio_in_video": FAMILIES[family].hears,
    }


def inputs_of(bench: Bench, data: Manifest, family: str) -> dict[str, Manifest]:
    """Return the data set with the records that the family can take, and its tiny model."""
    hears = FAMILIES[family].hears
    kinds = ("image", "audio", "video") if hears else ("image", "video")
    files = {
        split: [{"files": [f"{kind}/*{split}*.jsonl" for kind in kinds]}] for split in ("sft", "rl")
    }
    records = bench.make(REWRITE, {**files, "use_audio_in_video": hears}, data=data)
    source = {"type": "tiny", "settings": {"model_type": family}}
    model = bench.make(MODEL_STAGE, {"sources": [source]})
    return {"data": data, "records": records, "start": model}


@pytest.mark.parametrize("family", OTHERS)
def test_a_family_is_trained_from_its_tiny_model_to_grpo(
    family: str, bench: Bench, data: Manifest
) -> None:
    inputs = inputs_of(bench, data, family)
    assert inputs["start"].metadata["model_type"] == family

    whole = {"tuner": "full", "freeze_vit": False, "freeze_aligner": False}
    sft = bench.train(family, SFT, inputs, **whole, max_steps=8)
    losses = [row["loss"] for row in bench.curve(sft)]
    assert not sft.counts["rejected"]
    assert losses[-1] < 0.8 * losses[0]
    assert "lm_head" in {module.rpartition(".")[2] for module in sft.metadata["trainable"]}
    kinds = {"image", "text", "video"} | ({"audio"} if FAMILIES[family].hears else set())
    assert set(sft.metadata["tokens"]["by_modality"]) == kinds

    group = {"num_generations": 4, "max_completion_length": 12, "beta": 0.0, "max_steps": 1}
    grpo = bench.train(family, GRPO, inputs, **{**group, **VARIANTS[family]}, lora_dropout=0.0)
    assert "same tokens as plain inference" in grpo.metadata["preflight"]["rollout parity"]
    assert grpo.counts["steps"] == 1
    assert (bench.folder(grpo) / "adapter" / "adapter_model.safetensors").exists()


def test_what_was_encoded_before_a_job_is_not_encoded_in_it(
    bench: Bench, data: Manifest, tmp_path: Path
) -> None:
    inputs = inputs_of(bench, data, "qwen3_vl")
    own = {"max_steps": 1, "media": media("qwen3_vl") | {"fps": 1.0}}
    config = parse_config(SFT.config, SETTINGS | own, "sft")
    first, second = (Events("sft", tmp_path / name, echo=False) for name in ("first", "second"))
    for _ in range(2):
        prepare(SFT, config, inputs, bench.store, runtime=TaskRuntime(), events=first)
    made = execute(SFT, config, inputs, bench.store, events=second).manifest

    assert made.counts["read"] == made.counts["records"] == 16
    told = [
        sum("encoding" in row.get("text", "") for row in read_jsonl(tmp_path / name))
        for name in ("first", "second")
    ]
    assert told == [1, 0]


@pytest.mark.parametrize("tuner", ["lora", "full"])
def test_preferences_are_learned_with_the_media_of_both_sides(
    tuner: str, bench: Bench, data: Manifest
) -> None:
    inputs = inputs_of(bench, data, "qwen2_5_vl")
    made = bench.train("qwen2_5_vl", DPO, inputs, tuner=tuner, max_steps=2, batch_size=4)
    assert made.kind == ("RLCheckpoint" if tuner == "full" else "LoRAAdapter")
    assert made.counts["records"] == 8
    assert set(made.metadata["media_change"].split()[::2]) == {"image", "video"}
    assert made.metadata["preference_accuracy"] is not None


def test_a_training_without_its_images_does_not_begin(bench: Bench, data: Manifest) -> None:
    """ms-swift's own template has the media tokens of the published models for constants."""
    inputs = inputs_of(bench, data, "qwen2_5_vl")
    with pytest.raises(InputError, match=r"1 <\|image_pad\|> tokens for 4 features of its image"):
        bench.train(
            "qwen2_5_vl", SFT, inputs, max_steps=1, swift_arguments={"template": "qwen2_5_vl"}
        )


def test_adapters_are_on_the_experts_and_not_on_a_frozen_encoder(
    bench: Bench, data: Manifest
) -> None:
    inputs = inputs_of(bench, data, "qwen3_omni_moe")
    with pytest.raises(InputError, match="sft.lora_dropout: Qwen3-Omni's experts get adapters"):
        bench.train("qwen3_omni_moe", SFT, inputs)
    made = bench.train("qwen3_omni_moe", SFT, inputs, max_steps=1, lora_dropout=0.0)
    trained = made.metadata["trainable"]
    assert "thinker.model.layers.*.mlp.experts" in trained
    assert "thinker.model.layers.*.self_attn.q_proj" in trained
    assert not any("audio_tower" in module or "visual" in module for module in trained)
    with pytest.raises(InputError, match="sft: no adapter is on the experts"):
        bench.train(
            "qwen3_omni_moe",
            SFT,
            inputs,
            max_steps=1,
            lora_dropout=0.0,
            swift_arguments={"target_parameters": None},
        )


def test_sound_for_a_model_that_cannot_hear_is_refused(bench: Bench, data: Manifest) -> None:
    inputs = inputs_of(bench, data, "qwen3_vl")
    inputs["records"] = inputs_of(bench, data, "qwen3_omni_moe")["records"]
    with pytest.raises(InputError, match=r"8 records have sound, but Qwen3-VL cannot hear"):
        bench.train("qwen3_vl", SFT, inputs)
    deaf = media("qwen3_vl") | {"use_audio_in_video": True}
    with pytest.raises(InputError, match="use_audio_in_video is on, but Qwen3-VL cannot hear"):
        bench.train("qwen3_vl", SFT, inputs, media=deaf)
