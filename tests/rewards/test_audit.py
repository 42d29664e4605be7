"""Cheating a mix of rewards must not pay more than an honest wrong answer."""

import pytest

from omnistage.errors import InputError
from omnistage.rewards.audit import HONEST_RIGHT, HONEST_WRONG, audit

SHIPPED = {"mm_format": 0.4, "mm_content": 0.4, "mm_rubric_strict": 0.2}
CHEATS = {
    *("empty", "fenced", "keyword-stuffed", "copied prompt", "constant", "over-long", "cut"),
    *("repeated", "well-formed but wrong", "copied candidate", "injected verdict"),
}


def test_the_shipped_judging_mix_is_not_cheated():
    findings = audit(SHIPPED)
    assert {f.name for f in findings} >= CHEATS | {HONEST_RIGHT, HONEST_WRONG}
    assert [f.name for f in findings if f.cheats] == []


def test_the_published_mix_is_and_the_rubric_pays_for_it():
    findings = audit({"mm_format": 0.4, "mm_content": 0.4, "mm_rubric": 0.2})
    cheated = {f.name: f.part for f in findings if f.cheats}
    assert cheated.keys() >= {"keyword-stuffed", "constant", "prompt as thought"}
    assert set(cheated.values()) == {"mm_rubric"}
    assert all(f.pays > f.honest for f in findings if f.cheats)


@pytest.mark.parametrize(
    "mix",
    [
        {"lmm_math": 1.0, "lmm_format": 0.5},
        {"r1omni_accuracy": 1.0, "r1omni_format": 1.0},
        {"humanomni_accuracy": 1.0, "humanomni_format": 1.0},
        {"rec_iou": 1.0, "omnirl_format": 1.0},
        {"rec_iou_value": 1.0, "omnirl_format": 1.0},
        {"omnirl_accuracy": 1.0, "omnirl_format": 1.0},
        {"mm_format_light": 0.2, "unified_rl": 0.8},
    ],
)
def test_mixes_of_the_other_systems_are_not_cheated(mix: dict[str, float]):
    assert [(f.task, f.name, f.part) for f in audit(mix) if f.cheats] == []


def test_the_published_length_reward_pays_for_length():
    findings = audit({"omnirl_accuracy": 1.0, "omnirl_length": 1.0})
    assert {f.part for f in findings if f.cheats} == {"omnirl_length"}
    assert "over-long" in {f.name for f in findings if f.cheats}


def test_a_mix_that_teaches_nothing_is_refused():
    with pytest.raises(InputError, match="prefers the right answer to a wrong one in none of"):
        audit({"omnirl_format": 1.0})
    with pytest.raises(InputError, match="no reward 'mm_gold'"):
        audit({"mm_gold": 1.0})
