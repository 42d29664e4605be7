"""Record files of other forms than JSON Lines, and what is said where one cannot be read."""

import datetime
import decimal
import io
import json
import uuid
import zipfile
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from components.rewrite_paths.config import RewriteSettings
from components.rewrite_paths.sources.tables import table_to_lines
from components.rewrite_paths.stage import STAGE
from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.stage.execute import execute
from tests.components.rewrite_paths.rewrite_kit import dataset, rewrite

ROWS = [{"problem": "q", "solution": f"{n}", "n": n} for n in range(5)]


def parquet(tmp_path: Path, rows: list[dict[str, Any]]) -> bytes:
    path = tmp_path / "made.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    return path.read_bytes()


def test_parquet_is_read_row_by_row(tmp_path: Path) -> None:
    row = {
        "problem": "Which?",
        "options": ["red", "blue"],
        "solution": decimal.Decimal("1.10"),
        "image": {"bytes": None, "path": "a/1.png"},
        "when": datetime.date(2026, 1, 2),
    }
    content = parquet(tmp_path, [row, row])

    done = rewrite(
        tmp_path, {"d/x.parquet": content}, ["a/1.png"], rl=[{"files": ["**/*.parquet"]}]
    )

    first, second = done.rows("rl")
    assert (first["id"], second["id"]) == ("d/x.parquet:1", "d/x.parquet:2")
    assert first["solution"] == "1.10"
    assert first["images"] == ["a/1.png"]
    assert first["messages"][0]["content"] == "<image>\nWhich?\nred\nblue"
    assert done.counts["dropped_columns"] == {"when": 2}


def test_medium_that_stands_in_a_parquet_row_is_named_as_such(tmp_path: Path) -> None:
    """The datasets library writes the bytes with the name that the file had, or without any.

    A file of the data set that has this name may be another one.
    """
    image = {"bytes": b"\x89PNG" * 500, "path": None}
    columns = [
        {"image": image},
        {"image": image | {"path": "hat.png"}},
        {"images": [image, image]},
        {"audio": image | {"path": "hat.wav"}},
    ]
    none = dict.fromkeys(("image", "images", "audio"))
    rows = [
        {"problem": f"q{n}", "solution": "a", **none, **c} for n, c in enumerate([*columns, {}])
    ]

    done = rewrite(
        tmp_path,
        {"x.parquet": parquet(tmp_path, rows)},
        ["a/hat.png", "a/hat.wav"],
        rl=[{"files": ["x.parquet"]}],
    )

    assert len(done.rows("rl")) == 1
    rejected = done.rows("rejected")
    assert [row["reason"] for row in rejected] == ["missing_file"] * 4
    assert all("stands in the row itself" in row["detail"] for row in rejected)
    assert rejected[0]["row"]["image"]["bytes"] == "(2.0 kB)"


def test_text_that_a_table_has_as_bytes_is_text(tmp_path: Path) -> None:
    content = parquet(tmp_path, [{"problem": "Größe?".encode(), "solution": b"a"}])

    done = rewrite(tmp_path, {"x.parquet": content}, rl=[{"files": ["x.parquet"]}])

    assert done.rows("rl")[0]["messages"][0]["content"] == "Größe?"


def test_saved_dataset_is_read_as_the_datasets_library_wrote_it(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    datasets.Dataset.from_list(ROWS).save_to_disk(str(saved), num_shards=2)
    files = {f"hub/train/{p.name}": p.read_bytes() for p in saved.iterdir()}

    done = rewrite(tmp_path, files, rl=[{"files": ["hub/train"]}])

    assert [r["solution"] for r in done.rows("rl")] == ["0", "1", "2", "3", "4"]
    assert done.rows("rl")[0]["id"] == "hub/train:1"


def test_json_list_called_jsonl_is_read_as_a_list(tmp_path: Path) -> None:
    content = json.dumps(ROWS, indent=1).encode()

    done = rewrite(tmp_path, {"rl.jsonl": content})

    assert len(done.rows("rl")) == 5
    assert done.reasons() == []


class Told(Events):
    """Events that remember the messages."""

    def __init__(self) -> None:
        super().__init__("rewrite_paths", echo=False)
        self.texts: list[str] = []

    def message(self, text: str) -> None:
        self.texts.append(text)


def test_record_files_that_nobody_reads_are_named(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    datasets.Dataset.from_list(ROWS).save_to_disk(str(saved))
    files: dict[str, Any] = {f"hub/{p.name}": p.read_bytes() for p in saved.iterdir()}
    store, data = dataset(
        tmp_path, {**files, "my_sft.jsonl": ROWS, "more.jsonl": ROWS, "x/more_sft.json": ROWS}
    )
    told = Told()

    execute(STAGE, RewriteSettings(workers=1), {"data": data}, store, events=told)

    [text] = [text for text in told.texts if "not read" in text]
    assert text.startswith("3 record files not read: hub, more.jsonl, x/more_sft.json; those to ")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.csv", b"a,b", r"x\.csv is no record file that is read: .*\.parquet"),
        ("x.parquet", b"PAR1", r"x\.parquet: not a table that can be read"),
        ("x.json", b'{\n "problem": "q"\n}', r"one JSON object over several lines"),
        ("x.jsonl", b"PAR1....", r"x\.jsonl: it is Parquet; give it the ending \.parquet"),
        ("x.jsonl", b"\xff\xfea\0", r"x\.jsonl: it is UTF-16; save it as UTF-8"),
        ("x.jsonl", b"\x1f\x8b\x08", "it is gzip"),
        ("x.parquet", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        ("x.jsonl", b"<!DOCTYPE html><html>", "an HTML page"),
        ("x.json", b"42", "neither a JSON list nor JSON Lines"),
        ("x.jsonl", b"\n", r"rewrite_paths\.rl: the files named there hold no row"),
    ],
)
def test_message_names_the_cause(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        rewrite(tmp_path, {name: content}, rl=[{"files": [name]}])

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("a[v1].jsonl", "a[v1].jsonl"),
        ("e\u0301.jsonl", "\u00e9.jsonl"),  # as a Mac writes it, and as people do
        ("A.JSONL", "A.JSONL"),
    ],
)
def test_a_file_is_found_by_its_own_name(tmp_path: Path, name: str, named: str) -> None:
    done = rewrite(tmp_path, {name: ROWS}, rl=[{"files": [named]}])

    assert len(done.rows("rl")) == 5


def test_identifiers_decimals_and_classes_of_a_table_are_texts(tmp_path: Path) -> None:
    made = datasets.Dataset.from_list(
        [{"problem": "q", "parts": {"label": [1]}, "solution": "x"}],
        features=datasets.Features(
            {
                "problem": datasets.Value("string"),
                "solution": datasets.Value("string"),
                "parts": datasets.Sequence({"label": datasets.ClassLabel(names=["cat", "dog"])}),
            }
        ),
    )
    zero = pa.array([decimal.Decimal("0.00000000")], pa.decimal128(20, 8))
    table = made.data.table.drop_columns(["solution"]).append_column("solution", zero)
    table = table.append_column("id", pa.array([uuid.uuid4().bytes], pa.uuid()))
    pq.write_table(table, tmp_path / "made.parquet")

    lines = table_to_lines(tmp_path / "made.parquet", tmp_path / "lines.jsonl").read_text()
    row = json.loads(lines)

    assert row["solution"] == "0.00000000"
    assert "dog" in str(row["parts"])
    assert str(uuid.UUID(row["id"])) == row["id"]


def test_facts_of_media_stand_beside_each_split(tmp_path: Path) -> None:
    from omnistage.records.media_facts import read_media

    row = {"problem": "q", "solution": "a"}
    files = {
        "sft.jsonl": [row | {"image": "a/1.png"}],
        "test.jsonl": [row | {"video": "a/2.mp4"}, row | {"image": "a/3.png"}],
    }
    members = ["a/1.png", "a/2.mp4", "a/3.png", "a/4.png"]

    done = rewrite(tmp_path / "1", files, members)
    fewer = rewrite(tmp_path / "2", files | {"test.jsonl": files["test.jsonl"][:1]}, members)

    assert list(read_media(done.folder / "sft.jsonl")) == ["a/1.png"]
    assert read_media(done.folder / "test.jsonl")["a/2.mp4"]["has_audio"] is True
    for name in ("sft.jsonl", "sft.media.jsonl"):
        assert (done.folder / name).read_bytes() == (fewer.folder / name).read_bytes()


def test_record_files_in_an_archive_are_named_by_archive_and_member(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("lists/a_train.json", json.dumps(ROWS))
        archive.writestr("lists/a_val.json", json.dumps(ROWS[:1]))
    files = {"d/lists.zip": packed.getvalue()}

    done = rewrite(tmp_path, files, rl=[{"files": ["d/lists.zip/**/*_train.json"]}])

    rows = done.rows("rl")
    assert len(rows) == len(ROWS)
    assert rows[0]["id"] == "d/lists.zip/lists/a_train.json:1"
    assert rows[0]["source"] == "d/lists.zip/lists/a_train"


def test_an_archive_without_such_a_member_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("lists/a_val.json", json.dumps(ROWS))
    with pytest.raises(InputError, match=r"no file matches 'lists.zip/b\*'"):
        rewrite(tmp_path, {"lists.zip": packed.getvalue()}, rl=[{"files": ["lists.zip/b*"]}])


def test_a_prompt_is_put_around_the_text_of_each_row(tmp_path: Path) -> None:
    asked = "Look. {question} Answer within <answer> </answer>."
    rl = [{"files": ["x.jsonl"], "prompt": asked}]
    row = {"problem": "Which?", "solution": "red", "image": "a/1.png"}

    done = rewrite(tmp_path, {"x.jsonl": [row]}, ["a/1.png"], rl=rl)

    content = done.rows("rl")[0]["messages"][0]["content"]
    assert content == "<image>\nLook. Which? Answer within <answer> </answer>."


@pytest.mark.parametrize("prompt", ["Answer.", "{question} {question}"])
def test_a_prompt_without_one_place_for_the_question_is_refused(prompt: str) -> None:
    with pytest.raises(ValidationError, match=r"\{question\} is needed once"):
        RewriteSettings.model_validate({"rl": [{"files": ["x.jsonl"], "prompt": prompt}]})
