"""Builds a tiny model: a real one of its family, own classes and processor, that knows nothing.

Its weights are random, with the two regularities that :mod:`start` describes; it may be taught the
form of an answer (:mod:`teach`).

transformers and torch are imported by the functions, since a machine that only downloads has
neither.
"""

from functools import partial
from pathlib import Path
from typing import Any

from components.download.tiny.families import (
    build_config,
    build_processor,
    class_of,
    text_parts,
)
from components.download.tiny.sets import vocabulary as lines_of
from components.download.tiny.settings import TinyModelSettings
from components.download.tiny.start import start_attention, start_embeddings
from components.download.tiny.teach import teach
from components.download.tiny.tokenizer import (
    END_OF_TEXT,
    MEDIA_TOKENS,
    TURN_END,
    TURN_START,
    build_tokenizer,
    token_id,
)
from omnistage.errors import InputError, machine_errors
from omnistage.events import Events
from omnistage.swift.family import FAMILIES


def write_model(
    folder: Path, settings: TinyModelSettings, events: Events | None = None
) -> dict[str, int]:
    """Write a model folder that transformers and ms-swift load by its path.

    ms-swift needs ``--model_type``, and for an Omni model ``ENABLE_AUDIO_OUTPUT=0``: there is a
    thinker, which reads and writes text, and no talker. The same settings give the same weights.

    Args:
        folder: Where to write; made if missing.
        settings: Family, seed and sizes.
        events: Told what was built.

    Returns:
        ``parameters``, the number of weights, and ``vocabulary``, the number of tokens.

    Raises:
        InputError: If transformers is missing or the folder cannot be written.
    """
    try:
        import torch
        import transformers  # noqa: F401 - found missing here, with what to do about it
    except ImportError as e:
        raise InputError(
            f"building the tiny model needs torch and transformers ({e}); install omnistage[train]"
        ) from e

    family = FAMILIES[settings.model_type]
    tokenizer = build_tokenizer(family.model_type, settings.kinds)
    config = build_config(tokenizer, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = class_of(family.model_type, "ForConditionalGeneration")(config)
        text_model, output = text_parts(model)
        start_embeddings(text_model, output, tokenizer, lines_of(settings.kinds))
        start_attention(text_model)
    processor = build_processor(tokenizer, family.model_type)
    if settings.lessons:
        loss = teach(model, processor, settings.kinds, settings.lessons, settings.seed)
        if events:
            events.message(f"taught it for {settings.lessons} steps, to a loss of {loss:.2f}")
    with machine_errors("writing the tiny model"):
        folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(folder)
        _generation(tokenizer, family.model_type).save_pretrained(folder)
        processor.save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o644)  # written for its owner alone
        for name in family.special_files:  # asked for even where there is no talker
            torch.save({}, folder / name)
    parameters, vocabulary = model.num_parameters(), len(tokenizer)
    if events:
        events.message(f"built a {family.title} of {parameters:,} parameters, {vocabulary} tokens")
    return {"parameters": parameters, "vocabulary": vocabulary}


def _generation(tokenizer: Any, model_type: str) -> Any:
    """Return how the tiny model generates by default."""
    from transformers import GenerationConfig  # torch, as above

    ids = partial(token_id, tokenizer)
    # A completion that held a media token could not be encoded again as text (GRPO does that).
    media = MEDIA_TOKENS[model_type].values()
    barred = sorted(ids(token) for token in [TURN_START, *media])
    return GenerationConfig(
        use_cache=True,
        do_sample=True,
        temperature=1.0,
        suppress_tokens=barred,
        eos_token_id=[ids(TURN_END), ids(END_OF_TEXT)],
        pad_token_id=ids(END_OF_TEXT),
    )
