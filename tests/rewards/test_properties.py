"""Whatever a model writes, a reward is one number in its range, and the same in any batch."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistage.rewards import RANGES, REQUIRED_VARIABLES, REWARDS
from tests.records.verdict_samples import GOOD, completions

OFFLINE = sorted(REWARDS.keys() - REQUIRED_VARIABLES.keys())

any_text = st.text(st.characters(), max_size=60)  # lone surrogates too
tags = ("<think>", "</think>", "<answer>", "</answer>", "<context>", "</context>", "[1,2,30,40]")
tagged_text = st.lists(st.sampled_from(tags) | any_text, max_size=8).map("".join)
hostile = st.sampled_from(
    [
        "[" * 100_000,
        '{"a":' * 5_000,
        '{"score_A": NaN, "score_B": 1e400, "better": "A"}',
        '{"reasoning": "\\ud800", "better": "A"}',
        json.dumps({**GOOD, "reasoning": "fluency A B " * 5_000}),
        "<answer>" * 10_000,
        "<answer>[9e9, -1, 1e-9, 99999999999999999999]</answer>",
        "<answer>" + "9" * 5_000 + "</answer>",
        "\x00",
    ]
)
written = any_text | tagged_text | completions | hostile
gold = st.sampled_from(
    ["<answer>B</answer>", "42", "2√{3}", "happy, sad", json.dumps(GOOD), "[1,2,3,4]", "", None]
)
kinds = st.sampled_from(["multiple choice", "numerical", "OCR", "regression", "emer_ov", "judge"])
row = st.fixed_dictionaries({"completion": written, "solution": gold, "problem_type": kinds})


@pytest.mark.parametrize("name", OFFLINE)
@settings(max_examples=25, deadline=None)
@given(st.lists(row, max_size=4))
def test_a_batch_is_graded_as_its_rows_one_by_one(name: str, rows: list[dict[str, Any]]):
    texts = [r["completion"] for r in rows]
    columns = {key: [r[key] for r in rows] for key in ("solution", "problem_type")}
    columns["messages"] = [[{"role": "user", "content": f"A dog? {text}"}] for text in texts]

    together = REWARDS[name](texts, **columns)
    alone = [
        REWARDS[name]([text], **{key: [values[i]] for key, values in columns.items()})[0]
        for i, text in enumerate(texts)
    ]

    low, high = RANGES[name]
    assert together == alone
    assert all(value is None or low <= value <= high for value in together)
