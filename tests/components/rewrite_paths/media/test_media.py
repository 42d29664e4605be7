"""How rewrite_paths finds the file a record means and makes its text agree with its media."""

from pathlib import Path
from typing import Any

import pytest

from components.rewrite_paths.draft import RowError
from components.rewrite_paths.media.index import MemberIndex
from omnistage.errors import InputError
from tests.components.rewrite_paths.rewrite_kit import (
    CLIP,
    SILENT,
    SOUND,
    judge_row,
    member,
    rewrite,
)


def index(*members: Any) -> MemberIndex:
    return MemberIndex(member(m) if isinstance(m, str) else m for m in members)


@pytest.mark.parametrize(
    "raw",
    [
        "/home/x/rlaif/images/3.png",
        "D:\\data\\rlaif\\images\\3.png",
        "C:\\mixed/rlaif\\images/3.png",
        "rlaif/images/3.png",
        "file:///home/x/rlaif/images/3.png",
        "/home/x/rlaif/./images//3.png",
        "images/3.png",
    ],
)
def test_file_is_found_by_the_end_of_its_path(raw: str) -> None:
    members = index("other/images/4.png", "rlaif/images/3.png", "rlaif/3.png")

    assert members.path(members.find(raw)) == "rlaif/images/3.png"


def test_longest_common_ending_wins() -> None:
    members = index("a/images/1.png", "b/images/1.png", "1.png")

    assert members.path(members.find("/x/b/images/1.png")) == "b/images/1.png"
    assert members.path(members.find("1.png")) == "1.png"


def test_whole_path_wins_over_a_longer_one_with_the_same_ending() -> None:
    members = index("deep/images/1.png", "images/1.png")

    assert members.path(members.find("images/1.png")) == "images/1.png"


def test_percent_signs_of_urls_and_unicode_forms_are_read() -> None:
    members = index("a/b c.png", "a/Lenc\u0327o\u0301is.png")

    assert members.path(members.find("file:///x/a/b%20c.png")) == "a/b c.png"
    assert members.path(members.find("a/Len\u00e7\u00f3is.png")) == "a/Lenc\u0327o\u0301is.png"


def test_letter_case_counts_and_the_message_says_so() -> None:
    with pytest.raises(RowError, match=r"missing_file.*a/1.PNG differs from it in upper and lower"):
        index("a/1.PNG").find("a/1.png")


@pytest.mark.parametrize("raw", ["https://x.org/1.png", "data:image/png;base64,AAAA", "a/", ""])
def test_what_is_no_file_is_missing(raw: str) -> None:
    with pytest.raises(RowError, match="missing_file"):
        index("1.png").find(raw)


def test_several_files_with_the_same_ending_are_ambiguous() -> None:
    members = index("a/1.png", "b/1.png")

    with pytest.raises(RowError, match=r"ambiguous_file.*a/1\.png, b/1\.png"):
        members.find("/x/1.png")


def test_copies_with_the_same_bytes_are_one_file() -> None:
    members = index(member("a/1.png", content="x"), member("b/1.png", content="x"))

    assert members.path(members.find("/x/1.png")) == "a/1.png"


def test_same_path_twice_is_ambiguous_only_if_the_bytes_differ() -> None:
    same = index(member("a/1.png", content="x"), member("a/1.png", content="x"))
    other = index(member("a/1.png", content="x"), member("a/1.png", content="y"))

    assert same.path(same.find("a/1.png")) == "a/1.png"
    with pytest.raises(RowError, match="ambiguous_file"):
        other.find("a/1.png")


@pytest.mark.parametrize(
    ("medium", "field", "reason"),
    [
        ({"error": "truncated"}, "images", "undecodable_media"),
        ({"error": "truncated"}, "videos", "undecodable_media"),
        (SOUND, "images", "wrong_media_type"),
        (SILENT, "audios", "wrong_media_type"),
    ],
)
def test_medium_must_be_fit_for_its_list(
    tmp_path: Path, medium: dict[str, Any], field: str, reason: str
) -> None:
    done = rewrite(
        tmp_path,
        {"rl.jsonl": [judge_row("x/1.bin", field), judge_row("ok.png")]},
        [member("x/1.bin", medium), "ok.png"],
    )

    assert done.reasons() == [reason]


def test_sound_may_be_taken_from_a_clip(tmp_path: Path) -> None:
    done = rewrite(
        tmp_path, {"rl.jsonl": [judge_row("1.mp4", "audios")]}, [member("v/1.mp4", CLIP)]
    )

    assert done.rows("rl")[0]["audios"] == ["v/1.mp4"]


def test_missing_files_stop_the_run_with_count_and_examples(tmp_path: Path) -> None:
    rows = [judge_row("x/1.png"), judge_row("x/2.png"), judge_row("ok.png")]

    with pytest.raises(InputError, match=r"2 of 3 rows.*rl\.jsonl:1: missing_file.*x/1\.png"):
        rewrite(tmp_path, {"rl.jsonl": rows}, ["ok.png"], on_missing="stop")


def test_bad_rows_stop_the_run_only_if_the_recipe_says_so(tmp_path: Path) -> None:
    rows = [{"x": 1}, judge_row("ok.png")]

    with pytest.raises(InputError, match=r"rl\.jsonl:1: unknown_format"):
        rewrite(tmp_path, {"rl.jsonl": rows}, ["ok.png"], on_bad="stop")


def test_split_without_any_good_row_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rl: no row is left.*missing_file"):
        rewrite(tmp_path, {"rl.jsonl": [judge_row("x/1.png")]}, ["other.png"])


@pytest.mark.parametrize(
    ("rule", "raw"),
    [
        ({"type": "marker", "marker": "rlaif"}, "/home/x/rlaif/1.png"),
        ({"type": "marker", "marker": "sub", "to": "rlaif"}, "/home/x/sub/../1.png"),
        ({"type": "prefix", "prefix": "D:\\old", "to": "rlaif"}, "D:\\old\\1.png"),
        ({"type": "basename", "to": "rlaif"}, "/home/x/other/1.png"),
        ({"type": "regex", "pattern": r"^.*/(\d+)_copy", "to": r"rlaif/\1"}, "/x/1_copy.png"),
    ],
)
def test_path_rules_rewrite_what_the_ending_does_not_tell(
    tmp_path: Path, rule: dict[str, str], raw: str
) -> None:
    rules = [{"type": "prefix", "prefix": "/never/", "to": ""}, rule]
    if raw.endswith("sub/../1.png"):
        rules.append({"type": "marker", "marker": "1"})
        rules[1] = {"type": "regex", "pattern": r".*/\.\./", "to": "rlaif/"}

    done = rewrite(
        tmp_path, {"rl.jsonl": [judge_row(raw)]}, ["rlaif/1.png", "twin/1.png"], paths=rules
    )

    assert done.rows("rl")[0]["images"] == ["rlaif/1.png"]


def prompt(tmp_path: Path, text: str, media: dict[str, Any], **settings: Any) -> Any:
    row = {
        "messages": [{"role": "user", "content": text}],
        "solution": "yes",
        **media,
    }
    members = ["a/1.png", "a/2.png", "a/1.wav", member("v/clip.mp4", CLIP), "a/clip.wav"]
    members.append(member("v/silent.mp4", SILENT))
    good = {"problem": "x", "solution": "y"}
    done = rewrite(tmp_path, {"rl.jsonl": [row, good]}, members, **settings)
    reasons = done.reasons()
    return reasons[0] if reasons else done.rows("rl")[0]


@pytest.mark.parametrize(
    ("text", "images", "expected"),
    [
        ("Q?", ["1.png"], "<image>\nQ?"),
        ("Q?", ["1.png", "2.png"], "<image>\n<image>\nQ?"),
        ("<image>Q?", ["1.png"], "<image>Q?"),
        ("See <|image_pad|> and <IMAGE>", ["1.png", "2.png"], "See <image> and <image>"),
        ("<|vision_bos|><|IMAGE|><|vision_eos|>Q", ["1.png"], "<image>Q"),
        ("Image file: /x/a/1.png  \nQ?", ["/x/a/1.png"], "<image>\nQ?"),
        ("Image file: /x/a/1.png  Q?", ["/x/a/1.png"], "<image>\nQ?"),
        ("Q?\nImage file: /x/a/1.png", ["/x/a/1.png"], "Q?\n<image>"),
        ("<image>Image file: /x/a/1.png  \nQ?", ["/x/a/1.png"], "<image>\nQ?"),
        ("Image file: /old/1.png\nQ?", ["/x/a/1.png"], "<image>\nQ?"),
        (
            "Image file: b/2.png\nImage file: b/1.png\nQ?",
            ["1.png", "2.png"],
            "<image>\n<image>\nQ?",
        ),
        ("Audio file: none given.  \nQ?", ["1.png"], "<image>\nAudio file: none given.  \nQ?"),
    ],
)
def test_tags_and_path_lines_are_reconciled_with_the_media(
    tmp_path: Path, text: str, images: list[str], expected: str
) -> None:
    record = prompt(tmp_path, text, {"images": images})

    assert record["messages"][0]["content"] == expected


def test_media_follow_the_order_of_their_lines(tmp_path: Path) -> None:
    text = "Image file: b/2.png\nImage file: b/1.png\nQ?"

    record = prompt(tmp_path, text, {"images": ["1.png", "2.png"]})

    assert record["images"] == ["a/2.png", "a/1.png"]


def test_path_that_stands_in_the_text_alone_is_a_medium(tmp_path: Path) -> None:
    record = prompt(tmp_path, "Audio file: /x/a/1.wav  \nQ?", {})

    assert record["audios"] == ["a/1.wav"]
    assert record["messages"][0]["content"] == "<audio>\nQ?"


def test_path_in_text_may_be_kept(tmp_path: Path) -> None:
    text = "Image file: /x/a/1.png  \nQ?"

    record = prompt(tmp_path, text, {"image": "/x/a/1.png"}, path_in_text="keep")

    assert record["messages"][0]["content"] == "<image>\nImage file: a/1.png  \nQ?"


@pytest.mark.parametrize(
    ("text", "media", "reason"),
    [
        ("<image><image>Q?", {"images": ["1.png"]}, "tags_mismatch"),
        ("<image>Q?", {"images": ["1.png", "2.png"]}, "tags_mismatch"),
        ("<video>Q?", {"images": ["1.png"]}, "tags_mismatch"),
        ("Image file: a/2.png  \nQ?", {"images": ["1.png"]}, "path_mismatch"),
        ("Image file: a/9.png  \nQ?", {"images": ["1.png"]}, "missing_file"),
    ],
)
def test_text_that_contradicts_the_media_is_refused(
    tmp_path: Path, text: str, media: dict[str, Any], reason: str
) -> None:
    assert prompt(tmp_path, text, media) == reason


def omni(text: str, clip: str = "clip.mp4", **media: Any) -> dict[str, Any]:
    return {
        "video": clip,
        "conversations": [
            {"from": "human", "value": text},
            {"from": "gpt", "value": "<answer>happy</answer>"},
        ],
        **media,
    }


def emotion(tmp_path: Path, row: dict[str, Any], sound_in_clip: bool) -> Any:
    members = [member("v/clip.mp4", CLIP), member("v/silent.mp4", SILENT), "a/clip.wav", "a/2.wav"]
    files = {"rl.jsonl": [row, {"problem": "x", "solution": "y"}]}
    done = rewrite(tmp_path, files, members, use_audio_in_video=sound_in_clip)
    return done.reasons()[0] if done.reasons() else done.rows("rl")[0]


def test_sound_of_a_clip_is_part_of_it(tmp_path: Path) -> None:
    record = emotion(tmp_path, omni("<video>\n<audio>\nQ?"), sound_in_clip=True)

    assert record["messages"][0]["content"] == "<video>\nQ?"
    assert "audios" not in record


def test_sound_of_a_clip_is_an_item_of_its_own(tmp_path: Path) -> None:
    record = emotion(tmp_path, omni("<video>\n<audio>\nQ?"), sound_in_clip=False)

    assert record["messages"][0]["content"] == "<video>\n<audio>\nQ?"
    assert record["audios"] == record["videos"] == ["v/clip.mp4"]


@pytest.mark.parametrize("sound_in_clip", [True, False])
def test_a_mute_clip_stays_one_where_its_row_means_a_sound(
    tmp_path: Path, sound_in_clip: bool
) -> None:
    record = emotion(tmp_path, omni("<video>\n<audio>\nQ?", clip="silent.mp4"), sound_in_clip)

    assert record["messages"][0]["content"] == "<video>\nQ?"
    assert record["videos"] == ["v/silent.mp4"]
    assert "audios" not in record


def test_of_two_clips_the_mute_one_has_no_sound(tmp_path: Path) -> None:
    row = omni("<video><audio><video><audio>Q?") | {"video": ["silent.mp4", "clip.mp4"]}

    record = emotion(tmp_path, row, sound_in_clip=False)

    assert record["messages"][0]["content"] == "<video><video><audio>Q?"
    assert record["audios"] == ["v/clip.mp4"]


@pytest.mark.parametrize(
    ("row", "sound_in_clip", "expected"),
    [
        (omni("<video><audio>Q?", audio="clip.wav"), True, "audio_counted_twice"),
        (omni("<video><audio>Q?", audio="clip.wav"), False, None),
        (omni("<video><audio>Q?", audio="2.wav"), True, None),
        (omni("<video><audio>Q?", clip="silent.mp4"), True, None),
        (omni("<video><audio><audio>Q?"), True, "tags_mismatch"),
        (omni("<video>Q?"), True, None),
    ],
)
def test_sound_is_never_counted_twice(
    tmp_path: Path, row: dict[str, Any], sound_in_clip: bool, expected: str | None
) -> None:
    outcome = emotion(tmp_path, row, sound_in_clip)

    assert (outcome if isinstance(outcome, str) else None) == expected


def test_a_sound_that_shares_the_name_of_a_clip_is_a_medium_of_its_own(tmp_path: Path) -> None:
    members = [member("v/7.mp4", CLIP), member("a/7.wav")]
    row = judge_row("v/7.mp4", "videos") | {"audios": ["a/7.wav"]}

    done = rewrite(tmp_path, {"rl.jsonl": [row]}, members, use_audio_in_video=True)

    assert done.reasons() == []
    assert done.rows("rl")[0]["audios"] == ["a/7.wav"]


def test_a_medium_that_cannot_be_decoded_is_rejected_with_the_reason(tmp_path: Path) -> None:
    members = [member("p/cut.jpg", {"error": "OSError: image file is truncated"}), "p/ok.jpg"]
    rows = [judge_row("p/cut.jpg"), judge_row("p/ok.jpg")]

    done = rewrite(tmp_path, {"rl.jsonl": rows}, members)

    (row,) = done.rows("rejected")
    assert row["reason"] == "undecodable_media"
    assert "p/cut.jpg cannot be decoded: OSError: image file is truncated" in row["detail"]


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, 0), (0.4, 0), (2.0, 1), (None, 1)])
def test_no_seconds_is_a_length_and_not_an_unknown_one(
    tmp_path: Path, seconds: float | None, expected: int
) -> None:
    sound = {"type": "audio", "format": "wav", "duration": seconds, "sample_rate": 16000}
    row = judge_row("a/x.wav", "audios")
    members = [member("a/x.wav", sound), "a/y.wav"]

    done = rewrite(
        tmp_path, {"rl.jsonl": [row, judge_row("a/y.wav", "audios")]}, members,
        filters={"min_seconds": 1.0},
    )  # fmt: skip

    assert len(done.rows("rl")) == 1 + expected


def test_copy_of_the_clip_as_a_sound_counts_it_twice(tmp_path: Path) -> None:
    members = [member("v/clip.mp4", CLIP, "same"), member("a/other.mp4", CLIP, "same")]
    files = {
        "rl.jsonl": [omni("<video><audio>Q?", audio="other.mp4"), judge_row("v/clip.mp4", "videos")]
    }

    done = rewrite(tmp_path, files, members, use_audio_in_video=True)

    assert done.reasons() == ["audio_counted_twice"]


def test_audio_tag_in_excess_counts_the_clip_twice(tmp_path: Path) -> None:
    outcome = prompt(
        tmp_path, "<video><audio>Q?", {"videos": ["clip.mp4"]}, use_audio_in_video=True
    )

    assert outcome == "audio_counted_twice"


@pytest.mark.parametrize(
    ("raw", "counted"),
    [
        ("images/1.png", 0),
        ("/other/disk/images/1.png", 0),
        ("D:\\x\\images\\1.png", 0),
        ("1.png", 0),
        ("val/images/1.png", 0),
        ("train/images/1.png", 1),
        ("train/1.png", 1),
        ("/other/disk/train/1.png", 1),
    ],
)
def test_a_file_that_is_found_by_its_name_alone_is_counted(
    tmp_path: Path, raw: str, counted: int
) -> None:
    row = {"problem": "q", "solution": "a", "image": raw}

    done = rewrite(tmp_path, {"rl.jsonl": [row]}, ["val/images/1.png"])

    assert done.rows("rl")[0]["images"] == ["val/images/1.png"]
    assert sum(done.counts["dropped_columns"].values()) == counted


@pytest.mark.parametrize("aspect", [None, "4:1"])
def test_clips_of_pixels_that_are_not_square_are_counted(
    tmp_path: Path, aspect: str | None
) -> None:
    media = CLIP | ({"pixel_aspect": aspect} if aspect else {})

    done = rewrite(
        tmp_path, {"rl.jsonl": [judge_row("v/1.mp4", "videos")]}, [member("v/1.mp4", media)]
    )

    assert len(done.rows("rl")) == 1
    assert sum(done.counts["dropped_columns"].values()) == bool(aspect)
