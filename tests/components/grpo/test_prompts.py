"""A GRPO run that can never fill a step is refused before it starts."""

import pytest

from components.grpo.config import GRPOSettings
from components.grpo.stage import check_step, prompts_per_step
from omnistage.errors import InputError


@pytest.mark.parametrize(
    ("settings", "prompts"),
    [
        ({"batch_size": 16, "num_generations": 8}, 2),
        ({"batch_size": 8, "num_generations": 8}, 1),
        (
            {
                "num_generations": 4,
                "batch_size": 4,
                "swift_arguments": {"generation_batch_size": 32},
            },
            8,
        ),
    ],
)
def test_a_step_takes_a_batch_of_groups(settings: dict[str, object], prompts: int) -> None:
    assert prompts_per_step(GRPOSettings.model_validate(settings)) == prompts


def test_fewer_records_than_a_step_takes_are_refused() -> None:
    """Case media-22: the trainer would draw from an empty sampler for ever."""
    with pytest.raises(
        InputError, match="1 record to train on, but an optimizer step takes 2 prompts"
    ):
        check_step(1, 2, "grpo")
    check_step(2, 2, "grpo")
