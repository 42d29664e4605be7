"""The tiny Qwen2.5-Omni under both engines, and records of every medium for it."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from components.download.tiny.media import FRAME_RATE, SAMPLE_RATE, SIDE
from components.grpo.preflight.loaded_model import LoadedModel, encode, with_mode
from components.grpo.preflight.vllm import noted_positions, prompt_of_loss
from omnistage.swift.family import FAMILIES
from tests.swift.template_kit import row

NEW_TOKENS = 16
LIMITS = {"image": 2, "audio": 2, "video": 2}


@dataclass(frozen=True)
class Seen:
    """What vLLM made of a record.

    Attributes:
        prompt: Token ids, media expanded.
        positions: Three axes × tokens.
        tokens: The completion.
        logprobs: Of each of its tokens, nats.
    """

    prompt: list[int]
    positions: list[list[int]]
    tokens: list[int]
    logprobs: list[float]


def draw_clip(path: Path, seconds: float, *, sound: bool = True, seed: int = 0) -> str:
    """Write a clip of noise whose brightness grows, with a hum that gets louder."""
    rng = np.random.default_rng(seed)
    frames = round(seconds * FRAME_RATE)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FRAME_RATE)
        video.width = video.height = SIDE
        video.pix_fmt = "yuv420p"
        hum = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if sound else None
        for number in range(frames):
            bright = rng.uniform(0, 55, (SIDE, SIDE, 3)) + 200 * number / frames
            picture = av.VideoFrame.from_ndarray(bright.astype(np.uint8), format="rgb24")
            container.mux(video.encode(picture))
        container.mux(video.encode())
        if hum:
            time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
            wave = (np.sin(2 * np.pi * 300 * time) * time / seconds).astype(np.float32)
            for start in range(0, len(wave), 1024):
                part = av.AudioFrame.from_ndarray(
                    wave[None, start : start + 1024], format="fltp", layout="mono"
                )
                part.sample_rate, part.pts = SAMPLE_RATE, start
                part.time_base = Fraction(1, SAMPLE_RATE)
                container.mux(hum.encode(part))
            container.mux(hum.encode())
    return str(path)


def records(media: Path) -> dict[str, dict[str, Any]]:
    """Return a record of every kind of prompt, by its name."""

    def path(name: str) -> str:
        return str(media / name)

    clips = {
        f"clip of {seconds:g} s": row("<video>What is it?", videos=[path(f"{seconds:g}s.mp4")])
        for seconds in LENGTHS
    }
    return {
        "text": row("What is red?"),
        "image": row("<image>What is it?", images=[path("ok.png")]),
        "two images": row("<image>or<image>?", images=[path("ok.png"), path("whole.jpg")]),
        "sound": row("<audio>What is it?", audios=[path("ok.wav")]),
        "long sound": row("<audio>What is it?", audios=[path("long.wav")]),
        "clip with sound": row("<video>What is it?", videos=[path("loud.mp4")]),
        "mute clip": row("<video>What is it?", videos=[path("mute.mp4")]),
        "two clips": row("<video>or<video>?", videos=[path("loud.mp4"), path("loud2.mp4")]),
        "image and clip": row(
            "<image>in<video>?", images=[path("ok.png")], videos=[path("loud.mp4")]
        ),
        "control token in the text": row("<image>is this <|VIDEO|>?", images=[path("ok.png")]),
        **clips,
    }


LENGTHS = (3, 4, 5.5, 7.75)  # seconds


def request(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record as engines are asked: without its answer."""
    asked = [dict(turn) for turn in record["messages"] if turn["role"] != "assistant"]
    media = {key: list(record.get(key) or []) for key in ("images", "audios", "videos")}
    return {"messages": asked, **media}


def ask(engine: Any, asked: list[dict[str, Any]], **settings: Any) -> list[Seen]:
    """Let vLLM complete records, greedily unless the settings say otherwise."""
    from swift.infer_engine import InferRequest, RequestConfig

    wanted = {"max_tokens": NEW_TOKENS, "temperature": 0, **settings}
    config = RequestConfig(return_details=True, logprobs=True, **wanted)
    with noted_positions(engine) as positions:
        requests = [InferRequest(**request(record)) for record in asked]
        answers = engine.infer(requests, config, use_tqdm=False)
    found = []
    for answer in answers:
        choice = answer.choices[0]
        logprobs = [entry["logprob"] for entry in choice.logprobs["content"]]
        prompt = list(answer.prompt_token_ids)
        found.append(Seen(prompt, positions[tuple(prompt)], list(choice.token_ids), logprobs))
    return found


def trained_on(
    loaded: LoadedModel, template: Any, record: dict[str, Any]
) -> tuple[list[int], list[list[int]]]:
    """Return the token ids and positions that the trainer computes the loss of a prompt on."""
    ids = encode(with_mode(template, "transformers"), record)["input_ids"]
    return prompt_of_loss(loaded, with_mode(template, "train"), record, len(ids))


def start_engine(model: Path, template: Any, **settings: Any) -> Any:
    """Start vLLM as ms-swift's GRPO starts it beside the trainer."""
    from swift.infer_engine import VllmEngine

    wanted = {
        "enforce_eager": True,
        "max_model_len": 1024,
        "max_num_seqs": 16,
        "limit_mm_per_prompt": LIMITS,
        "logprobs_mode": "processed_logprobs",
        **settings,
    }
    return VllmEngine(
        str(model),
        model_type=FAMILIES["qwen2_5_omni"].model_type,
        template=template,
        torch_dtype=torch.float32,
        **wanted,
    )
