"""The tiny Qwen2.5-Omni, loaded once, and good records for it.

Faults are put into the data, the settings or the parts of ms-swift, never into the checks.
"""

import json
import os

import pytest

from components.download.tiny.media import SUFFIX, draw
from components.download.tiny.model import write_model
from components.download.tiny.settings import TinyModelSettings
from components.download.tiny.text import ASPECTS, MODALITIES
from components.grpo.preflight import PreflightSpec, run
from components.grpo.preflight.loaded_model import load_model
from tests.components.grpo.preflight.preflight_kit import ENV, WEIGHTS, record


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """Undo what a run sets in the environment."""
    kept = dict(os.environ)
    yield
    monkeypatch.undo()
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture(scope="package")
def media(tmp_path_factory):
    """Two images, two sounds and two clips with sound."""
    folder = tmp_path_factory.mktemp("media")
    for kind in MODALITIES:
        for number in range(2):
            traits = {aspect.name: number for aspect in ASPECTS[kind]}
            (folder / f"{kind}{number}{SUFFIX[kind]}").write_bytes(
                draw(kind, traits, (0, 0, 0, number))
            )
    return folder


@pytest.fixture(scope="package")
def loaded(tmp_path_factory):
    """The model, loaded as the trainer does."""
    import torch

    folder = tmp_path_factory.mktemp("model")
    write_model(folder, TinyModelSettings())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the fastest for a model of this size
    kept = dict(os.environ)
    os.environ.update(ENV)
    spec = PreflightSpec(
        model=str(folder),
        model_type="qwen2_5_omni",
        records="",
        rewards={},
        torch_dtype="float32",
        attn_impl="sdpa",
    )
    yield load_model(spec)
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture
def records(media):
    return [
        record(kind, number, media / f"{kind}{number}{SUFFIX[kind]}")
        for kind in MODALITIES
        for number in range(2)
    ]


@pytest.fixture
def preflight(tmp_path, loaded):
    """Run preflight on records, with changes to the spec; return the result."""

    def check(rows, *, flag=True, env=None, **changes):
        path = tmp_path / "rl.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        environment = ENV | {"USE_AUDIO_IN_VIDEO": str(flag)} | (env or {})
        settings = {
            "model": "loaded already",
            "model_type": "qwen2_5_omni",
            "records": str(path),
            "use_audio_in_video": flag,
            "rewards": WEIGHTS,
            "env": environment,
            "torch_dtype": "float32",
        }
        return run(PreflightSpec.model_validate(settings | changes), load=lambda _: loaded)

    return check
