"""What a record's gold answer is when a reward is tried on it before training."""

from components.grpo.preflight.rewards import gold_completions
from omnistage.rewards.grounding import rec_iou

BOX = {"task": "rec", "solution": "<answer>[40, 40, 80, 80]</answer>"}


def test_a_gold_box_is_told_in_the_frame_that_the_model_speaks_of() -> None:
    """Given an image that is shown at a quarter of its size, or boxes in thousandths."""
    for shown in ([28, 28], [1000, 1000]):
        sizes = {"image_size": [112, 112], "shown_size": shown}
        told = gold_completions(BOX | sizes)
        columns = {name: [value] * len(told) for name, value in (BOX | sizes).items()}
        assert max(r for r in rec_iou(told, **columns) if r is not None) == 1


def test_a_gold_box_without_sizes_is_told_as_it_is() -> None:
    assert "<answer>[40, 40, 80, 80]</answer>" in gold_completions(BOX)[1]
