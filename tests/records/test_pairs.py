"""Candidates are found in a judge prompt, and exchanged without touching anything else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistage.errors import InputError
from omnistage.records.pairs import candidates, swap_candidates


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Response A: no"}, {"role": "user", "content": text}]


def test_candidates_on_lines_of_their_own() -> None:
    prompt = user("<image>\nQuestion: what?\nResponse A: a cat\nResponse B: a dog")
    assert candidates(prompt) == ("a cat", "a dog")
    swapped = swap_candidates(prompt, "r1")
    assert swapped[1]["content"] == (
        "<image>\nQuestion: what?\nResponse A: a dog\nResponse B: a cat"
    )
    assert swapped[0] == prompt[0]


def test_candidates_of_several_lines_under_headings() -> None:
    prompt = user("## Answer 1:\nfirst\nline two\n## Answer 2:\nsecond\n\nNow judge.")
    assert candidates(prompt) == ("first\nline two", "second")
    assert swap_candidates(prompt, "r1")[1]["content"] == (
        "## Answer 1:\nsecond\n## Answer 2:\nfirst\nline two\n\nNow judge."
    )


def test_a_blank_line_in_the_first_means_the_second_may_have_them_too() -> None:
    prompt = user("Response A: one\n\ntwo\n\nResponse B: three\n\nfour")
    assert candidates(prompt) == ("one\n\ntwo", "three\n\nfour")


def test_a_prompt_without_candidates_is_refused_by_name() -> None:
    assert candidates(user("which is better?")) is None
    with pytest.raises(InputError, match="image/sft.jsonl:3"):
        swap_candidates(user("Response B: x\nResponse A: y"), "image/sft.jsonl:3")


words = st.text(alphabet="abc xyz.,!?", min_size=1).map(str.strip).filter(bool)


@settings(deadline=None)
@given(words, words, words)
def test_exchanging_twice_gives_the_prompt_back(question: str, a: str, b: str) -> None:
    prompt = user(f"Question: {question}\nResponse A: {a}\nResponse B: {b}")
    swapped = swap_candidates(prompt, "r")
    assert candidates(swapped) == (b, a)
    assert swap_candidates(swapped, "r") == prompt
