"""The recipes that come with omnistage are valid, compile, and say what their sources say."""

from pathlib import Path
from typing import Any

import pytest

from omnistage.cli.main import main
from omnistage.recipe.document import read_recipe, shipped_recipes, validate
from omnistage.stage.key import stage_key
from pipelines.graph import graph_of
from pipelines.post_training import compile_packages
from pipelines.recipe import Recipe

DIGEST = "@sha256:" + "0" * 64
IMAGES = {"launcher": f"registry.example/l{DIGEST}", "trainer": f"registry.example/t{DIGEST}"}
GPUS = 4
"""Of the published scripts; a batch size is GPUs x batch x accumulation."""


SIZES = ("omnicritic-3b", "omnicritic-7b")


def recipe(name: str) -> Recipe:
    return validate(read_recipe(shipped_recipes()[name]), Recipe)


def settings(section: Any, **wanted: Any) -> dict[str, Any]:
    return {name: getattr(section, name) for name in wanted}


def test_the_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(shipped_recipes()) == {
        "tiny",
        "omnicritic-3b",
        "omnicritic-3b-lora",
        "omnicritic-7b",
        "omnicritic-7b-lora",
        "omnicritic-dpo-qwen3",
        "r1-omni",
        "humanomni-v2",
        "omnirl-rec",
        "omnirl-text-image",
        "lmm-r1-direct-geo",
        "lmm-r1-mgt-geo",
        "lmm-r1-mgt-percereason",
    }
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in shipped_recipes())


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_recipe_is_valid_and_named_as_its_file(name: str) -> None:
    found = recipe(name)
    assert found.name == name
    assert found.description


def with_folders(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with a folder that is there for each that a user has to have."""
    folder.mkdir()
    (folder / "records.jsonl").write_text("{}\n")
    there = {
        name: section.model_copy(
            update={
                "sources": [
                    s.model_copy(update={"path": str(folder)} if s.type == "folder" else {})
                    for s in section.sources
                ]
            }
        )
        for name, section in recipe.data.items()
    }
    return recipe.model_copy(update={"data": there})


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_recipe_compiles_to_packages(name: str, tmp_path: Path) -> None:
    ready = with_folders(recipe(name), tmp_path / "own")
    paths = compile_packages(ready, tmp_path / "packages", "s3://bucket/store", IMAGES)
    assert [path.stem for path in paths] == ["post_training", *graph_of(recipe(name))]
    assert all(path.stat().st_size > 1000 for path in paths)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("omnicritic-3b", {"tuner": "full", "epochs": 2}),
        ("omnicritic-3b-lora", {"tuner": "lora", "epochs": 2}),
        ("omnicritic-7b", {"tuner": "full", "epochs": 1, "gradient_checkpointing": True}),
        ("omnicritic-7b-lora", {"tuner": "lora", "epochs": 2}),
    ],
)
def test_omnicritics_sft_settings_are_the_published_ones(name: str, own: dict[str, Any]) -> None:
    wanted = {
        **own,
        "batch_size": GPUS * 1 * 12,
        "per_device_batch_size": 1,
        "learning_rate": 5e-6,
        "warmup_ratio": 0.03,
        "max_length": 3072,
        "dtype": "bfloat16",
        "zero_stage": 2,
        "save_steps": 100,
        "save_total_limit": 4,
        "logging_steps": 5,
        "workers": 2,
    }
    if own["tuner"] == "lora":
        wanted |= {"lora_rank": 8, "lora_alpha": 32, "target_modules": ["all-linear"]}
        wanted |= {"freeze_vit": True}
    sft = recipe(name).steps["sft"]
    assert settings(sft, **wanted) == wanted
    assert sft.media.model_dump() == {
        "max_pixels": 1_003_520 if name == "omnicritic-7b" else 262_144,
        "video_max_pixels": 32_768,
        "fps": 1.0,
        "fps_max_frames": 20,
        "use_audio_in_video": False,
    }


@pytest.mark.parametrize(
    "name", [n for n in shipped_recipes() if n.startswith(("omnicritic-3b", "omnicritic-7b"))]
)
def test_omnicritics_grpo_settings_are_the_published_ones(name: str) -> None:
    wanted = {
        "tuner": "lora",
        "lora_rank": 8,
        "lora_alpha": 32,
        "target_modules": ["all-linear"],
        "epochs": 1,
        "batch_size": GPUS * 1 * 4,
        "per_device_batch_size": 1,
        "num_generations": 4,
        "learning_rate": 1e-5,
        "warmup_ratio": 0.05,
        "temperature": 1.0,
        "top_p": 0.99,
        "top_k": 50,
        "max_completion_length": 2048,
        "max_length": 8192,
        "save_steps": 100,
        "save_total_limit": 2,
        "zero_stage": 2,
        # Published: mm_rubric, which pays for a list of its keywords.
        "reward_weights": {"mm_format": 0.4, "mm_content": 0.4, "mm_rubric_strict": 0.2},
        "from": "sft",
    }
    found = recipe(name)
    grpo = found.steps["grpo"]
    assert settings(grpo, **wanted) == wanted
    assert grpo.media.max_pixels == 262_144
    assert grpo.media.video_max_pixels == 65_536
    assert found.steps["eval"].media == grpo.media


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_stage_sees_the_sound_of_clips_alike(name: str) -> None:
    found = recipe(name)
    heard = {step.media.use_audio_in_video for step in found.steps.values()}
    heard |= {data.rewrite_paths.use_audio_in_video for data in found.data.values()}
    assert len(heard) == 1


@pytest.mark.parametrize("size", ["3b", "7b"])
def test_full_and_lora_recipes_share_the_download(size: str) -> None:
    full, lora = recipe(f"omnicritic-{size}"), recipe(f"omnicritic-{size}-lora")
    for name in ("download", "download_model"):
        steps = [graph_of(r)[name] for r in (full, lora)]
        keys = {stage_key(step.stage, step.config, {}) for step in steps}
        assert len(keys) == 1
