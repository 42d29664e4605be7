"""The same prompts without a modality, to measure what it contributes to the answers.

==============  ==============================================================================
ablation        what the model is asked
==============  ==============================================================================
``no_sound``    sounds are left out, clips are mute
``no_picture``  images are left out, of a clip there is the sound alone
``shuffled``    every medium is that of another record of the same task
``text_only``   all media are left out
==============  ==============================================================================

A prompt that stays as it is, such as one without sound under ``no_sound``, is not asked again and
takes no part in the comparison.
"""

import os
import random
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import av
from av.error import FFmpegError

from components.eval.records import TestRecord
from omnistage.records.record import MEDIA, TAGS

Ablation = Literal["no_sound", "no_picture", "shuffled", "text_only"]
TITLES: dict[str, str] = {
    "no_sound": "without sound",
    "no_picture": "without picture",
    "shuffled": "with another record's media",
    "text_only": "text alone",
}
"""How the ablations are called in the report."""

Prompt = dict[str, Any]
_Item = tuple[str, str]
"""A medium: its list, such as ``audios``, and its path."""
_TAG = re.compile(r"<(image|audio|video)>\n?")


class Ablator:
    """Makes the prompts of an ablation; see the module."""

    def __init__(self, root: Path, derived: Path, *, sound_in_clips: bool) -> None:
        """Make one.

        Args:
            root: The media root.
            derived: Folder for mute copies of clips.
            sound_in_clips: Whether the model hears the sound of clips (``use_audio_in_video``).
        """
        self._root, self._derived, self._sound_in_clips = root, derived, sound_in_clips

    def prompts_of(
        self, prompts: Sequence[Prompt], ablations: Sequence[Ablation], groups: Mapping[str, str]
    ) -> list[Prompt]:
        """Return the changed prompts of ablations, with ids that :func:`answers_to` knows.

        Args:
            prompts: With ``id``, ``messages`` and absolute media paths.
            ablations: What is left out.
            groups: The group of a prompt by its id, such as its task; media are shuffled in it.
        """
        return [
            {**prompt, "id": _ablated_id(ablation, prompt["id"])}
            for ablation in ablations
            for prompt in self._ablated(prompts, ablation, groups)
        ]

    def _ablated(
        self, prompts: Sequence[Prompt], ablation: Ablation, groups: Mapping[str, str]
    ) -> list[Prompt]:
        if ablation == "shuffled":
            return _shuffled(prompts, groups)
        kept = {
            "no_sound": self._without_sound,
            "no_picture": self._without_picture,
            "text_only": lambda item: None,
        }[ablation]
        changed = [_with_media(prompt, kept) for prompt in prompts]
        return [new for new, old in zip(changed, prompts, strict=True) if not _same(new, old)]

    def _without_sound(self, item: _Item) -> _Item | None:
        kind, path = item
        if kind == "audios":
            return None
        return (kind, str(self._mute(Path(path)))) if self._heard(item) else item

    def _without_picture(self, item: _Item) -> _Item | None:
        kind, path = item
        if kind == "audios":
            return item
        return ("audios", path) if self._heard(item) else None

    def _heard(self, item: _Item) -> bool:
        return item[0] == "videos" and self._sound_in_clips and _has_sound(item[1])

    def _mute(self, clip: Path) -> Path:
        """Copy the pictures of a clip, not decoded, to a file without a sound track.

        A clip that cannot be read stays as it is: the prompt as it is fails on it too.
        """
        try:
            return self._mute_copy(clip)
        except (IndexError, FFmpegError):
            return clip

    def _mute_copy(self, clip: Path) -> Path:
        target = self._derived / clip.relative_to(self._root)
        if target.is_file():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{os.getpid()}-{target.name}")
        with av.open(str(clip)) as source, av.open(str(part), "w") as copy:
            pictures = source.streams.video[0]
            stream = copy.add_stream_from_template(pictures)
            for packet in source.demux(pictures):
                if packet.dts is not None:
                    packet.stream = stream
                    copy.mux(packet)
        return part.replace(target)


def answers_to(
    ablation: str, records: Sequence[TestRecord], answers: Mapping[str, Any]
) -> tuple[list[TestRecord], dict[str, Any]]:
    """Return the records that an ablation changed, and the answers to their changed prompts.

    Args:
        ablation: The ablation.
        records: All test records.
        answers: A model's answers by the id of the prompt, those to :meth:`Ablator.prompts_of`
            among them.

    Returns:
        The records, and their answers by the id of the prompt as it is.
    """
    found = {
        i: answers[_ablated_id(ablation, i)]
        for record in records
        for i in record.prompt_ids
        if _ablated_id(ablation, i) in answers
    }
    return [r for r in records if all(i in found for i in r.prompt_ids)], found


def _ablated_id(ablation: str, prompt_id: str) -> str:
    return f"{ablation}\n{prompt_id}"


def _has_sound(clip: str) -> bool:
    """Tell whether a clip has a sound track; one that cannot be read has none here.

    The prompt as it is fails on such a clip too, and is told there.
    """
    try:
        with av.open(clip) as container:
            return bool(container.streams.audio)
    except (OSError, FFmpegError):
        return False


def _with_media(prompt: Prompt, kept: Callable[[_Item], _Item | None]) -> Prompt:
    """Return a prompt whose media, in the order of their tags, went through a function.

    Args:
        prompt: The prompt.
        kept: What stands in a medium's place; None for nothing, and its tag goes too.
    """
    left = {kind: iter(prompt.get(kind, ())) for kind in MEDIA}
    media: dict[str, list[str]] = defaultdict(list)
    kinds = {tag: kind for kind, tag in TAGS.items()}

    def place(found: re.Match[str]) -> str:
        tag = f"<{found[1]}>"
        item = kept((kinds[tag], next(left[kinds[tag]])))
        if item is None:
            return ""
        media[item[0]].append(item[1])
        return TAGS[item[0]] + found[0][len(tag) :]

    messages = [
        m if m["role"] == "assistant" else {**m, "content": _TAG.sub(place, m["content"])}
        for m in prompt["messages"]
    ]
    rest = {key: value for key, value in prompt.items() if key not in MEDIA}
    return {**rest, "messages": messages, **media}


def _shuffled(prompts: Sequence[Prompt], groups: Mapping[str, str]) -> list[Prompt]:
    """Give every prompt the media of another record, of as many of each kind.

    The media of a group are put on a circle in a seeded order, and each takes the next one's: none
    keeps its own, and each is shown as often as before. Both orders of a pair get the same.
    """
    circles: dict[tuple[Any, ...], dict[tuple[Any, ...], None]] = defaultdict(dict)
    for prompt in prompts:
        circles[_circle(prompt, groups)][_media_of(prompt)] = None
    following: dict[tuple[Any, ...], dict[tuple[Any, ...], tuple[Any, ...]]] = {}
    for name, members in circles.items():
        order = sorted(members)
        random.Random(len(order)).shuffle(order)
        following[name] = dict(zip(order, [*order[1:], *order[:1]], strict=True))
    changed = []
    for prompt in prompts:
        media = following[_circle(prompt, groups)][_media_of(prompt)]
        if media != _media_of(prompt):
            lists = {kind: list(paths) for kind, paths in zip(MEDIA, media, strict=True) if paths}
            changed.append({**prompt, **lists})
    return changed


def _circle(prompt: Prompt, groups: Mapping[str, str]) -> tuple[Any, ...]:
    return (groups[prompt["id"]], *(len(paths) for paths in _media_of(prompt)))


def _media_of(prompt: Prompt) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(prompt.get(kind, ())) for kind in MEDIA)


def _same(new: Prompt, old: Prompt) -> bool:
    return _media_of(new) == _media_of(old)
