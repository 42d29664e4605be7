"""Preflight asks vLLM itself, where it will roll out."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from swift.template.templates.qwen import Qwen2_5OmniTemplate

from components.grpo.preflight import PreflightResult, PreflightSpec, model, run
from components.grpo.preflight.loaded_model import LoadedModel
from omnistage.swift.template import OmniTemplate
from tests.components.grpo.preflight.preflight_kit import WEIGHTS, record
from tests.on_vllm.test_faults import count_as_vllm


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    kept = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture
def checked(
    tmp_path: Path, media: Path, loaded: LoadedModel, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Run preflight on an image and a clip; vLLM has been started already."""
    rows = [record("image", 0, media / "ok.png"), record("video", 0, media / "loud.mp4")]
    rows += [record("video", 1, media / "4s.mp4"), record("audio", 1, media / "ok.wav")]
    (tmp_path / "rl.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    monkeypatch.setattr(model, "start_vllm", lambda spec, settings, template: engine)
    spec = PreflightSpec.model_validate(
        {
            "model": "loaded already",
            "model_type": "qwen2_5_omni",
            "records": str(tmp_path / "rl.jsonl"),
            "use_audio_in_video": True,
            "rewards": WEIGHTS,
            "torch_dtype": "float32",
            "vllm": {
                "max_model_len": 1024,
                "limit_mm_per_prompt": {"video": 1},
                "gpu_memory_utilization": 0.5,
                "enforce_eager": True,
            },
        }
    )
    return lambda: run(spec, load=lambda _: loaded)


def detail(result: PreflightResult, name: str) -> str:
    return next(check.detail for check in result.checks if check.name == name)


def test_vllm_is_compared_with_plain_inference(checked: Any) -> None:
    result = checked()
    assert result.ok, result.message
    assert "4 prompts, same tokens as plain inference" in detail(result, "vLLM parity")
    assert detail(result, "vLLM positions") == "4 prompts, same positions as the loss"


def test_a_prompt_that_vllm_sees_otherwise_keeps_grpo_from_starting(
    checked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OmniTemplate, "replace_tag", Qwen2_5OmniTemplate.replace_tag)
    count_as_vllm(monkeypatch)
    result = checked()
    assert [check.name for check in result.checks if not check.ok] == ["vLLM parity"]
    assert "tokens, plain inference" in detail(result, "vLLM parity")


def test_a_clip_that_vllm_counts_otherwise_keeps_grpo_from_starting(
    checked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_as_vllm(monkeypatch)
    result = checked()
    assert not result.ok
    assert "(video): from token" in detail(result, "vLLM positions")
    assert "vLLM has other positions than the trainer ((" in detail(result, "vLLM positions")
