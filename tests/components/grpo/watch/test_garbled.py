"""A completion that cannot be read is told from one that can."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.grpo.watch.garbled import diagnose, scores

ENGLISH = (
    "<think>The clip shows a man walking into a kitchen while a radio plays. Answer A says that "
    "he carries a blue cup and sets it on the table, which matches the frames near the end. "
    "Answer B speaks of a dog, and no dog is heard or seen anywhere. On fluency both read well. "
    "On relevance A stays with the question, B drifts to the weather. On accuracy A is right "
    "about the cup and wrong about the lamp; B is wrong about both. The reasoning of A is short "
    "yet sound, that of B contradicts itself in its second sentence. Neither is unsafe, so A is "
    "better overall.</think><answer>[[A]]</answer>"
)
CHINESE = (
    "<think>视频中一名男子走进厨房，背景里有收音机的声音。选项A提到他拿着蓝色的杯子并放在桌上，"
    "这与后面的画面一致；选项B说到一条狗，但画面和声音里都没有狗。流畅性方面两者都不错，相关性上A"
    "紧扣问题，B却谈到天气。准确性上A对杯子的描述正确，对灯的描述有误，而B两处都错。推理方面A简短"
    "但合理，B的第二句自相矛盾。两者都没有安全问题，因此使用GPT模型评分时A更好。</think>"
    "<answer>[[A]]</answer>"
)
VERDICT = json.dumps(
    {
        "score_A": 8,
        "score_B": 3,
        "better": "A",
        "reasoning": "<think>Fluency: both read well. Relevance: A stays on the image, B does not. "
        "Accuracy: A names the red disc, B a blue one. Reasoning: A is sound. Safety: both are "
        "harmless.</think>",
        "final_verdict": "<answer>[[A]]</answer>",
    }
)
READABLE = {
    "a verdict": VERDICT,
    "English": ENGLISH,
    "long English": " ".join(ENGLISH.replace("cup", noun) for noun in ("cup", "box", "hat")),
    "Chinese with Latin letters": CHINESE,
    "one letter": "B",
    "a number": "<answer>3.14</answer>",
    "Korean with Latin letters": "GPT는 그림을 보고 B를 선택했습니다. 답은 B입니다.",
    "Russian": "Ответ A лучше, потому что на видео действительно видна красная машина.",
    "Japanese": "動画ではボールが左に転がり、音は高いです。だからAの答えが正しいと思います。",
    "a formula": "Let αx + βy = γ and Δt → 0; then ∂f/∂x = λ, so x ≈ 2.5 μm and θ = 30°.",
    "the same remark on each dimension": "".join(
        f"On {d} both A and B are equal. "
        for d in ("fluency", "relevance", "accuracy", "reasoning", "safety")
    ),
    "roles as a topic": "The system prompt tells the user and the assistant what to do; a chat has "
    "a system, a user and an assistant turn, and the operating system has no part in it.",
    "an emoji": "Great answer! 😀👍 A is better.",
    "boxes as numbers": "<answer>[12, 40, 300, 420], [13, 44, 280, 399], [7, 1, 99, 80]</answer>",
    "cut off within a character": ENGLISH + "\ufffd",
}
GARBLED = {
    "the report's loop": (
        "<contextsystemsystemsystem schönesystemsystem",
        "role words",
    ),
    "roles with line breaks": ("system\nsystem\nuser\nsystem\nassistant", "role words"),
    "a word again and again": ("the " * 300, "repetitions"),
    "a loop without spaces": ("ab" * 400, "compresses"),
    "a Chinese loop": ("的确是这样的" * 60, "repetitions"),
    "a good start that ends in a loop": (ENGLISH + " and so on" * 80, "repetitions"),
    "scripts within a word": ("Hellпривет worldмир fooбар the answer is", "mix scripts"),
    "many scripts": ("schöne привет 世界的 مرحبا שלום", "scripts"),
    "bytes that are no text": ("ans\ufffd\ufffdwer\x00\x01\x02 is \ufffd A", "no text"),
    "chat markup": ("A is better<|im_start|>user\nWhat now?", "chat markup"),
    "a media token": ("The ball <|VIDEO|> rolls", "media placeholder"),
    "nothing": ("  \n", "no text"),
}


@pytest.mark.parametrize("name", READABLE)
def test_what_can_be_read_is_not_flagged(name):
    assert diagnose(READABLE[name]) == []


@pytest.mark.parametrize("name", GARBLED)
def test_garbage_is_flagged_and_the_sign_is_named(name):
    text, sign = GARBLED[name]

    assert any(sign in found for found in diagnose(text))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_every_text_can_be_measured_and_every_score_keeps_its_range(text):
    measured = scores(text)

    for share in (
        measured.repeated,
        measured.role_share,
        measured.mixed_scripts,
        measured.control,
    ):
        assert 0 <= share <= 1
    assert measured.compression > 0
    assert isinstance(diagnose(text), list)


_WORDS = st.lists(
    st.sampled_from(sorted(set((ENGLISH + " " + VERDICT).split()))), min_size=1, max_size=200
)


@settings(max_examples=60, deadline=None)
@given(_WORDS)
def test_any_order_of_ordinary_words_with_little_repetition_passes(words):
    text = " ".join(dict.fromkeys(words))

    assert diagnose(text) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(ENGLISH.split()), min_size=1, max_size=6), st.integers(40, 80))
def test_any_phrase_in_a_long_loop_is_flagged(phrase, times):
    assert diagnose(" ".join(phrase * times))


_VERDICTS = st.builds(
    lambda a, b, word: {
        "score_A": a,
        "score_B": b,
        "better": "A" if a > b else "B" if b > a else "equal",
        "reasoning": f"<think>A shows the {word}; accuracy decides.</think>",
        "final_verdict": "<answer>[[A]]</answer>",
    },
    st.integers(0, 10),
    st.integers(0, 10),
    st.sampled_from(["disc", "dog", "狗", "Ñandú", "tone"]),
)


@settings(max_examples=40, deadline=None)
@given(_VERDICTS)
def test_no_verdict_is_flagged(verdict):
    assert diagnose(json.dumps(verdict)) == []
    assert diagnose(json.dumps(verdict, ensure_ascii=False, indent=2)) == []
