"""Checks of what ms-swift's template makes of the records: distinct, complete, counted once."""

import os
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from components.grpo.preflight.loaded_model import LoadedModel, encode, greedy_config, with_sound
from components.grpo.preflight.records import MEDIA, name_of, tag_count
from components.grpo.preflight.spec import Check, PreflightSpec, failed, passed
from omnistage.records.record import modality_of
from omnistage.swift.media import has_sound

_FLAG = "use_audio_in_video"
_TRUE = {"1", "true", "yes", "on", "y", "t"}
_SAME_SOUND = 0.9  # correlation of two sounds at their best shift


def check_flag(spec: PreflightSpec, template: Any, sample: list[dict[str, Any]]) -> Check:
    """Check that ms-swift will use the sound of videos exactly if the settings say so.

    ms-swift reads the flag from the environment only. One clip is encoded on and off: a flag that
    is not forwarded leaves the number of tokens as it is.
    """
    value = os.environ.get("USE_AUDIO_IN_VIDEO", "false")
    in_env = value.strip().lower() in _TRUE
    wanted = spec.use_audio_in_video
    used = getattr(template, _FLAG, False)  # a template of a model that cannot hear has none
    if in_env != wanted or used != wanted:
        return failed(
            _FLAG,
            f"the settings say {wanted}, the environment says USE_AUDIO_IN_VIDEO={value}, and "
            f"ms-swift's template uses {used}. Set it in one place, the "
            "settings, and pass USE_AUDIO_IN_VIDEO to the trainer from there",
        )
    if not hasattr(template, _FLAG):
        return passed(_FLAG, "False everywhere; the model cannot hear")
    clips = [r for r in sample if r.get("videos") and all(map(has_sound, r["videos"]))]
    if not clips:
        return passed(_FLAG, f"{wanted} everywhere; no video with sound in the sample to try it on")
    on, off = (
        len(encode(with_sound(template, flag), clips[0])["input_ids"]) for flag in (True, False)
    )
    if on == off:
        return failed(
            _FLAG,
            f"{name_of(clips[0])} has {on} tokens with the sound of its video and without: the "
            "flag does not reach the template",
        )
    return passed(_FLAG, f"{wanted} everywhere; a clip has {on} tokens with sound, {off} without")


def encode_all(
    template: Any, sample: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], Check | None]:
    """Encode the records; also return a failed check, naming the record, if ms-swift raises."""
    encoded = []
    for record in sample:
        try:
            encoded.append(encode(template, record))
        except Exception as e:  # of any kind: decoders raise their own
            media = ", ".join(_shown(record))
            return encoded, failed(
                "encoding",
                f"ms-swift cannot encode {name_of(record)} with {media}: {type(e).__name__}: {e}",
            )
    return encoded, None


def check_batch(loaded: LoadedModel, template: Any, sample: list[dict[str, Any]]) -> Check:
    """Check that a batch of two distinct prompts has two distinct rows, each its own prompt.

    Where all records ask the same about other media, as R1-Omni's do, their rows of tokens may be
    the same; that media matter is checked apart.
    """
    name = "distinct prompts"
    pairs = list(combinations(sample, 2))
    asked = next((pair for pair in pairs if len({str(r["messages"]) for r in pair}) == 2), None)
    shown = next((pair for pair in pairs if len({_shown(r) for r in pair}) == 2), None)
    pair = asked or shown
    if pair is None:
        return failed(
            name, f"all {len(sample)} sampled records have the same prompt; look at the RL records"
        )
    encoded = [encode(template, record) for record in pair]
    ids = [list(one["input_ids"]) for one in encoded]
    rows = template.data_collator([dict(one) for one in encoded])["input_ids"].tolist()
    pad = loaded.processor.tokenizer.pad_token_id
    for record, own, row in zip(pair, ids, rows, strict=True):
        if row[-len(own) :] != own or any(token != pad for token in row[: -len(own)]):
            return failed(name, f"the batch does not hold the prompt of {name_of(record)}")
    if asked and rows[0] == rows[1]:
        return failed(
            name,
            f"{name_of(pair[0])} and {name_of(pair[1])} have distinct prompts and one encoding: "
            "the media or the text do not reach the template",
        )
    return passed(name, f"2 prompts of {len(ids[0])} and {len(ids[1])} tokens, 2 encodings")


def _shown(record: dict[str, Any]) -> tuple[str, ...]:
    """Return the paths of a record's media."""
    return tuple(path for column in MEDIA.values() for path in record.get(column) or [])


def check_counts(
    loaded: LoadedModel,
    template: Any,
    sample: list[dict[str, Any]],
    encoded: list[dict[str, Any]],
    use_audio_in_video: bool,
) -> list[Check]:
    """Check items = tags in what the template made, and audios = tags + sounding videos.

    Args:
        loaded: The processor, for the merge size and the tokenizer.
        template: The rollout template.
        sample: The records.
        encoded: What the template made of each.
        use_audio_in_video: Whether the sound of a video counts as an audio.
    """
    counts = _check_counts(loaded, sample, encoded, use_audio_in_video)
    return [counts, _check_sound_once(template, sample, use_audio_in_video)]


def _check_counts(
    loaded: LoadedModel, sample: list[dict[str, Any]], encoded: list[dict[str, Any]], sound: bool
) -> Check:
    name = "media counts"
    for record, inputs in zip(sample, encoded, strict=True):
        tags = {kind: tag_count(record, kind) for kind in MEDIA}
        sounding = sum(map(has_sound, record.get("videos") or [])) if sound else 0
        expected = tags | {"audio": tags["audio"] + sounding}
        found = {
            "image": _rows(inputs, "image_grid_thw"),
            "video": _rows(inputs, "video_grid_thw"),
            "audio": _rows(inputs, "feature_attention_mask"),
        }
        for kind in MEDIA:
            if found[kind] != expected[kind]:
                formula = f" ({tags['audio']} <audio> tags + {sounding} videos with sound)"
                return failed(
                    name,
                    f"{name_of(record)}: the template passes {found[kind]} {MEDIA[kind]} to the "
                    f"model, {expected[kind]} are due{formula if kind == 'audio' else ''}",
                )
        for kind, token in loaded.family.placeholders.items():
            places = list(inputs["input_ids"]).count(
                loaded.processor.tokenizer.convert_tokens_to_ids(token)
            )
            due = _features(loaded, inputs, kind)
            if places != due:
                return failed(
                    name,
                    f"{name_of(record)}: {places} {token} tokens for {due} {kind} features; the "
                    "media and their places in the prompt are out of step",
                )
    kinds = sorted({modality_of(record) for record in sample})
    return passed(name, f"items, features and places agree in {len(sample)} records ({kinds})")


def _rows(inputs: dict[str, Any], key: str) -> int:
    value = inputs.get(key)
    return 0 if value is None else len(value)


def _features(loaded: LoadedModel, inputs: dict[str, Any], kind: str) -> int:
    """Return how many embeddings a kind of media fills, from grids and lengths."""
    if kind == "audio":
        mask = inputs.get("feature_attention_mask")
        frames = [] if mask is None else mask.sum(-1).tolist()
        return sum(loaded.family.sound_tokens(int(n)) for n in frames)
    grids = inputs.get(f"{kind}_grid_thw")
    merge = loaded.processor.image_processor.merge_size**2
    return 0 if grids is None else int(grids.prod(-1).sum()) // merge


def _check_sound_once(template: Any, sample: list[dict[str, Any]], sound: bool) -> Check:
    name = "sound counted once"
    both = [r for r in sample if r.get("videos") and r.get("audios")] if sound else []
    for record in both:
        for video in record["videos"]:
            for audio in record["audios"]:
                if has_sound(video) and _same_sound(template, video, audio):
                    return failed(
                        name,
                        f"{name_of(record)}: {Path(audio).name} is the sound track of "
                        f"{Path(video).name}, and use_audio_in_video adds it once more. Turn the "
                        "flag off, or leave the audio item and its tag out",
                    )
    return passed(name, f"no audio item is the sound of its video ({len(both)} records have both)")


def _same_sound(template: Any, video: str, audio: str) -> bool:
    """Tell whether two files hold the same sound, whatever their codecs and delays."""
    from swift.template.vision_utils import load_audio

    a, b = (np.asarray(load_audio(path, template.sampling_rate)) for path in (video, audio))
    if not len(a) or not len(b) or not 0.8 < len(a) / len(b) < 1.25:
        return False
    size = len(a) + len(b)
    correlation = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return norm > 0 and float(np.abs(correlation).max()) / norm > _SAME_SOUND


def check_bounds(loaded: LoadedModel, encoded: list[dict[str, Any]]) -> Check:
    """Check that images and frames are as small as the environment asks for.

    In qwen_omni_utils the least size goes before the greatest: with ``VIDEO_MIN_PIXELS`` unset, a
    frame is never smaller than 100,352 pixels, whatever ``VIDEO_MAX_PIXELS`` says.
    """
    name = "media bounds"
    patch = loaded.processor.image_processor.patch_size**2
    for kind, variable in (("image", "MAX_PIXELS"), ("video", "VIDEO_MAX_PIXELS")):
        bound = int(os.environ.get(variable, "0"))
        grids = [
            grid
            for e in encoded
            if e.get(f"{kind}_grid_thw") is not None
            for grid in e[f"{kind}_grid_thw"].tolist()
        ]
        largest = max((height * width * patch for _, height, width in grids), default=0)
        if bound and largest > bound:
            least = variable.replace("MAX", "MIN")
            return passed(
                name,
                f"{kind}s have up to {largest} pixels although {variable} is {bound}: set {least} "
                "no higher than it, or expect prompts as long as these",
                warning=True,
            )
    return passed(name, "images and frames keep to MAX_PIXELS and VIDEO_MAX_PIXELS")


def check_placeholders(loaded: LoadedModel) -> Check:
    """Check that media placeholders cannot be generated.

    ms-swift encodes a completion again; one that holds ``<|IMAGE|>`` without an image ends the run
    with ``TypeError: 'NoneType' object is not subscriptable``.
    """
    name = "media tokens barred"
    tokenizer = loaded.processor.tokenizer
    barred = set(greedy_config(loaded, 1).suppress_tokens or [])
    free = [
        t
        for t in loaded.family.placeholders.values()
        if tokenizer.convert_tokens_to_ids(t) not in barred
    ]
    if free:
        return passed(
            name,
            f"the model may generate {', '.join(free)}, which ends the run when it does; add them "
            "to suppress_tokens in its generation_config.json",
            warning=True,
        )
    return passed(name, "suppress_tokens holds all of them")
