"""A stand-in for the language model that judges: it grades the generated sentences by rule."""

import re
from typing import Any

from omnistage.rewards.served import chat
from tests.rewards.served.server_kit import Server, reply

_ABOUT = {"look at the ball": "The ball is", "listen to the tone": "The tone is"}
"""What a thought says that it does, and how the evidence for it begins."""


def grade(prompt: str) -> float:
    """Return the score, 0 to 5, that HumanOmniV2's rewards ask a judge for.

    A description is worth the share of the reference's sentences that it has; a thought 5 where its
    evidence is there, else 1.

    Raises:
        ValueError: If it is none of these questions.
    """
    for template in (chat.COVERAGE, chat.RATIONALITY):
        fixed = re.escape(template).replace(r"\{reference\}", "(.*)").replace(r"\{text\}", "(.*)")
        if found := re.fullmatch(fixed, prompt, re.DOTALL):
            reference, text = found.groups()
            break
    else:
        raise ValueError(f"not what omnistage asks a judge: {prompt[:80]!r}")
    if template is chat.COVERAGE:
        wanted = sentences(reference)
        return 5 * len(wanted & sentences(text)) / len(wanted)
    needed = [evidence for thought, evidence in _ABOUT.items() if thought in text]
    return 5.0 if any(evidence in reference for evidence in needed) else 1.0


def sentences(text: str) -> set[str]:
    """Return the sentences of a text."""
    return {part.strip() for part in text.split(".") if part.strip()}


def serve() -> Server:
    """Serve it on the loopback as an OpenAI-compatible endpoint."""

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        return reply(str(grade(body["messages"][0]["content"])))

    return Server(answer, [])
