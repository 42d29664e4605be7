"""Where GRPO starts from, and that a hopeless run is stopped by its own logs."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.grpo.config import GRPOSettings
from components.grpo.stage import STAGE, Watcher, start_model
from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.stage.contract import Context, TaskRuntime
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Kind, Manifest


def artifact(store: FolderStore, kind: Kind, stage: str, *files: str) -> Manifest:
    folder = store.work_folder(stage, "k") / "out"
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return store.commit(folder, kind, stage, "k")


def context(store: FolderStore, sft: Manifest | None, **settings: Any) -> Context[GRPOSettings]:
    inputs = {"model": artifact(store, "BaseModel", "download_model", "files/config.json")}
    if sft:
        inputs["sft"] = sft
    config = GRPOSettings.model_validate(settings)
    work = store.work_folder("grpo", "k")
    events = Events("grpo", echo=False)
    return Context("grpo", config, inputs, store, work, work, "k", TaskRuntime(), events)


def test_it_starts_from_the_fine_tuned_model(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    full = artifact(store, "SFTCheckpoint", "sft", "model/config.json")
    model, adapter = start_model(context(store, full))
    assert (model / "config.json").read_text() == "model/config.json"
    assert adapter is None


def test_from_a_lora_checkpoint_it_trains_that_adapter_on(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    lora = artifact(store, "SFTCheckpoint", "sft", "adapter/adapter_config.json")
    model, adapter = start_model(context(store, lora))
    assert (model / "config.json").read_text() == "files/config.json"
    assert adapter is not None
    assert (adapter / "adapter_config.json").exists()


def test_from_base_on_request_and_never_silently(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    model, adapter = start_model(context(store, None, start_from="base"))
    assert (model.name, adapter) == ("files", None)
    with pytest.raises(InputError, match="set it to base"):
        start_model(context(store, None))


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


def test_the_sft_checkpoint_is_the_one_input_that_may_be_missing() -> None:
    assert STAGE.optional == {"sft"}
