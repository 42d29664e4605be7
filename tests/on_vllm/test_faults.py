"""What ms-swift and vLLM do without omnistage's template: each test shows a fault, and its mend.

Where a test fails because the fault is gone, the mend can go, and the text in docs/upstream.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from swift.template import get_template

from components.grpo.preflight.loaded_model import LoadedModel, rollout_template
from omnistage.swift.rollout.barred import BarredTokens
from omnistage.swift.rollout.positions import Qwen2_5Omni
from omnistage.swift.template import OmniTemplate
from tests.on_vllm.vllm_kit import ask


@contextmanager
def using(engine: Any, template: Any) -> Iterator[None]:
    template.set_mode("vllm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "template", template)
        yield


def count_as_vllm(patch: pytest.MonkeyPatch) -> None:
    """Give vLLM's model its own positions back."""
    (own,) = Qwen2_5Omni.__bases__
    patch.setattr(Qwen2_5Omni, "get_mrope_input_positions", own.get_mrope_input_positions)


def prompts(engine: Any, asked: list[dict[str, Any]]) -> list[list[int]]:
    return [seen.prompt for seen in ask(engine, asked, max_tokens=1)]


def interleaved(loaded: LoadedModel, prompt: list[int]) -> list[tuple[str, int]]:
    """Return the runs of pictures and sound of a clip in a prompt, with their lengths in tokens."""
    tokenizer: Any = loaded.processor.tokenizer
    names = [tokenizer.convert_ids_to_tokens(token) for token in prompt]
    kinds = {"<|VIDEO|>": "picture", "<|AUDIO|>": "sound"}
    runs = ((name, len(list(run))) for name, run in groupby(names))
    return [(kinds[name], length) for name, length in runs if name in kinds]


def test_ms_swift_and_vllm_both_write_the_tags_of_a_sound_track(
    engine: Any, asked: dict[str, dict[str, Any]], loaded: LoadedModel, monkeypatch: Any
) -> None:
    clip = [asked["clip with sound"]]
    (mended,) = prompts(engine, clip)
    count_as_vllm(monkeypatch)  # transformers cannot count what has two pairs
    with using(engine, get_template(loaded.processor, template_type="qwen2_5_omni")):
        (own,) = prompts(engine, clip)
    tag = loaded.processor.tokenizer.convert_tokens_to_ids("<|audio_bos|>")
    assert len(own) == len(mended) + 2
    assert (own.count(tag), mended.count(tag)) == (2, 1)


def test_vllm_is_not_told_how_far_pictures_lie_apart(
    engine: Any, asked: dict[str, dict[str, Any]], loaded: LoadedModel, monkeypatch: Any
) -> None:
    """Four pictures of a second each: two to a picture token, which are two seconds apart."""
    clip = [asked["clip of 4 s"]]
    (mended,) = prompts(engine, clip)
    assert interleaved(loaded, mended) == [
        ("picture", 4),
        ("sound", 50),
        ("picture", 4),
        ("sound", 51),
    ]
    _tell(monkeypatch, lambda seconds: None)
    with using(engine, rollout_template(loaded)):
        (untold,) = prompts(engine, clip)
    assert interleaved(loaded, untold) == [("picture", 8), ("sound", 101)]


def test_vllm_counts_pieces_of_sound_that_have_no_picture(
    engine: Any, asked: dict[str, dict[str, Any]], loaded: LoadedModel, monkeypatch: Any
) -> None:
    clip = [asked["clip of 7.75 s"]]
    (mended,) = prompts(engine, clip)
    _tell(monkeypatch, lambda seconds: [5.0 for _ in seconds])
    with using(engine, rollout_template(loaded)):
        (told,) = prompts(engine, clip)
    sounds = [length for kind, length in interleaved(loaded, mended) if kind == "sound"]
    assert sounds[0] == 50
    assert sounds != [length for kind, length in interleaved(loaded, told) if kind == "sound"]


def _tell(patch: pytest.MonkeyPatch, change: Any) -> None:
    """Change what vLLM is told of the pictures' distances."""
    own = OmniTemplate.replace_tag

    def replace_tag(self: Any, media_type: Any, index: int, inputs: Any) -> Any:
        tag = own(self, media_type, index, inputs)
        told = inputs.mm_processor_kwargs
        if "second_per_grid_ts" in told:
            told["second_per_grid_ts"] = change(told["second_per_grid_ts"])
        return tag

    patch.setattr(OmniTemplate, "replace_tag", replace_tag)
    count_as_vllm(patch)


def test_vllm_shifts_the_positions_of_a_clip_with_sound(
    engine: Any, asked: dict[str, dict[str, Any]], loaded: LoadedModel, monkeypatch: Any
) -> None:
    clip = [asked["clip with sound"]]
    (mended,) = ask(engine, clip, max_tokens=1)
    count_as_vllm(monkeypatch)
    (shifted,) = ask(engine, clip, max_tokens=1)
    tokenizer: Any = loaded.processor.tokenizer
    start = mended.prompt.index(tokenizer.convert_tokens_to_ids("<|audio_bos|>"))
    assert mended.positions[0][start - 1 : start + 2] == [start - 1, start - 1, start]
    assert shifted.positions[0][start - 1 : start + 2] == [start - 1, start, start]


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


def test_vllm_generates_tokens_that_the_model_suppresses(
    engine: Any, asked: dict[str, dict[str, Any]], loaded: LoadedModel, monkeypatch: Any
) -> None:
    suppressed = set(loaded.model.generation_config.suppress_tokens)

    def sampled() -> set[int]:
        found = ask(engine, [asked["image"]] * 48, temperature=1.0, max_tokens=32, seed=1)
        return {token for seen in found for token in seen.tokens}

    assert not suppressed & sampled()
    monkeypatch.setattr(BarredTokens, "apply", lambda self, logits: logits)
    assert suppressed & sampled()


def test_clips_of_several_rates_are_refused(engine: Any, asked: dict[str, dict[str, Any]]) -> None:
    """vLLM takes one rate for a prompt, of which ms-swift keeps the first with a warning."""
    videos = asked["clip with sound"]["videos"] + asked["clip of 7.75 s"]["videos"]
    record = {**asked["two clips"], "videos": videos}
    with pytest.raises(ValueError, match="its clips are sampled at 4 and .* frames a second"):
        ask(engine, [record])
