"""What is asked and answered in the tiny judging set: questions, answers, prompts and verdicts.

The generator writes its records from these sentences, and the tiny model's tokenizer has one token
for each of them, so that a model of a million parameters learns to match an answer to a medium
within a few hundred steps.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

Modality = Literal["image", "audio", "video"]
MODALITIES: tuple[Modality, ...] = ("image", "audio", "video")

SYSTEM_PROMPT = "\n".join(
    [
        "You judge two responses to a question about a medium.",
        "Write one JSON object: start with {, end with }, no code fence.",
        "Exactly five keys: score_A, score_B, better, reasoning, final_verdict.",
        "Scores are whole numbers from 0 to 10; better is A, B or equal.",
        "reasoning is <think>...</think> on one line and weighs fluency, relevance, accuracy, "
        "reasoning and safety.",
        "final_verdict is <answer>[[A]]</answer> and names the same as better.",
    ]
)


@dataclass(frozen=True)
class Aspect:
    """Something one can ask about a medium.

    Attributes:
        name: Name of the property of the medium, as the generator of the media knows it.
        question: The question as the prompt has it.
        answers: One sentence for each value that the property can have.
        scores: The annotator's scores (0 to 10) for the fitting answer and for another one.
    """

    name: str
    question: str
    answers: tuple[str, ...]
    scores: tuple[int, int]


_PITCH = Aspect(
    "pitch",
    "How high is the tone?",
    ("The tone is low.", "The tone is in the middle.", "The tone is high."),
    (8, 2),
)

ASPECTS: dict[Modality, tuple[Aspect, ...]] = {
    "image": (
        Aspect(
            "colour",
            "Which colour is drawn?",
            ("It is drawn in red.", "It is drawn in green.", "It is drawn in blue."),
            (9, 2),
        ),
        Aspect(
            "paper",
            "How bright is the paper?",
            ("The paper is dark.", "The paper is grey.", "The paper is white."),
            (8, 3),
        ),
        Aspect(
            "count",
            "How many discs are there?",
            ("There is one disc.", "There are two discs.", "There are three discs."),
            (9, 1),
        ),
    ),
    "audio": (
        _PITCH,
        Aspect(
            "voice",
            "What does it sound like?",
            ("It sounds like a flute.", "It sounds like a buzzer.", "It sounds like a rattle."),
            (9, 2),
        ),
        Aspect(
            "beeps",
            "How many beeps are there?",
            ("There is one beep.", "There are two beeps.", "There are three beeps."),
            (9, 1),
        ),
    ),
    "video": (
        Aspect(
            "direction",
            "Which way does the ball roll?",
            ("The ball rolls left.", "The ball rolls right."),
            (9, 1),
        ),
        Aspect(
            "colour",
            "Which colour is the ball?",
            ("The ball is red.", "The ball is green.", "The ball is blue."),
            (9, 2),
        ),
        _PITCH,
    ),
}

_LIKE = " Both are alike in fluency, relevance, reasoning and safety."
_WEIGHED = {
    "A": " On accuracy A is better than B.",
    "B": " On accuracy B is better than A.",
    "equal": " On accuracy neither A nor B is better.",
}


def user_prompt(modality: Modality, path: str, question: str, answers: tuple[str, str]) -> str:
    """Return the user's turn without a media tag: the file, the question and both responses.

    Args:
        modality: Names the kind of file.
        path: The path as it stands in the text; ended by two spaces, as in OmniCritic's records.
        question: The question about the medium.
        answers: Response A and response B, one line each.
    """
    return (
        f"{modality.capitalize()} file: {path}  \nQuestion: {question}"
        f"\nResponse A: {answers[0]}\nResponse B: {answers[1]}"
    )


def verdict(observed: str, better: str, scores: tuple[int, int], thorough: bool) -> dict[str, Any]:
    """Return a five-key verdict, reasoning first, so that what is seen is named, then scored.

    Args:
        observed: The sentence that fits the medium.
        better: ``A``, ``B`` or ``equal``.
        scores: Scores of A and B, 0 to 10.
        thorough: Weigh all five dimensions, or accuracy alone.
    """
    reasoning = observed + _WEIGHED[better] + (_LIKE if thorough else "")
    return {
        "reasoning": f"<think>{reasoning}</think>",
        "score_A": scores[0],
        "score_B": scores[1],
        "better": better,
        "final_verdict": f"<answer>[[{better}]]</answer>",
    }


def verdict_text(value: dict[str, Any]) -> str:
    """Return a verdict as the JSON text that a model is to write (``json.dumps`` defaults)."""
    return json.dumps(value, ensure_ascii=False)


def vocabulary() -> list[str]:
    """Return the strings that the tiny tokenizer has one token for, in a fixed order.

    Whole lines of the prompts, the sentences and fixed fragments of a verdict, and the constant
    parts of a media path; every other text is spelled in bytes.
    """
    aspects = [aspect for modality in MODALITIES for aspect in ASPECTS[modality]]
    answers = [answer for aspect in aspects for answer in aspect.answers]
    first, *rest = SYSTEM_PROMPT.split("\n")
    strings = [first, *(f"\n{line}" for line in rest), "You are a helpful assistant."]
    strings += [f"{modality.capitalize()} file: " for modality in MODALITIES]
    strings += ["rlaif-v-dataset/images/", "Clotho-AQA dataset/audio/", "video/academic_source/"]
    strings += [".png", ".wav", ".mp4", "  ", "system\n", "user\n", "assistant\n"]
    strings += [f"\nQuestion: {aspect.question}" for aspect in aspects]
    strings += [f"\nResponse {letter}: {answer}" for letter in "AB" for answer in answers]
    strings += [*answers, *_WEIGHED.values(), _LIKE, "equal"]
    strings += [
        '{"reasoning": "<think>',
        '</think>", "score_A": ',
        ', "score_B": ',
        ', "better": "',
        '", "final_verdict": "<answer>[[',
        ']]</answer>"}',
    ]
    return list(dict.fromkeys(strings))
