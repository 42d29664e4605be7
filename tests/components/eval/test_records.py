"""The test records: prompts in both orders, and records that cannot be asked or graded."""

from pathlib import Path

import pytest
from PIL import Image

from components.eval.records import as_test_record, box_frame, prompts_of, read_test_records
from components.eval.tasks import TASKS
from omnistage.errors import InputError
from omnistage.files import write_jsonl
from omnistage.swift.encoding import Encoded
from omnistage.swift.family import family_named
from omnistage.swift.media import MediaSettings
from tests.components.eval.record_kit import pair, question


def test_every_pair_is_asked_in_both_orders_and_batches_are_of_one_medium() -> None:
    rows = [pair(1, "video"), pair(2, "image"), pair(3, "video")]
    prompts = prompts_of([as_test_record(row, TASKS["judge"]) for row in rows])
    ids = [p["id"] for p in prompts]
    videos, images = ["r1", "r1#2", "r3", "r3#2"], ["r2", "r2#2"]
    assert ids in (videos + images, images + videos)
    texts = {p["id"]: p["messages"][1]["content"] for p in prompts}
    assert "Response A: red\nResponse B: blue" in texts["r1"]
    assert "Response A: blue\nResponse B: red" in texts["r1#2"]


def test_of_one_medium_the_longest_prompts_come_first() -> None:
    rows = [question("math", "1", n) for n in (1, 2)]
    rows[1]["messages"][0]["content"] = "What is it, then, in many more words than before?"
    prompts = prompts_of([as_test_record(row, TASKS["math"]) for row in rows])
    assert [p["id"] for p in prompts] == ["q2", "q1"]


def test_a_record_whose_medium_is_missing_is_kept_as_an_error_and_not_asked(tmp_path: Path) -> None:
    (tmp_path / "m1").touch()
    path = tmp_path / "test.jsonl"
    write_jsonl(path, [pair(1, "image"), pair(2, "image")])
    one, two = read_test_records(path, tmp_path)
    assert (one.error, two.error) == (None, "no file m2")
    assert one.row["images"] == [str(tmp_path / "m1")]
    assert [p["id"] for p in prompts_of([one, two])] == ["r1", "r1#2"]
    assert [r.id for r in read_test_records(path, tmp_path, 1)] == ["r1"]


def test_a_record_that_cannot_be_encoded_is_an_error_and_not_asked(tmp_path: Path) -> None:
    for name in ("m1", "m2"):
        (tmp_path / name).touch()
    path = tmp_path / "test.jsonl"
    write_jsonl(path, [pair(1, "image"), pair(2, "image")])
    encoded = [Encoded({"text": 9}), Encoded({}, error="m2: OSError: it is cut")]
    records = read_test_records(path, tmp_path, encoded=encoded)
    assert [record.error for record in records] == [None, "m2: OSError: it is cut"]
    assert [p["id"] for p in prompts_of(records)] == ["r1", "r1#2"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (pair(1, "image") | {"solution": "no verdict"}, "the gold verdict cannot be read"),
        (pair(1, "image") | {"messages": [{"role": "user", "content": "hi"}]}, "'Response A:'"),
        (question("numeric", "many"), "'many' is not a number"),
        (question("yes_no", "perhaps"), "neither yes nor no"),
        (question("rec", "here"), "not a box"),
        (question("choice", ""), "no gold answer"),
    ],
)
def test_a_record_that_cannot_be_graded_says_why(row: dict, reason: str) -> None:
    record = as_test_record(row, TASKS[row["task"]])
    assert record.error is not None
    assert reason in record.error


def test_a_split_without_a_record_to_evaluate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    write_jsonl(path, [pair(2, "image")])
    with pytest.raises(InputError, match="no record can be evaluated; r2: no file m2"):
        read_test_records(path, tmp_path)
    write_jsonl(path, [question("poetry", "x")])
    with pytest.raises(InputError, match=r"test.jsonl:1 \(q1\): task 'poetry' is none of judge"):
        read_test_records(path, tmp_path)
    path.write_text("")
    with pytest.raises(InputError, match="no test records"):
        read_test_records(path, tmp_path)


def test_records_about_one_medium_are_one_cluster() -> None:
    one, two, other = (
        as_test_record(question("math", "1", n, images=[name]), TASKS["math"])
        for n, name in ((1, "a.png"), (2, "a.png"), (3, "b.png"))
    )
    alone = as_test_record(question("math", "1", 4), TASKS["math"])
    assert one.cluster == two.cluster != other.cluster
    assert alone.cluster == "q4"


def test_a_record_with_boxes_says_in_which_frame_the_models_are(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 500)).save(tmp_path / "m.png")
    (tmp_path / "broken.png").write_text("no picture")
    path = tmp_path / "test.jsonl"
    rows = [
        question("rec", "[0, 0, 9, 9]", n, images=[name])
        for n, name in enumerate(("m.png", "broken.png"))
    ]
    write_jsonl(path, rows)
    frame = box_frame(family_named("qwen2_5_omni", "test"), MediaSettings(max_pixels=262144))
    whole, broken = read_test_records(path, tmp_path, None, frame)
    assert (whole.row["image_size"], whole.row["shown_size"]) == ([1000, 500], [700, 336])
    assert broken.error == "UnidentifiedImageError: the image cannot be read"
    thousandths = box_frame(family_named("qwen3_omni_moe", "test"), MediaSettings())
    assert thousandths(tmp_path / "m.png")["shown_size"] == [1000, 1000]
