"""Every row of a source is trained, held out, rejected or left out: the sums meet to the row."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from omnistage.files import read_json, read_jsonl
from tests.swift.template_kit import write_media

pytestmark = pytest.mark.pipeline

GOOD = 8
ODD = [
    {"videos": ["mute.mp4"]},
    {"videos": ["loud.mp4"]},
    {"audios": ["ok.wav"]},
]
BAD = [
    {"images": ["thin.png"]},  # more than 200 times as wide as high
    {"images": ["cut.jpg"]},
    {"audios": ["empty.wav"]},
    {"images": ["gone.png"]},
    {"images": ["ok.png"], "text": "word " * 2000},  # longer than max_length
]
SETTINGS: dict[str, Any] = {
    "freeze_vit": False,
    "freeze_aligner": False,
    "max_steps": 1,
    "batch_size": 4,
    "per_device_batch_size": 2,
    "max_length": 1024,
    "dtype": "float32",
    "gradient_checkpointing": False,
    "media": {"max_pixels": 3136, "video_max_pixels": 3136, "fps": 2.0, "use_audio_in_video": True},
    "save_steps": 1,
    "logging_steps": 1,
    "workers": 0,
}


def rows(answered: bool) -> list[dict[str, Any]]:
    media: list[dict[str, Any]] = [{"images": ["ok.png"]} for _ in range(GOOD)]
    found = []
    for number, item in enumerate([*media, *ODD, *BAD]):
        kind = next(key for key in item if key != "text")
        text = f"<{kind[:-1]}>Which <|im_end|> is {number}? {item.get('text', '')}"
        turns = [{"role": "user", "content": text}]
        if answered:
            turns.append({"role": "assistant", "content": "It is red."})
        found.append({"messages": turns, "solution": "It is red.", kind: item[kind]})
    return found


def recipe(folder: Path) -> Path:
    data = folder / "data"
    data.mkdir()
    write_media(data)
    (data / "whole.jpg").unlink()
    for name, answered in (("my_sft", True), ("my_rl", False)):
        lines = [json.dumps(row) for row in rows(answered)]
        (data / f"{name}.jsonl").write_text("\n".join([*lines, "{broken"]) + "\n")
    grpo = {"num_generations": 2, "max_completion_length": 8, "beta": 0.0, "preflight": False}
    path = folder / "recipe.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "accounting",
                "pipeline": "post_training",
                "data": {"sources": [{"type": "folder", "path": str(data)}]},
                "model": {"sources": [{"type": "tiny"}]},
                "rewrite_paths": {"use_audio_in_video": True},
                "sft": {**SETTINGS, "tuner": "full"},
                "grpo": {**SETTINGS, **grpo, "reward_weights": {"omnirl_accuracy": 1.0}},
                "runtime": {"sft": {"nproc_per_node": 2}},
            }
        )
    )
    return path


def test_rows_read_are_rows_trained_or_rejected_down_to_the_trainers_own_count(
    tmp_path: Path,
) -> None:
    """SFT on two processes, GRPO on one."""
    home = tmp_path / "home"
    command = [sys.executable, "-m", "omnistage", "run", str(recipe(tmp_path)), "--to", "grpo"]
    done = subprocess.run(
        [*command, "--home", str(home)],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (home / "runs").glob("2*")
    events = {e["stage"]: e for e in read_jsonl(run / "events.jsonl") if e["event"] == "finished"}
    made = {stage: Path(e["uri"].removeprefix("file://")) for stage, e in events.items()}
    manifests = {
        stage: read_json(folder.parent / "manifest.json") for stage, folder in made.items()
    }
    rewritten = manifests["rewrite_paths"]["counts"]

    source = 2 * (GOOD + len(ODD) + len(BAD) + 1)
    assert rewritten["rows"] == source
    trained = 0
    for stage, split in (("sft", "sft"), ("grpo", "rl")):
        counts = manifests[stage]["counts"]
        assert counts["read"] == rewritten[split]
        assert counts["records"] == GOOD + len(ODD)
        assert counts["records"] + counts["rejected"] == counts["read"]
        rejected = list(read_jsonl(made[stage] / "rejected.jsonl"))
        assert len(rejected) == counts["rejected"]
        assert all(row["id"] and row["detail"] for row in rejected)
        log = (made[stage] / "logs" / "train.log").read_text()
        loaded = re.findall(r"train_dataset: Dataset\(\{[^}]*?num_rows: (\d+)", log)
        assert set(map(int, loaded)) == {counts["records"]}
        assert "another piece of data" not in log
        trained += counts["records"] + counts["rejected"]
    gone = sum(rewritten["rejected"].values()) + sum(rewritten["left_out"].values())
    assert source == trained + rewritten["test"] + gone
