"""An estimate of the tokens of records that nobody has encoded yet, from what is known of them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omnistage.files import read_jsonl
from omnistage.records.media_facts import read_media
from omnistage.swift.encoding import Encoded
from omnistage.swift.family import Family
from omnistage.swift.media import MediaSettings

_CHARACTERS = 4  # of English text that make a token
_FRAMES_A_SECOND = 100  # mel frames of a sound
_MERGED_FRAMES = 2  # frames of a clip that become one in every family


def estimate(
    records: Path, prompts: bool, media: MediaSettings, family: Family
) -> Iterator[Encoded]:
    """Yield the tokens of each record of a split by modality, as they can be told beforehand.

    Text counts 4 characters a token; an image or frame its pixels, at most the bound, over those
    of one token; a sound its duration.

    Args:
        records: ``<split>.jsonl``, with what is known of its media beside it.
        prompts: Whether an answer at the end is left out.
        media: Bounds on media.
        family: The model's.
    """
    facts = read_media(records)
    for record in read_jsonl(records):
        turns = record["messages"]
        if prompts and turns[-1]["role"] == "assistant":
            turns = turns[:-1]
        tokens = {"text": sum(len(turn["content"]) for turn in turns) // _CHARACTERS + 1}
        images, audios, videos = (
            [facts.get(path, {}) for path in record.get(name, ())]
            for name in ("images", "audios", "videos")
        )
        sounds = sum(_sound(found, family) for found in audios)
        if media.use_audio_in_video:
            sounds += sum(_sound(found, family) for found in videos if found.get("has_audio"))
        tokens["image"] = sum(_picture(found, media.max_pixels, family) for found in images)
        tokens["video"] = sum(
            _picture(found, media.video_max_pixels, family) * _frames(found, media)
            for found in videos
        )
        tokens["audio"] = sounds
        yield Encoded({kind: count for kind, count in tokens.items() if count})


def _picture(found: Mapping[str, Any], most: int, family: Family) -> int:
    pixels = found.get("width", 0) * found.get("height", 0) or most
    return max(1, min(pixels, most) // family.token_side**2)


def _frames(found: Mapping[str, Any], media: MediaSettings) -> int:
    frames = min(media.fps * found.get("duration", 0), media.fps_max_frames)
    return max(1, round(frames / _MERGED_FRAMES))


def _sound(found: Mapping[str, Any], family: Family) -> int:
    return family.sound_tokens(max(1, int(found.get("duration", 0) * _FRAMES_A_SECOND)))
