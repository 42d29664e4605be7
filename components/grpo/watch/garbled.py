"""Does a completion read like text at all? Checks that need no model and no gold answer.

They catch what a broken rollout writes (a prompt that was mangled, media that were not forwarded,
weights out of step): loops such as ``<contextsystemsystemsystem schönesystem…``, chat roles in the
answer, scripts mixed within a word, bytes that are no text. A wrong but readable answer, in any
language, is not garbled.

Every threshold is a constant below, with the figures that ordinary text reaches. ``repeated`` and
``compression`` are looked at for the whole text and for its end, because a completion that begins
well may fall into a loop until it is cut off.
"""

import re
import unicodedata
import zlib
from dataclasses import dataclass
from functools import lru_cache

# Share of 4-grams of words that occurred before. English and Chinese reasoning of any length stays
# below 0.3, the same remark about five dimensions in a row reaches 0.5, a loop 0.9 and more.
REPEATED_SHARE = 0.7
REPEATED_MIN_WORDS = 24
# zlib size by UTF-8 size. Reasoning: 0.3 to 0.6; a JSON verdict: 0.4 to 0.7; a loop: below 0.1.
COMPRESSION = 0.15
COMPRESSION_MIN_BYTES = 240
# Role words side by side. "system, user and assistant" has no run of three.
ROLE_RUN = 3
ROLE_SHARE = 0.3
ROLE_MIN = 4
# Words that mix scripts no language mixes. Chinese, Japanese, Korean and Thai next to Latin letters
# is ordinary ("选项B"), Greek next to Latin is a formula.
MIXED_SHARE = 0.05
MIXED_MIN = 2
SCRIPTS = 4  # scripts with at least 2% of the letters; a text about translation has up to 3
CONTROL_SHARE = 0.02
CONTROL_MIN = 3

_TAIL = 600  # characters of the end that are looked at by themselves
_WORD = re.compile(r"[^\W\d_]+")
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+|[^\w\s]")
_ROLE = r"(?:system|user|assistant)"
_GLUED_ROLES = re.compile(rf"(?:{_ROLE}\s*){{{ROLE_RUN},}}", re.IGNORECASE)
_ROLES = re.compile(rf"\b(?:{_ROLE})+\b", re.IGNORECASE)
_CHAT_MARKUP = re.compile(r"<\|im_(?:start|end)\|>")
_MEDIA_TOKEN = re.compile(r"<\|(?:IMAGE|AUDIO|VIDEO|image_pad|audio_pad|video_pad)\|>")

_SCRIPT = {
    "LATIN": "Latin",
    "CYRILLIC": "Cyrillic",
    "GREEK": "Greek",
    "ARABIC": "Arabic",
    "HEBREW": "Hebrew",
    "ARMENIAN": "Armenian",
    "GEORGIAN": "Georgian",
    "DEVANAGARI": "Devanagari",
    "BENGALI": "Bengali",
    "TAMIL": "Tamil",
    "TELUGU": "Telugu",
    "THAI": "Thai",
    "HANGUL": "Hangul",
    "CJK": "Han",
    "HIRAGANA": "Han",
    "KATAKANA": "Han",
}
_MAY_JOIN = [
    {"Latin", "Han"},
    {"Latin", "Hangul"},
    {"Latin", "Thai"},
    {"Latin", "Greek"},
    {"Han", "Hangul"},
    {"Latin", "Han", "Greek"},
    {"Han", "Greek"},
]


@dataclass(frozen=True)
class Scores:
    """What is measured in a completion.

    Attributes:
        repeated: Share (0..1) of word 4-grams that occurred before; of the worse of text and end.
        compression: zlib size by UTF-8 size; of the worse of text and end; 1 for a short text.
        role_run: Length of the longest run of ``system``, ``user`` and ``assistant``.
        role_share: Share (0..1) of words that are such role words.
        mixed_scripts: Share (0..1) of words whose letters come from scripts that no language mixes.
        scripts: Number of scripts with at least 2% of the letters.
        control: Share (0..1) of control, private-use, unassigned and replacement characters.
    """

    repeated: float
    compression: float
    role_run: int
    role_share: float
    mixed_scripts: float
    scripts: int
    control: float


def scores(text: str) -> Scores:
    """Measure a completion; see :class:`Scores`."""
    parts = [text] if len(text) <= _TAIL else [text, text[-_TAIL:]]
    words = _WORD.findall(text)
    roles = _ROLES.findall(text)
    return Scores(
        repeated=max(_repeated(part) for part in parts),
        compression=min(_compression(part) for part in parts),
        role_run=max((_count_roles(m.group()) for m in _GLUED_ROLES.finditer(text)), default=0),
        role_share=len(roles) / len(words) if len(roles) >= ROLE_MIN else 0.0,
        mixed_scripts=_mixed(words),
        scripts=_scripts(words),
        control=_control(text),
    )


def diagnose(text: str) -> list[str]:
    """Say what is wrong with a completion as text.

    Args:
        text: One completion, decoded, without its prompt.

    Returns:
        One phrase for each sign that passed its threshold; empty for text that can be read.
    """
    if not text.strip():
        return ["no text at all"]
    measured = scores(text)
    found = []
    if measured.repeated >= REPEATED_SHARE:
        found.append(f"{measured.repeated:.0%} of its word 4-grams are repetitions")
    if measured.compression <= COMPRESSION:
        found.append(f"it compresses to {measured.compression:.0%} of its size, as a loop does")
    if measured.role_run >= ROLE_RUN:
        found.append(f"{measured.role_run} chat role words in a row")
    elif measured.role_share >= ROLE_SHARE:
        found.append(f"{measured.role_share:.0%} of its words are chat role words")
    if _CHAT_MARKUP.search(text):
        found.append("chat markup (<|im_start|>) inside the answer")
    if _MEDIA_TOKEN.search(text):
        found.append("media placeholder tokens inside the answer")
    if measured.mixed_scripts >= MIXED_SHARE:
        found.append(f"{measured.mixed_scripts:.0%} of its words mix scripts")
    if measured.scripts >= SCRIPTS:
        found.append(f"letters of {measured.scripts} scripts")
    if measured.control >= CONTROL_SHARE:
        found.append(f"{measured.control:.0%} of its characters are no text")
    return found


def _repeated(text: str) -> float:
    tokens = _TOKEN.findall(text.lower())
    if len(tokens) < REPEATED_MIN_WORDS:
        return 0.0
    grams = [tuple(tokens[i : i + 4]) for i in range(len(tokens) - 3)]
    return 1 - len(set(grams)) / len(grams)


def _compression(text: str) -> float:
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) < COMPRESSION_MIN_BYTES:
        return 1.0
    return len(zlib.compress(raw, 6)) / len(raw)


def _count_roles(run: str) -> int:
    return len(re.findall(_ROLE, run, re.IGNORECASE))


@lru_cache(maxsize=4096)
def _script(letter: str) -> str | None:
    return _SCRIPT.get(unicodedata.name(letter, "").split(" ")[0])


def _mixed(words: list[str]) -> float:
    mixed = 0
    for word in words:
        if word.isascii():
            continue
        found = {script for script in map(_script, word) if script}
        if len(found) > 1 and found not in _MAY_JOIN:
            mixed += 1
    return mixed / len(words) if mixed >= MIXED_MIN else 0.0


def _scripts(words: list[str]) -> int:
    counts: dict[str, int] = {}
    for word in words:
        for letter in word:
            script = "Latin" if letter.isascii() else _script(letter)
            if script and script != "Greek":
                counts[script] = counts.get(script, 0) + 1
    letters = sum(counts.values())
    return sum(count >= 0.02 * letters for count in counts.values())


def _control(text: str) -> float:
    # A completion cut off at its length limit may end within a character: not a sign of garbage.
    text = text.rstrip("\ufffd")
    count = sum(
        letter == "\ufffd"
        or (letter not in "\t\n\r" and unicodedata.category(letter) in ("Cc", "Cn", "Co", "Cs"))
        for letter in text
        if not (letter.isascii() and letter.isprintable())
    )
    return count / len(text) if count >= CONTROL_MIN else 0.0
