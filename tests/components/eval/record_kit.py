"""Canonical records of every task, for the tests of the evaluation."""

import json
from typing import Any


def verdict(a: int, b: int, better: str) -> str:
    return json.dumps(
        {
            "reasoning": "<think>It is red.</think>",
            "score_A": a,
            "score_B": b,
            "better": better,
            "final_verdict": f"<answer>[[{better}]]</answer>",
        }
    )


def pair(number: int, medium: str, better: str = "A", root: str = "") -> dict[str, Any]:
    """A pair to judge."""
    a, b = {"A": (9, 1), "B": (1, 9), "equal": (5, 5)}[better]
    return {
        "id": f"r{number}",
        "source": "s",
        "task": "judge",
        "messages": [
            {"role": "system", "content": "Judge."},
            {
                "role": "user",
                "content": f"<{medium}>\nQuestion: what colour?\nResponse A: red\nResponse B: blue",
            },
        ],
        f"{medium}s": [f"{root}m{number}"],
        "solution": verdict(a, b, better),
    }


def question(task: str, solution: str, number: int = 1, **fields: Any) -> dict[str, Any]:
    """A record of a task that is asked once, without media."""
    return {
        "id": f"q{number}",
        "source": "s",
        "task": task,
        "messages": [{"role": "user", "content": "What is it?"}],
        "solution": solution,
        **fields,
    }
