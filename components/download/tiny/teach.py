"""Teaches a tiny model the form of an answer, as an instruction-tuned model brings it along.

Recipes that begin with reinforcement learning start from a model that answers in the form that is
asked for now and then, or every reward would be nothing. So the tiny model sees some lessons of the
kinds of data that it is made for: drawn at random, of pictures that are in no data set, with the
flaws that the kinds say.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from components.download.tiny.kind import Lesson
from components.download.tiny.sets import KINDS
from components.download.tiny.tokenizer import token_id

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

_BATCH, _RATE, _LEFT_OUT = 16, 2e-3, -100


def teach(
    model: "PreTrainedModel",
    processor: "ProcessorMixin",
    kinds: Sequence[str],
    steps: int,
    seed: int,
) -> float:
    """Train all weights on lessons, in turn of each kind that gives some.

    Args:
        model: Changed in place.
        processor: Of the model.
        kinds: Of :data:`~components.download.tiny.sets.KINDS`.
        steps: Optimizer steps of 16 lessons.
        seed: Of the lessons.

    Returns:
        The last step's loss.
    """
    import torch

    # The loss of many short sequences: a second thread waits more than it computes.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rng = np.random.default_rng([seed, 1])
    givers = [KINDS[kind].lesson for kind in kinds]
    lessons = [give for give in givers if give]
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _RATE, total_steps=steps, pct_start=0.05
    )
    model.train()
    loss = torch.zeros(())
    for step in range(steps):
        give = lessons[step % len(lessons)]
        inputs = _encoded([give(rng) for _ in range(_BATCH)], processor)
        loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()
    torch.set_num_threads(threads)
    return loss.item()


def _encoded(lessons: Sequence[Lesson], processor: Any) -> Any:
    """Return a batch as the model takes it; only the answers count for the loss."""
    import torch

    texts = [_text(lesson, processor) for lesson in lessons]
    images = [image for lesson in lessons for image in lesson.images]
    # As large as they are: the processor's own least is four tokens.
    sizes = {"do_resize": False}
    batch = processor(
        text=texts, images=images or None, padding=True, return_tensors="pt", images_kwargs=sizes
    )
    ids = batch["input_ids"]
    opening = token_id(processor.tokenizer, "assistant\n")
    begun = (ids == opening).int().cumsum(1).bool() & (ids != opening)
    answered = begun & batch["attention_mask"].bool()
    batch["labels"] = torch.where(answered, ids, _LEFT_OUT)
    return batch


def _text(lesson: Lesson, processor: Any) -> str:
    shown: list[dict[str, str]] = []
    for _ in lesson.images:  # each on a line of its own, as in the records
        shown += [{"type": "image"}, {"type": "text", "text": "\n"}]
    turns = [
        {"role": "user", "content": [*shown, {"type": "text", "text": lesson.prompt}]},
        {"role": "assistant", "content": lesson.answer},
    ]
    return processor.apply_chat_template(turns)
