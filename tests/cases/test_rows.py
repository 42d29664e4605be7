"""Rows that once lost something on the way: ``rows/`` has them as a user would, one file a case."""

from pathlib import Path
from typing import Any

import pytest

from omnistage.errors import InputError
from omnistage.files import read_json, read_jsonl
from omnistage.records.convert import convert
from omnistage.rewards import REWARDS
from tests.components.rewrite_paths.rewrite_kit import CLIP, Rewritten, member, rewrite

ROWS = Path(__file__).with_name("rows")
THOUGHT = "<think>t</think>"


def read(case: str, tmp: Path, **settings: Any) -> Rewritten:
    """Rewrite a case's file, listed for the split that its name ends with."""
    name = f"{case}.jsonl"
    split = "rl" if case.endswith("_rl") else "sft"
    entry: Any = {split: [{"files": [name]}]}
    done = rewrite(tmp, {name: (ROWS / name).read_bytes()}, ["p/x.png"], **entry, **settings)
    assert done.balanced()
    return done


def test_every_file_has_a_test() -> None:
    tests = Path(__file__).read_text()
    assert [path.stem for path in ROWS.iterdir() if path.stem not in tests] == []


def test_d01_an_answer_that_is_marked_bad_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"_sft.jsonl:1: label_false: label: false marks the"):
        read("d01_kto_label_false_sft", tmp_path)


def test_d02_a_box_is_filled_in(tmp_path: Path) -> None:
    [record] = read("d02_objects_sft", tmp_path).rows("sft")
    assert record["objects"] == {"ref": ["hat"], "bbox": [[10, 20, 30, 40]]}
    assert record["messages"][-1]["content"] == "<bbox>"  # which the trainer fills in, scaled
    assert record["solution"] == "[10, 20, 30, 40]"


def test_d03_gold_that_a_reward_needs_whole_stays_whole(tmp_path: Path) -> None:
    [record] = read("d03_humanomni_context_rl", tmp_path).rows("rl")
    assert record["solution"] == (
        "<context>A woman laughs.</context><think>She is glad.</think><answer>A</answer>"
    )


def test_d04_what_is_learned_is_the_response(tmp_path: Path) -> None:
    [record] = read("d04_query_response_solution_sft", tmp_path).rows("sft")
    assert record["messages"][-1]["content"] == "<think>six sevens</think><answer>42</answer>"
    assert record["solution"] == "42"


def test_d06_options_reach_the_prompt(tmp_path: Path) -> None:
    first, second = read("d06_options_rl", tmp_path).rows("rl")
    assert first["messages"][0]["content"] == "<image>\nWhich colour?\nA. red\nB. blue"
    assert second["messages"][0]["content"].endswith("2 or 3 hats?\nA. 1\nB. 2\nC. 3")
    assert {first["solution"], second["solution"]} == {"B"}


@pytest.mark.parametrize(
    ("gold", "answer", "paid"),
    [("2√{3}", "2", 0.0), ("2√{3}", "$2\\sqrt{3}$", 1.0), ("9πcm^{2}", "9π", 1.0)],
)
def test_d07_roots_and_units_of_a_gold(gold: str, answer: str, paid: float) -> None:
    said = f"{THOUGHT}<answer>{answer}</answer>"
    assert REWARDS["lmm_math"]([said], solution=[gold]) == [paid]


def test_d08_to_d10_what_another_trainer_cannot_hold_is_said(tmp_path: Path) -> None:
    """That trainers' own loaders read the rest: ``tests/records/test_loaders.py``."""
    media = ["p/x.png", member("p/v.mp4", CLIP), "p/a.wav", "p/a#1.png"]
    rows = (ROWS / "d08_d10_records_rl.jsonl").read_bytes()
    folder = rewrite(tmp_path, {"rl.jsonl": rows}, media).folder
    said: dict[str, list[str]] = {}
    for trainer in ("verl", "trl", "openai"):
        lines = said[trainer] = []
        convert(folder, trainer, tmp_path / trainer, "file:///data", lines.append)

    assert said["verl"] == ["rl: 1 record left out: verl fills no places for audios"]
    assert said["trl"] == [
        "rl: 1 record left out: TRL fills no places for videos",
        "rl: 1 record left out: TRL fills no places for audios",
    ]
    assert (tmp_path / "verl" / "rl.json").is_file()
    trl = list(read_jsonl(tmp_path / "trl" / "rl.jsonl"))
    assert [len(row["images"]) for row in trl] == [1, 0, 1]
    assert "file:///data/p/a%231.png" in (tmp_path / "openai" / "rl.jsonl").read_text()


def test_d12_the_answer_is_the_last_one_outside_the_thought(tmp_path: Path) -> None:
    [record] = read("d12_answer_tag_in_thought_rl", tmp_path).rows("rl")
    assert record["solution"] == "B"


def test_d13_a_column_is_honoured_refused_or_counted(tmp_path: Path) -> None:
    done = read("d13_dropped_columns_sft", tmp_path)
    assert done.reasons() == ["tools", "preference"]
    assert done.counts["dropped_columns"] == {"target": 1, "nums": 1}
    brief, turns, _ = done.rows("sft")
    assert brief["messages"][0] == {"role": "system", "content": "be brief"}
    assert [m.get("loss") for m in turns["messages"]] == [None, False, None, None]


def test_d15_a_file_belongs_to_the_split_it_is_named_for(tmp_path: Path) -> None:
    done = read("d15_test_message", tmp_path)
    assert (done.counts["sft"], done.counts["test"]) == (1, 0)


def test_d16_two_user_turns_reach_llama_factory_as_one(tmp_path: Path) -> None:
    done = read("d16_two_users_sft", tmp_path)
    convert(done.folder, "llama_factory", tmp_path / "out", str(tmp_path), print)
    [row] = read_json(tmp_path / "out" / "sft.json")
    assert [turn["from"] for turn in row["conversations"]] == ["human", "gpt"]


def test_d17_a_reason_is_the_true_one(tmp_path: Path) -> None:
    done = read("d17_untrue_reasons_sft", tmp_path)
    assert [row["solution"] for row in done.rows("sft")] == ["a", "x", "a"]
    assert done.rows("sft")[2]["messages"][-1]["content"] == "<think>t</think>\na"
    [row] = done.rows("rejected")
    assert (row["line"], row["reason"]) == (4, "missing_file")
    assert "stands in the row itself" in row["detail"]
