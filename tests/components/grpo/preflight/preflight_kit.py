"""Records to check before GRPO, and what is read of a result."""

import wave

import av
import numpy as np

from components.download.tiny.media import SAMPLE_RATE
from components.download.tiny.text import (
    ASPECTS,
    SYSTEM_PROMPT,
    user_prompt,
    verdict,
    verdict_text,
)

WEIGHTS = {"mm_format": 0.4, "mm_content": 0.4, "mm_rubric": 0.2, "r1omni_accuracy": 0.0}
ENV = {
    "ENABLE_AUDIO_OUTPUT": "0",
    "HF_HUB_OFFLINE": "1",
    "SWIFT_AUDIO_LOAD_BACKEND": "soundfile_pyav",
    "VIDEO_MIN_PIXELS": "3136",
    "VIDEO_MAX_PIXELS": "3136",
}


def record(kind, number, path):
    aspect = ASPECTS[kind][0]
    answers = (aspect.answers[number], aspect.answers[1 - number])
    prompt = user_prompt(kind, path.name, aspect.question, answers)
    return {
        "id": f"{kind}-{number}",
        "task": "judge",
        "messages": [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": f"<{kind}>{prompt}"},
        ],
        f"{kind}s": [str(path)],
        "solution": verdict_text(verdict(aspect.answers[number], "A", (9, 2), thorough=True)),
    }


def failure(result):
    """Return the name and the text of the one failed check."""
    failed = [check for check in result.checks if not check.ok]
    assert len(failed) == 1, result.message
    assert failed[0].name in result.message
    return failed[0].name, failed[0].detail


def clip(path, sound, media):
    """Write a copy of a clip without its sound track, or return its sound as a WAV file."""
    with av.open(str(media / "video0.mp4")) as source:
        if sound:
            chunks = [
                f.to_ndarray()
                for frame in source.decode(audio=0)
                for f in av.AudioResampler("s16", "mono", SAMPLE_RATE).resample(frame)
            ]
            with wave.open(str(path), "wb") as target:
                target.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
                target.writeframes(np.concatenate(chunks, axis=1).tobytes())
            return path
        with av.open(str(path), "w") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
    return path
