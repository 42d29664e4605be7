"""Of the trainer's checkpoints only whole ones are gone on from."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from omnistage.errors import StageFailedError
from omnistage.swift.training.checkpoints import copy_model, is_last, is_whole, newest_whole
from omnistage.swift.training.curve import parse_log_line, read_curve


def checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    save_file({"w": torch.zeros(64)}, path / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"x": torch.zeros(8)}, path / name)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step, "max_steps": 200}))
    (path / "config.json").write_text("{}")
    return path


def test_a_whole_checkpoint(tmp_path: Path) -> None:
    assert is_whole(checkpoint(tmp_path, 100))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"]
)
@pytest.mark.parametrize("how", ["cut", "missing"])
def test_a_part_of_a_checkpoint_is_not_whole(tmp_path: Path, name: str, how: str) -> None:
    path = checkpoint(tmp_path, 100) / name
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        path.unlink()
    assert not is_whole(path.parent)


def test_the_newest_whole_one_is_taken_and_a_broken_newer_one_removed(tmp_path: Path) -> None:
    checkpoint(tmp_path, 9)
    whole = checkpoint(tmp_path, 100)
    (checkpoint(tmp_path, 200) / "optimizer.pt").unlink()
    assert newest_whole(tmp_path) == whole
    assert not (tmp_path / "checkpoint-200").exists()
    assert newest_whole(tmp_path / "nowhere") is None


def test_the_last_checkpoint_is_known_since_going_on_from_it_would_add_a_step(
    tmp_path: Path,
) -> None:
    assert not is_last(checkpoint(tmp_path, 100))
    assert is_last(checkpoint(tmp_path, 200))


def test_the_model_is_kept_without_the_optimizer(tmp_path: Path) -> None:
    copy_model(checkpoint(tmp_path, 100), tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_an_adapter_names_no_folder_of_the_machine_it_was_trained_on(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 100)
    settings = {"base_model_name_or_path": "/home/me/store/model", "r": 8}
    (path / "adapter_config.json").write_text(json.dumps(settings))
    (path / "README.md").write_text("base_model: /home/me/store/model")
    copy_model(path, tmp_path / "adapter", base="sft/k/content/model")
    assert not (tmp_path / "adapter" / "README.md").exists()
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_bytes()) == {
        "base_model_name_or_path": "sft/k/content/model",
        "r": 8,
    }


def test_a_checkpoint_without_weights_is_a_failure(tmp_path: Path) -> None:
    (checkpoint(tmp_path, 100) / "model.safetensors").unlink()
    with pytest.raises(StageFailedError, match="no weights"):
        copy_model(tmp_path / "checkpoint-100", tmp_path / "model")


def test_a_step_logged_again_after_a_resume_counts_once(tmp_path: Path) -> None:
    log = tmp_path / "logging.jsonl"
    steps = [("1/4", 3.0), ("2/4", 2.0), ("3/4", 9.0), ("3/4", 1.0)]
    lines = [json.dumps({"global_step/max_steps": s, "loss": v}) for s, v in steps]
    log.write_text("\n".join([*lines, '{"train_runtime": 3}', '{"global_step/max']))
    assert [(r["step"], r["loss"]) for r in read_curve(log)] == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert read_curve(tmp_path / "none") == []


def test_a_figure_that_is_not_finite_is_none() -> None:
    row = parse_log_line(b'{"global_step/max_steps": "1/4", "loss": NaN, "grad_norm": Infinity}')
    assert row == {"step": 1, "max_steps": 4, "loss": None, "grad_norm": None}
