"""Builds the tiny model: a real Qwen2.5-Omni, its own classes and processor, that knows nothing.

Its weights are random, with the two regularities that :mod:`start` describes.

transformers and torch are imported by the functions, since a machine that only downloads has
neither.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from components.download.tiny.media import SAMPLE_RATE, SIDE
from components.download.tiny.start import INITIAL_STD, start_attention, start_embeddings
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
from omnistage.settings import Settings

if TYPE_CHECKING:
    from transformers import Qwen2_5OmniConfig, Qwen2_5OmniProcessor, Qwen2Tokenizer

AUDIO_SECONDS = 2  # the length that the feature extractor pads to; cuts off what is longer
_PATCH, _MERGE, _MEL_BINS = 14, 2, 128  # as Qwen2.5-Omni

# As Qwen2.5-Omni's own: a system turn if there is none, media as tokens, text as it is.
_CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if loop.first and message['role'] != 'system' -%}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}
{%- endif -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{{- '<|vision_bos|><|IMAGE|><|vision_eos|>' -}}
{%- elif part['type'] == 'audio' -%}{{- '<|audio_bos|><|AUDIO|><|audio_eos|>' -}}
{%- elif part['type'] == 'video' -%}{{- '<|vision_bos|><|VIDEO|><|vision_eos|>' -}}
{%- else -%}{{- part['text'] -}}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


class TinyModelSettings(Settings):
    """Seed and sizes of the tiny Qwen2.5-Omni; the defaults give about a million parameters."""

    seed: int = Field(default=0, ge=0, description="Seed of the random weights.")
    layers: int = Field(default=4, ge=1, description="Layers of the text model.")
    hidden_size: int = Field(default=128, ge=32, description="Width of the text model.")
    heads: int = Field(
        default=4, ge=2, multiple_of=2, description="Attention heads of the text model."
    )
    vision_layers: int = Field(default=2, ge=1, description="Blocks of the vision encoder.")
    audio_layers: int = Field(default=1, ge=1, description="Layers of the audio encoder.")
    encoder_size: int = Field(
        default=32, ge=16, multiple_of=16, description="Width of the vision and audio encoders."
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "TinyModelSettings":
        if self.hidden_size % (self.heads * 16):
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of 16 x heads ({self.heads}), "
                "so that a head's rotary positions split over time, height and width"
            )
        return self


def write_model(
    folder: Path, settings: TinyModelSettings, events: Events | None = None
) -> dict[str, int]:
    """Write a Qwen2.5-Omni model folder that transformers and ms-swift load by its path.

    ms-swift needs ``--model_type qwen2_5_omni`` and ``ENABLE_AUDIO_OUTPUT=0``: there is a thinker,
    which reads and writes text, and no talker. The same settings give the same weights.

    Args:
        folder: Where to write; made if missing.
        settings: Seed and sizes.
        events: Told what was built.

    Returns:
        ``parameters``, the number of weights, and ``vocabulary``, the number of tokens.

    Raises:
        InputError: If transformers is not installed, the folder cannot be written or the disk is
            full.
    """
    try:
        import torch
        from transformers import GenerationConfig, Qwen2_5OmniForConditionalGeneration
    except ImportError as e:
        raise InputError(
            f"building the tiny model needs torch and transformers ({e}); install omnistage[train]"
        ) from e

    tokenizer = build_tokenizer()
    config = _config(tokenizer, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = Qwen2_5OmniForConditionalGeneration(config)
        start_embeddings(model.thinker, tokenizer)
        start_attention(model.thinker)
    ids = partial(token_id, tokenizer)
    # A completion that held a media token could not be encoded again as text (GRPO does that).
    barred = sorted(ids(token) for token in [TURN_START, *MEDIA_TOKENS.values()])
    generation = GenerationConfig(
        use_cache=True,
        do_sample=True,
        temperature=1.0,
        suppress_tokens=barred,
        eos_token_id=[ids(TURN_END), ids(END_OF_TEXT)],
        pad_token_id=ids(END_OF_TEXT),
    )
    with machine_errors("writing the tiny model"):
        folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(folder)
        generation.save_pretrained(folder)
        _processor(tokenizer).save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o644)  # written for its owner alone
        # The loader asks for the talker's voices even where there is no talker.
        torch.save({}, folder / "spk_dict.pt")
    parameters, vocabulary = model.num_parameters(), len(tokenizer)
    if events:
        events.message(f"built a Qwen2.5-Omni of {parameters:,} parameters, {vocabulary} tokens")
    return {"parameters": parameters, "vocabulary": vocabulary}


def _config(tokenizer: "Qwen2Tokenizer", settings: TinyModelSettings) -> "Qwen2_5OmniConfig":
    from transformers import Qwen2_5OmniConfig

    ids = partial(token_id, tokenizer)
    rotary = settings.hidden_size // settings.heads // 2  # pairs of a head, split as 2 : 3 : 3
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": settings.hidden_size,
        "intermediate_size": 3 * settings.hidden_size,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.heads // 2,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [rotary // 4, rotary * 3 // 8, rotary * 3 // 8],
        },
        "pad_token_id": ids(END_OF_TEXT),
        "eos_token_id": ids(TURN_END),
        "tie_word_embeddings": False,
        "initializer_range": INITIAL_STD,
    }
    vision: dict[str, Any] = {
        "depth": settings.vision_layers,
        "hidden_size": settings.encoder_size,
        "intermediate_size": 2 * settings.encoder_size,
        "num_heads": 2,
        "out_hidden_size": settings.hidden_size,
        "fullatt_block_indexes": [settings.vision_layers - 1],
        "initializer_range": INITIAL_STD,
    }
    audio: dict[str, Any] = {
        "num_mel_bins": _MEL_BINS,
        "d_model": settings.encoder_size,
        "encoder_layers": settings.audio_layers,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 2 * settings.encoder_size,
        "output_dim": settings.hidden_size,
        "initializer_range": INITIAL_STD,
    }
    thinker: dict[str, Any] = {
        "text_config": text,
        "vision_config": vision,
        "audio_config": audio,
        "image_token_index": ids(MEDIA_TOKENS["image_token"]),
        "audio_token_index": ids(MEDIA_TOKENS["audio_token"]),
        "video_token_index": ids(MEDIA_TOKENS["video_token"]),
        "vision_start_token_id": ids(MEDIA_TOKENS["vision_bos_token"]),
        "vision_end_token_id": ids(MEDIA_TOKENS["vision_eos_token"]),
        "audio_start_token_id": ids(MEDIA_TOKENS["audio_bos_token"]),
        "audio_end_token_id": ids(MEDIA_TOKENS["audio_eos_token"]),
        "user_token_id": ids("user\n"),
        "initializer_range": INITIAL_STD,
        "pad_token_id": ids(END_OF_TEXT),
    }
    return Qwen2_5OmniConfig(
        thinker_config=thinker,
        enable_audio_output=False,
        dtype="float32",
    )


def _processor(tokenizer: "Qwen2Tokenizer") -> "Qwen2_5OmniProcessor":
    from transformers import (
        Qwen2_5OmniProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
        WhisperFeatureExtractor,
    )

    pixels = {"shortest_edge": SIDE * SIDE, "longest_edge": 16 * SIDE * SIDE}
    vision: dict[str, Any] = {"size": pixels, "patch_size": _PATCH, "merge_size": _MERGE}
    return Qwen2_5OmniProcessor(
        image_processor=Qwen2VLImageProcessor(**vision),
        video_processor=Qwen2VLVideoProcessor(**vision),
        feature_extractor=WhisperFeatureExtractor(
            feature_size=_MEL_BINS, sampling_rate=SAMPLE_RATE, chunk_length=AUDIO_SECONDS
        ),
        tokenizer=tokenizer,
        chat_template=_CHAT_TEMPLATE,
    )
