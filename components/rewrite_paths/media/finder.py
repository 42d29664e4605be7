"""Turns a draft's paths into members of the data set and makes its text agree with them."""

import re
from dataclasses import dataclass, field
from typing import Any

from components.rewrite_paths.draft import Draft, RowError
from components.rewrite_paths.formats.turns import INLINE
from components.rewrite_paths.media.index import SOUND_CLIP, MemberIndex, clean
from components.rewrite_paths.media.path_rules import PathRules
from components.rewrite_paths.media.tags import (
    LINES,
    check_tags,
    insert_tags,
    path_lines,
    read_other_tags,
    rewrite_line,
    tags_of,
)
from omnistage.archives.media_names import media_kind
from omnistage.files import counted
from omnistage.records.record import MEDIA, TAGS

_MEDIUM = re.compile(r"image|img|picture|photo|audio|sound|wav|video|clip", re.IGNORECASE)
# An image as the first Qwen-VL has it in the text.
_IMG = re.compile(r"<img>([^<>\n]+\.\w+)</img>")


@dataclass(slots=True)
class Media:
    """The members that a record shows, by media list."""

    images: list[int] = field(default_factory=list)
    audios: list[int] = field(default_factory=list)
    videos: list[int] = field(default_factory=list)

    def all(self) -> list[int]:
        """Return the members of all lists."""
        return [*self.images, *self.audios, *self.videos]


class MediaFinder:
    """Finds the media of drafts.

    Args:
        index: Members of the data set.
        rules: Path rules of the recipe.
        keep_paths: Whether ``Image file: PATH`` stays in the prompt, with the new path.
        sound_in_clip: The setting ``use_audio_in_video``.
    """

    def __init__(
        self, index: MemberIndex, rules: PathRules, keep_paths: bool, sound_in_clip: bool
    ) -> None:
        self.index = index
        self.rules = rules
        self.keep_paths = keep_paths
        self.sound_in_clip = sound_in_clip

    def resolve_media(self, draft: Draft) -> Media:
        """Find a draft's media and reconcile the tags and paths in its text with them.

        The draft's messages are rewritten in place.

        Raises:
            RowError: If a medium is not there or not fit, or if text and media contradict.
        """
        media = self._reconcile(draft)
        if draft.unread and not media.all():
            self._check_unread(draft)
        for message in draft.messages:
            for mark, text in draft.hidden.items():
                message["content"] = message["content"].replace(mark, text)
        return media

    def _reconcile(self, draft: Draft) -> Media:
        self._adopt_paths_of_text(draft)
        for name in MEDIA:
            # Where this project's tags are as many as the media, other words for them are text.
            clip_sound = name == "audios" and draft.clip_sound
            if clip_sound or tags_of(draft.messages, name) != len(getattr(draft, name)):
                read_other_tags(draft.messages, name)
        media = Media()
        for name in MEDIA:
            setattr(media, name, self._members(draft, name))
        for name in MEDIA:
            self._rewrite_lines(draft, media, name)
        self._settle_sound(draft, media)
        counts = {name: len(getattr(media, name)) for name in MEDIA}
        tags = {name: tags_of(draft.messages, name) for name in MEDIA}
        for name in MEDIA:
            if counts[name] and not tags[name]:
                _check_answers(draft.messages, name)
        insert_tags(draft.messages, {n: counts[n] for n in MEDIA if counts[n] and not tags[n]})
        check_tags(draft.messages, counts)
        return media

    def _check_unread(self, draft: Draft) -> None:
        """Refuse a row that would be learned blind because of what its column of paths is called.

        Raises:
            RowError: ``media_column``, if a dropped column names a medium of the data set, or its
                own name and value both say that it means one.
        """
        for column, raw in draft.unread.items():
            kind = media_kind(raw)
            if not raw:
                raise RowError("media_column", f"{column}: {INLINE}")
            try:
                self._require(raw, f"{kind}s")
            except RowError:
                if not _MEDIUM.search(column):
                    continue
            raise RowError(
                "media_column",
                f"{column} names {raw[:200]!r}, and is not a column that media are read from; name "
                f"it in the recipe: columns: {{{kind}: {column}}}",
            )

    def _heard(self, clips: list[int]) -> list[bool]:
        """Say of each clip whether its sound is an item of its own."""
        return [not self.sound_in_clip and self.index.kinds[v] == SOUND_CLIP for v in clips]

    def _members(self, draft: Draft, name: str) -> list[int]:
        raws = getattr(draft, name)
        members = [self._require(raw, name) for raw in raws]
        if any(not self._same_folder(*found) for found in zip(raws, members, strict=True)):
            draft.dropped.append(f"{name}: folder of a path whose file was found by name alone")
        if not self.index.stretched.isdisjoint(members):
            draft.dropped.append(f"{name}: pixels that are not square are shown as if they were")
        return members

    def _same_folder(self, raw: str, member: int) -> bool:
        """Whether a path and the file it was taken for agree in more than the name."""
        given = clean(self.rules.apply(raw)).split("/")
        found = clean(self.index.path(member)).split("/")
        # Of a path of another disk the beginning says nothing; one of the data set is whole.
        compared = 2 if not given[0] or given[0].endswith(":") else max(len(given), len(found))
        return all(
            a == b
            for a, b in zip(given[: -compared - 1 : -1], found[: -compared - 1 : -1], strict=False)
        )

    def _require(self, raw: str, name: str) -> int:
        return self.index.require(self.rules.apply(raw), name)

    def _adopt_paths_of_text(self, draft: Draft) -> None:
        """Take a path that stands in the text alone as an item of its media list."""
        for message in draft.messages:
            if message["role"] != "user":
                continue
            if not draft.images and "</img>" in message["content"]:
                draft.images.extend(_IMG.findall(message["content"]))
                message["content"] = _IMG.sub(TAGS["images"], message["content"])
            if " file:" in message["content"]:
                for *_, name, path in path_lines(message["content"]):
                    if not getattr(draft, name) and _is_path(path):
                        getattr(draft, name).append(path)

    def _rewrite_lines(self, draft: Draft, media: Media, name: str) -> None:
        raws, members = getattr(draft, name), getattr(media, name)
        if not raws:
            return
        lines = self._lines_of(draft, raws, members, name)
        if not lines:
            return
        order = [item for *_, item in lines]
        in_place = tags_of(draft.messages, name) == 0 and sorted(order) == list(range(len(raws)))
        if in_place and order != sorted(order):
            setattr(media, name, [members[item] for item in order])
        for turn, start, end, item in reversed(lines):
            tag = TAGS[name] if in_place else ""
            shown = f"{LINES[name]}{self.index.path(members[item])}  "
            message = draft.messages[turn]
            message["content"], _ = rewrite_line(
                message["content"], start, end, tag, shown if self.keep_paths else None
            )

    def _lines_of(
        self, draft: Draft, raws: list[str], members: list[int], name: str
    ) -> list[tuple[int, int, int, int]]:
        """Return turn, start, end and item of each line that writes out a path of this list."""
        lines = []
        for turn, message in enumerate(draft.messages):
            if message["role"] != "user":
                continue
            for start, _, end, kind, path in path_lines(message["content"]):
                if kind == name:
                    item = self._item_of(path, raws, members, name)
                    if item is not None:
                        lines.append((turn, start, end, item))
        return lines

    def _item_of(self, path: str, raws: list[str], members: list[int], name: str) -> int | None:
        if path in raws:
            return raws.index(path)
        if not _is_path(path):
            return None
        base = clean(path).rpartition("/")[2]
        same = [i for i, raw in enumerate(raws) if clean(raw).rpartition("/")[2] == base]
        if len(same) == 1:
            return same[0]
        member = self._require(path, name)
        if member not in members:
            raise RowError(
                "path_mismatch",
                f"the text shows {self.index.path(member)}, which is not in {name}",
            )
        return members.index(member)

    def _settle_sound(self, draft: Draft, media: Media) -> None:
        """Decide whether the sound of a clip is part of it or an item, and never both."""
        if not media.videos:
            return
        excess = tags_of(draft.messages, "audios") - len(media.audios)
        with_sound = [v for v in media.videos if self.index.kinds[v] == SOUND_CLIP]
        if excess > 0 and draft.clip_sound:
            if excess != len(media.videos) or media.audios:
                shown = (
                    f"{counted(len(media.videos), 'clip')}, {counted(len(media.audios), 'sound')}"
                )
                raise RowError(
                    "tags_mismatch",
                    f"the sound of clips is meant by {counted(excess, '<audio> tag')}, but the row "
                    f"shows {shown}",
                )
            # A mute clip is shown as a mute clip, whatever its row says.
            _keep_tags(draft.messages, TAGS["audios"], self._heard(media.videos))
            if not self.sound_in_clip:
                media.audios = with_sound
            return
        if not self.sound_in_clip or not with_sound:
            return
        if excess > 0:
            raise RowError(
                "audio_counted_twice",
                "use_audio_in_video is on, and an <audio> tag stands for no item but the clip's "
                "own sound",
            )
        # A sound of the clip's name is the clip's only in a format that means it so: elsewhere two
        # files may share a name by chance.
        stems = {_stem(self.index.name(v)) for v in with_sound} if draft.clip_sound else set()
        bytes_of = self.index.first_duplicate
        same = {bytes_of[v] for v in with_sound}
        for audio in media.audios:
            if _stem(self.index.name(audio)) in stems or bytes_of[audio] in same:
                raise RowError(
                    "audio_counted_twice",
                    f"use_audio_in_video is on, and {self.index.path(audio)} is the sound of a "
                    "clip of the same record",
                )


def _check_answers(messages: list[dict[str, Any]], name: str) -> None:
    """Refuse media whose only tags stand in answers: they would be shown before the question."""
    if any(m["role"] == "assistant" and TAGS[name] in m["content"] for m in messages):
        raise RowError(
            "tags_mismatch", f"{name}: their {TAGS[name]} stands in an answer, which shows no media"
        )


def _is_path(text: str) -> bool:
    name = text.replace("\\", "/").rpartition("/")[2]
    return "." in name and ("/" in text or "\\" in text or " " not in text)


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


def _keep_tags(messages: list[dict[str, Any]], tag: str, kept: list[bool]) -> None:
    """Remove a tag, and the end of its line, wherever ``kept`` is false for its place."""
    keep = iter(kept)
    for message in messages:
        if message["role"] != "assistant":
            message["content"] = re.sub(
                f"{tag}\n?",
                lambda found: found[0] if next(keep) else "",
                message["content"],
            )
