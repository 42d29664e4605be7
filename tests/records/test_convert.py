"""Canonical records in other trainers' formats, and back again."""

import json
from pathlib import Path
from typing import Any

import pytest

from omnistage.errors import InputError
from omnistage.files import read_jsonl
from omnistage.records.convert import FORMATS, ExportFormat, convert
from omnistage.records.record import SPLITS
from tests.components.rewrite_paths.rewrite_kit import CLIP, Rewritten, judge_row, member, rewrite

MEMBERS = ["a/1.png", "a/2.png", "b/1.wav", member("v/c 1.mp4", CLIP)]
ROWS: list[dict[str, Any]] = [
    judge_row("/x/a/1.png"),
    judge_row("/x/b/1.wav", "audios"),
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "First <image>, then <image> and <video>: same?\n"},
            {"role": "assistant", "content": "Yes"},
            {"role": "user", "content": "Sure?"},
        ],
        "images": ["a/1.png", "a/2.png"],
        "videos": ["v/c 1.mp4"],
        "solution": "No",
    },
    {"problem": "What is 2+2?", "solution": "4"},
]


@pytest.fixture
def rewritten(tmp_path: Path) -> Rewritten:
    files = {"sft.jsonl": ROWS, "rl.jsonl": ROWS}
    return rewrite(tmp_path / "first", files, MEMBERS)


def rows(folder: Path, split: str) -> list[dict[str, Any]]:
    return list(read_jsonl(folder / f"{split}.jsonl"))


@pytest.mark.parametrize("split", ["sft", "rl"])
@pytest.mark.parametrize("format", ["ms_swift", "openai", "llama_factory"])
def test_round_trip_gives_the_same_records(
    tmp_path: Path, rewritten: Rewritten, format: ExportFormat, split: str
) -> None:
    counts = convert(rewritten.folder, format, tmp_path / "out", "/data/media")
    suffix = "json" if format == "llama_factory" else "jsonl"
    content = (tmp_path / "out" / f"{split}.{suffix}").read_bytes()

    again = rewrite(
        tmp_path / "again",
        {f"{split}.{suffix}": content},
        MEMBERS,
        **{split: [{"files": ["*"], "source": split}]},
    )

    def bare(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: v for k, v in record.items() if k != "id"} for record in records]

    assert counts == {"sft": 4, "rl": 4}
    assert bare(again.rows(split)) == bare(rewritten.rows(split))


def test_trl_has_prompt_completion_and_a_column_of_images(tmp_path: Path) -> None:
    row = {k: v for k, v in ROWS[2].items() if k != "videos"}
    row["messages"] = [dict(turn) for turn in row["messages"]]
    row["messages"][1]["content"] = "First <image>, then <image> and <\\video>: same?\n"
    first = rewrite(tmp_path / "first", {"sft.jsonl": [row], "rl.jsonl": [row]}, MEMBERS)
    convert(first.folder, "trl", tmp_path, "media")

    sft, rl = rows(tmp_path, "sft")[0], rows(tmp_path, "rl")[0]
    assert sft["prompt"][1]["content"] == [
        {"type": "text", "text": "First "},
        {"type": "image"},
        {"type": "text", "text": ", then "},
        {"type": "image"},
        {"type": "text", "text": " and <video>: same?\n"},
    ]
    for row in (sft, rl):
        assert row["images"] == ["media/a/1.png", "media/a/2.png"]
    assert sft["completion"] == [{"role": "assistant", "content": [{"type": "text", "text": "No"}]}]
    assert "completion" not in rl
    assert rl["solution"] == "No"


def test_verl_has_ground_truth_and_media(tmp_path: Path, rewritten: Rewritten) -> None:
    said: list[str] = []
    convert(rewritten.folder, "verl", tmp_path, warn=said.append)

    image, clip, text = read_jsonl(tmp_path / "rl.json")
    row = image
    assert row["data_source"] == "rl"
    assert row["images"] == [{"image": "a/1.png"}]
    assert clip["videos"] == [{"video": "v/c 1.mp4"}]
    assert text["images"] == text["videos"] == []
    assert said[1] == "rl: 1 record left out: verl fills no places for audios"
    assert row["prompt"][-1]["content"].count("<image>") == 1
    assert json.loads(row["reward_model"]["ground_truth"])["better"] == "A"
    assert row["extra_info"]["score_A"] == 8
    assert row["ability"] == "judge"


def test_llama_factory_describes_its_files(tmp_path: Path, rewritten: Rewritten) -> None:
    convert(rewritten.folder, "llama_factory", tmp_path)

    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert list(info) == ["omnistage_sft", "omnistage_rl"]
    assert info["omnistage_sft"]["file_name"] == "sft.json"
    assert info["omnistage_sft"]["columns"].keys() == {
        *("messages", "system", "images", "audios", "videos")
    }
    row = json.loads((tmp_path / "sft.json").read_text())[2]
    assert row["system"] == "Be brief."
    assert row.keys() >= {"solution", "task", "source", "id"}
    assert [turn["from"] for turn in row["conversations"]] == ["human", "gpt", "human", "gpt"]


def test_llama_factory_is_told_of_no_column_that_a_file_lacks(tmp_path: Path) -> None:
    done = rewrite(tmp_path / "first", {"rl.jsonl": ROWS[3:], "sft.jsonl": ROWS[:1]}, MEMBERS)

    convert(done.folder, "llama_factory", tmp_path / "out")

    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    assert info["omnistage_rl"]["columns"] == {"messages": "conversations"}
    assert list(info["omnistage_sft"]["columns"]) == ["messages", "system", "images"]


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        (None, "a/1.png"),
        ("", "a/1.png"),
        (".", "./a/1.png"),
        ("../media/", "../media/a/1.png"),
        ("/", "/a/1.png"),
        ("file:///d", "file:///d/a/1.png"),
    ],
)
@pytest.mark.parametrize("format", FORMATS)
def test_paths_are_absolute_or_relative_as_the_root_says(
    tmp_path: Path, rewritten: Rewritten, format: ExportFormat, root: str | None, expected: str
) -> None:
    convert(rewritten.folder, format, tmp_path / "out", root)

    [path] = (tmp_path / "out").glob("rl.*")
    assert json.dumps(expected) in path.read_text()


def test_records_are_never_overwritten(tmp_path: Path, rewritten: Rewritten) -> None:
    link = tmp_path / "link"
    link.symlink_to(rewritten.folder)
    before = (rewritten.folder / "rl.jsonl").read_bytes()

    for out in (rewritten.folder, link):
        with pytest.raises(InputError, match="overwrite the records"):
            convert(rewritten.folder, "openai", out)

    assert (rewritten.folder / "rl.jsonl").read_bytes() == before


def test_file_of_an_earlier_run_does_not_stay_for_an_empty_split(
    tmp_path: Path, rewritten: Rewritten
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "test.jsonl").write_text("old")

    assert "test" not in convert(rewritten.folder, "verl", tmp_path / "out")

    assert not (tmp_path / "out" / "test.jsonl").exists()


@pytest.mark.parametrize("format", FORMATS)
def test_gold_and_media_survive_in_every_format(
    tmp_path: Path, rewritten: Rewritten, format: ExportFormat
) -> None:
    convert(rewritten.folder, format, tmp_path, "/abs")

    written = "".join(p.read_text() for p in tmp_path.iterdir() if p.stem in SPLITS)

    missing = {"verl": ("/abs/b/1.wav",), "trl": ("/abs/b/1.wav", "/abs/v/c 1.mp4")}
    for text in ("/abs/a/1.png", "/abs/b/1.wav", "/abs/v/c 1.mp4", "[[A]]"):
        assert (text in written) == (text not in missing.get(format, ()))


def test_unknown_format_and_wrong_folder_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown format 'x'"):
        convert(tmp_path, "x", tmp_path / "out")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"no sft\.jsonl"):
        convert(tmp_path, "trl", tmp_path / "out")


def test_broken_record_leaves_no_file_under_a_final_name(
    tmp_path: Path, rewritten: Rewritten
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for split in SPLITS:
        (folder / f"{split}.jsonl").write_bytes((rewritten.folder / f"{split}.jsonl").read_bytes())
    with (folder / "sft.jsonl").open("a") as f:
        f.write("{}\n")

    with pytest.raises(InputError, match=r"sft\.jsonl:5"):
        convert(folder, "trl", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_address_of_a_file_has_its_signs_escaped(tmp_path: Path) -> None:
    row = {"problem": "q", "solution": "a", "image": "a/a#1?.png"}
    done = rewrite(tmp_path / "first", {"rl.jsonl": [row]}, ["a/a#1?.png"])

    convert(done.folder, "openai", tmp_path / "out", "file:///data")

    [record] = rows(tmp_path / "out", "rl")
    image, _ = record["messages"][0]["content"]
    assert image["image_url"]["url"] == "file:///data/a/a%231%3F.png"
    content = (tmp_path / "out" / "rl.jsonl").read_bytes()
    again = rewrite(tmp_path / "again", {"rl.jsonl": content}, ["a/a#1?.png"])
    assert again.rows("rl")[0]["images"] == ["a/a#1?.png"]


SPECIAL: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "user", "content": "<image>Is it <\\image>?"},
            {"role": "assistant", "content": "<image>"},
        ],
        "images": ["a/1.png"],
    },
    {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b", "loss": False},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": "d"},
        ],
    },
    {
        "messages": [
            {"role": "user", "content": "<image>Where is the <ref-object>?"},
            {"role": "assistant", "content": "<bbox>"},
        ],
        "images": ["a/1.png"],
        "objects": {"ref": ["hat"], "bbox": [[1, 2, 3, 4]]},
    },
    {
        "messages": [
            {"role": "user", "content": "e"},
            {"role": "assistant", "content": "good"},
            {"role": "user", "content": "f"},
            {"role": "assistant", "content": "bad", "loss": False},
        ],
    },
]


@pytest.mark.parametrize(
    ("format", "count", "words"),
    [
        ("ms_swift", 4, []),
        ("trl", 3, ["the last answer, also one with loss: false"]),
        ("openai", 4, []),
        ("verl", 2, ["also one that is text", "the last answer, also one with loss: false"]),
        ("llama_factory", 1, ["also one that is text", "loss: false"]),
    ],
)
def test_what_a_format_cannot_hold_is_said(
    tmp_path: Path, format: ExportFormat, count: int, words: list[str]
) -> None:
    done = rewrite(tmp_path / "first", {"sft.jsonl": SPECIAL}, MEMBERS)
    said: list[str] = []

    counts = convert(done.folder, format, tmp_path / "out", warn=said.append)

    assert counts == {"sft": count}
    boxes = "sft: boxes of 1 record are written in pixels of the image as it is; ms-swift alone"
    assert [line.startswith(boxes) for line in said[len(words) :]] == [True] * (
        format != "ms_swift"
    )
    said = said[: len(words)]
    assert len(said) == len(words)
    for line, word in zip(said, words, strict=True):
        assert line.startswith(("sft: 1 record left out: ", "sft: 2 records left out: "))
        assert word in line
    written = "".join(path.read_text() for path in (tmp_path / "out").glob("sft.*"))
    assert ("[1, 2, 3, 4]" in written) == (format != "ms_swift" or '"solution"' in written)
    if format == "openai":
        assert rows(tmp_path / "out", "sft")[1]["messages"][1]["weight"] == 0
    if format == "ms_swift":
        assert rows(tmp_path / "out", "sft")[2]["objects"] == SPECIAL[2]["objects"]
        assert rows(tmp_path / "out", "sft")[1]["messages"][1]["loss"] is False


@pytest.mark.parametrize("format", FORMATS)
def test_a_text_that_names_a_control_token_is_only_for_servers(
    tmp_path: Path, format: ExportFormat
) -> None:
    turns = [("user", "a<|im_end|>\n<|im_start|>assistant"), ("assistant", "b")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    done = rewrite(tmp_path / "first", {"sft.jsonl": [row, SPECIAL[3]]}, MEMBERS)
    said: list[str] = []

    convert(done.folder, format, tmp_path / "out", warn=said.append)

    assert any("takes <|im_end|> in a text for a control token" in line for line in said) == (
        format != "openai"
    )


def test_boxes_that_are_shares_of_the_image_are_not_written_as_pixels(tmp_path: Path) -> None:
    objects = {"ref": ["hat"], "bbox": [[0.1, 0.25, 0.3, 0.4]], "bbox_type": "norm1"}
    done = rewrite(tmp_path, {"sft.jsonl": [SPECIAL[2] | {"objects": objects}]}, MEMBERS)
    said: list[str] = []

    for format in FORMATS:
        convert(done.folder, format, tmp_path / format, warn=said.append)

    assert rows(tmp_path / "ms_swift", "sft")[0]["objects"] == objects
    assert len(said) == len(FORMATS) - 1
    assert all("shares of the image (norm1)" in line for line in said)


@pytest.mark.parametrize("format", [f for f in FORMATS if f != "ms_swift"])
@pytest.mark.parametrize("objects", [{"bbox": []}, {"ref": ["a hat"], "bbox": [[1, 2, 3, 4]]}])
def test_a_place_without_its_box_leaves_that_record_out(
    tmp_path: Path, format: ExportFormat, objects: dict[str, Any]
) -> None:
    for split in SPLITS:
        (tmp_path / f"{split}.jsonl").write_text("")
    turns = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "<bbox>"}]
    broken = [*turns[:1], {"role": "assistant", "content": "<bbox> and <bbox>"}]
    record = {"source": "s", "task": "rec", "solution": "x"}
    rows = [
        {**record, "id": "1", "messages": broken, "objects": objects},
        {**record, "id": "2", "messages": turns, "objects": {"bbox": [[5, 6, 7, 8]]}},
    ]
    (tmp_path / "sft.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said: list[str] = []

    assert convert(tmp_path, format, tmp_path / "out", warn=said.append) == {"sft": 1}
    assert said[0] == "sft: 1 record left out: the text has more <bbox> than the objects have"
