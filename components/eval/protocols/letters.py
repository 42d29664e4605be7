"""Protocols of multiple-choice benchmarks: how a letter or a choice is found in a text."""

import re
from collections.abc import Sequence

from components.eval.benchmarks.benchmark import LETTERS, plain_options
from components.eval.protocols.protocol import Protocol
from components.eval.tasks.task import Record

_PUNCTUATION = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_NO_ANSWER = "Failed to obtain answer via API"
_ANSWER_IS = re.compile(r"(?:correct\s+)?answer\s+is\s+\**([ABCD])\**", re.IGNORECASE)
_PREFIXES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    # Two commas are missing in the script, so that these stay in a text: "Best answer: C" says B.
    "The best option isThe correct option is",
    "Best answer:Best option:",
    "Answer:",
    "Option:",
)
_NONE = "Z"
"""What VLMEvalKit's prompts call none of the choices."""
_WORDS_AT_MOST = 10
_LAST_WORDS = 5


def _options(record: Record) -> dict[str, str]:
    texts = plain_options(record["options"]) if record.get("options") else []
    return dict(zip(LETTERS, texts, strict=False))


def read_vlmevalkit(record: Record, text: str, order: int) -> str | None:
    """Read a choice as VLMEvalKit does without a language model (``can_infer``).

    A letter: the only one of the choices that stands as a word, among the last five words; else the
    first that "answer is" stands before. Else the only choice whose text stands in an answer of at
    most twice the length of all choices. A refusal, or the word Z alone, is none.
    """
    options = _options(record)
    if _NO_ANSWER not in text:
        letter = _letter_of(text, list(options) or list(LETTERS[:4]))
        if letter:
            return letter if letter != _NONE else None
    lower = text.lower()
    if len(lower) > 2 * sum(map(len, options.values())):
        return None
    named = [letter for letter, option in options.items() if option.lower() in lower]
    return named[0] if len(named) == 1 else None


def _letter_of(text: str, letters: Sequence[str]) -> str | None:
    """Return the letter that an answer names, ``Z`` for none of the choices, or None."""
    if any(refusal in text for refusal in _REFUSALS):
        return _NONE
    words = text.translate(_PUNCTUATION).split()
    found = [letter for letter in letters if letter in words]
    if len(found) == 1 and words.index(found[0]) > len(words) - _LAST_WORDS:
        return found[0]
    if not found and _NONE in words:
        return _NONE
    match = _ANSWER_IS.search(text)
    return match[1].upper() if match and match[1].upper() in letters else None


def read_videomme(record: Record, text: str, order: int) -> str | None:
    """Read the first letter A to D, as Video-MME's script does; a long text without one is none."""
    answer = text.strip()
    for prefix in _PREFIXES:
        answer = answer.replace(prefix, "")
    if len(answer.split()) > _WORDS_AT_MOST and not re.search("[ABCD]", answer):
        return None
    match = re.search("[ABCD]", answer)
    return match[0] if match else None


def read_mmau(record: Record, text: str, order: int) -> str | None:
    """Read the choice all of whose words the answer has, and none of the other choices' own words.

    MMAU's script, which compares words in lower case, asks this of the right choice alone: of
    choices with the same words it is the right one.
    """
    said, options = _words(text), _options(record)
    every = frozenset(word for option in options.values() for word in _words(option))
    found = [
        letter
        for letter, option in options.items()
        if (own := _words(option)) and own <= said and not said & (every - own)
    ]
    right = str(record["solution"])
    return right if right in found else next(iter(found), None)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\b\w+\b", text.lower()))


_CHOICE = frozenset({"choice"})
_LETTER = "{question}\n{options}\nAnswer with the letter of the right choice alone."

PROTOCOLS = (
    Protocol(
        name="vlmevalkit_choice",
        title="VLMEvalKit's multiple choice",
        source="VLMEvalKit, utils/matching_util.py (can_infer), without its language model: what "
        "cannot be read is wrong",
        tasks=_CHOICE,
        template="{question}\nOptions:\n{options}\nSelect the right answer from the options above.",
        read=read_vlmevalkit,
    ),
    Protocol(
        name="videomme_letter",
        title="Video-MME's letter",
        source="Video-MME's evaluation script, which VLMEvalKit takes for WorldSense",
        tasks=_CHOICE,
        template=_LETTER,
        read=read_videomme,
    ),
    Protocol(
        name="mmau",
        title="MMAU's words",
        source="MMAU, evaluation.py (string_match)",
        tasks=_CHOICE,
        template="{question}\nChoose the correct option from the following options:\n{options}",
        read=read_mmau,
    ),
)
