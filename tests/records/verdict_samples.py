"""A good verdict, and texts that are nearly verdicts or nothing of the kind."""

import json

from hypothesis import strategies as st

GOOD = {
    "score_A": 8,
    "score_B": 3,
    "better": "A",
    "reasoning": "<think>Response A names the colour, Response B does not.</think>",
    "final_verdict": "<answer>[[A]]</answer>",
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
nearly_verdicts = st.fixed_dictionaries(
    {},
    optional={
        "score_A": st.integers(-2, 12) | json_values,
        "score_B": st.integers(-2, 12) | json_values,
        "better": st.sampled_from(["A", "B", "equal"]) | json_values,
        "reasoning": st.just(GOOD["reasoning"]) | json_values,
        "final_verdict": st.sampled_from([f"<answer>[[{x}]]</answer>" for x in "AB"]) | json_values,
        "more": json_values,
    },
)
fences = st.sampled_from(["{}", "```json\n{}\n```", "```{}```", " {}\n", "Sure: {}"])
completions = st.text(max_size=40) | st.builds(
    lambda value, fence: fence.replace("{}", json.dumps(value)),
    nearly_verdicts | json_values,
    fences,
)


def dump(**changes: object) -> str:
    return json.dumps({**GOOD, **changes})
