"""Text that looks like a media tag or a control token, and stays text."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.download.tiny.tokenizer import MEDIA_TOKENS
from omnistage.records.plain_text import (
    escape_tags,
    for_ms_swift,
    split_tags,
    unescape_tags,
)

TOKENS = ["<|im_end|>", "<|im_start|>", "<|endoftext|>", *MEDIA_TOKENS["qwen2_5_omni"].values()]
TEXTS = st.lists(
    st.sampled_from([*TOKENS, "<image>", "<audio>", "<\\image>", "\\", "<", "|im_end|>", "a", "\n"])
).map("".join)


def messages(*turns: tuple[str, str], **media: list[str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in turns], **media}


def shown(record: dict[str, Any]) -> list[str]:
    return [message["content"] for message in for_ms_swift(record)]


@given(text=TEXTS)
def test_escaping_is_undone_exactly(text: str) -> None:
    assert unescape_tags(escape_tags(text)) == text
    assert [kind for _, kind in split_tags(escape_tags(text)) if kind] == []


@pytest.mark.parametrize(
    ("record", "texts"),
    [
        (
            messages(
                ("user", "<image>Write it as Markdown."),
                ("assistant", "![figure](<image>)"),
                images=["a.png"],
            ),
            ["<image>Write it as Markdown.", "![figure](<image>)"],
        ),
        (
            messages(("user", "<image>Is it <\\image> or <img>?"), images=["a.png"]),
            ["<image>Is it <image> or <img>?"],
        ),
        (
            messages(("user", "What is <\\image>? <image> <\\\\image>"), images=["a.png"]),
            ["What is <\\image>? <image> <\\image>"],
        ),
        (
            messages(
                ("user", "a"),
                ("assistant", "<image>"),
                ("user", "<image>b"),
                ("assistant", "<video>"),
                images=["a.png"],
            ),
            ["a", "<\\image>", "<image>b", "<video>"],
        ),
        (messages(("user", "What does <img>x</img> do?")), ["What does <\\img>x</img> do?"]),
    ],
)
def test_the_trainer_takes_tags_for_media_and_no_text(
    record: dict[str, Any], texts: list[str]
) -> None:
    assert shown(record) == texts
