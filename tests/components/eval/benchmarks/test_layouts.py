"""Every benchmark's reader on a small set in exactly its layout."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from components.eval.benchmarks import BENCHMARKS
from components.eval.benchmarks.records import write_records
from components.eval.protocols import PROTOCOLS
from components.eval.records import as_test_record
from components.eval.tasks import TASKS
from omnistage.files import read_jsonl

Rows = list[dict[str, Any]]


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"medium")


def picture() -> dict[str, Any]:
    """An image as the tables on the hub hold it."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "PNG")
    return {"bytes": out.getvalue(), "path": "0.png"}


def table(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)


def vl_rewardbench(folder: Path) -> None:
    common = {"query": "Which colour?", "response": ["red", "blue"], "image": picture()}
    rows = [
        {"id": "mathverse_1", "human_ranking": [0, 1], **common},
        {"id": "RLAIF-V-7", "human_ranking": [1, 0], **common},
        {"id": "wildvision-2", "human_ranking": [0, 1], **common},
    ]
    table(folder / "data" / "test-00000-of-00001.parquet", rows)


def mm_rewardbench(folder: Path) -> None:
    touch(folder / "mmmu" / "3.png")
    row = {"ID": "mmmu-3", "Text": "Which?", "Output1": "a", "Output2": "b", "Better": "Output2"}
    rows = [{**row, "Category": "knowledge", "Image": "mmmu/3.png"}]
    (folder / "all_data.json").write_text(json.dumps(rows))


def hh_rlhf(folder: Path) -> None:
    asked = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: How?\n\nAssistant:"
    row = {"chosen": f"{asked} Well.", "rejected": f"{asked} Go away."}
    (folder / "test.jsonl").write_text(json.dumps(row) + "\n")


def preference(kind: str, name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        touch(folder / name)
        row = {kind: name, "prompt": "What?", "chosen": "This.", "rejected": "That."}
        (folder / "rows.jsonl").write_text(json.dumps({"id": 1, **row}) + "\n")

    return make


def mathvista(folder: Path) -> None:
    base = {"image": "images/1.jpg", "decoded_image": picture(), "precision": 1.0}
    rows = [
        {"pid": "1", "question": "How many?", "choices": ["2", "3"], "answer": "3", **base},
        {"pid": "2", "question": "How long?", "choices": None, "answer": "1.5", **base},
    ]
    for row, kind in zip(rows, ("text", "float"), strict=True):
        row |= {"answer_type": kind, "metadata": {"task": "geometry problem solving"}}
    table(folder / "data" / "testmini-00000-of-00001.parquet", rows)


def mathverse(folder: Path) -> None:
    touch(folder / "images" / "v1.png")
    row = {"question": "Angle?\nChoices:\nA:1\nB:2", "answer": "B", "question_type": "multi-choice"}
    rows = [
        {"sample_index": "1", "problem_version": "Text Dominant", "image": "images/v1.png", **row},
        {"sample_index": "2", "problem_version": "Text Only", "image": "", **row},
    ]
    (folder / "testmini.json").write_text(json.dumps(rows))


def omnibench(folder: Path) -> None:
    row = {"index": 0, "task type": "Action", "audio type": "speech", "question": "What happens?"}
    sound = {"bytes": b"RIFF....WAVE", "path": "0.wav"}
    rows = [{**row, "options": ["he runs", "he sits"], "answer": "he sits"}]
    table(folder / "data" / "t.parquet", [{**r, "image": picture(), "audio": sound} for r in rows])


def mmau(folder: Path) -> None:
    touch(folder / "test-mini-audios" / "3fe6.wav")
    row = {"id": "3fe6", "audio_id": "./test-mini-audios/3fe6.wav", "question": "Which sound?"}
    rows = [{**row, "choices": ["A dog", "A cat"], "answer": "A cat", "task": "sound"}]
    (folder / "mmau-test-mini.json").write_text(json.dumps(rows))


def worldsense(folder: Path) -> None:
    touch(folder / "videos" / "abc.mp4")
    task = {"question": "Who?", "answer": "B", "candidates": ["A. he", "B. she"]}
    clip = {"video_duration": "60s", "audio_class": ["Speech"], "domain": "Music"}
    tasks = {f"task{n}": {**task, "task_domain": "Recognition"} for n in (0, 1)}
    (folder / "worldsense_qa.json").write_text(json.dumps({"abc": {**clip, **tasks}}))


def daily_omni(folder: Path) -> None:
    for name in ("x_video.mp4", "x_audio.wav"):
        touch(folder / "Videos" / "x" / name)
    row = {"Question": "When?", "Choice": ["A. now", "B. later"], "Answer": "A", "video_id": "x"}
    (folder / "qa.json").write_text(json.dumps([{**row, "Type": "Event Sequence"}]))


def intentbench(folder: Path) -> None:
    touch(folder / "videos" / "a.mp4")
    touch(folder / "i.png")
    touch(folder / "a.wav")
    rows = [
        {
            "problem": "Why?",
            "solution": "<answer>B</answer>",
            "path": "./videos/a.mp4",
            "data_type": "video",
            "problem_type": "multiple choice",
            "options": ["A. x", "B. y"],
        },
        {
            "problem": "Which feelings?",
            "solution": "<answer>A,B</answer>",
            "path": {"image": "i.png", "audio": "a.wav"},
            "data_type": "image_audio",
            "problem_type": "emer_ov_mc",
            "options": ["A. x", "B. y"],
        },
    ]
    (folder / "qa.json").write_text(json.dumps(rows))


def ravdess(folder: Path) -> None:
    for number in ("01", "06", "08"):
        touch(folder / "Actor_01" / f"01-01-{number}-01-01-01-01.mp4")
    touch(folder / "Actor_01" / "03-02-05-01-01-01-01.wav")


def labelled(folder: Path) -> None:
    touch(folder / "clips" / "1.mp4")
    with (folder / "set_1.csv").open("w", newline="") as f:
        csv.writer(f).writerows([["video_name", "annotation"], ["1.mp4", "happy"]])


def rec_json(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        touch(folder / "train2014" / "c.jpg")
        asked = "Please provide the bounding box: the left dog."
        row = {"image": "train2014/c.jpg", "problem": asked, "normal_caption": "the left dog"}
        text = json.dumps([{**row, "solution": [10.0, 20.0, 40.0, 60.0]}])
        (folder / f"{name}.json").write_text(text)

    return make


def rec_table(folder: Path) -> None:
    row = {"question_id": "7", "image": picture(), "question": "Describe the region."}
    rows = [{**row, "answer": ["left dog", "the dog"], "bbox": [10.0, 20.0, 30.0, 40.0]}]
    table(folder / "data" / "val-00000.parquet", rows)


SETS: dict[str, tuple[Callable[[Path], None], Rows]] = {
    "vl_rewardbench": (
        vl_rewardbench,
        [
            {"source": "VL-RewardBench/reasoning", "gold": "B"},  # 7 characters: exchanged
            {"source": "VL-RewardBench/hallucination", "gold": "A"},
            {"source": "VL-RewardBench/general", "gold": "B"},
        ],
    ),
    "mm_rewardbench": (
        mm_rewardbench,
        [{"source": "Multimodal RewardBench/knowledge", "gold": "B", "images": ["mmmu/3.png"]}],
    ),
    "hh_rlhf": (hh_rlhf, [{"task": "judge"}]),
    "audio_hh_rlhf": (preference("audio", "a.wav"), [{"audios": ["a.wav"]}]),
    "sharegpt_video": (preference("video", "v.mp4"), [{"videos": ["v.mp4"]}]),
    "mathvista": (
        mathvista,
        [
            {"task": "choice", "gold": "B", "options": ["A. 2", "B. 3"]},
            {"task": "numeric", "gold": "1.5", "images": ["images/2.png"]},
        ],
    ),
    "mathverse": (
        mathverse,
        [
            {"gold": "B", "images": ["images/v1.png"], "source": "MathVerse/Text Dominant"},
            {"gold": "B", "images": None, "source": "MathVerse/Text Only"},
        ],
    ),
    "omnibench": (
        omnibench,
        [{"gold": "B", "images": ["images/0.png"], "audios": ["audios/0.wav"]}],
    ),
    "mmau": (mmau, [{"gold": "B", "audios": ["test-mini-audios/3fe6.wav"]}]),
    "worldsense": (
        worldsense,
        [{"gold": "B", "videos": ["videos/abc.mp4"], "options": ["A. he", "B. she"]}] * 2,
    ),
    "daily_omni": (daily_omni, [{"gold": "A", "videos": ["Videos/x/x_video.mp4"], "audios": None}]),
    "intentbench": (
        intentbench,
        [
            {"task": "choice", "gold": "B", "videos": ["videos/a.mp4"]},
            {"task": "multi_choice", "gold": "A,B", "images": ["i.png"], "audios": ["a.wav"]},
        ],
    ),
    "ravdess": (
        ravdess,
        [
            {"gold": "neutral", "source": "RAVDESS/speech"},
            {"gold": "fear"},  # R1-Omni's names
            {"gold": "surprise"},
            {"gold": "angry", "source": "RAVDESS/song", "videos": None},
        ],
    ),
    "dfew": (labelled, [{"gold": "happy", "videos": ["clips/1.mp4"]}]),
    "mafw": (labelled, [{"gold": "happy", "videos": ["clips/1.mp4"]}]),
    "refcoco": (rec_table, [{"gold": "[10.0,20.0,40.0,60.0]", "task": "rec"}] * 2),
    "refcocop": (rec_json("refcocop_val"), [{"gold": "[10.0,20.0,40.0,60.0]"}]),
    "refcocog": (rec_json("refcocog_val"), [{"images": ["train2014/c.jpg"]}]),
    "refgta": (rec_json("refgta_subsample"), [{"gold": "[10.0,20.0,40.0,60.0]"}]),
}
"""A set of each benchmark, and what is expected of its records, in order."""
COLUMNS = {"video": "video_name", "label": "annotation"}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_layout_is_read_and_every_record_can_be_asked_and_graded(
    tmp_path: Path, name: str
) -> None:
    make, expected = SETS[name]
    (tmp_path / "in").mkdir()
    make(tmp_path / "in")
    benchmark = BENCHMARKS[name]
    columns = COLUMNS if name in ("dfew", "mafw") else {}
    protocol = PROTOCOLS[benchmark.protocols[0]]
    written = write_records(benchmark, tmp_path / "in", tmp_path / "out", protocol, columns)
    rows = list(read_jsonl(written.records))
    assert (written.count, written.missing) == (len(expected), [])
    for row, wanted in zip(rows, expected, strict=True):
        record = as_test_record(row, TASKS[row["task"]])
        assert record.error is None
        assert record.prompts
        found = {**row, "gold": record.gold}
        assert {key: found.get(key) for key in wanted} == wanted
        for kind in ("images", "audios", "videos"):
            assert all((tmp_path / "out" / path).is_file() for path in row.get(kind, ()))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_names_what_must_be_fetched_and_known_protocols(name: str) -> None:
    benchmark = BENCHMARKS[name]
    assert all(f.files and f.source and f.terms for f in benchmark.fetch)
    assert benchmark.fetch
    assert set(benchmark.protocols) <= set(PROTOCOLS)
