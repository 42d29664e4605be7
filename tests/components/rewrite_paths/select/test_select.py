"""Which records rewrite_paths keeps: splits, sampling, mixing, duplicates, balance and filters."""

import json
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from pydantic import ValidationError

from components.rewrite_paths.config import RewriteSettings
from components.rewrite_paths.convert import row as row_module
from components.rewrite_paths.select.swap import swap_candidates
from tests.components.rewrite_paths.rewrite_kit import (
    CLIP,
    SOUND,
    judge_row,
    member,
    rewrite,
    verdict,
)
from tests.components.rewrite_paths.row_kit import answers, quiz

MIX = {"a.jsonl": quiz(*range(0, 100)), "b.jsonl": quiz(*range(100, 200))}


def test_mixing_takes_from_each_file_by_its_weight_and_in_order(tmp_path: Path) -> None:
    entries = [{"files": ["a.jsonl"], "weight": 0.8}, {"files": ["b.jsonl"], "weight": 0.2}]

    done = rewrite(tmp_path, MIX, rl=entries)

    got = answers(done.rows("rl"))
    first, second = [n for n in got if n < 100], [n for n in got if n >= 100]
    assert first == list(range(100))
    assert second == list(range(100, 100 + len(second)))
    assert 10 < len(second) < 45
    assert got != sorted(got)
    assert done.counts["left_out"] == {"mixing": 100 - len(second)}
    assert done.balanced()


def test_mixing_may_go_on_with_what_is_left(tmp_path: Path) -> None:
    entries = [{"files": ["a.jsonl"], "weight": 3}, {"files": ["b.jsonl"], "weight": 1}]

    done = rewrite(tmp_path, MIX, rl=entries, mix_until="all")

    assert sorted(answers(done.rows("rl"))) == list(range(200))
    assert done.counts["left_out"] == {}


def test_weights_are_for_all_entries_or_none() -> None:
    entries = [{"files": ["a"], "weight": 1}, {"files": ["b"]}]

    with pytest.raises(ValidationError, match="every entry a weight"):
        RewriteSettings.model_validate({"rl": entries})


def test_duplicates_are_left_out(tmp_path: Path) -> None:
    rows = [judge_row("a/1.png"), judge_row("b/copy.png"), judge_row("a/1.png")]
    rows[2]["solution"] = json.dumps(verdict("B", 1, 2))
    members = [member("a/1.png", content="same"), member("b/copy.png", content="same")]
    rows[1]["messages"] = rows[0]["messages"]
    files = {"rl.jsonl": [*rows, rows[0]]}
    rows[1]["messages"][1]["content"] = rows[1]["messages"][1]["content"].replace(
        "Image file: a/1.png  \n", ""
    )
    rows[0]["messages"] = rows[2]["messages"] = rows[1]["messages"]

    by_row = rewrite(tmp_path / "row", files, members, deduplicate="row")
    by_prompt = rewrite(tmp_path / "prompt", files, members, deduplicate="prompt")

    assert [r["id"] for r in by_row.rows("rl")] == ["rl.jsonl:1", "rl.jsonl:3"]
    assert [r["id"] for r in by_prompt.rows("rl")] == ["rl.jsonl:1"]
    assert by_row.counts["left_out"] == {"duplicate": 2}
    assert by_row.balanced()
    assert by_prompt.balanced()


def test_rows_that_share_media_with_test_are_refused(tmp_path: Path) -> None:
    members = [member("a/1.png", content="same"), member("b/copy.png", content="same"), "2.png"]
    files = {
        "test.jsonl": [judge_row("a/1.png")],
        "sft.jsonl": [judge_row("b/copy.png"), judge_row("2.png")],
        "rl.jsonl": [judge_row("a/1.png"), judge_row("2.png")],
    }

    done = rewrite(tmp_path, files, members)

    assert [done.counts[s] for s in ("sft", "rl", "test")] == [1, 1, 1]
    assert done.reasons() == ["shares_media_with_test"] * 2


def test_text_rows_with_the_prompt_of_a_test_record_are_refused(tmp_path: Path) -> None:
    done = rewrite(tmp_path, {"test.jsonl": quiz(1), "rl.jsonl": quiz(1, 2)})

    assert answers(done.rows("rl")) == [2]


def test_sft_and_rl_may_share_media_unless_they_are_to_be_disjoint(tmp_path: Path) -> None:
    files = {"sft.jsonl": [judge_row("1.png")], "rl.jsonl": [judge_row("1.png"), *quiz(1)]}

    shared = rewrite(tmp_path / "1", files, ["1.png"])
    disjoint = rewrite(tmp_path / "2", files, ["1.png"], disjoint=True)

    assert (shared.counts["rl"], disjoint.counts["rl"]) == (2, 1)
    assert disjoint.reasons() == ["shares_media_with_sft"]


def grouped(tmp_path: Path, by: str, workers: int = 1) -> Any:
    """Rewrite rows on 60 clips, their sounds, copies, and pairs that chain media together."""
    members: list[Any] = []
    rows: list[dict[str, Any]] = []
    for n in range(60):
        members += [
            member(f"v{n // 6}/clip{n}.mp4", CLIP),
            member(f"s/clip{n}.wav", SOUND),
            member(f"copy/c{n}.mp4", CLIP, content=f"v{n // 6}/clip{n}.mp4"),
        ]
        for path, field in ((f"clip{n}.mp4", "videos"), (f"clip{n}.wav", "audios")):
            rows.append(judge_row(path, field))
        rows.append(judge_row(f"copy/c{n}.mp4", "videos"))
    for n in range(0, 20, 2):
        row = judge_row(f"clip{n}.mp4", "videos")
        row["messages"][1]["content"] = "<video><video>Q?"
        row["videos"] = [f"clip{n}.mp4", f"clip{n + 1}.mp4"]
        rows.append(row)
    files = {"sft.jsonl": rows[::2] + quiz(*range(100)), "rl.jsonl": rows[1::2]}
    split = {"test": 0.25, "by": by}
    return rewrite(tmp_path, files, members, split=split, workers=workers, seed=5), members


@pytest.mark.parametrize("by", ["media", "stem", "folder"])
def test_split_keeps_groups_together(tmp_path: Path, by: str) -> None:
    done, members = grouped(tmp_path, by)
    digest = {m["path"]: m["sha256"] for m in members}

    def groups(split: str) -> set[str]:
        found: set[str] = set()
        for record in done.rows(split):
            for path in [*record.get("videos", []), *record.get("audios", [])]:
                found.add(digest[path])
                if by == "stem":
                    found.add(Path(path).stem)
                elif by == "folder":
                    found.add(str(Path(path).parent))
        return found

    assert done.reasons() == []
    assert done.balanced()
    assert groups("test").isdisjoint(groups("sft") | groups("rl"))
    with_media = [r for r in done.rows("test") if "videos" in r or "audios" in r]
    assert 0.2 * 190 < len(with_media) < 0.35 * 190 or by == "folder"
    assert 10 < len(done.rows("test")) - len(with_media) < 40
    assert all(r["messages"][-1]["role"] == "user" for r in done.rows("test"))


@pytest.mark.parametrize("seed", range(5))
def test_group_larger_than_the_share_does_not_become_the_test_set(
    tmp_path: Path, seed: int
) -> None:
    rows = [judge_row("big.png")] * 30 + [judge_row(f"{n}.png") for n in range(10)]
    members = ["big.png", *(f"{n}.png" for n in range(10))]

    done = rewrite(tmp_path, {"rl.jsonl": rows}, members, split={"test": 0.1}, seed=seed)

    assert done.counts["test"] == 4


def test_least_group_is_taken_when_all_are_larger_than_the_share(tmp_path: Path) -> None:
    rows = [judge_row("1.png")] * 6 + [judge_row("2.png")] * 4

    done = rewrite(tmp_path, {"rl.jsonl": rows}, ["1.png", "2.png"], split={"test": 0.1})

    assert {r["images"][0] for r in done.rows("test")} == {"2.png"}


def test_with_a_split_only_the_rows_that_it_moves_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Mock(wraps=row_module.read_row)
    monkeypatch.setattr(row_module, "read_row", read)
    rows = [
        {"problem": f"<image>What is it, {n}?", "solution": f"thing {n}", "image": f"{n % 20}.png"}
        for n in range(40)
    ]

    done = rewrite(
        tmp_path, {"rl.jsonl": rows}, [f"{n}.png" for n in range(20)], split={"test": 0.25}
    )

    assert (done.counts["rl"], done.counts["test"]) == (30, 10)
    assert read.call_count == 40 + 10


def test_split_does_not_depend_on_the_processes(tmp_path: Path) -> None:
    assert (
        grouped(tmp_path / "1", "media")[0].digest == grouped(tmp_path / "2", "media", 2)[0].digest
    )


def test_rows_that_one_split_alone_reads_hold_groups_together_too(tmp_path: Path) -> None:
    pairs = [judge_row("0.png") for _ in range(8)]
    for n, row in enumerate(pairs):
        row["messages"][1]["content"] = "<image><image>Q?"
        row["images"] = [f"{n + 8}.png", f"{n}.png"]
    rows = [judge_row(f"{n}.png") for n in range(16)] + pairs
    members = [f"{n}.png" for n in range(16)]
    entries = {
        "sft": [{"files": ["all.jsonl"], "sampling": "first:16"}],
        "rl": [{"files": ["all.jsonl"], "sampling": "end:8"}],
    }

    done = rewrite(tmp_path, {"all.jsonl": rows}, members, split={"test": 0.4}, **entries)

    shown = [{p for r in done.rows(s) for p in r["images"]} for s in ("test", "sft", "rl")]
    assert done.reasons() == []
    assert shown[0].isdisjoint(shown[1] | shown[2])
    assert shown[0]
    assert shown[2]


def test_file_of_both_splits_gives_its_test_records_once(tmp_path: Path) -> None:
    both = [{"files": ["all.jsonl"]}]

    done = rewrite(
        tmp_path, {"all.jsonl": quiz(*range(40))}, sft=both, rl=both, split={"test": 0.3}
    )

    tests = [r["id"] for r in done.rows("test")]
    assert len(set(tests)) == len(tests) > 3
    assert answers(done.rows("sft")) == answers(done.rows("rl"))
    assert done.counts["left_out"] == {"in_test": len(tests)}
    assert done.balanced()


def test_filters_leave_out_by_length_and_duration(tmp_path: Path) -> None:
    long = member("long.wav", SOUND | {"duration": 60.0})
    rows = [judge_row("short.wav", "audios"), judge_row("long.wav", "audios"), *quiz(1, 10**30)]
    members = [member("short.wav", SOUND), long]

    done = rewrite(
        tmp_path,
        {"rl.jsonl": rows},
        members,
        filters={"max_seconds": 10, "min_characters": 12, "max_characters": 300},
    )

    assert [r["id"] for r in done.rows("rl")] == ["rl.jsonl:1", "rl.jsonl:4"]
    assert done.counts["left_out"] == {"duration": 1, "length": 1}
    assert done.balanced()


@pytest.mark.parametrize("split", ["sft", "rl"])
def test_balance_exchanges_candidates_until_a_and_b_are_right_equally_often(
    tmp_path: Path, split: str
) -> None:
    rows = [judge_row("1.png") for _ in range(9)]
    for number, row in enumerate(rows):
        row["messages"][1]["content"] += f" {number}"
    rows += [judge_row("1.png", solution=json.dumps(verdict("B", 1, 2)))]
    rows += [judge_row("1.png", solution=json.dumps(verdict("equal", 4, 4)))]

    done = rewrite(tmp_path, {f"{split}.jsonl": rows}, ["1.png"], balance=True, seed=2)

    records = done.rows(split)
    assert Counter(r["better"] for r in records) == {"A": 5, "B": 5, "equal": 1}
    for record in records[:9]:
        prompt, swapped = record["messages"][1]["content"], record["better"] == "B"
        assert ("Response A: a cat" in prompt) == swapped
        assert json.loads(record["solution"])["better"] == record["better"]
        assert (record["score_A"] < record["score_B"]) == swapped
    assert json.loads((done.folder / "card.json").read_text())["labels"][0]["answers"]["A"] == 5


def judged(prompt: str, **changes: Any) -> dict[str, Any]:
    value = verdict(reasoning="<think>A names the dog, Response B does not.</think>", **changes)
    text = json.dumps(value)
    return {
        "task": "judge",
        "messages": [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": text},
        ],
        "solution": text,
        "better": "A",
        "score_A": 8,
        "score_B": 3,
    }


def test_swap_exchanges_prompt_verdict_and_reasoning() -> None:
    record = judged("<image>\nQ?  \nCandidate A: a dog  \nCandidate B: a cat\n### End\nbye")

    swapped = swap_candidates(record)

    assert swapped is not None
    assert swapped["messages"][0]["content"] == (
        "<image>\nQ?  \nCandidate A: a cat  \nCandidate B: a dog\n### End\nbye"
    )
    value = json.loads(swapped["solution"])
    assert list(value) == list(verdict())
    assert (value["score_A"], value["score_B"], value["better"]) == (3, 8, "B")
    assert value["reasoning"] == "<think>B names the dog, Response A does not.</think>"
    assert value["final_verdict"] == "<answer>[[B]]</answer>"
    assert swapped["messages"][1]["content"] == swapped["solution"]
    assert swap_candidates(swapped) == record


@pytest.mark.parametrize(
    "prompt",
    [
        "Which is better?",
        "Candidate A: x",
        "Candidate B: x\nCandidate A: y",
        "Candidate A: x\nResponse B: y",
        "Candidate A: x\nCandidate A: y\nCandidate B: z",
        "Candidate A:\nCandidate B: z",
    ],
)
def test_candidates_without_clear_labels_are_not_exchanged(prompt: str) -> None:
    assert swap_candidates(judged(prompt)) is None
