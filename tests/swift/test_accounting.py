"""Every row of a source is trained, held out, rejected or left out: the sums meet to the row."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from omnistage.files import read_json, read_jsonl
from tests.swift.template_kit import write_media

pytestmark = [pytest.mark.pipeline, pytest.mark.usefixtures("warm")]

IMAGE, CLIP, SOUND = "<image>What?", "<video>What?", "<audio>What?"
SEEN = {"images": ["ok.png"]}
TRAINED: list[tuple[str, Mapping[str, Any]]] = [
    *[(IMAGE, SEEN)] * 6,
    (IMAGE + " Is <|im_end|> a tag, or <\\image>?", SEEN),
    ("What?", {}),
    (CLIP, {"videos": ["mute.mp4"]}),
    (CLIP, {"videos": ["loud.mp4"]}),
    (SOUND, {"audios": ["ok.wav"]}),
    (SOUND + IMAGE, {"audios": ["ok.wav"], **SEEN}),
]
UNREAD: list[tuple[str, Mapping[str, Any], str]] = [
    (IMAGE, {"images": ["gone.png"]}, "missing_file"),
    (IMAGE, {"images": ["https://x.test/p.png"]}, "missing_file"),
    (IMAGE, {"images": ["thin.png"]}, "undecodable_media"),
    (SOUND, {"audios": ["empty.wav"]}, "undecodable_media"),
    (SOUND, {"audios": ["ok.png"]}, "wrong_media_type"),
    (IMAGE + "<image>", SEEN, "tags_mismatch"),
    ("What?", {"label": False}, "label_false"),
    ("What?", {"tools": "[{}]"}, "tools"),
    (" ", {}, "no_prompt"),
    ("What?", {"solution": " "}, "no_answer"),
    (IMAGE, {"images": ["held.png"]}, "shares_media_with_test"),
]
NO_ROWS = {"{broken": "not_json", "[1]": "not_an_object", '{"x": 1}': "unknown_format"}
LEFT_OUT = {"word " * 3000: "length", "What? Row 7.": "duplicate"}
NOT_ENCODED: list[tuple[str, Mapping[str, Any], str]] = [
    (IMAGE, {"images": ["cut.jpg"]}, "cannot be encoded"),
    (SOUND, {"audios": ["brief.wav"]}, "cannot be encoded"),
    (SOUND, {"audios": ["long.wav"]}, "cannot be encoded"),
    (CLIP + "<video>", {"videos": ["loud.mp4", "mute.mp4"]}, "cannot be encoded"),
    ("What\ufdd0?", {}, "cannot be encoded"),
    (IMAGE + " word" * 2000, SEEN, "too long"),
]
TESTED = 2

SETTINGS: dict[str, Any] = {
    "freeze_vit": False,
    "freeze_aligner": False,
    "batch_size": 4,
    "per_device_batch_size": 2,
    "max_length": 1024,
    "dtype": "float32",
    "gradient_checkpointing": False,
    "media": {"max_pixels": 3136, "video_max_pixels": 3136, "fps": 2.0, "use_audio_in_video": True},
    "save_steps": 100,
    "logging_steps": 1,
    "workers": 0,
}
RECIPE: dict[str, Any] = {
    "name": "accounting",
    "pipeline": "post_training",
    "model": {"sources": [{"type": "tiny"}]},
    "steps": {
        "sft": {
            **SETTINGS,
            "stage": "sft",
            "from": "base",
            "tuner": "full",
            "per_device_batch_size": 1,  # without padding, which counts as seen too
            "swift_arguments": {"include_num_input_tokens_seen": True},
        },
        "grpo": {
            **SETTINGS,
            "stage": "grpo",
            "from": "sft",
            "num_generations": 2,
            "max_completion_length": 8,
            "beta": 0.0,
            "preflight": False,
            "watch": {"enabled": False},  # what a model without training says cannot be read
            "reward_weights": {"omnirl_accuracy": 1.0},
        },
    },
}
REWRITE = {
    "use_audio_in_video": True,
    "deduplicate": "row",
    "filters": {"max_characters": 12_000},
}


def lines(answered: bool) -> list[str]:
    """Return the rows of a record file, numbered in their text."""
    texts = [*TRAINED, *((t, c) for t, c, _ in UNREAD), *((t, c) for t, c, _ in NOT_ENCODED)]
    rows = [(f"{text} Row {n}." if text.strip() else text, c) for n, (text, c) in enumerate(texts)]
    found = []
    for text, columns in [*rows, *((text, {}) for text in LEFT_OUT)]:
        turns = [{"role": "user", "content": text}]
        solution = columns.get("solution", "It is red.")
        if answered:
            turns.append({"role": "assistant", "content": solution})
        found.append(json.dumps({"messages": turns, **columns, "solution": solution}))
    return [*found, *NO_ROWS]


def recipe(folder: Path) -> Path:
    data = folder / "data"
    data.mkdir()
    write_media(data)
    (data / "held.png").write_bytes((data / "ok.png").read_bytes() + b"\0")
    (data / "my_sft.jsonl").write_text("\n".join(lines(True)) + "\n")
    (data / "my_rl.jsonl").write_text("\n".join(lines(False)) + "\n\n")
    held = {"solution": "It is red.", "image": "held.png"}
    tests = [json.dumps({"problem": f"{IMAGE} {n}", **held}) for n in range(TESTED)]
    (data / "my_test.jsonl").write_text("\n".join(tests))
    path = folder / "recipe.yaml"
    # Headers only, so that the encoding pass meets a broken body.
    source = {"sources": [{"type": "folder", "path": str(data)}], "probe": "header"}
    odd = {**source, "rewrite_paths": REWRITE}
    path.write_text(yaml.safe_dump({**RECIPE, "data": {"odd": odd}}, sort_keys=False))
    return path


@dataclass(frozen=True)
class Accounts:
    """What a run says of its rows."""

    counts: Mapping[str, Mapping[str, Any]]
    """Of each stage's manifest."""
    made: Mapping[str, Path]
    """Folder of each stage's artifact."""
    tokens: Mapping[str, int]
    """Tokens of an epoch, of each training stage."""

    def curve(self, stage: str) -> list[dict[str, Any]]:
        rows = read_jsonl(self.made[stage] / "logs" / "logging.jsonl")
        return [row for row in rows if "loss" in row]


def run(recipe: Path, *settings: str) -> Accounts:
    home = recipe.parent / "home"
    known = set(home.glob("runs/2*"))
    command = [sys.executable, "-m", "omnistage", "run", str(recipe), "--to", "grpo"]
    done = subprocess.run(
        [*command, "--home", str(home), *(word for s in settings for word in ("--set", s))],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = set(home.glob("runs/2*")) - known
    events = [e for e in read_jsonl(folder / "events.jsonl") if e["event"] == "finished"]
    made = {e["stage"]: Path(e["uri"].removeprefix("file://")) for e in events}
    manifests = {stage: read_json(path.parent / "manifest.json") for stage, path in made.items()}
    return Accounts(
        {stage: m["counts"] for stage, m in manifests.items()},
        made,
        {stage: manifests[stage]["metadata"]["tokens"]["total"] for stage in ("sft", "grpo")},
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe; what it makes before training is made once."""
    return recipe(tmp_path_factory.mktemp("accounting"))


def times(reasons: Sequence[str], splits: int) -> dict[str, int]:
    return {reason: splits * count for reason, count in Counter(reasons).items()}


@pytest.mark.parametrize(("sft", "grpo"), [(2, 1), (1, 2)])
def test_rows_read_are_rows_trained_or_set_aside_by_name_down_to_the_trainers_own_count(
    prepared: Path, sft: int, grpo: int
) -> None:
    """On one and on two processes; the learning rate makes each pair of trainings its own."""
    done = run(
        prepared,
        f"sft.nproc_per_node={sft}",
        f"grpo.nproc_per_node={grpo}",
        f"sft.learning_rate=0.000{sft}",
    )

    read = done.counts["rewrite_paths"]
    encoded = len(TRAINED) + len(NOT_ENCODED)
    rows = encoded + len(UNREAD) + len(NO_ROWS) + len(LEFT_OUT)
    assert read["rows"] == 2 * rows + TESTED
    assert read["rejected"] == times([*NO_ROWS.values(), *(why for *_, why in UNREAD)], 2)
    assert read["left_out"] == times(list(LEFT_OUT.values()), 2)
    assert (read["sft"], read["rl"], read["test"]) == (encoded, encoded, TESTED)

    for stage in ("sft", "grpo"):
        counts = done.counts[stage]
        assert counts["read"] == encoded
        assert counts["records"] == len(TRAINED)
        rejected = list(read_jsonl(done.made[stage] / "rejected.jsonl"))
        assert [row["reason"] for row in rejected] == [why for *_, why in NOT_ENCODED]
        assert counts["rejected"] == times([why for *_, why in NOT_ENCODED], 1)
        log = (done.made[stage] / "logs" / "train.log").read_text()
        loaded = re.findall(r"train_dataset: Dataset\(\{[^}]*?num_rows: (\d+)", log)
        assert set(map(int, loaded)) == {counts["records"]}
        assert "another piece of data" not in log

    # What the trainer has seen in the one epoch: every token of SFT, every prompt of GRPO.
    assert done.curve("sft")[-1]["num_input_tokens_seen"] == done.tokens["sft"]
    tables = read_jsonl(done.made["grpo"] / "logs" / "completions.jsonl")
    by_step = {table["step"][0]: table["prompt"] for table in tables}  # the last is logged twice
    prompts = Counter(re.findall(r"Row (\d+)\.", str(by_step)))
    assert prompts == {str(number): 2 for number in range(len(TRAINED))}  # two generations
