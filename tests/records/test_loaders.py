"""What is written for other trainers, read by their own loaders."""

from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from omnistage.records.convert import convert
from tests.components.rewrite_paths.rewrite_kit import CLIP, member, rewrite

MEMBERS = ["p/x.png", "p/a.wav", member("p/v.mp4", CLIP), "p/a#1.png"]
ASKED: list[dict[str, Any]] = [
    {"problem": "text only", "solution": "a"},
    {"problem": "<image>\nq", "solution": "a", "image": "p/x.png"},
    {"problem": "<image> and <image>", "solution": "b", "image": ["p/x.png", "p/a#1.png"]},
    {"problem": "<video>\nq", "solution": "a", "video": "p/v.mp4"},
    {"problem": "<audio>\nq", "solution": "a", "audio": "p/a.wav"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "media" / "p").mkdir(parents=True)
    for name in ("x.png", "a#1.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "media" / "p" / name)
    done = rewrite(tmp_path / "first", {"sft.jsonl": ASKED, "rl.jsonl": ASKED}, MEMBERS)
    assert done.reasons() == []
    return done.folder


@pytest.mark.parametrize("split", ["sft", "rl"])
def test_ms_swift_loads_every_record(tmp_path: Path, folder: Path, split: str) -> None:
    from swift.dataset import load_dataset  # starting it takes seconds

    convert(folder, "ms_swift", tmp_path / "out", str(tmp_path / "media"))

    found, _ = load_dataset(str(tmp_path / "out" / f"{split}.jsonl"), strict=True)
    assert found is not None
    loaded: list[Any] = list(found)

    assert len(loaded) == len(ASKED)
    assert [len(row["images"] or []) for row in loaded] == [0, 1, 2, 0, 0]
    assert loaded[3]["videos"] == [str(tmp_path / "media/p/v.mp4")]
    assert loaded[4]["audios"] == [str(tmp_path / "media/p/a.wav")]
    assert loaded[1]["messages"][0]["content"] == "<image>\nq"


@pytest.mark.parametrize("split", ["sft", "rl"])
def test_trl_fills_every_place(tmp_path: Path, folder: Path, split: str) -> None:
    from trl.data_utils import is_conversational, prepare_multimodal_messages

    said: list[str] = []
    convert(folder, "trl", tmp_path / "out", str(tmp_path / "media"), said.append)
    table = datasets.Dataset.from_json(
        str(tmp_path / "out" / f"{split}.jsonl"), cache_dir=str(tmp_path / "cache")
    )
    assert isinstance(table, datasets.Dataset)
    loaded: list[Any] = list(table.cast_column("images", [datasets.Image()]))

    assert len(loaded) == 3
    assert f"{split}: 1 record left out: TRL fills no places for videos" in said
    assert f"{split}: 1 record left out: TRL fills no places for audios" in said
    for row, count in zip(loaded, (0, 1, 2), strict=True):
        assert is_conversational(row)
        turns = prepare_multimodal_messages(row["prompt"], images=row["images"])
        parts = [part for turn in turns for part in turn["content"]]
        shown = [part["image"] for part in parts if part["type"] == "image"]
        assert [image.size for image in shown] == [(8, 8)] * count


def test_verl_gets_the_ending_and_the_columns_that_it_reads(tmp_path: Path, folder: Path) -> None:
    convert(folder, "verl", tmp_path / "out", str(tmp_path / "media"), print)

    table = datasets.Dataset.from_json(
        str(tmp_path / "out" / "rl.json"), cache_dir=str(tmp_path / "cache")
    )
    loaded: list[Any] = list(table)

    assert [len(row["images"]) for row in loaded] == [0, 1, 2, 0]
    assert [len(row["videos"]) for row in loaded] == [0, 0, 0, 1]
    for row in loaded:
        content = row["prompt"][-1]["content"]
        assert content.count("<image>") == len(row["images"])
        assert row["reward_model"]["ground_truth"] in ("a", "b")
