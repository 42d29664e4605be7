"""How media are decoded, and the environment variables that ms-swift reads it from."""

import os
from functools import lru_cache
from pathlib import Path

from pydantic import Field

from omnistage.errors import InputError
from omnistage.records.media_facts import read_media
from omnistage.records.record import SPLITS
from omnistage.settings import Settings
from omnistage.swift.family import Family

RECORDS_VARIABLE = "OMNISTAGE_RECORDS"
"""Names the JSON Lines file of records in which a row that the trainer cannot encode is found."""

_FACTS, _ROOT = "OMNISTAGE_MEDIA_FACTS", "OMNISTAGE_MEDIA_ROOT"
_SOUND_RATE = 16_000  # Hz, of every family's feature extractor
_LEAST_IMAGE_TOKENS = 4  # of the Qwen utilities, as the next
_LEAST_VIDEO_TOKENS = 128  # the lower bound for a frame of the Qwen utilities


class MediaSettings(Settings):
    """Bounds on decoded media, the same in training, rollout and evaluation.

    ms-swift and the Qwen utilities take these from the environment only. This class is their one
    source: :func:`environment` makes the variables for every process that omnistage launches.
    """

    max_pixels: int = Field(
        default=262_144, gt=0, description="Most pixels of an image; larger ones are scaled down."
    )
    video_max_pixels: int = Field(default=32_768, gt=0, description="Most pixels of a video frame.")
    fps: float = Field(default=1.0, gt=0, description="Frames taken of a clip a second.")
    fps_max_frames: int = Field(default=20, gt=0, description="Most frames taken of a clip.")
    use_audio_in_video: bool = Field(
        default=False,
        description="Whether a clip's sound track is part of the clip (true) or an item of its "
        "own in `audios` (false); the same as in rewrite_paths.",
    )


def facts_environment(records: Path, root: Path) -> dict[str, str]:
    """Return the variables by which a process learns what is known of the records' media.

    Args:
        records: Folder of a RewrittenJSONL, see :mod:`omnistage.records.media_facts`.
        root: Media root.
    """
    return {_FACTS: str(records), _ROOT: str(root)}


@lru_cache(maxsize=100_000)
def has_sound(clip: str) -> bool:
    """Tell whether a clip has a sound track: as the data set's index says, else from its header."""
    known = _sound_tracks(os.environ.get(_FACTS), os.environ.get(_ROOT)).get(clip)
    if known is not None:
        return known
    import av  # here and not above: a launcher has no decoders

    with av.open(clip) as container:
        return bool(container.streams.audio)


@lru_cache(maxsize=8)
def _sound_tracks(records: str | None, root: str | None) -> dict[str, bool]:
    """Return which clips have a sound track, by absolute path."""
    if not records or not root:
        return {}
    return {
        f"{root}/{path}": facts["has_audio"]
        for split in SPLITS
        for path, facts in read_media(Path(records) / f"{split}.jsonl").items()
        if "has_audio" in facts
    }


def environment(media: MediaSettings, gpus: int, family: Family) -> dict[str, str]:
    """Return the environment of a process that decodes media or runs the model.

    Args:
        media: The bounds.
        gpus: GPUs of the machine; without any, one thread a process is the fastest for the
            small models that a CPU can train.
        family: The model's; the bounds in pixels become bounds in tokens of its size.

    Raises:
        InputError: If a bound is less than one token.
    """
    token = family.token_side**2
    if media.max_pixels < token or media.video_max_pixels < token:
        raise InputError(
            f"media: max_pixels {media.max_pixels} and video_max_pixels {media.video_max_pixels} "
            f"must be at least {token}, one token of {family.title}"
        )
    # The utilities lift the upper bound of a frame to 1.05 times the lower one, whose default is
    # 128 tokens: a smaller VIDEO_MAX_PIXELS alone is ignored without a word.
    least = min(_LEAST_VIDEO_TOKENS * token, int(media.video_max_pixels / 1.05))
    env = {
        "MAX_PIXELS": str(media.max_pixels),
        "VIDEO_MAX_PIXELS": str(media.video_max_pixels),
        "VIDEO_MIN_PIXELS": str(least),
        # ms-swift makes these of the three above, but not over values that another model's run
        # has left in the environment.
        "IMAGE_MAX_TOKEN_NUM": str(media.max_pixels // token),
        "IMAGE_MIN_TOKEN_NUM": str(min(_LEAST_IMAGE_TOKENS, media.max_pixels // token)),
        "VIDEO_MAX_TOKEN_NUM": str(media.video_max_pixels // token),
        "VIDEO_MIN_TOKEN_NUM": str(least // token),
        "FPS": str(media.fps),
        "FPS_MIN_FRAMES": str(min(4, media.fps_max_frames)),
        "FPS_MAX_FRAMES": str(media.fps_max_frames),
        "USE_AUDIO_IN_VIDEO": str(media.use_audio_in_video),
        "QWENVL_BBOX_FORMAT": "legacy",  # what boxes are written as; the default
        "ENABLE_AUDIO_OUTPUT": "0",  # the thinker alone; the talker is not trained
        # vLLM runs in the process that asks it, where omnistage.swift.rollout has mended it.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        **process_environment(gpus),
    }
    if family.hears:
        # Without it ms-swift leaves sounds at their own rate for vLLM, which then resamples them.
        env["SAMPLING_RATE"] = str(_SOUND_RATE)
    return env


def process_environment(gpus: int) -> dict[str, str]:
    """Return what every process that imports ms-swift has in its environment, whatever it does.

    Args:
        gpus: See :func:`environment`.
    """
    env = {
        # librosa's first load compiles for seconds; soundfile and PyAV read the same samples.
        "SWIFT_AUDIO_LOAD_BACKEND": "soundfile_pyav",
        # Models come from the store: no process of ours asks a hub.
        "USE_HF": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        # peft writes sets of module names; with a fixed hash their order is always the same.
        "PYTHONHASHSEED": "0",
    }
    if not gpus:
        env["OMP_NUM_THREADS"] = "1"
    return env
