"""The tokenizer of the tiny model: bytes, the lines of ``text.vocabulary()`` and control tokens.

It is a byte-level BPE without merges, so any text encodes and decodes to itself; the sentences of
the tiny set are added tokens of one id each.
"""

from typing import TYPE_CHECKING

from components.download.tiny.text import vocabulary

if TYPE_CHECKING:
    from transformers import Qwen2Tokenizer

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
MEDIA_TOKENS = {  # as Qwen2.5-Omni's tokenizer names them
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}


def build_tokenizer() -> "Qwen2Tokenizer":
    """Return the tokenizer, a ``Qwen2Tokenizer`` with Qwen2.5-Omni's control tokens."""
    from tokenizers import pre_tokenizers
    from transformers import AddedToken, Qwen2Tokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Qwen2Tokenizer(
        vocab={character: number for number, character in enumerate(alphabet)},
        merges=[],
        unk_token=END_OF_TEXT,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        extra_special_tokens=MEDIA_TOKENS,
        model_max_length=32768,
    )
    control = [END_OF_TEXT, TURN_START, TURN_END, *MEDIA_TOKENS.values()]
    added: list[str | AddedToken] = [
        *(AddedToken(text, special=True, normalized=False) for text in control),
        *(AddedToken(text, special=False, normalized=False) for text in vocabulary()),
    ]
    tokenizer.add_tokens(added)
    return tokenizer


def token_id(tokenizer: "Qwen2Tokenizer", token: str) -> int:
    """Return the id of one token of the tiny vocabulary."""
    number = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(number, int)  # one token in, one id out
    return number
