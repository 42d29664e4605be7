"""Checks that need the model's forward pass: media reach it, and all paths agree."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from components.grpo.preflight.loaded_model import (
    Generated,
    LoadedModel,
    next_logits,
    rollout,
    stand_alone,
    train_logits,
    with_mode,
)
from components.grpo.preflight.records import name_of
from components.grpo.preflight.spec import Check, PreflightSpec, failed, passed
from components.grpo.preflight.vllm import answers_of_vllm, prompt_of_loss, start_vllm
from omnistage.records.record import modality_of

PROMPTS, NEW_TOKENS = 4, 16  # that are generated from, and of each completion

# Two paths compute in another order, and half precision rounds. Logits up to this far apart are a
# tie between two tokens:
_TIE = {"float32": 1e-2, "bfloat16": 0.75, "float16": 0.2}
# and a mean difference of all logits, by their standard deviation, up to this much is rounding.
_ROUNDING = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.03}
_FEATURES = {"pixel_values": "image", "pixel_values_videos": "video", "input_features": "audio"}


def check_media(
    loaded: LoadedModel, template: Any, sample: list[dict[str, Any]], encoded: list[dict[str, Any]]
) -> Check:
    """Check that the logits change when a medium is replaced by another record's.

    The features of a kind of media are swapped for those of another record where their shapes
    agree, else put in reverse order; tokens stay as they are. Two files that give the same
    features, and logits that do not change, mean that the media do not reach the model.
    """
    name = "media matter"
    changes = []
    for key, kind in _FEATURES.items():
        having = [i for i, inputs in enumerate(encoded) if inputs.get(key) is not None]
        if not having:
            continue
        first = having[0]
        own = encoded[first][key]
        others = [encoded[i][key] for i in having[1:] if encoded[i][key].shape == own.shape]
        different = [other for other in others if not other.equal(own)]
        if others and not different:
            return failed(
                name,
                f"{len(others) + 1} sampled records have {kind}s that decode to the same features, "
                f"{name_of(sample[first])} for one: the media are not the ones the records name",
            )
        swapped = different[0] if different else own.flip(0, -1)
        base = next_logits(loaded, template, encoded[first])
        noise = float((next_logits(loaded, template, encoded[first]) - base).abs().max())
        ablated = next_logits(loaded, template, encoded[first] | {key: swapped})
        change = float((ablated - base).abs().max())
        if change <= 10 * noise + 1e-6:
            return failed(
                name,
                f"the logits of {name_of(sample[first])} do not change ({change:.1e}) when its "
                f"{kind} is replaced: the {kind} does not reach the model",
            )
        changes.append(f"{kind} {change:.1e}")
    return passed(name, f"logits change with another medium ({', '.join(changes) or 'no media'})")


def check_parity(
    spec: PreflightSpec,
    loaded: LoadedModel,
    template: Any,
    sample: list[dict[str, Any]],
    encoded: list[dict[str, Any]],
) -> list[Check]:
    """Check that stand-alone inference, the rollout and the loss see and compute the same.

    Greedy completions of a batch of prompts through the trainer's rollout are compared, token by
    token, with those of each prompt alone and without the trainer; then the logits of the next
    token on the rollout's path with those on the loss's path; and vLLM's completions and its
    prompts' positions, where it will roll out.
    """
    # Plain inference takes control tokens in a text for what they are; the template does not.
    plain = [n for n, record in enumerate(sample) if template.is_plain(record)]
    chosen = of_each_modality(plain, sample, PROMPTS)
    records = [sample[n] for n in chosen]
    batch = rollout(loaded, template, records, NEW_TOKENS)
    checks = [
        _check_rollout(spec, loaded, template, records, batch),
        _check_loss(spec, loaded, template, records, [encoded[n] for n in chosen]),
    ]
    if spec.vllm:
        # vLLM gets an adapter's weights from the trainer, in its first step: base against base.
        without = loaded.model.disable_adapter() if spec.adapter else nullcontext()
        with without:
            engine = start_vllm(spec, spec.vllm, template)
            batch = answers_of_vllm(engine, records, NEW_TOKENS)
            checks.append(_check_positions(loaded, template, records, batch))
            checks.append(_check_rollout(spec, loaded, template, records, batch, "vLLM parity"))
    return checks


def of_each_modality(numbers: list[int], sample: list[dict[str, Any]], size: int) -> list[int]:
    """Return up to ``size`` of the records' numbers, one of each mixture of media first."""
    first = {modality_of(sample[n]): n for n in reversed(numbers)}
    chosen = sorted(first.values())
    return [*chosen, *(n for n in numbers if n not in chosen)][:size]


def _check_rollout(
    spec: PreflightSpec,
    loaded: LoadedModel,
    template: Any,
    records: list[dict[str, Any]],
    batch: list[Generated],
    name: str = "rollout parity",
) -> Check:
    ties = 0
    for record, rolled in zip(records, batch, strict=True):
        alone = stand_alone(loaded, template, record, spec.use_audio_in_video, NEW_TOKENS)
        if rolled.prompt != alone.prompt:
            return failed(
                name,
                f"{name_of(record)} ({modality_of(record)}): the rollout's prompt has "
                f"{len(rolled.prompt)} tokens, plain inference {len(alone.prompt)}; they differ "
                f"from token {_common(rolled.prompt, alone.prompt)} on. The chat template, the "
                "system prompt, the media bounds or use_audio_in_video are not the same",
            )
        place = _common(rolled.tokens, alone.tokens)
        if place >= min(len(rolled.tokens), len(alone.tokens)):
            continue
        step = alone.logits[place]
        gap = float(step[alone.tokens[place]] - step[rolled.tokens[place]])
        if gap > _TIE[spec.torch_dtype]:
            decode = loaded.processor.tokenizer.decode
            return failed(
                name,
                f"{name_of(record)} ({modality_of(record)}): greedy completions part at token "
                f"{place}, {decode(rolled.tokens)[:60]!r} in the rollout and "
                f"{decode(alone.tokens)[:60]!r} in plain inference, on the same prompt: "
                "padding, media or positions are wrong in the rollout",
            )
        ties += 1
    tied = f", {ties} of them up to a tie" if ties else ""
    return passed(name, f"{len(records)} prompts, same tokens as plain inference{tied}")


def _check_loss(
    spec: PreflightSpec,
    loaded: LoadedModel,
    template: Any,
    records: list[dict[str, Any]],
    encoded: list[dict[str, Any]],
) -> Check:
    name = "loss parity"
    largest = 0.0
    for record, inputs in zip(records, encoded, strict=True):
        answer = str(record.get("solution") or "A")
        ids, logits = train_logits(loaded, with_mode(template, "train"), record, answer)
        prompt = list(inputs["input_ids"])
        if ids[: len(prompt)] != prompt:
            return failed(
                name,
                f"{name_of(record)}: the prompt that the loss is computed on differs from the "
                f"rollout's from token {_common(ids, prompt)} on",
            )
        rolled = next_logits(loaded, template, inputs)
        difference = (rolled - logits[len(prompt) - 1].float()).abs().mean() / rolled.std()
        largest = max(largest, float(difference))
        if largest > _ROUNDING[spec.torch_dtype]:
            return failed(
                name,
                f"{name_of(record)} ({modality_of(record)}): the logits that the loss is computed "
                f"from differ from the rollout's by {largest:.1e} of their spread, on the same "
                "prompt: positions or media differ between rollout and training",
            )
    return passed(name, f"{len(records)} prompts, logits within {largest:.1e} of their spread")


def _check_positions(
    loaded: LoadedModel, template: Any, records: list[dict[str, Any]], batch: list[Generated]
) -> Check:
    """Check vLLM's positions; that its tokens are the trainer's is another check's matter."""
    name, equal = "vLLM positions", 0
    trainer = with_mode(template, "train")
    for record, generated in zip(records, batch, strict=True):
        ids, positions = prompt_of_loss(loaded, trainer, record, len(generated.prompt))
        if ids != generated.prompt:
            continue
        seen = list(zip(*generated.positions or [], strict=True))
        trained = list(zip(*positions, strict=True))
        if seen != trained:
            place = _common(seen, trained)
            return failed(
                name,
                f"{name_of(record)} ({modality_of(record)}): from token {place} of the prompt on "
                f"vLLM has other positions than the trainer ({seen[place]}, not "
                f"{trained[place]}): it counts the places of a medium otherwise",
            )
        equal += 1
    return passed(name, f"{equal} prompts, same positions as the loss")


def _common(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Return the length of the common beginning of two sequences."""
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
