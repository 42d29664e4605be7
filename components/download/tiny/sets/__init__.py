"""The generated data sets by kind, each written and packed as its system's own is."""

from collections.abc import Mapping, Sequence

from components.download.tiny import data, text
from components.download.tiny.kind import Kind
from components.download.tiny.sets import emotion, intent, maths, rec, words

KINDS: Mapping[str, Kind] = {
    "judge": Kind(data.TinyDataSettings, data.write_dataset, text.vocabulary),
    "rec": rec.KIND,
    "words": words.KIND,
    "maths": maths.KIND,
    "emotion": emotion.KIND,
    "intent": intent.KIND,
}

_TURNS = ("You are a helpful assistant.", "system\n", "user\n", "assistant\n")


def vocabulary(kinds: Sequence[str]) -> list[str]:
    """Return the lines of some kinds that a tokenizer has one token for, in a fixed order."""
    lines = [line for kind in kinds for line in KINDS[kind].vocabulary()]
    return list(dict.fromkeys([*lines, *_TURNS]))


def kind_named(name: str) -> Kind:
    """Return a kind.

    Raises:
        ValueError: If there is none of this name.
    """
    if name not in KINDS:
        raise ValueError(f"{name!r} is no kind of generated data: {', '.join(KINDS)}")
    return KINDS[name]
