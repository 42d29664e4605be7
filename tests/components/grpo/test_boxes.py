"""Records about boxes say how large their image is, and in which frame the model answers."""

import json
from pathlib import Path

import pytest
from PIL import Image

from components.grpo.boxes import add_sizes
from omnistage.errors import InputError
from omnistage.rewards import REWARDS
from omnistage.swift.family import FAMILIES


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("family", "shown", "answer"),
    [
        ("qwen2_5_vl", [700, 336], "[70, 33.6, 350, 168]"),
        ("qwen2_5_omni", [700, 336], "[70, 33.6, 350, 168]"),
        ("qwen3_vl", [1000, 1000], "[100, 100, 500, 500]"),
        ("qwen3_omni_moe", [1000, 1000], "[100, 100, 500, 500]"),
    ],
)
def test_a_right_box_is_right_in_the_frame_of_each_family(
    tmp_path: Path, family: str, shown: list[int], answer: str
) -> None:
    image = tmp_path / "x.png"
    Image.new("RGB", (2000, 1000)).save(image)
    gold = {"id": "a:1", "task": "rec", "images": [str(image)], "solution": "[200,100,1000,500]"}
    dataset = write(tmp_path / "rl.jsonl", [gold, {"id": "a:2", "task": "math", "solution": "2"}])

    assert add_sizes(dataset, FAMILIES[family], 262_144) == 1

    first, second = read(dataset)
    assert (first["image_size"], first["shown_size"]) == ([2000, 1000], shown)
    assert second["image_size"] is second["shown_size"] is None
    columns = {name: [first[name]] for name in ("solution", "image_size", "shown_size")}
    assert REWARDS["rec_iou_value"]([f"<answer>{answer}</answer>"], **columns) == [
        pytest.approx(1.0)
    ]


def test_other_records_stay_as_they_are(tmp_path: Path) -> None:
    dataset = write(tmp_path / "rl.jsonl", [{"id": "a:1", "task": "math"}])
    before = dataset.read_bytes()
    assert add_sizes(dataset, FAMILIES["qwen2_5_vl"], 262_144) == 0
    assert dataset.read_bytes() == before


@pytest.mark.parametrize("images", [None, [], ["gone.png"]])
def test_a_box_without_its_image_is_named(tmp_path: Path, images: object) -> None:
    row: dict[str, object] = {"id": "a:7", "task": "rec", "solution": "[1,2,3,4]"}
    dataset = write(tmp_path / "rl.jsonl", [row if images is None else {**row, "images": images}])
    with pytest.raises(InputError, match="a:7: a record with a box needs its image"):
        add_sizes(dataset, FAMILIES["qwen2_5_vl"], 262_144)
