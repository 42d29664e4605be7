"""Every format that rewrite_paths reads, on rows as the systems' own files have them."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.rewrite_paths.draft import RowError
from components.rewrite_paths.formats.read_row import read_row
from components.rewrite_paths.formats.readers import READERS
from components.rewrite_paths.formats.recognise import recognise
from omnistage.records.record import check
from tests.components.rewrite_paths.rewrite_kit import CLIP, judge_row, member, rewrite, verdict

INSTRUCTIONS = (
    "You are a judge.\nKeys: score_A, score_B, better, reasoning, final_verdict "
    "with <think>…</think> and <answer>[[A]]</answer>.\n\n"
)
QUESTION = "Question: Is it water?  \nCandidate A: Yes, it is.  \nCandidate B: Yes"
VERDICT = verdict()
LINES = (
    "score_A: 8\nscore_B: 3\nbetter: A\n"
    "reasoning: <think>Answer A is fluent and relevant.</think>\n"
    "final_verdict: <answer>[[A]]</answer>"
)

ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "omnicritic": ("omnicritic", judge_row("/home/x/a/1.png")),
    "omnicritic, solution as an object": (
        "omnicritic",
        judge_row("/home/x/a/1.png", solution=VERDICT),
    ),
    "omnicritic, path as a text, verdict in lines": (
        "omnicritic",
        {
            "audios": "/home/x/a/2.wav",
            "messages": [
                {
                    "role": "user",
                    "content": f"{INSTRUCTIONS}### Context\nAudio file: /home/x/a/2.wav  \n"
                    + QUESTION,
                },
                {"role": "assistant", "content": LINES},
            ],
        },
    ),
    "omnicritic_old": (
        "omnicritic_old",
        {
            "input": f"{INSTRUCTIONS}### Context\nAudio file: /home/x/a/2.wav  \n{QUESTION}",
            "output": json.dumps(VERDICT),
            "audio": "/home/x/a/2.wav",
        },
    ),
    "omnicritic_old, verdict in lines": (
        "omnicritic_old",
        {
            "input": f"{INSTRUCTIONS}### Context\nAudio file: /home/x/a/2.wav  \n{QUESTION}",
            "output": LINES,
            "audio": "/home/x/a/2.wav",
        },
    ),
    "omnirl": ("omnirl", {"problem": "What is 2+2?", "solution": "<answer>4</answer>"}),
    "omnirl with images": (
        "omnirl",
        {"problem": "Which is red?", "solution": "The first one.", "image": ["1.png", "3.png"]},
    ),
    "lmm_r1": (
        "lmm_r1",
        {
            "message": str(
                [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", "image": "file:///home/x/a/1.png"},
                            {"type": "text", "text": "How long is AB?"},
                        ],
                    }
                ]
            ),
            "answer": "$\\frac{1}{2}$",
        },
    ),
    "r1_omni": (
        "r1_omni",
        {
            "video": "/data/DFEW/clip 5.mp4",
            "conversations": [
                {"from": "human", "value": "<video>\n<audio>\nWhich emotion is it?"},
                {"from": "gpt", "value": "<think>A smile.</think><answer> happy </answer>"},
            ],
        },
    ),
    "humanomni_v2": (
        "humanomni_v2",
        {
            "problem": "Who speaks?",
            "solution": "<answer>B</answer>",
            "path": {"video": "DFEW/clip 5.mp4", "audio": "/x/2.wav"},
            "data_type": "video",
            "problem_type": "multiple choice",
            "options": ["A. nobody", "B. a child"],
        },
    ),
    "llava": (
        "llava",
        {
            "id": 1,
            "image": "CLEVR/images/1.png",
            "conversations": [
                {"from": "human", "value": "<image>How many?"},
                {"from": "gpt", "value": "3"},
            ],
        },
    ),
    "ms_swift": (
        "ms_swift",
        {
            "messages": [
                {"role": "user", "content": "<image><image>Same?"},
                {"role": "assistant", "content": "No"},
            ],
            "images": ["a/1.png", {"path": "a/3.png"}],
        },
    ),
    "ms_swift query": ("ms_swift", {"query": "Say hello", "response": "hello there"}),
    "ms_swift history": (
        "ms_swift",
        {"query": "And 2?", "history": [["1 is?", "odd"]], "response": "even it is", "system": "S"},
    ),
    "ms_swift conversation": (
        "ms_swift",
        {"conversation": [{"human": "<image>Who?", "assistant": "A dog."}], "image": "a/1.png"},
    ),
    "ms_swift alpaca": (
        "ms_swift",
        {"instruction": "Translate.", "input": "Hund", "output": "a dog", "system": ""},
    ),
    "llava on a clip without its sound": (
        "llava",
        {
            "video": "clip 5.mp4",
            "conversations": [
                {"from": "human", "value": "<video>Where?"},
                {"from": "gpt", "value": "In a park."},
            ],
        },
    ),
    "openai": (
        "openai",
        {
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is shown? "},
                        {"type": "image_url", "image_url": {"url": "file:///home/x/a/1.png"}},
                    ],
                },
                {"role": "assistant", "content": "A dog."},
            ]
        },
    ),
}
MEMBERS = ["a/1.png", "a/3.png", "audio_files/audio_files/2.wav", member("DFEW/clip 5.mp4", CLIP)]


def records(tmp_path: Path, split: str, *rows: Any, **settings: Any) -> list[dict[str, Any]]:
    done = rewrite(tmp_path, {f"{split}.jsonl": rows}, MEMBERS, **settings)
    assert done.reasons() == []
    return done.rows(split)


@pytest.mark.parametrize("name", ROWS)
def test_format_is_recognised(name: str) -> None:
    format, row = ROWS[name]

    assert recognise(row) == format


@pytest.mark.parametrize("split", ["sft", "rl"])
def test_rows_of_every_format_become_records(tmp_path: Path, split: str) -> None:
    done = records(tmp_path, split, *(row for _, row in ROWS.values()))

    assert len(done) == len(ROWS)
    for record in done:
        check(record)
        assert (record["messages"][-1]["role"] == "assistant") == (split == "sft")


def test_canonical_record_is_read_back_unchanged(tmp_path: Path) -> None:
    [record] = records(tmp_path / "1", "sft", ROWS["omnicritic"][1])

    [again] = records(tmp_path / "2", "sft", record)

    assert recognise(record) == "omnistage"
    assert again == record | {"source": "sft"}


def test_both_shapes_of_omnicritic_give_the_same_record(tmp_path: Path) -> None:
    names = [name for name in ROWS if "omnicritic" in name and "audio" in str(ROWS[name])]

    done = records(tmp_path, "sft", *(ROWS[name][1] for name in names))

    assert len(done) == 3
    for record in done:
        assert record["messages"][0] == {"role": "system", "content": INSTRUCTIONS.rstrip()}
        assert record["messages"][1]["content"] == f"### Context\n<audio>\n{QUESTION}"
        assert record["messages"][2]["content"] == json.dumps(VERDICT)
        assert record["audios"] == ["audio_files/audio_files/2.wav"]


def test_verdict_keeps_the_key_order_of_its_annotator(tmp_path: Path) -> None:
    reordered = {"reasoning": VERDICT["reasoning"], **VERDICT}

    [record] = records(tmp_path, "sft", judge_row("1.png", solution=reordered))

    assert record["messages"][-1]["content"] == json.dumps(reordered)
    assert record["solution"] == json.dumps(reordered)


@pytest.mark.parametrize(
    ("name", "task", "solution"),
    [
        ("omnirl", "numeric", "4"),
        ("omnirl with images", "free_form", "The first one."),
        ("lmm_r1", "math", "$\\frac{1}{2}$"),
        ("r1_omni", "emotion", "happy"),
        ("humanomni_v2", "choice", "B"),
        ("llava", "numeric", "3"),
        ("llava on a clip without its sound", "free_form", "In a park."),
        ("ms_swift", "yes_no", "No"),
        ("openai", "free_form", "A dog."),
    ],
)
def test_task_and_answer_are_told_from_the_row(
    tmp_path: Path, name: str, task: str, solution: str
) -> None:
    [record] = records(tmp_path, "rl", ROWS[name][1])

    assert (record["task"], record["solution"]) == (task, solution)


def test_humanomni_keeps_problem_type_and_lists_the_options(tmp_path: Path) -> None:
    [record] = records(tmp_path, "rl", ROWS["humanomni_v2"][1])

    assert record["problem_type"] == "multiple choice"
    assert record["options"] == ["A. nobody", "B. a child"]
    assert record["messages"][0]["content"] == (
        "<audio>\n<video>\nWho speaks?\nA. nobody\nB. a child"
    )


def test_options_are_listed_unless_the_problem_has_them_all(tmp_path: Path) -> None:
    row = ROWS["humanomni_v2"][1]
    some = row | {"problem": "Is there nobody?", "options": ["yes", "no"], "path": ""}
    some["solution"] = "<answer>no</answer>"
    every = some | {"problem": "Is he in? (yes / no)"}

    done = records(tmp_path, "rl", some, every)

    assert done[0]["messages"][0]["content"] == "Is there nobody?\nyes\nno"
    assert done[1]["messages"][0]["content"] == "Is he in? (yes / no)"


def test_older_forms_of_ms_swift_keep_all_their_turns(tmp_path: Path) -> None:
    names = ("ms_swift history", "ms_swift conversation", "ms_swift alpaca")

    turns = [
        [(m["role"], m["content"]) for m in record["messages"]]
        for record in records(tmp_path, "sft", *(ROWS[name][1] for name in names))
    ]

    assert turns == [
        [
            ("system", "S"),
            ("user", "1 is?"),
            ("assistant", "odd"),
            ("user", "And 2?"),
            ("assistant", "even it is"),
        ],
        [("user", "<image>Who?"), ("assistant", "A dog.")],
        [("user", "Translate.\nHund"), ("assistant", "a dog")],
    ]


def test_answer_turn_of_sft_keeps_the_reasoning(tmp_path: Path) -> None:
    [record] = records(tmp_path, "sft", ROWS["r1_omni"][1], use_audio_in_video=True)

    assert record["messages"][-1]["content"] == ROWS["r1_omni"][1]["conversations"][1]["value"]


def test_recipe_names_task_and_format(tmp_path: Path) -> None:
    entry = {"files": ["rl.jsonl"], "format": "omnirl", "task": "free_form", "source": "quiz"}

    [record] = records(tmp_path, "rl", ROWS["omnirl"][1], rl=[entry])

    assert (record["task"], record["source"]) == ("free_form", "quiz")


@pytest.mark.parametrize("name", READERS)
def test_format_named_in_the_recipe_refuses_other_rows(name: str) -> None:
    with pytest.raises(RowError, match=r"unknown_format|bad_field"):
        read_row({"something": "else"}, name)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"{", "not_json"),
        (b"\xff", "not_json"),
        (b"3", "not_an_object"),
        ({"x": 1}, "unknown_format"),
        ({"problem": 1, "solution": "x"}, "bad_field"),
        ({"problem": "", "solution": "x"}, "no_prompt"),
        ({"problem": "x", "solution": " "}, "no_answer"),
        ({"message": "[", "answer": "1"}, "bad_field"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "bad_field"),
        (judge_row("1.png", solution=verdict(a=11)), "bad_verdict"),
        (judge_row("1.png", solution=verdict(extra=1)), "bad_verdict"),
        (judge_row("1.png", solution="score_A is better"), "bad_verdict"),
        (judge_row("1.png", solution=verdict("B")), "contradictory_verdict"),
        (judge_row("1.png", better="B"), "gold_conflict"),
        (judge_row("1.png", cmp_gt="x"), "bad_field"),
        ({"problem": "<image>x", "solution": "y"}, "tags_mismatch"),
    ],
)
def test_bad_row_is_set_aside_with_file_line_and_reason(
    tmp_path: Path, row: Any, reason: str
) -> None:
    line = row if isinstance(row, bytes) else json.dumps(row).encode()
    good = json.dumps(ROWS["omnirl"][1]).encode()

    done = rewrite(tmp_path, {"rl.jsonl": good + b"\n\n" + line + b"\n"}, MEMBERS)

    [rejected] = done.rows("rejected")
    assert (rejected["file"], rejected["line"], rejected["reason"]) == ("rl.jsonl", 3, reason)
    assert done.counts["rejected"] == {reason: 1}
    assert done.balanced()
    if reason not in ("not_json",):
        assert rejected["row"] == json.loads(line)


def test_json_list_is_read_row_by_row(tmp_path: Path) -> None:
    rows = [{"problem": f'Say\n[{n}] "{{', "solution": str(n)} for n in range(3)]

    done = rewrite(tmp_path, {"a/rl.json": rows}, rl=[{"files": ["**/*.json"]}])

    assert [r["messages"][0]["content"] for r in done.rows("rl")] == [r["problem"] for r in rows]
    assert [r["id"] for r in done.rows("rl")] == ["a/rl.json:1", "a/rl.json:2", "a/rl.json:3"]


def test_broken_json_list_loses_no_item(tmp_path: Path) -> None:
    good = json.dumps({"problem": "x", "solution": "y"})
    content = f'[{good}, {{"problem": }}, {good}, {{"problem": "cut'.encode()

    done = rewrite(tmp_path, {"rl.json": content}, rl=[{"files": ["rl.json"]}])

    assert (done.counts["rows"], done.counts["rl"]) == (4, 2)
    assert done.reasons() == ["not_json", "not_json"]
