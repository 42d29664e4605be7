"""The model and template as the trainer builds them, and the same prompt built without the trainer.

The trainer's side is ms-swift's own: its template in the two modes that GRPO uses
(``transformers`` for the rollout, ``train`` for the loss) and its ``TransformersEngine``. The
stand-alone side is what a script from the model's card does: chat template, ``qwen_omni_utils`` or
``qwen_vl_utils``, and the model's processor.

torch and ms-swift are imported by the functions: they cost ten seconds, and ms-swift reads some of
its environment when it is imported.
"""

from copy import copy
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from components.grpo.preflight.spec import PreflightSpec
from omnistage.records.plain_text import split_tags
from omnistage.swift.family import Family, family_named
from omnistage.swift.media import has_sound


@dataclass(frozen=True)
class LoadedModel:
    """A model with its processor, as the trainer loads them."""

    family: Family
    model: Any
    processor: Any


@dataclass(frozen=True)
class Generated:
    """What was generated greedily for one prompt, and from which token ids."""

    prompt: list[int]
    tokens: list[int]
    logits: Any = None  # of the stand-alone side: tokens × vocabulary
    positions: list[list[int]] | None = None  # of the prompt under vLLM: three axes × tokens


def load_model(spec: PreflightSpec) -> LoadedModel:
    """Load the model, with its adapter, as the trainer does. ``spec.env`` must be in effect."""
    import torch
    from swift.model import get_model_processor

    family = family_named(spec.model_type, "preflight")
    model: Any
    model, processor = get_model_processor(
        spec.model,
        torch_dtype=getattr(torch, spec.torch_dtype),
        model_type=family.model_type,
        attn_impl=spec.attn_impl,
    )
    if spec.adapter:
        from swift.tuners import Swift

        model = Swift.from_pretrained(model, spec.adapter)
    model.eval()
    return LoadedModel(family, model, processor)


def rollout_template(loaded: LoadedModel) -> Any:
    """Return ms-swift's template for the rollout, made from the environment as the trainer does."""
    from swift.template import get_template

    import omnistage.swift.template  # noqa: F401 - registers the templates

    template = get_template(loaded.processor, template_type=loaded.family.omnistage_template)
    template.model = loaded.model  # as the trainer sets it: positions are computed by the model
    template.set_mode("transformers")
    return template


def with_mode(template: Any, mode: str) -> Any:
    """Return a copy of a template that encodes for the rollout or for the loss."""
    other = _copied(template)
    other.set_mode(mode)
    return other


def with_sound(template: Any, use_audio_in_video: bool) -> Any:
    """Return a copy of a template that uses the sound track of videos, or does not."""
    other = _copied(template)
    other.use_audio_in_video = use_audio_in_video
    return other


def _copied(template: Any) -> Any:
    other = copy(template)
    other.model = template.model  # a copy is made for pickling and lacks it
    return other


def encode(template: Any, record: dict[str, Any], answer: str | None = None) -> dict[str, Any]:
    """Encode a record's prompt with ms-swift, and an assistant turn behind it if one is given."""
    keys = ("images", "audios", "videos")
    messages = [dict(m) for m in record["messages"] if m["role"] != "assistant"]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    return template.encode(
        {"messages": messages} | {key: list(record[key]) for key in keys if record.get(key)}
    )


def greedy_config(loaded: LoadedModel, tokens: int) -> Any:
    """Return the generation settings that the rollout would use, greedy."""
    from swift.infer_engine import RequestConfig
    from swift.infer_engine.utils import prepare_generation_config

    request = RequestConfig(max_tokens=tokens, temperature=0)
    return prepare_generation_config(
        loaded.model.generation_config, request, loaded.processor.tokenizer
    )


def next_logits(loaded: LoadedModel, template: Any, encoded: dict[str, Any]) -> Any:
    """Return the logits of the first generated token, on the rollout's path.

    Args:
        loaded: The model.
        template: A rollout template.
        encoded: What it made of a record; left as it is.
    """
    import torch
    from swift.utils import to_device

    with torch.inference_mode():
        batch = to_device(template.data_collator([dict(encoded)]), loaded.model.device)
        _, inputs = template.pre_forward_hook(loaded.model, None, batch)
        config = greedy_config(loaded, 1)
        config.return_dict_in_generate, config.output_logits = True, True
        output = template.generate(loaded.model, **inputs, generation_config=config)
    return output["logits"][0][0].float()


def train_logits(
    loaded: LoadedModel, template: Any, record: dict[str, Any], answer: str
) -> tuple[Any, ...]:
    """Return the token ids, and the logits that the loss is computed from, of prompt and answer.

    Args:
        loaded: The model.
        template: A template in mode ``train``.
        record: A record.
        answer: The assistant's turn.
    """
    import torch
    from swift.utils import to_device

    encoded = encode(template, record, answer)
    ids = list(encoded["input_ids"])
    with torch.inference_mode():
        batch = to_device(template.data_collator([encoded]), loaded.model.device)
        batch.pop("labels", None)
        _, inputs = template.pre_forward_hook(loaded.model, None, batch)
        logits = loaded.model(**inputs).logits[0]
    return ids, logits


def rollout(
    loaded: LoadedModel, template: Any, records: list[dict[str, Any]], tokens: int
) -> list[Generated]:
    """Generate greedily for a batch of records, as GRPO without vLLM does."""
    from swift.infer_engine import TransformersEngine

    engine = TransformersEngine(loaded.model, template=copy(template), max_batch_size=0)
    return answers(engine, records, tokens)


def answers(engine: Any, records: list[dict[str, Any]], tokens: int) -> list[Generated]:
    """Generate greedily for records with one of ms-swift's engines."""
    from swift.infer_engine import InferRequest, RequestConfig

    requests = [
        InferRequest(
            messages=[dict(m) for m in record["messages"] if m["role"] != "assistant"],
            images=list(record.get("images") or []),
            audios=list(record.get("audios") or []),
            videos=list(record.get("videos") or []),
        )
        for record in records
    ]
    config = RequestConfig(max_tokens=tokens, temperature=0, return_details=True)
    responses: list[Any] = engine.infer(requests, config, use_tqdm=False)
    return [Generated(list(r.prompt_token_ids), list(r.choices[0].token_ids)) for r in responses]


def stand_alone(
    loaded: LoadedModel,
    template: Any,
    record: dict[str, Any],
    use_audio_in_video: bool,
    tokens: int,
) -> Generated:
    """Generate greedily for one record without the trainer's template, engine or batch.

    The media are decoded and resized by the same functions under the same bounds, so that what is
    compared is the layout of the prompt and the way of the media to the model.
    """
    import torch

    conversation = _conversation(record)
    # The rule of omnistage.swift.template: a clip without a sound track is a mute clip.
    use_audio_in_video &= all(map(has_sound, record.get("videos") or []))
    inputs = _processed(loaded, template, conversation, use_audio_in_video)
    heard = {"use_audio_in_video": use_audio_in_video} if loaded.family.hears else {}
    base = template.get_base_model(loaded.model)
    generator = getattr(base, loaded.family.generator) if loaded.family.generator else base
    with torch.inference_mode():
        output = generator.generate(
            **inputs,
            **heard,
            generation_config=greedy_config(loaded, tokens),
            return_dict_in_generate=True,
            output_logits=True,
        )
    prompt = inputs["input_ids"][0].tolist()
    new = output["sequences"][0][len(prompt) :].tolist()
    return Generated(prompt, new, torch.stack([step[0].float() for step in output["logits"]]))


def _processed(
    loaded: LoadedModel,
    template: Any,
    conversation: list[dict[str, Any]],
    use_audio_in_video: bool,
) -> Any:
    """Return what the model's own processor makes of a conversation."""
    import torch
    from swift.template.vision_utils import load_audio

    processor, family = loaded.processor, loaded.family
    process_vision_info = import_module(family.utils).process_vision_info
    vision: Any = process_vision_info(
        conversation,
        return_video_kwargs=True,
        return_video_metadata=not family.hears,
        image_patch_size=processor.image_processor.patch_size,
    )
    images, videos, video_kwargs = vision
    extra: dict[str, Any] = {}
    if family.hears:
        sounds = [
            load_audio(part[part["type"]], template.sampling_rate)
            for message in conversation
            for part in message["content"]
            if part["type"] == "audio" or (part["type"] == "video" and use_audio_in_video)
        ]
        extra = {"audio": sounds or None, "use_audio_in_video": use_audio_in_video}
    if videos and family.hears:
        extra |= {"fps": video_kwargs["fps"][0], "do_sample_frames": False}
    elif videos:
        videos, metadata = zip(*videos, strict=True)
        extra = {"video_metadata": list(metadata), "do_sample_frames": False}
    inputs = processor(
        text=processor.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=True
        ),
        images=images,
        videos=[video.to(torch.uint8) for video in videos] if videos else None,
        do_resize=False,
        return_tensors="pt",
        **extra,
    ).to(loaded.model.device)
    return inputs.to(loaded.model.dtype)  # the media; token ids stay integers


def _conversation(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a record's prompt with its tags as parts, the way the model's card writes it."""
    media = {kind: iter(record.get(f"{kind}s") or []) for kind in ("image", "audio", "video")}
    turns = []
    for message in record["messages"]:
        if message["role"] == "assistant":
            continue
        parts = []
        for text, kind in split_tags(message["content"]):
            part = {"type": "text", "text": text}
            parts.append({"type": kind, kind: next(media[kind])} if kind else part)
        turns.append({"role": message["role"], "content": parts})
    return turns
