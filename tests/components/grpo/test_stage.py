"""What GRPO makes, and that a hopeless run is stopped by its own logs."""

import json
from pathlib import Path

import pytest

from components.grpo.config import GRPOSettings
from components.grpo.rollout import check_vllm, most_media, rollout_kl
from components.grpo.stage import STAGE, Watcher, check_step
from omnistage.errors import InputError


def line(step: int, **figures: float) -> bytes:
    row = {"global_step/max_steps": f"{step}/500", "loss": 0.1, "grad_norm": 1.0, **figures}
    return json.dumps(row).encode()


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path: Path) -> None:
    watcher = Watcher(GRPOSettings(), tmp_path / "completions.jsonl")
    reasons = [watcher(line(n, loss=float("nan"), reward=0.1)) for n in range(1, 10)]
    assert any(reason and "loss is nan" in reason for reason in reasons)


def test_garbled_completions_stop_the_run(tmp_path: Path) -> None:
    path = tmp_path / "completions.jsonl"
    watcher = Watcher(GRPOSettings(), path)
    good = Watcher(GRPOSettings(), path)
    reasons = []
    for step in range(1, 6):
        table = {"step": [str(step)] * 2, "prompt": ["p", "q"], "completion": ["system" * 200] * 2}
        with path.open("a") as f:
            f.write(json.dumps(table) + "\n")
        reasons.append(watcher(line(step, reward=0.1, frac_reward_zero_std=0.0)))
    assert any(reason and "cannot be read" in reason for reason in reasons)
    path.unlink()
    assert all(good(line(n, reward=0.1, frac_reward_zero_std=0.0)) is None for n in range(1, 60))


def test_a_rollout_is_compared_where_vllm_tells_what_the_trainer_computes() -> None:
    def limit(**settings: object) -> float | None:
        return rollout_kl(GRPOSettings.model_validate({"dtype": "bfloat16", **settings}))

    assert limit() is None
    assert limit(vllm={}) == 0.02
    assert limit(vllm={}, dtype="float32") == 0.001
    assert limit(vllm={}, watch={"rollout_kl": 0.5}) == 0.5
    assert limit(vllm={}, temperature=0.9) is None


def test_vllm_that_is_not_installed_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.grpo.rollout.find_spec", lambda name: None)
    check_vllm(GRPOSettings(), "grpo")
    with pytest.raises(InputError, match=r"grpo\.vllm: vLLM is not installed here"):
        check_vllm(GRPOSettings.model_validate({"vllm": {}}), "grpo")


def test_vllm_makes_room_for_the_media_of_the_largest_prompt(tmp_path: Path) -> None:
    rows = tmp_path / "rl.jsonl"
    records = [{"images": ["a", "b"]}, {"audios": ["c"], "videos": ["d", "e"]}, {}]
    rows.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert most_media(rows, False) == {"image": 2, "audio": 1, "video": 2}
    assert most_media(rows, True) == {"image": 2, "audio": 3, "video": 2}
    rows.write_text('{"messages": []}\n')
    assert most_media(rows, True) == {"image": 1, "audio": 1, "video": 1}


def test_all_weights_make_a_checkpoint_and_an_adapter_makes_an_adapter() -> None:
    assert STAGE.kind_of(GRPOSettings(tuner="full")) == "RLCheckpoint"
    assert STAGE.kind_of(GRPOSettings(tuner="lora")) == "LoRAAdapter"


def test_too_few_records_for_an_optimizer_step_are_said_with_the_steps_name() -> None:
    with pytest.raises(
        InputError, match="rlvr: 3 records .* takes 4 prompts .* lower rlvr.batch_size"
    ):
        check_step(3, 4, "rlvr")
