"""Settings of GRPO's variants: defaults of the estimators' papers, and what cannot act is said."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components.grpo.config import GRPOSettings, idle_settings
from components.grpo.stage import grpo_arguments
from omnistage.settings import key_config
from omnistage.store.manifest import Manifest
from omnistage.swift.arguments import check_arguments
from omnistage.swift.family import FAMILIES
from omnistage.swift.lineage import Lineage, Start

BASE = Manifest(
    kind="BaseModel", stage="s", key="k", digest=f"sha256:{'0' * 64}", uri="file:///x", files=[]
)


def settings(**values: Any) -> GRPOSettings:
    return GRPOSettings.model_validate(values)


@pytest.mark.parametrize(
    ("estimator", "scale"), [("grpo", "group"), ("rloo", "none"), ("reinforce_plus_plus", "batch")]
)
def test_an_estimator_is_one_setting_and_brings_its_papers_scale(
    estimator: str, scale: str
) -> None:
    assert settings(advantage_estimator=estimator).scale_rewards == scale
    own = settings(advantage_estimator=estimator, scale_rewards="group")
    assert own.scale_rewards == "group"
    assert GRPOSettings.model_validate(own.model_dump(mode="json")) == own


def test_settings_that_were_added_change_no_key_while_they_are_not_set() -> None:
    assert not {"epsilon", "kl_in_reward", "soft_overlong"} & set(key_config(settings()))
    assert key_config(settings(epsilon_high=0.28))["epsilon_high"] == 0.28


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epsilon_high": 0.28}, "epsilon and epsilon_high cannot act"),
        ({"dynamic_sample": True}, "after 3 draws"),
        ({"overlong_filter": True}, "NaN"),
        ({"kl_in_reward": True, "beta": 0}, "kl_in_reward cannot act"),
        ({"loss_type": "dr_grpo"}, "set scale_rewards to none"),
    ],
)
def test_what_cannot_act_is_said(values: dict[str, Any], said: str) -> None:
    (text,) = idle_settings(settings(**values))
    assert said in text


def test_what_can_act_is_not_spoken_of() -> None:
    off_policy = settings(num_iterations=2, epsilon_high=0.28, epsilon=0.1)
    assert idle_settings(off_policy) == []
    stepped = settings(swift_arguments={"steps_per_generation": 4}, epsilon=3e-4)
    assert idle_settings(stepped) == []
    assert idle_settings(settings(loss_type="dr_grpo", scale_rewards="none")) == []
    assert idle_settings(settings()) == []


def test_a_punishment_before_the_limit_is_a_reward_of_its_own() -> None:
    config = settings(soft_overlong=64, max_completion_length=256, reward_weights={"mm_format": 2})
    start = Start(Lineage(BASE, BASE), FAMILIES["qwen2_5_omni"], Path("b"), Path("m"), None)
    arguments = grpo_arguments(config, start, Path("d"))
    assert arguments["reward_funcs"] == ["mm_format", "soft_overlong"]
    assert arguments["reward_weights"] == [2.0, 1.0]
    assert arguments["soft_cache_length"] == 64
    check_arguments("rlhf", arguments, "grpo.swift_arguments")
    with pytest.raises(ValidationError, match="leaves no completion"):
        settings(soft_overlong=256, max_completion_length=256)
