"""Draws the images, sounds and clips of the tiny set: small, cheap to decode, easy to tell apart.

A medium is described by its traits, the index of the value of each aspect that ``text.ASPECTS``
can ask about, and a seed for what does not matter (place, size, noise, loudness). The same traits
and seed give the same bytes.
"""

import io
import wave
from collections.abc import Mapping
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from components.download.tiny.text import Modality

SIDE = 56  # pixels: two merged patches of 28 each way, the least that Qwen2.5-Omni takes
SAMPLE_RATE = 16000  # Hz
FRAME_RATE = 4  # frames a second; a clip has four: one second, two temporal patches
SUFFIX: dict[Modality, str] = {"image": ".png", "audio": ".wav", "video": ".mp4"}

_COLOURS = np.array([[210, 30, 40], [30, 170, 60], [40, 60, 220]], dtype=np.float32)
_PAPERS = np.array([20, 130, 240], dtype=np.float32)
_PITCHES = (220.0, 660.0, 1980.0)  # Hz
_DIRECTIONS = (-1, 1)  # left, right
_ROWS, _COLUMNS = np.mgrid[0:SIDE, 0:SIDE]

_Pixels = npt.NDArray[np.float32]  # row, column, RGB; 0 to 255
_Samples = npt.NDArray[np.float64]  # -1 to 1


def draw(modality: Modality, traits: Mapping[str, int], seed: tuple[int, ...]) -> bytes:
    """Return the bytes of one medium.

    Args:
        modality: ``image`` gives a PNG of 56 × 56 pixels, ``audio`` a mono 16-bit WAV of one
            second at 16 kHz, ``video`` an MP4 (H.264 and AAC) of 4 frames in one second.
        traits: Index of the value of each aspect that the medium shows.
        seed: Entropy for everything else.
    """
    rng = np.random.default_rng(seed)
    if modality == "image":
        return _png(_discs(traits, rng))
    if modality == "audio":
        return _wav(_beeps(traits["pitch"], traits["voice"], traits["beeps"] + 1, rng))
    return _mp4(_rolling_ball(traits, rng), _beeps(traits["pitch"], 0, 1, rng))


def _discs(traits: Mapping[str, int], rng: np.random.Generator) -> _Pixels:
    """Draw one to three discs of one colour on a paper, each in a quarter of its own."""
    pixels = np.full((SIDE, SIDE, 3), _PAPERS[traits["paper"]], dtype=np.float32)
    for quarter in rng.permutation(4)[: traits["count"] + 1]:
        row, column = 28 * (quarter // 2) + 14, 28 * (quarter % 2) + 14
        _disc(pixels, row + rng.uniform(-2, 2), column + rng.uniform(-2, 2), traits, rng)
    return pixels + rng.uniform(-4, 4, pixels.shape).astype(np.float32)


def _rolling_ball(traits: Mapping[str, int], rng: np.random.Generator) -> list[_Pixels]:
    """Draw the frames of a ball that rolls over a light floor, a patch of 14 pixels a frame."""
    floor, row = rng.uniform(200, 220), 14 + 28 * rng.integers(2) + rng.uniform(-2, 2)
    frames = []
    for step in (-1.5, -0.5, 0.5, 1.5):
        pixels = np.full((SIDE, SIDE, 3), floor, dtype=np.float32)
        column = SIDE / 2 + 14 * step * _DIRECTIONS[traits["direction"]] + rng.uniform(-1, 1)
        _disc(pixels, row, column, traits, rng)
        frames.append(pixels)
    return frames


def _disc(
    pixels: _Pixels, row: float, column: float, traits: Mapping[str, int], rng: np.random.Generator
) -> None:
    inside = (_ROWS - row) ** 2 + (_COLUMNS - column) ** 2 < rng.uniform(8, 10) ** 2
    pixels[inside] = _COLOURS[traits["colour"]] + rng.uniform(-15, 15, 3)


def _beeps(pitch: int, voice: int, count: int, rng: np.random.Generator) -> _Samples:
    """Return one second of sound: evenly spread beeps of one pitch and one voice.

    A flute is a pure tone, a buzzer a square wave, a rattle a tone switched on and off 25 times a
    second.
    """
    frequency = _PITCHES[pitch] * rng.uniform(0.95, 1.05)
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tone = np.sin(2 * np.pi * frequency * time + rng.uniform(0, 2 * np.pi))
    if voice == 1:
        tone = np.sign(tone)
    elif voice == 2:
        tone = tone * (np.sin(2 * np.pi * 25 * time) > 0)
    place = (time + rng.uniform(-0.02, 0.02)) * count % 1.0  # 0 to 1 within each beep's share
    sounding = (place > 0.15) & (place < 0.65)
    return rng.uniform(0.3, 0.6) * tone * sounding + rng.normal(0, 0.003, SAMPLE_RATE)


def _png(pixels: _Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_bytes(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _wav(samples: _Samples) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(SAMPLE_RATE)
        f.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def _mp4(frames: list[_Pixels], samples: _Samples) -> bytes:
    """Encode a clip with sound; one thread and bit-exact flags leave no date or build in it."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=FRAME_RATE)
        video.width = video.height = SIDE
        video.pix_fmt = "yuv420p"
        video.options = {"preset": "ultrafast", "crf": "20", "flags": "+bitexact"}
        video.thread_count = 1
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        audio.options = {"flags": "+bitexact", "aac_coder": "fast", "aac_tns": "0"}
        audio.codec_context.thread_count = 1
        for pixels in frames:
            picture = av.VideoFrame.from_ndarray(_bytes(pixels), format="rgb24")
            container.mux(video.encode(picture))
        container.mux(video.encode())
        for start in range(0, len(samples), 1024):  # the frame size of AAC
            part = samples[None, start : start + 1024].astype(np.float32)
            sound = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            sound.sample_rate, sound.pts = SAMPLE_RATE, start
            sound.time_base = Fraction(1, SAMPLE_RATE)
            container.mux(audio.encode(sound))
        container.mux(audio.encode())
    return buffer.getvalue()


def _bytes(pixels: _Pixels) -> npt.NDArray[np.uint8]:
    return np.clip(pixels, 0, 255).astype(np.uint8)
