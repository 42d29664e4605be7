"""A model family is chosen by the model's own config.json, and is one of those that are known."""

import json
from pathlib import Path
from typing import Any

import pytest

from omnistage.errors import InputError
from omnistage.store.manifest import Manifest
from omnistage.swift.family import FAMILIES, family_of, read_family
from omnistage.swift.media import MediaSettings, environment


def model(folder: Path, name: str = "config.json", **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(config))
    return folder


def manifest(**metadata: Any) -> Manifest:
    return Manifest(
        kind="BaseModel",
        stage="download_model",
        key="k",
        digest="sha256:" + "0" * 64,
        uri="file:///store/download_model/k",
        files=[],
        metadata=metadata,
    )


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_model_says_itself_what_it_is(model_type: str, tmp_path: Path) -> None:
    folder = model(tmp_path, model_type=model_type)
    assert read_family(folder).model_type == model_type
    assert family_of(manifest(), folder) == family_of(manifest(model_type=model_type), folder)


def test_a_manifest_that_names_another_family_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path, model_type="qwen3_vl")
    with pytest.raises(InputError, match="'qwen3_vl', but the manifest of download_model says"):
        family_of(manifest(model_type="qwen2_5_vl"), folder)


def test_an_unknown_family_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config.json: model_type 'qwen2_vl'.*qwen2_5_vl'\?"):
        read_family(model(tmp_path, model_type="qwen2_vl"))


def test_a_folder_without_a_configuration_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        read_family(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "processor_config.json"])
def test_a_model_that_brings_code_of_its_own_is_refused(name: str, tmp_path: Path) -> None:
    model(tmp_path, model_type="qwen2_5_omni")
    with pytest.raises(InputError, match="auto_map names code"):
        read_family(model(tmp_path, name, model_type="qwen2_5_omni", auto_map={"AutoModel": "m.M"}))


@pytest.mark.parametrize(
    ("model_type", "image", "frame"), [("qwen2_5_omni", "334", "41"), ("qwen3_vl", "256", "32")]
)
def test_bounds_in_pixels_are_bounds_in_tokens_of_the_family(
    model_type: str, image: str, frame: str
) -> None:
    env = environment(MediaSettings(), 0, FAMILIES[model_type])
    assert (env["IMAGE_MAX_TOKEN_NUM"], env["VIDEO_MAX_TOKEN_NUM"]) == (image, frame)


def test_limits_that_another_run_has_left_in_the_environment_do_not_count() -> None:
    """The utilities prefer bounds in tokens to those in pixels, whoever has set them."""
    env = environment(MediaSettings(max_pixels=2048), 0, FAMILIES["qwen3_vl"])
    assert {name for name in env if name.endswith("_TOKEN_NUM")} == {
        f"{kind}_{end}_TOKEN_NUM" for kind in ("IMAGE", "VIDEO") for end in ("MIN", "MAX")
    }
    assert (env["IMAGE_MIN_TOKEN_NUM"], env["IMAGE_MAX_TOKEN_NUM"]) == ("2", "2")


def test_a_bound_below_one_token_is_refused() -> None:
    with pytest.raises(InputError, match="must be at least 1024, one token of Qwen3-VL"):
        environment(MediaSettings(max_pixels=900), 0, FAMILIES["qwen3_vl"])


def test_the_length_of_a_sound_is_that_of_the_models_own_formula() -> None:
    import torch
    from transformers.models.qwen2_5_omni import modeling_qwen2_5_omni as omni
    from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as omni3

    frames = torch.arange(1, 400)
    own = [FAMILIES["qwen2_5_omni"].sound_tokens(int(n)) for n in frames]
    encode: Any = omni.Qwen2_5OmniAudioEncoder._get_feat_extract_output_lengths
    assert own == encode(None, frames)[1].tolist()
    own = [FAMILIES["qwen3_omni_moe"].sound_tokens(int(n)) for n in frames]
    assert own == omni3._get_feat_extract_output_lengths(frames).tolist()
