"""One tiny model, loaded by both engines, and its media."""

import os
from pathlib import Path
from typing import Any

import pytest

from components.download.tiny import families
from components.download.tiny.model import write_model
from components.download.tiny.settings import TinyModelSettings
from components.grpo.preflight import PreflightSpec
from components.grpo.preflight.loaded_model import LoadedModel, load_model, rollout_template
from omnistage.swift.family import FAMILIES
from omnistage.swift.media import MediaSettings, environment
from omnistage.swift.rollout.engine import LOGPROBS_VARIABLE
from tests.on_vllm.vllm_kit import LENGTHS, draw_clip, records, start_engine
from tests.swift.template_kit import write_media

MEDIA = MediaSettings(
    max_pixels=3136, video_max_pixels=3136, fps=1.0, fps_max_frames=20, use_audio_in_video=True
)
os.environ |= environment(MEDIA, 0, FAMILIES["qwen2_5_omni"])
os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"  # GiB
os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # else all processes take the same cores
os.environ[LOGPROBS_VARIABLE] = "raw_logprobs"  # as GRPO at temperature 1

SOUND_SECONDS = 8


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with an ear for eight seconds, of which a clip of several pieces fits."""
    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "AUDIO_SECONDS", SOUND_SECONDS)
        write_model(folder, TinyModelSettings())
    return folder


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    write_media(folder)
    draw_clip(folder / "loud2.mp4", 1, seed=1)
    for seconds in LENGTHS:
        draw_clip(folder / f"{seconds:g}s.mp4", seconds)
    return folder


@pytest.fixture(scope="session")
def asked(media: Path) -> dict[str, dict[str, Any]]:
    return records(media)


@pytest.fixture(scope="session")
def loaded(model: Path) -> LoadedModel:
    """The model as the trainer loads it."""
    spec = {"model": str(model), "model_type": "qwen2_5_omni", "records": "", "rewards": {}}
    return load_model(PreflightSpec(**spec, torch_dtype="float32", attn_impl="sdpa"))


@pytest.fixture(scope="session")
def template(loaded: LoadedModel) -> Any:
    return rollout_template(loaded)


@pytest.fixture(scope="session")
def engine(model: Path, loaded: LoadedModel) -> Any:
    """vLLM with omnistage's template."""
    return start_engine(model, rollout_template(loaded))
