"""The tiny Qwen2.5-Omni: loads as the real one, reads every modality, spells every text."""

import io
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from transformers import (
    AutoConfig,
    AutoProcessor,
    Qwen2_5OmniForConditionalGeneration,
    Qwen2_5OmniProcessor,
)

from components.download.tiny.media import draw
from components.download.tiny.model import write_model
from components.download.tiny.settings import TinyModelSettings
from components.download.tiny.text import (
    ASPECTS,
    MODALITIES,
    user_prompt,
    verdict,
    verdict_text,
    vocabulary,
)
from components.download.tiny.tokenizer import MEDIA_TOKENS, build_tokenizer, token_id
from omnistage.files import sha256_file
from omnistage.swift.family import read_family

CLASSES = {
    "qwen2_5_omni": "Qwen2_5OmniProcessor",
    "qwen3_omni_moe": "Qwen3OmniMoeProcessor",
    "qwen2_5_vl": "Qwen2_5_VLProcessor",
    "qwen3_vl": "Qwen3VLProcessor",
}
TOKENIZER = build_tokenizer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    write_model(path, TinyModelSettings())
    return path


@pytest.fixture(scope="module")
def processor(folder: Path) -> Any:
    return Qwen2_5OmniProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Qwen2_5OmniForConditionalGeneration.from_pretrained(folder).eval()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def everything(processor: Any) -> Any:
    """One prompt with an image, a sound and a clip with its sound, as the processor encodes it."""
    image = Image.open(io.BytesIO(draw("image", {"colour": 0, "paper": 1, "count": 2}, (0,))))
    clip = draw("video", {"direction": 0, "colour": 1, "pitch": 2}, (0,))
    with av.open(io.BytesIO(clip), "r") as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    with av.open(io.BytesIO(clip), "r") as container:
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    beeps = np.frombuffer(draw("audio", {"pitch": 1, "voice": 0, "beeps": 1}, (0,))[44:], "<i2")
    content = [{"type": "image"}, {"type": "audio"}, {"type": "video"}]
    turns = [{"role": "user", "content": [*content, {"type": "text", "text": "Which is it?"}]}]
    return processor(
        text=processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False),
        images=[image],
        audio=[beeps / 32768.0, sound],
        videos=[frames],
        use_audio_in_video=True,
        do_resize=False,
        fps=4.0,
        return_tensors="pt",
    )


def test_a_medium_becomes_few_tokens(processor: Any, everything: Any) -> None:
    tokens = processor.tokenizer.convert_ids_to_tokens(everything["input_ids"][0].tolist())
    assert tokens.count("<|IMAGE|>") == 4  # 2 by 2 merged patches
    assert tokens.count("<|VIDEO|>") == 8  # the same in two temporal patches
    assert tokens.count("<|AUDIO|>") in range(50, 53)  # 25 a second: the sound and the clip's own


def test_reads_image_sound_and_clip_and_generates_with_a_cache(model: Any, everything: Any) -> None:
    with torch.no_grad():
        logits = model.thinker(**everything, use_audio_in_video=True).logits
        made = model.thinker.generate(
            **everything,
            use_audio_in_video=True,
            generation_config=model.generation_config,
            max_new_tokens=8,
            min_new_tokens=8,
        )
    assert torch.isfinite(logits).all()
    assert logits.shape[-1] == len(TOKENIZER)
    assert made.shape[1] == everything["input_ids"].shape[1] + 8
    assert model.generation_config.use_cache is True


@pytest.mark.parametrize("model_type", list(MEDIA_TOKENS))
def test_every_family_has_a_tiny_model_of_its_own_classes(model_type: str, tmp_path: Path) -> None:
    found = write_model(tmp_path, TinyModelSettings(model_type=model_type))  # pyright: ignore[reportArgumentType]
    config: Any = AutoConfig.from_pretrained(tmp_path)
    assert read_family(tmp_path).model_type == config.model_type == model_type
    assert type(AutoProcessor.from_pretrained(tmp_path)).__name__ == CLASSES[model_type]
    assert 0.5e6 < found["parameters"] < 1.5e6
    whole = getattr(config, "thinker_config", config)
    text, vision = whole.text_config, whole.vision_config
    rotary = text.hidden_size // text.num_attention_heads // 2
    assert sum(text.rope_parameters["mrope_section"]) == rotary
    if "qwen3" in model_type:
        assert vision.num_position_embeddings == round(vision.num_position_embeddings**0.5) ** 2
        deep = vision.deepstack_visual_indexes
        assert deep
        assert max(deep) < vision.depth
        assert text.head_dim == 2 * rotary


@pytest.mark.parametrize("name", ["pixel_values", "pixel_values_videos", "input_features"])
def test_what_it_reads_changes_what_it_says(model: Any, everything: Any, name: str) -> None:
    with torch.no_grad():
        shown = model.thinker(**everything, use_audio_in_video=True).logits[0, -1]
        blank = {**everything, name: torch.zeros_like(everything[name])}
        hidden = model.thinker(**blank, use_audio_in_video=True).logits[0, -1]
    assert not torch.allclose(shown, hidden, atol=1e-6)


def test_is_about_a_million_parameters_and_has_no_talker(model: Any) -> None:
    assert 0.5e6 < model.num_parameters() < 1.5e6
    assert model.has_talker is False


def test_media_and_turn_tokens_are_barred_from_completions(folder: Path) -> None:
    barred = json.loads((folder / "generation_config.json").read_bytes())["suppress_tokens"]
    names = set(TOKENIZER.convert_ids_to_tokens(barred))
    assert names == {"<|im_start|>", *MEDIA_TOKENS["qwen2_5_omni"].values()}


def test_the_seed_decides_the_weights(folder: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "same", TinyModelSettings())
    write_model(tmp_path / "other", TinyModelSettings(seed=1))
    weights = sha256_file(folder / "model.safetensors")
    assert sha256_file(tmp_path / "same" / "model.safetensors") == weights
    assert sha256_file(tmp_path / "other" / "model.safetensors") != weights
    for path in folder.iterdir():
        assert sha256_file(tmp_path / "same" / path.name) == sha256_file(path), path.name


def test_building_leaves_the_callers_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    write_model(tmp_path, TinyModelSettings(layers=1, vision_layers=1))
    assert torch.equal(torch.rand(3), expected)


def test_sizes_that_do_not_fit_are_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="hidden_size 96 must be a multiple of 16 x heads"):
        TinyModelSettings(hidden_size=96, heads=4)


@given(st.text())
@settings(max_examples=60, deadline=None)
def test_any_text_is_spelled_exactly(text: str) -> None:
    normal = unicodedata.normalize("NFC", text)  # as Qwen's tokenizer does
    ids = TOKENIZER(normal, add_special_tokens=False)["input_ids"]
    assert TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == normal


@given(st.lists(st.sampled_from(vocabulary()), max_size=6), st.text("AB .\n{}", max_size=6))
@settings(max_examples=60, deadline=None)
def test_lines_of_the_set_are_spelled_exactly_in_any_order(lines: list[str], tail: str) -> None:
    text = "".join(lines) + tail
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == text


def test_every_line_of_a_prompt_is_one_token() -> None:
    for modality in MODALITIES:
        for aspect in ASPECTS[modality]:
            text = user_prompt(
                modality, "", aspect.question, (aspect.answers[0], aspect.answers[1])
            )
            assert len(TOKENIZER(text)["input_ids"]) == 5  # "X file: ", two spaces, three lines


@pytest.mark.parametrize("better", ["A", "B", "equal"])
def test_a_verdict_fits_into_the_length_of_a_completion(better: str) -> None:
    for answer in {a for m in MODALITIES for aspect in ASPECTS[m] for a in aspect.answers}:
        text = verdict_text(verdict(answer, better, (9, 2), thorough=True))
        assert len(TOKENIZER(text)["input_ids"]) <= 13


def test_texts_that_share_words_start_alike_and_others_do_not(model: Any) -> None:
    def alike(one: str, two: str) -> float:
        ids = [token_id(TOKENIZER, text) for text in (one, two)]
        vectors = model.thinker.model.embed_tokens.weight[ids]
        return torch.nn.functional.cosine_similarity(vectors[0], vectors[1], dim=0).item()

    same = alike("The tone is low.", "\nResponse A: The tone is low.")
    near = alike("The tone is low.", "\nResponse A: The tone is high.")
    assert same > near > 0.3
    assert abs(alike("The tone is low.", "It is drawn in red.")) < near
    assert alike(" On accuracy A is better than B.", " On accuracy B is better than A.") < 0.9


def test_half_the_heads_start_with_queries_like_their_keys(model: Any) -> None:
    for layer in model.thinker.model.layers:
        keys = layer.self_attn.k_proj.weight.unflatten(0, (2, 32))
        queries = layer.self_attn.q_proj.weight.unflatten(0, (2, 2, 32))
        assert torch.equal(queries[:, 0], keys)
        assert not torch.allclose(queries[:, 1], keys)
