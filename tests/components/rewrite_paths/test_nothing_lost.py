"""What a row says twice, as a whole, or beside its usual columns is used, counted or refused."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omnistage.errors import InputError
from tests.components.rewrite_paths.rewrite_kit import rewrite
from tests.components.rewrite_paths.row_kit import chat, one, read, refused

QUIZ = b'{"problem": "1+1?", "solution": "2"}\n'
CHAT = chat(("user", "q"), ("assistant", "a"))


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        ({"loss": False}, "loss_false"),
        ({"loss": 0}, "loss_false"),
        ({"weight": 0}, "weight_zero"),
        ({"weight": 0.0}, "weight_zero"),
        ({"kto_tag": False}, "label_false"),
        ({"label": "false"}, "label_false"),
    ],
)
def test_row_that_is_marked_as_a_whole_is_refused(
    tmp_path: Path, mark: dict[str, Any], reason: str
) -> None:
    found, detail = refused(tmp_path, "sft", CHAT | mark)

    assert found == reason
    assert next(iter(mark)) in detail


@pytest.mark.parametrize("mark", [{"loss": True}, {"weight": 70.5}, {"kto_tag": True}])
def test_row_that_may_be_learned_from_is_kept(tmp_path: Path, mark: dict[str, Any]) -> None:
    assert one(tmp_path, "sft", CHAT | mark)["solution"] == "a"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "answer": "4"},
        {"prompt": "q", "solution": "4"},
        {"question": "q", "answer": "4"},
        {"query": "q", "solution": "4"},
        {"message": '[{"role": "user", "content": "q"}]', "answer": "4"},
        {"messages": [{"role": "user", "content": "q"}], "solution": "4"},
        {"conversations": [{"from": "human", "value": "q"}], "solution": "4"},
    ],
)
def test_response_beside_a_bare_answer_is_what_is_learned(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    response = "<think>r</think>4"

    record = one(tmp_path, "sft", row | {"response": response})

    assert record["messages"][-1] == {"role": "assistant", "content": response}
    assert record["solution"] == "4"


@pytest.mark.parametrize("response", [["a", "b"], {"text": "a"}])
@pytest.mark.parametrize("asked", ["query", "question", "prompt"])
def test_response_that_is_no_text_is_counted_as_dropped(
    tmp_path: Path, response: Any, asked: str
) -> None:
    done = read(tmp_path, "rl", {asked: "q", "response": response, "solution": "4"})

    assert [row["solution"] for row in done.rows("rl")] == ["4"]
    assert done.counts["dropped_columns"] == {"response": 1}


def preference(*asked: dict[str, Any], **columns: Any) -> dict[str, Any]:
    def side(answer: str) -> list[dict[str, Any]]:
        return [*asked, {"role": "assistant", "content": answer}]

    return {"chosen": side("good"), "rejected": side("bad"), **columns}


def user(*parts: str) -> dict[str, Any]:
    images = [{"type": "image", "image": path} for path in parts[1:]]
    return {"role": "user", "content": [*images, {"type": "text", "text": parts[0]}]}


def test_prompt_beside_whole_dialogues_is_that_of_the_dialogues(tmp_path: Path) -> None:
    same = preference(user("q9", "p/x.png"), prompt="q9")
    other = preference(user("q9"), prompt="another question")

    assert one(tmp_path / "1", "rl", same)["images"] == ["p/x.png"]
    assert refused(tmp_path / "2", "rl", other) == (
        "bad_field",
        "prompt: not what chosen and rejected answer",
    )


def test_sides_that_show_different_media_are_refused(tmp_path: Path) -> None:
    row = preference(user("q", "p/x.png"))
    row["rejected"][0] = user("q", "p/1.png")

    assert refused(tmp_path, "rl", row) == (
        "rejected_images",
        "chosen and rejected show different images",
    )


def test_answer_that_shows_a_medium_is_refused(tmp_path: Path) -> None:
    row = preference(user("q"))
    row["chosen"][1]["content"] = user("good", "p/x.png")["content"]

    assert refused(tmp_path, "rl", row) == ("bad_field", "chosen: the answer shows a medium")


def test_path_of_a_kind_that_is_not_read_is_counted(tmp_path: Path) -> None:
    row = {"problem": "q", "solution": "a", "path": {"image": "p/x.png", "pointcloud": "z"}}

    done = read(tmp_path, "rl", row)

    assert done.rows("rl")[0]["images"] == ["p/x.png"]
    assert done.counts["dropped_columns"] == {"path.pointcloud": 1}


@pytest.mark.parametrize(
    "line",
    [
        b'{"problem": "q", "solution": "4", "solution": "5"}',
        b'{"problem": "q", "solution" : "4", "\\u0073olution": "5"}',
        b'{"messages": [{"role": "user", "role": "system", "content": "q"}], "solution": "4"}',
    ],
)
def test_key_that_stands_twice_is_refused(tmp_path: Path, line: bytes) -> None:
    [row] = rewrite(tmp_path, {"rl.jsonl": QUIZ + line}).rows("rejected")

    assert row["reason"] == "bad_field"
    assert "stands twice" in row["detail"]


def test_text_that_looks_like_a_key_is_none(tmp_path: Path) -> None:
    text = 'the key "a": and \\": and "a" : again'

    assert one(tmp_path, "rl", {"problem": text, "solution": "4"})["messages"][0]["content"] == text


def table(tmp_path: Path, made: pa.Table) -> bytes:
    pq.write_table(made, tmp_path / "made.parquet")
    return (tmp_path / "made.parquet").read_bytes()


def test_table_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    names = ["question", "answer", "answer"]
    made = pa.Table.from_arrays([pa.array(["q"]), pa.array(["A"]), pa.array(["B"])], names=names)

    with pytest.raises(InputError, match="two columns are named 'answer'"):
        rewrite(tmp_path, {"x.parquet": table(tmp_path, made)}, rl=[{"files": ["*.parquet"]}])


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_short_float_of_a_table_has_its_shortest_text(tmp_path: Path, kind: pa.DataType) -> None:
    numbers = [np.float16(n) if kind == pa.float16() else n for n in (0.1, 2.5)]
    columns = {
        "question": ["q1", "q2"],
        "answer": pa.array(numbers, kind),
        "options": pa.array([numbers, numbers], pa.list_(kind)),
    }

    done = rewrite(
        tmp_path,
        {"x.parquet": table(tmp_path, pa.table(columns))},
        rl=[{"files": ["*.parquet"]}],
    )

    assert [row["solution"] for row in done.rows("rl")] == ["0.1", "2.5"]
    assert done.rows("rl")[0]["options"] == ["0.1", "2.5"]


@pytest.mark.parametrize("saved", [True, False])
def test_class_of_the_datasets_library_has_its_name(tmp_path: Path, saved: bool) -> None:
    label = datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features(
        {
            "question": datasets.Value("string"),
            "answer": label,
            "choices": datasets.Sequence(label),
        }
    )
    rows = {"question": ["q1", "q2"], "answer": [1, 0], "choices": [[0, 1], [1, 0]]}
    made = datasets.Dataset.from_dict(rows, features=features)
    if saved:
        made.save_to_disk(str(tmp_path / "made"))
        files = {f"d/{p.name}": p.read_bytes() for p in (tmp_path / "made").iterdir()}
    else:
        made.to_parquet(str(tmp_path / "made.parquet"))
        files = {"d.parquet": (tmp_path / "made.parquet").read_bytes()}

    done = rewrite(tmp_path, files, rl=[{"files": ["d" if saved else "d.parquet"]}])

    assert [row["solution"] for row in done.rows("rl")] == ["dog", "cat"]
    assert done.rows("rl")[0]["options"] == ["cat", "dog"]


def test_numbers_of_lettered_options_keep_their_text(tmp_path: Path) -> None:
    line = '{"problem": "q", "solution": "A", "options": {"A": 1.50, "B": 12345678901234567890}}'

    [record] = rewrite(tmp_path, {"rl.jsonl": line.encode()}).rows("rl")

    assert record["options"] == ["A. 1.50", "B. 12345678901234567890"]


def test_negative_zero_keeps_its_sign(tmp_path: Path) -> None:
    [record] = rewrite(tmp_path, {"rl.jsonl": b'{"problem": "q", "solution": -0}'}).rows("rl")

    assert record["solution"] == "-0"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("p/x.tga", "no medium that is read ends in .tga"),
        ("p/x.wv", "no medium that is read ends in .wv"),
        ("p/x", "'p/x' has no extension"),
        ("iVBORw0KGgoAAAANSUhEUgAAACgAAAAeCAIAAADRv8uK", "stands in the row itself"),
        ("(69 B)", "stands in the row itself"),
        ("p/none.png", "no file of the data set is named like 'p/none.png'"),
    ],
)
def test_medium_that_is_not_found_has_the_true_reason(
    tmp_path: Path, path: str, words: str
) -> None:
    found, detail = refused(tmp_path, "rl", {"problem": "q", "solution": "a", "image": path})

    assert found == "missing_file"
    assert words in detail
