"""A tiny Qwen2.5-Omni with some media, and an encoder for it as the encoding pass has one."""

import os
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from components.download.tiny.media import SAMPLE_RATE, draw
from components.download.tiny.model import write_model
from components.download.tiny.settings import TinyModelSettings
from omnistage.swift.encode_rows import Encoder, EncodeSpec
from omnistage.swift.family import FAMILIES
from omnistage.swift.media import MediaSettings, environment

MEDIA = MediaSettings(
    max_pixels=3136, video_max_pixels=3136, fps=2.0, fps_max_frames=4, use_audio_in_video=True
)


def write_media(folder: Path) -> None:
    """Write an image, a sound, a clip and one of each kind that cannot be trained on."""
    traits = {"colour": 0, "paper": 0, "count": 0, "direction": 0, "pitch": 0, "voice": 0}
    traits["beeps"] = 0
    for kind, name in (("image", "ok.png"), ("audio", "ok.wav"), ("video", "loud.mp4")):
        (folder / name).write_bytes(draw(kind, traits, (0, 0, 0, 0)))  # pyright: ignore[reportArgumentType]
    Image.new("RGB", (2400, 8)).save(folder / "thin.png")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(folder / "whole.jpg")
    cut = (folder / "whole.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(cut[: len(cut) // 2])
    for name, samples in (("empty.wav", 0), ("brief.wav", 80), ("long.wav", 3 * SAMPLE_RATE)):
        with wave.open(str(folder / name), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(SAMPLE_RATE)
            sound.writeframes(b"\1\2" * samples)
    with av.open(str(folder / "loud.mp4")) as source, av.open(str(folder / "mute.mp4"), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)


def encoder(folder: Path) -> Encoder:
    """Write the model into a folder and return an encoder of it; sets the environment."""
    os.environ.update(environment(MEDIA, 0, FAMILIES["qwen2_5_omni"]))
    write_model(folder / "model", TinyModelSettings())
    (folder / "media").mkdir()
    write_media(folder / "media")
    return Encoder(
        EncodeSpec(
            model=str(folder / "model"),
            model_type="qwen2_5_omni",
            dtype="float32",
            root=str(folder / "media"),
            files=[],
            processes=1,
        )
    )


def row(text: str, answer: str = "It is red.", **media: list[str]) -> dict[str, Any]:
    """Return a dialogue of one question and its answer."""
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    return {"messages": turns, **media}
