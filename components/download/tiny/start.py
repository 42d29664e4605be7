"""The first weights of the tiny model, so that it learns in hundreds of steps.

They are random but for two things that any pretrained model brings along. Neither knows anything
of a medium, an answer or a verdict.

- Texts that share words are alike. Each token is a whole line, so it starts from the vectors of the
  words and pairs of neighbouring words in it, as tokens that are added to a pretrained vocabulary
  start from the mean of their parts.
- Attention goes to what is alike. Queries of half the heads start equal to their keys (mimetic
  initialization: Trockman and Kolter, ICML 2023, arXiv 2305.09828).

With neither, and weights of the usual standard deviation of 0.02, the model still guessed after
420 steps of 16 records which response has the sentence that it has just written; with both it was
right on 97% of the test records after 200.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from components.download.tiny.tokenizer import token_id

if TYPE_CHECKING:
    import torch
    from transformers import Qwen2Tokenizer

INITIAL_STD = 0.08  # of the random weights: about 1 / sqrt(128), the width; 0.02 is for thousands

_WORD = re.compile(r"\w+|[^\w\s]")


def start_embeddings(
    text_model: Any, output: Any, tokenizer: "Qwen2Tokenizer", lines: Iterable[str]
) -> None:
    """Set input and output embeddings; a line's is the scaled sum over its words and word pairs.

    Draws from torch's global generator.

    Args:
        text_model: Its input embeddings are changed in place.
        output: The layer of output embeddings, changed in place.
        tokenizer: Knows the ids of the lines.
        lines: Those that are one token each.
    """
    import torch

    embeddings = text_model.embed_tokens.weight
    width = embeddings.shape[1]

    def fresh() -> "torch.Tensor":
        return torch.randn(width) * INITIAL_STD

    parts: defaultdict[str, torch.Tensor] = defaultdict(fresh)
    with torch.no_grad():
        for text in lines:
            words = _WORD.findall(text) or [text]
            pairs = [f"{a} {b}" for a, b in pairwise(words)]
            vectors = torch.stack([parts[part] for part in (*words, *pairs)])
            embeddings[token_id(tokenizer, text)] = vectors.sum(0) / len(vectors) ** 0.5
        output.weight.copy_(embeddings)


def start_attention(text_model: Any) -> None:
    """Set the queries of the first head of each key-value group equal to the group's keys.

    Args:
        text_model: Changed in place.
    """
    import torch

    with torch.no_grad():
        for layer in text_model.layers:
            attention = layer.self_attn
            groups = attention.k_proj.weight.unflatten(0, (-1, attention.head_dim))
            heads = attention.q_proj.weight.unflatten(0, (len(groups), -1, attention.head_dim))
            heads[:, 0] = groups
