"""ms-swift's templates with four rules of omnistage; a plugin that registers them.

Passed to ms-swift as ``--external_plugins`` and imported by every other process that encodes a
record (the encoding pass, preflight, evaluation), so that data, training, rollout and evaluation
see the same tokens. A template of a family is called :attr:`Family.omnistage_template`.

**Text is text.** Control tokens of the tokenizer (``<|im_end|>``, ``<|AUDIO|>``, …) and ms-swift's
own marks (``<bbox>``, ``<img>``, ``{{QUERY}}``, …) that stand in the text of a record are spelled
in ordinary tokens; ``<bbox>`` and ``<ref-object>`` keep their meaning in a record with ``objects``.
Tags place a medium in user and system turns only, and not with a backslash, ``<\\image>`` (see
:mod:`omnistage.records.plain_text`). Text without any of these is tokenized as ms-swift does. A
turn that is given as token ids (a sampled completion) stays as it is.

**A mute clip is a mute clip.** With ``use_audio_in_video`` a record whose clips all lack a sound
track is encoded without sound, as if the setting were off for it alone, in training, rollout and
evaluation; batches may mix both. A record with sounding and mute clips is refused: Qwen's
positions know one rule for a prompt.

**Nothing is cut, and a row that fails has a name.** What does not fit raises an error instead of
being truncated, a sound that the feature extractor would cut too, and the error names the record.

**vLLM sees the same prompt.** What it would do otherwise is in :mod:`omnistage.swift.rollout`.
"""

import json
import os
import re
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from swift.template import TEMPLATE_MAPPING, Template, register_template
from swift.template.templates.qwen import (
    Qwen2_5VLTemplate,
    Qwen3OmniTemplate,
    Qwen3VLTemplate,
)

from omnistage.swift.family import FAMILIES
from omnistage.swift.media import RECORDS_VARIABLE, has_sound
from omnistage.swift.rollout.engine import engine_arguments
from omnistage.swift.rollout.prompts import VLLMClips

# Noncharacters, which no text may hold: literal text stands between two _MARK, broken by _JOINT so
# that nothing finds it.
_MARK, _JOINT = "\ufdd0", "\ufdd1"
_OWN_MARKS = ("<cot-process>", "<start-image>", "<img>", "</img>")
_GROUNDING = ("<bbox>", "<ref-object>")
_FIELDS = ("{{SYSTEM}}", "{{QUERY}}", "{{RESPONSE}}", "{{ROUND0}}", "{{ROUND1}}")
_PADDING_SECONDS = 0.15  # of silence that a codec may add to a sound
_TAG = r"<\\*(?:image|audio|video)>"


class _Rules(Template):
    """The rules, over any of ms-swift's templates."""

    def encode(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Encode a row; an error names it.

        Raises:
            ValueError: If it cannot be encoded or is too long.
        """
        try:
            return super().encode(inputs, *args, **kwargs)
        except Exception as e:
            name = _record_of(inputs)
            if name is None:
                raise
            raise ValueError(f"{name} cannot be encoded: {type(e).__name__}: {e}") from e

    def is_plain(self, record: dict[str, Any]) -> bool:
        """Tell whether nothing in a record's texts has to be spelled out."""
        found = (
            match[0]
            for message in record["messages"]
            for match in self._control.finditer(message["content"])
            if message["role"] == "assistant" or match[0] not in ("<image>", "<audio>", "<video>")
        )
        return next(found, None) is None

    def prepare_engine_kwargs(self) -> dict[str, Any]:
        """Return what an engine is started with: vLLM knows no ``suppress_tokens`` by itself."""
        found = super().prepare_engine_kwargs()
        if self.mode == "vllm":
            found |= engine_arguments(Path(self.model_info.model_dir))
        return found

    def _encode_truncated(self, inputs: Any) -> Any:
        kept = _GROUNDING if inputs.objects else ()
        for message in inputs.messages:  # encode() has made a copy of them
            if isinstance(message["content"], str):
                answer = message["role"] == "assistant"
                message["content"] = self._literal(message["content"], kept, answer)
        if inputs.system:
            inputs.system = self._literal(inputs.system, kept, False)
        return super()._encode_truncated(inputs)

    def _truncate(self, *args: Any, **kwargs: Any) -> Any:
        raise ValueError(f"it is longer than max_length {self.max_length}")

    @cached_property
    def _control(self) -> re.Pattern[str]:
        """What may have to be spelled in ordinary tokens where a text holds it."""
        added = self.tokenizer.added_tokens_decoder.values()
        tokens = {str(token) for token in added if token.special}
        tokens |= {*_OWN_MARKS, *_GROUNDING, *_FIELDS}
        longest_first = sorted(map(re.escape, tokens), key=len, reverse=True)
        return re.compile("|".join([_TAG, *longest_first]))

    def _literal(self, text: str, kept: tuple[str, ...], answer: bool) -> str:
        if _MARK in text or _JOINT in text:
            raise ValueError("its text holds the noncharacter U+FDD0 or U+FDD1")

        def spelled(found: re.Match[str]) -> str:
            word = found[0]
            if not answer and re.fullmatch(_TAG, word):
                if word[1] != "\\":
                    return word
                word = "<" + word[2:]
            if word in kept:
                return word
            return f"{_MARK}{word[0]}{_JOINT}{word[1:]}{_MARK}"

        return self._control.sub(spelled, text)

    def _tokenize(self, context: Any, **kwargs: Any) -> Any:
        if not isinstance(context, str) or _MARK not in context:
            return super()._tokenize(context, **kwargs)
        ids: list[int] = []
        for number, piece in enumerate(context.split(_MARK)):
            if number % 2:
                word = piece.replace(_JOINT, "")
                ids += super()._tokenize(word, split_special_tokens=True, **kwargs)
            elif piece:
                ids += super()._tokenize(piece, **kwargs)
        return ids


class _OmniRules(_Rules, VLLMClips):
    """The rules about sounds, over the templates of models that hear."""

    def _encode_truncated(self, inputs: Any) -> Any:
        clips = [clip for clip in inputs.videos if isinstance(clip, str)]
        if self.use_audio_in_video and clips:
            sounding = sum(map(has_sound, clips))
            if 0 < sounding < len(clips):
                raise ValueError(
                    f"{len(clips) - sounding} of its {len(clips)} clips have no sound track: with "
                    "use_audio_in_video the clips of a record need to be all mute or none"
                )
            if not sounding:
                mute = self._copy(use_audio_in_video=False)  # rows are encoded in threads
                encode: Any = super(_OmniRules, mute)
                return self._with_whole_sounds(inputs, encode._encode_truncated(inputs))
        return self._with_whole_sounds(inputs, super()._encode_truncated(inputs))

    def _with_whole_sounds(self, inputs: Any, encoded: Any) -> Any:
        """Return an encoded row of whose sounds nothing is cut.

        Raises:
            ValueError: If something is: Qwen2.5-Omni's feature extractor holds 300 s.
        """
        mask = encoded.get("feature_attention_mask")
        if mask is None:
            return encoded
        extractor = self.processor.feature_extractor
        hop, rate = extractor.hop_length, extractor.sampling_rate
        for sound, frames in zip(inputs.audios, mask.sum(-1).tolist(), strict=True):
            heard = frames * hop / rate
            whole = len(sound[0] if isinstance(sound, tuple) else sound) / rate
            if whole > heard + _PADDING_SECONDS:
                raise ValueError(
                    f"the model's feature extractor holds {heard:g} s of a sound, this one has "
                    f"{whole:.1f} s"
                )
        return encoded

    def _copy(self, *, use_audio_in_video: bool) -> Any:
        other = copy(self)  # made as for pickling: without the model
        other.model, other.dummy_model = self.model, self.dummy_model
        other.use_audio_in_video = use_audio_in_video
        return other

    def _get_position_ids(self, inputs: dict[str, Any]) -> dict[str, Any]:
        if not self.use_audio_in_video or inputs.get("video_grid_thw") is None:
            return super()._get_position_ids(inputs)
        rows = list(self._rows(inputs))
        if not any(row["mute"] for row in rows):
            return super()._get_position_ids(inputs)
        found = []
        for row in rows:
            template = self._copy(use_audio_in_video=not row.pop("mute"))
            template.mode = "train"  # ms-swift leaves the positions to the model otherwise
            above: Any = super(_OmniRules, template)
            found.append(above._get_position_ids(row)["position_ids"])
        positions = torch.cat(found, dim=1)
        if self.is_training:
            inputs.pop("video_second_per_grid", None)  # as ms-swift does
        else:  # what generate() would make of the mask itself
            mask = inputs["attention_mask"]
            positions[0] = (mask.long().cumsum(-1) - 1).masked_fill(mask == 0, 0)
        return {"position_ids": positions}

    def _rows(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Take a batch apart into rows with their own media."""
        start, sound, image, video = self._control_ids
        seconds = batch.get("video_second_per_grid")
        taken = {"images": 0, "videos": 0, "audios": 0}
        for number, ids in enumerate(batch["input_ids"].tolist()):
            after = [b for a, b in pairwise(ids) if a == start]
            counts = {
                "images": after.count(image),
                "videos": after.count(video) + after.count(sound),
                "audios": ids.count(sound),
            }
            place = {k: slice(taken[k], taken[k] + n) for k, n in counts.items()}
            taken = {k: taken[k] + n for k, n in counts.items()}
            row: dict[str, Any] = {
                "mute": video in after,
                "input_ids": batch["input_ids"][number : number + 1],
            }
            if batch.get("attention_mask") is not None:
                row["attention_mask"] = batch["attention_mask"][number : number + 1]
            for key, kind in (
                ("image_grid_thw", "images"),
                ("video_grid_thw", "videos"),
                ("feature_attention_mask", "audios"),
            ):
                if counts[kind]:
                    row[key] = batch[key][place[kind]]
            if seconds is not None and counts["videos"]:
                row["video_second_per_grid"] = seconds[place["videos"]]
            yield row

    @cached_property
    def _control_ids(self) -> tuple[int, ...]:
        name = self.template_meta.template_type
        family = next(f for f in FAMILIES.values() if f.omnistage_template == name)
        tokens = (
            family.vision_start,
            str(family.sound_start),
            family.placeholders["image"],
            family.placeholders["video"],
        )
        ids: Any = self.tokenizer.convert_tokens_to_ids(list(tokens))
        return tuple(ids)


class OmniTemplate(_OmniRules):
    """Qwen2.5-Omni's."""


class _FractionalTimes(Qwen3OmniTemplate):
    """Keeps the fractions of Qwen3-Omni's times.

    The model places frames and sounds at fractions of its unit of time. ms-swift cuts them off in
    training (``Qwen2_5OmniTemplate._get_position_ids``) and generation does not, so that the loss
    would be computed on other positions than the rollout.
    """

    def _get_position_ids(self, inputs: dict[str, Any]) -> dict[str, Any]:
        if not self.is_training:
            return {}
        heard = inputs.get("feature_attention_mask")
        seconds = inputs.pop("video_second_per_grid", None)
        mask = inputs.get("attention_mask_2d")
        if mask is None:
            mask = inputs.get("attention_mask")
        rope_index: Any = self._get_get_rope_index()
        positions, _ = rope_index(
            inputs["input_ids"],
            inputs.get("image_grid_thw"),
            inputs.get("video_grid_thw"),
            torch.ones_like(inputs["input_ids"]) if mask is None else mask,
            self.use_audio_in_video,
            None if heard is None else heard.sum(1),
            None if seconds is None else torch.as_tensor(seconds, dtype=torch.float32),
        )
        return {"position_ids": self._concat_text_position_ids(positions)}


class Omni3Template(_OmniRules, _FractionalTimes):
    """Qwen3-Omni's.

    In a batch of a training the times are whole multiples of 2^-16: under DeepSpeed the trainer
    turns everything that is not whole into the type of the weights.
    """

    _TICKS = 1 << 16

    def _get_position_ids(self, inputs: dict[str, Any]) -> dict[str, Any]:
        found = super()._get_position_ids(inputs)
        if not self.is_training or "position_ids" not in found:
            return found
        positions = found["position_ids"].double()
        positions[1:] *= self._TICKS  # all but the text's own
        return {"position_ids": positions.round().long()}

    def _post_encode(self, model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        inputs = super()._post_encode(model, inputs)
        positions = inputs.get("position_ids")
        if not self.is_training or positions is None:
            return inputs
        return inputs | {"position_ids": (positions.double() / self._TICKS).float()}


class _IdRules(_Rules):
    """Takes media token ids from the processor; ms-swift's constants fit the published models."""

    def init_processor(self, processor: Any) -> None:
        """Bind the processor."""
        super().init_processor(processor)
        if processor is not None:
            self.image_token_id = processor.image_token_id
            self.video_token_id = processor.video_token_id


class VLTemplate(_IdRules, Qwen2_5VLTemplate):
    """Qwen2.5-VL's."""


class VL3Template(_IdRules, Qwen3VLTemplate):
    """Qwen3-VL's."""


def _record_of(inputs: Any) -> str | None:
    """Return what the row is called in the file of records, or None where there is no file."""
    path = os.environ.get(RECORDS_VARIABLE)
    if not path:
        return None
    chosen = getattr(inputs, "chosen", inputs)
    messages = chosen["messages"] if isinstance(chosen, dict) else chosen.messages
    asked = [m["content"] for m in messages if m["role"] == "user"]
    with Path(path).open(encoding="utf-8") as f:
        for line in f:
            row = json.loads(line)
            if [m["content"] for m in row["messages"] if m["role"] == "user"] == asked:
                return f"record {row.get('id')!r}"
    return f"the row that asks {str(asked)[:120]}"


_CLASSES: dict[str, type[Template]] = {
    "qwen2_5_omni": OmniTemplate,
    "qwen3_omni": Omni3Template,
    "qwen2_5_vl": VLTemplate,
    "qwen3_vl": VL3Template,
}

for _family in FAMILIES.values():
    register_template(
        replace(
            TEMPLATE_MAPPING[_family.template],
            template_type=_family.omnistage_template,
            template_cls=_CLASSES[_family.template],
        ),
        exist_ok=True,
    )
