"""Emotion labels under their common names: label maps and open-vocabulary matching."""

from collections.abc import Mapping
from functools import cache

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "angry": ("anger", "angered", "mad", "furious", "irritated", "annoyed", "enraged", "outraged"),
    "happy": ("happiness", "joy", "joyful", "cheerful", "delighted", "pleased", "glad", "elated"),
    "sad": ("sadness", "sorrow", "sorrowful", "unhappy", "grief", "depressed", "gloomy"),
    "fear": ("fearful", "afraid", "scared", "frightened", "terrified"),
    "surprise": ("surprised", "astonished", "amazed", "shocked", "startled"),
    "disgust": ("disgusted", "revolted", "repulsed"),
    "neutral": ("no emotion",),
    "calm": ("relaxed", "peaceful"),
    "contempt": ("contemptuous", "scorn", "scornful", "disdain"),
    "anxiety": ("anxious", "nervous", "worried"),
    "helplessness": ("helpless",),
    "disappointment": ("disappointed",),
}
"""Other words for a label: RAVDESS's names (fearful, surprised; R1-Omni's map), the nouns and
adjectives of the same emotion, and close synonyms for answers from an open vocabulary."""


def normalize_label(label: str | None) -> str | None:
    """Return a label in lower case, without space or a full stop around, under its common name.

    A word that is no synonym of a label stays what it is; nothing but space is None.
    """
    plain = (label or "").strip().strip(".").strip().lower()
    return _common_names().get(plain, plain) or None


@cache
def _common_names() -> dict[str, str]:
    return {word: label for label, words in SYNONYMS.items() for word in words}
