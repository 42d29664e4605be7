"""What fits the records: rewards for their task, bounds for their media."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnistage.files import read_jsonl
from omnistage.records.media_facts import read_media
from omnistage.records.record import SPLITS

_JUDGE = {"mm_format": 0.4, "mm_content": 0.4, "mm_rubric_strict": 0.2}
_PREFERENCE = {"mm_format": 0.4, "unified_rl": 0.4, "mm_rubric_strict": 0.2}
_LABEL = {"r1omni_accuracy": 1.0, "r1omni_format": 1.0}
_MATHS = {"lmm_math": 1.0, "lmm_format": 0.5}
_BOX = {"rec_iou": 1.0, "omnirl_format": 1.0}
_WORDS = {"omnirl_accuracy": 1.0, "omnirl_format": 1.0}
_BY_TASK = {
    "math": (_MATHS, "LMM-R1's: equal as mathematics, and the tags"),
    "numeric": (_MATHS, "LMM-R1's: equal as mathematics, and the tags"),
    "choice": (_LABEL, "R1-Omni's: exactly the gold answer, and the tags"),
    "multi_choice": (_LABEL, "R1-Omni's: exactly the gold answer, and the tags"),
    "yes_no": (_LABEL, "R1-Omni's: exactly the gold answer, and the tags"),
    "emotion": (_LABEL, "R1-Omni's: exactly the gold answer, and the tags"),
    "rec": (_BOX, "OmniRL's: IoU with the gold box above .5, and the tags"),
}
_OTHER = (_WORDS, "OmniRL's: overlap with the words of the gold answer, and the tags")
_MOST_PIXELS, _MOST_FRAME_PIXELS, _MOST_FRAMES = 262_144, 65_536, 20
_TOKEN = 32 * 32  # pixels of the largest token of all families
_USUAL = 0.9  # share of the media that a bound leaves as they are


@dataclass(frozen=True)
class Rewards:
    """Rewards and why these."""

    weights: Mapping[str, float]
    why: str


def choose_rewards(records: Path) -> Rewards:
    """Return the rewards that fit the most frequent task of a split."""
    tasks: Counter[str] = Counter()
    scored = 0
    for record in read_jsonl(records):
        tasks[record["task"]] += 1
        scored += "score_A" in record
    task = tasks.most_common(1)[0][0]
    if task == "judge":
        if scored * 2 >= tasks["judge"]:
            return Rewards(_JUDGE, "OmniCritic's: form, winner and scores, reasoning")
        return Rewards(_PREFERENCE, "form, winner, reasoning; the rows have no scores")
    weights, why = _BY_TASK.get(task, _OTHER)
    return Rewards(weights, why)


def choose_media(folder: Path, sound_in_video: bool) -> dict[str, Any]:
    """Return bounds that leave nine of ten media as they are, within what the recipes use.

    Args:
        folder: Of the RewrittenJSONL.
        sound_in_video: Whether the sound of a clip is part of it.
    """
    facts = [m for split in SPLITS for m in read_media(folder / f"{split}.jsonl").values()]
    images = [m["width"] * m["height"] for m in facts if m.get("type") == "image"]
    clips = [m for m in facts if m.get("type") == "video"]
    frames = [m["width"] * m["height"] for m in clips if m.get("width") and m.get("height")]
    seconds = [m["duration"] for m in clips if m.get("duration")]
    found: dict[str, Any] = {}
    if images:
        found["max_pixels"] = _bound(images, _MOST_PIXELS)
    if clips:
        found["video_max_pixels"] = _bound(frames, _MOST_FRAME_PIXELS)
        found["fps"] = 1.0
        found["fps_max_frames"] = min(_MOST_FRAMES, max(4, math.ceil(_usual(seconds or [4.0]))))
        found["use_audio_in_video"] = sound_in_video
    return found


def _bound(pixels: Sequence[float], most: int) -> int:
    usual = _usual(pixels or [most])
    return int(min(most, max(1, math.ceil(usual / _TOKEN)) * _TOKEN))


def _usual(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(_USUAL * len(ordered)) - 1)]
