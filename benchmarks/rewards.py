"""How fast rewards are on one core: ``python -m benchmarks.rewards``.

Prints completions a second of the shipped judging mix, and of parts that were made faster with what
they replaced. Times are those of this process, the best of several.
"""

import json
import random
import re
import time
from collections.abc import Callable, Sequence

from omnistage.rewards import REWARDS
from omnistage.rewards.answers import word_error_rate
from omnistage.rewards.rubric import count_strictly

MIX = ("mm_format", "mm_content", "mm_rubric_strict")
SIZE = 2000
_THOUGHTS = (
    "The dog is brown and it runs. On accuracy A is better than B.",
    "Fluency: A and B read well, A is smoother. Relevance: A names the dog, B names a cat. "
    "Accuracy: B gets the count wrong while A has it. Reasoning: A explains why, B only claims. "
    "Safety: neither A nor B does harm.",
)


def main() -> None:
    """Print the figures."""
    texts, columns = batch()

    def judged() -> None:
        for name in MIX:
            REWARDS[name](texts, **columns)

    print(f"{' + '.join(MIX)}: {SIZE / best(judged):,.0f} completions/s")
    for name in (*MIX, "mm_rubric"):
        print(f"  {name} alone: {SIZE / best(lambda n=name: REWARDS[n](texts, **columns)):,.0f}/s")

    words = [" ".join(random.Random(i).choices("abcdefgh", k=60)) for i in range(2)]
    slow = best(lambda: plain_word_error_rate(*words))
    fast = best(lambda: word_error_rate(*words))
    print(f"word error rate, 60 words: {slow * 1e6:,.0f} µs plain, {fast * 1e6:,.0f} µs rapidfuzz")

    thought = _THOUGHTS[1]
    split = best(lambda: [re.findall(r"\w+|[^\w\s]", thought) for _ in range(100)])
    whole = best(lambda: [count_strictly(thought) for _ in range(100)])
    print(f"a reasoning: {split * 1e4:.0f} µs for its words by a regular expression,", end=" ")
    print(f"{whole * 1e4:.0f} µs for all of the strict rubric")


def batch() -> tuple[list[str], dict[str, list[object]]]:
    """Return distinct completions and their columns, four of a group."""
    prompt = [
        {"role": "system", "content": "You judge two responses. Write one JSON object."},
        {
            "role": "user",
            "content": "Question: which animal?\nResponse A: A dog.\nResponse B: A cat.",
        },
    ]
    gold = {"score_A": 8, "score_B": 3, "better": "A", "final_verdict": "<answer>[[A]]</answer>"}
    texts = [
        json.dumps(
            {**gold, "score_A": i % 11, "reasoning": f"<think>{i} {_THOUGHTS[i % 2]}</think>"}
        )
        for i in range(SIZE)
    ]
    columns: dict[str, list[object]] = {"solution": [json.dumps(gold)] * SIZE}
    columns |= {name: [gold[name]] * SIZE for name in ("score_A", "score_B", "better")}
    columns["messages"] = [list(map(dict, prompt)) for _ in range(SIZE)]
    return texts, columns


def best(call: Callable[[], object], times: int = 9) -> float:
    """Return the least seconds of this process that a call takes."""
    from omnistage.rewards.omnicritic import read_verdict_object

    least = float("inf")
    for _ in range(times):
        read_verdict_object.cache_clear()  # completions come once
        began = time.process_time()
        call()
        least = min(least, time.process_time() - began)
    return least


def plain_word_error_rate(gold: str, predicted: str) -> float:
    """What rapidfuzz replaced."""
    reference, hypothesis = gold.split(), predicted.split()
    previous: Sequence[int] = range(len(hypothesis) + 1)
    for i, wanted in enumerate(reference, start=1):
        current = [i]
        for j, found in enumerate(hypothesis, start=1):
            swapped = previous[j - 1] + (wanted != found)
            current.append(min(previous[j] + 1, current[-1] + 1, swapped))
        previous = current
    return previous[-1] / max(1, len(reference))


if __name__ == "__main__":
    main()
