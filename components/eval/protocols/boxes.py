"""Protocols of referring expressions: in which frame a box is read."""

import orjson

from components.eval.protocols.protocol import Protocol
from components.eval.tasks.task import Record, answer_text
from omnistage.rewards.grounding import THOUSANDTHS, in_image, iou, read_box


def read_better_frame(record: Record, text: str, order: int) -> str | None:
    """Read a box in pixels and in thousandths of the image, and keep the one nearer to the gold.

    It looks at the gold box to decide, so it can only be higher than an honest reading.
    """
    box = read_box(answer_text(text, strict=False))
    gold = read_box(record["solution"])
    if box is None or gold is None:
        return None
    frames = [box]
    if "image_size" in record:
        frames.append(in_image(box, THOUSANDTHS, record["image_size"]))
    return orjson.dumps(max(frames, key=lambda b: iou(b, gold))).decode()


PROTOCOLS = (
    Protocol(
        name="lmms_rec",
        title="lmms-eval's RefCOCO for Qwen",
        source="lmms-eval: pixels and thousandths are tried, and the better one counts",
        tasks=frozenset({"rec"}),
        template="Find in the image: {question}. Answer with its box as [x1, y1, x2, y2].",
        read=read_better_frame,
    ),
)
