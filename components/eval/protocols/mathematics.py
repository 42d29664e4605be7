"""Protocols of mathematics: what of a completion is compared with the gold answer."""

from components.eval.protocols.protocol import Protocol
from components.eval.tasks.task import Record
from omnistage.rewards.mathematics import finds_gold, has_mathematics


def read_whole(record: Record, text: str, order: int) -> str | None:
    """Return the whole completion, thought and all, where math-verify finds anything in it."""
    return text if has_mathematics(text) else None


PROTOCOLS = (
    Protocol(
        name="r1v_geoqa",
        title="R1-V's GeoQA",
        source="R1-V, src/eval/test_qwen2vl_geoqa.py: math-verify looks for the answer in all of "
        "the completion",
        tasks=frozenset({"math"}),
        template="{question} Think within <think> </think>, then write the final answer, a number, "
        "within <answer> </answer>.",
        read=read_whole,
        score=lambda gold, said: float(finds_gold(said, gold)),
    ),
)
