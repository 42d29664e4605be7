"""Finding what a phrase refers to: a box, in pixels of the image itself."""

from collections.abc import Mapping, Sequence

import orjson

from components.eval.metrics.bootstrap import Ratio
from components.eval.metrics.grounding import iou_accuracy, mean_iou
from components.eval.tasks.task import Record, Said, Task, Ungradable, answer_text
from omnistage.rewards.columns import gold_answer
from omnistage.rewards.grounding import THRESHOLD, Box, in_image, iou, read_box


def _text(box: Box) -> str:
    return orjson.dumps(box).decode()


def _box(text: str | None) -> Box | None:
    return None if text is None else read_box(text)


def _gold(record: Record) -> str:
    solution = record["solution"]
    box = read_box(gold_answer(solution) if isinstance(solution, str) else solution)
    if box is None:
        raise Ungradable("the gold answer is not a box")
    return _text(box)


def _read(record: Record, text: str, order: int, strict: bool) -> str | None:
    box = read_box(answer_text(text, strict))
    if box and "shown_size" in record:
        box = in_image(box, record["shown_size"], record["image_size"])
    return None if box is None else _text(box)


def _known(golds: Sequence[str]) -> list[Box]:
    return [box for gold in golds if (box := _box(gold))]


def _metrics(golds: Sequence[str], said: Sequence[Said]) -> Mapping[str, Ratio]:
    boxes, found = _known(golds), [_box(s[0]) for s in said]
    return {"iou_50": iou_accuracy(boxes, found), "mean_iou": mean_iou(boxes, found)}


def _score(gold: str, said: str) -> float:
    first, second = _box(gold), _box(said)
    return float(first is not None and second is not None and iou(first, second) > THRESHOLD)


def _mean_box(golds: Sequence[str]) -> Mapping[str, list[Said]]:
    boxes = _known(golds)
    mean = [sum(side) / len(boxes) for side in zip(*boxes, strict=True)]
    return {"always the mean box": [(orjson.dumps(mean).decode(),)] * len(golds)}


TASK = Task(
    name="rec",
    title="Referring expressions",
    about="Share of boxes that overlap the gold box by an IoU above .5, and the mean IoU.",
    headline="iou_50",
    gold=_gold,
    read=_read,
    score=_score,
    metrics=_metrics,
    constants=_mean_box,
    boxes=True,
)
