"""Checks that the weighted rewards can be computed and can tell a gold answer from a wrong one."""

import json
from collections.abc import Mapping
from typing import Any

from components.grpo.preflight.records import name_of
from components.grpo.preflight.spec import Check, PreflightSpec, failed, passed
from omnistage.records.verdict import VerdictError, parse_verdict
from omnistage.rewards import REQUIRED_VARIABLES, REWARDS, register
from omnistage.rewards.columns import gold_answer
from omnistage.rewards.grounding import in_image, read_box

_NAME = "rewards"
_SERVED = 2  # records sent to a reward that asks a server


def check_rewards(
    spec: PreflightSpec, sample: list[dict[str, Any]], env: Mapping[str, str]
) -> list[Check]:
    """Check each reward with a weight other than zero on gold and on wrong completions.

    Args:
        spec: The run.
        sample: Records with their gold.
        env: Environment in which the rewards will run.
    """
    register(spec.reward_code)
    weighted = [name for name, weight in spec.rewards.items() if weight]
    if not weighted:
        return [failed(_NAME, "no reward has a weight other than zero; nothing can be learned")]
    unknown = [name for name in weighted if name not in REWARDS]
    if unknown:
        return [failed(_NAME, f"no reward is called {unknown[0]!r}; there are {sorted(REWARDS)}")]
    return [_check_reward(name, sample, env) for name in weighted]


def _check_reward(name: str, sample: list[dict[str, Any]], env: Mapping[str, str]) -> Check:
    check = f"reward {name}"
    absent = [variable for variable in REQUIRED_VARIABLES.get(name, ()) if not env.get(variable)]
    if absent:
        return failed(check, f"needs the environment variable {absent[0]}, which is not set")
    if name in REQUIRED_VARIABLES:
        sample = sample[:_SERVED]
    graded: dict[str, list[bool]] = {}
    told = 0
    for record in sample:
        best, worst = _extremes(name, record)
        graded.setdefault(str(record.get("task")), []).append(best is not None)
        told += best is not None and worst is not None and best > worst
        if best is None and any(graded[str(record.get("task"))]):
            return failed(
                check,
                f"{name_of(record)} has no gold that it can read, though others of task "
                f"{record.get('task')!r} have: complete its solution or gold columns",
            )
    count = sum(sum(marks) for marks in graded.values())
    if count == 0:
        return failed(
            check,
            f"grades none of {len(sample)} records (tasks {sorted(graded)}): their gold is missing "
            "or of another form. Choose rewards that fit the tasks, or give it weight 0",
        )
    if told == 0:
        return failed(
            check,
            f"pays no more for the gold answer than for a wrong one on all of {count} records: it "
            "teaches nothing. Give it weight 0 or mend the gold columns",
        )
    return passed(check, f"tells gold from wrong on {told} of {len(sample)} records")


def _extremes(name: str, record: dict[str, Any]) -> tuple[float | None, float | None]:
    """Return the best reward of a gold completion and the worst of a wrong one."""
    gold, wrong = gold_completions(record), wrong_completions(record)
    completions = gold + wrong
    skipped = ("images", "audios", "videos")
    columns = {k: [v] * len(completions) for k, v in record.items() if k not in skipped}
    rewards = REWARDS[name](completions, **columns)
    return (
        max((r for r in rewards[: len(gold)] if r is not None), default=None),
        min((r for r in rewards[len(gold) :] if r is not None), default=None),
    )


def gold_completions(record: dict[str, Any]) -> list[str]:
    """Return a record's gold answer in the forms that the known prompts ask for.

    As it is; after ``<think>``; and after ``<context>`` and ``<think>`` (HumanOmniV2). A box is
    told in the frame that the model speaks of.
    """
    solution = record.get("solution")
    text = solution if isinstance(solution, str) else json.dumps(solution, ensure_ascii=False)
    shown, image, box = record.get("shown_size"), record.get("image_size"), read_box(text)
    if shown and image and box:
        text = json.dumps(in_image(box, image, shown))
    answer = f"<answer>{gold_answer(text)}</answer>"
    thought = "<think>The medium shows it, so this is the answer.</think>"
    return [
        text,
        f"{thought}\n{answer}",
        f"{thought}{answer}",
        f"<context>What is seen and heard.</context>\n{thought}\n{answer}",
    ]


def wrong_completions(record: dict[str, Any]) -> list[str]:
    """Return answers that no reward may prefer: the verdict turned round, and no answer at all."""
    wrong = ["I do not know.", "<think>No idea.</think><answer>none of these</answer>"]
    try:
        verdict = parse_verdict(record.get("solution") or "")
    except VerdictError:
        return wrong
    better = {"A": "B", "B": "A", "equal": "A"}[verdict.better]
    turned = {
        "score_A": 9 if better == "A" else 1,
        "score_B": 1 if better == "A" else 9,
        "better": better,
        "reasoning": "<think>No reason.</think>",
        "final_verdict": f"<answer>[[{better}]]</answer>",
    }
    return [json.dumps(turned), *wrong]
