"""The tokenizer of a tiny model: bytes, the lines of the generated sets and control tokens.

It is a byte-level BPE without merges, so any text encodes and decodes to itself; the sentences of
the generated sets are added tokens of one id each.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from components.download.tiny.sets import vocabulary

if TYPE_CHECKING:
    from transformers import Qwen2Tokenizer

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_BOX_TOKENS = ("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>")
_VISION_TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
}
MEDIA_TOKENS: Mapping[str, Mapping[str, str]] = {
    "qwen2_5_omni": {
        "image_token": "<|IMAGE|>",
        "audio_token": "<|AUDIO|>",
        "video_token": "<|VIDEO|>",
        "vision_bos_token": "<|vision_bos|>",
        "vision_eos_token": "<|vision_eos|>",
        "audio_bos_token": "<|audio_bos|>",
        "audio_eos_token": "<|audio_eos|>",
    },
    "qwen3_omni_moe": {
        **_VISION_TOKENS,
        "audio_token": "<|audio_pad|>",
        "audio_bos_token": "<|audio_start|>",
        "audio_eos_token": "<|audio_end|>",
    },
    "qwen2_5_vl": _VISION_TOKENS,
    "qwen3_vl": _VISION_TOKENS,
}
"""Family to its tokens for media, by the names that its processor looks for."""


def build_tokenizer(
    model_type: str = "qwen2_5_omni", kinds: Sequence[str] = ("judge",)
) -> "Qwen2Tokenizer":
    """Return the tokenizer, a ``Qwen2Tokenizer`` with the control tokens of a family.

    Args:
        model_type: The family, one of :data:`MEDIA_TOKENS`.
        kinds: Kinds of generated data whose lines are one token each.
    """
    from tokenizers import pre_tokenizers
    from transformers import AddedToken, Qwen2Tokenizer

    media = MEDIA_TOKENS[model_type]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Qwen2Tokenizer(
        vocab={character: number for number, character in enumerate(alphabet)},
        merges=[],
        unk_token=END_OF_TEXT,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        # The processors of the families that hear ask the tokenizer for them by these names.
        extra_special_tokens=dict(media) if "audio_token" in media else None,
        model_max_length=32768,
    )
    boxes = () if model_type == "qwen2_5_omni" else _BOX_TOKENS
    control = [END_OF_TEXT, TURN_START, TURN_END, *media.values(), *boxes]
    added: list[str | AddedToken] = [
        *(AddedToken(text, special=True, normalized=False) for text in control),
        *(AddedToken(text, special=False, normalized=False) for text in vocabulary(kinds)),
    ]
    tokenizer.add_tokens(added)
    return tokenizer


def token_id(tokenizer: "Qwen2Tokenizer", token: str) -> int:
    """Return the id of one token of the tiny vocabulary."""
    number = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(number, int)  # one token in, one id out
    return number
