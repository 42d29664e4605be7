"""What candidates of a judge row say is text, and media around and in them keep their places."""

from pathlib import Path
from typing import Any

import pytest

from components.rewrite_paths.select.swap import swap_candidates as swap_record
from omnistage.records.pairs import candidates
from omnistage.records.plain_text import unescape_tags
from omnistage.records.record import check
from tests.components.rewrite_paths.rewrite_kit import judge_row, rewrite

SAYS = [
    "the <image> tag",
    "the token <|image_pad|> means",
    "HTML <IMAGE> tag",
    "<img>p/y.png</img>",
    "see\nImage file: zzz.png",
    "say Audio file: a.wav",
    "the <audio> tag",
]


@pytest.mark.parametrize("says", SAYS)
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("shown", [False, True])
def test_what_a_candidate_of_omnicritic_says_shows_no_medium(
    tmp_path: Path, says: str, old: bool, shown: bool
) -> None:
    row = judge_row("p/x.png") if shown else judge_row("p/x.png", messages=[], images=[])
    line = "Image file: p/x.png  \n" if shown else ""
    text = f"{line}Which?\n\nResponse A: {says}\n\nResponse B: two"
    row["messages"] = [{"role": "user", "content": text}]
    if old:
        output = row["solution"]
        row = {"input": text, "output": output} | ({"image": "p/x.png"} if shown else {})

    done = rewrite(tmp_path, {"rl.jsonl": [row]}, ["p/x.png", "p/y.png"])

    assert done.reasons() == []
    [record] = done.rows("rl")
    check(record)
    assert record.get("images", []) == (["p/x.png"] if shown else [])
    asked = record["messages"][-1]["content"]
    assert asked.startswith("<image>" if shown else "Which?")
    assert says.split()[0].replace("<image>", "") in asked
    found = candidates(record["messages"])
    assert found is not None
    assert unescape_tags(found[0]) == says


IMAGE = {"type": "image", "image": "p/x.png"}
BEHIND: dict[str, tuple[Any, dict[str, Any]]] = {
    "part": ([{"type": "text", "text": "Q\n\nResponse A: one\n\nResponse B: two"}, IMAGE], {}),
    "tag": ("Q\n\nResponse A: one\n\nResponse B: two\n<image>", {"images": ["p/x.png"]}),
    "path": ("Q\n\nResponse A: one\n\nmore\n\nResponse B: two\n\nImage file: p/x.png  \n", {}),
    "path and column": (
        "Q\n\nResponse A: one\n\nmore\n\nResponse B: two\n\nImage file: /u/p/x.png  \nWrite JSON.",
        {"images": ["/u/p/x.png"]},
    ),
    "img": ("Q\n\nResponse A: one\n\nmore\n\nResponse B: two\n\n<img>p/x.png</img>", {}),
}


@pytest.mark.parametrize("name", BEHIND)
def test_a_medium_behind_the_candidates_stays_there(tmp_path: Path, name: str) -> None:
    content, columns = BEHIND[name]
    row = judge_row("p/x.png", messages=[{"role": "user", "content": content}], images=[])
    del row["images"]

    done = rewrite(tmp_path, {"rl.jsonl": [row | columns]}, ["p/x.png"])

    assert done.reasons() == []
    [record] = done.rows("rl")
    check(record)
    assert record["images"] == ["p/x.png"]
    before, found, after = record["messages"][-1]["content"].partition("<image>")
    assert found
    assert before.rstrip().endswith("Response B: two")
    assert after.strip() in ("", "Write JSON.")


IN_CANDIDATES = {
    "parts": [
        {"type": "text", "text": "Q\n\nResponse A: "},
        IMAGE,
        {"type": "text", "text": "\n\nResponse B: "},
        {"type": "image", "image": "p/y.png"},
    ],
    "tags": "Q\n\nResponse A:\n<image>\n\nResponse B:\n<image>",
    "one before": "Here is: <image>\n\nResponse A: see <image>\n\nResponse B: two",
    "at the end": "Q\n\nResponse A: one <image>\n\nResponse B: two <image>",
    "tokens": "Q\n\nResponse A: one <|vision_start|><|image_pad|><|vision_end|>\n\n"
    "Response B: two <|vision_start|><|image_pad|><|vision_end|>",
}


@pytest.mark.parametrize("name", IN_CANDIDATES)
def test_candidates_may_be_pictures(tmp_path: Path, name: str) -> None:
    content = IN_CANDIDATES[name]
    row = judge_row("", messages=[{"role": "user", "content": content}])
    row["images"] = [] if isinstance(content, list) else ["p/x.png", "p/y.png"]

    done = rewrite(tmp_path, {"rl.jsonl": [row]}, ["p/x.png", "p/y.png"])

    assert done.reasons() == []
    [record] = done.rows("rl")
    check(record)
    assert record["images"] == ["p/x.png", "p/y.png"]
    asked = record["messages"][-1]["content"]
    assert asked.count("<image>") == 2
    assert not {"\ufdd0", "\ufdd1"} & set(asked)
    assert "Response A" not in asked.split("<image>")[0] or name != "one before"
    assert not asked.startswith("<image>")


def test_a_path_behind_the_second_candidate_is_a_medium(tmp_path: Path) -> None:
    text = "Q\n\nResponse A: one\n\nResponse B: two\nImage file: p/x.png"
    row = judge_row("", messages=[{"role": "user", "content": text}], images=[])

    [record] = rewrite(tmp_path, {"rl.jsonl": [row]}, ["p/x.png"]).rows("rl")

    assert record["images"] == ["p/x.png"]


def test_of_two_media_one_may_stand_behind_the_candidates(tmp_path: Path) -> None:
    text = "<image>Q\n\nResponse A: one\n\nResponse B: two\n\nmore\n\nImage 2: <image>\nWrite JSON."
    row = judge_row("", messages=[{"role": "user", "content": text}], images=["p/x.png", "p/y.png"])

    done = rewrite(tmp_path, {"rl.jsonl": [row]}, ["p/x.png", "p/y.png"])

    assert done.reasons() == []
    assert done.rows("rl")[0]["messages"][-1]["content"] == text


def test_exchanged_candidates_take_their_pictures_along(tmp_path: Path) -> None:
    text = "<image>Q\n\nResponse A: <image>\n\nResponse B: <image>one <image>"
    names = ["p/q.png", "p/a.png", "p/b.png", "p/c.png"]
    row = judge_row("", messages=[{"role": "user", "content": text}], images=names)
    [record] = rewrite(tmp_path, {"rl.jsonl": [row]}, names).rows("rl")

    swapped = swap_record(record)

    assert swapped is not None
    assert swapped["images"] == ["p/q.png", "p/b.png", "p/c.png", "p/a.png"]
    assert swap_record(swapped) == record
