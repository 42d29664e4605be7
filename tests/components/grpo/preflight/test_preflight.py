"""GRPO starts only if a few records pass every check; each known fault is caught by its own."""

import shutil

import pytest

from components.grpo.preflight.records import sample_records
from omnistage.rewards import REWARDS
from tests.components.grpo.preflight.preflight_kit import clip, failure

# A good run


def test_a_good_run_passes_every_check_and_says_what_was_seen(preflight, records):
    result = preflight(records)

    assert result.ok, result.message
    seen = {check.name: check.detail for check in result.checks}
    assert list(seen) == [
        "media tags",
        "reward mm_format",
        "reward mm_content",
        "reward mm_rubric",
        "media tokens barred",
        "use_audio_in_video",
        "distinct prompts",
        "media counts",
        "sound counted once",
        "media bounds",
        "media matter",
        "rollout parity",
        "loss parity",
    ]
    assert "same tokens as plain inference" in seen["rollout parity"]
    assert not any(check.warning for check in result.checks)


def test_a_good_run_without_the_sound_of_videos_passes_too(preflight, records):
    result = preflight(records, flag=False)

    assert result.ok, result.message


# Records


def test_a_missing_tag_is_named_with_its_record(preflight, records):
    message = records[2]["messages"][1]
    message["content"] = message["content"].replace("<audio>", "")

    name, detail = failure(preflight(records))

    assert name == "media tags"
    assert "record 'audio-0' has 1 audios and 0 <audio> tags" in detail


def test_a_missing_file_is_named(preflight, records, tmp_path):
    records[0]["images"] = [str(tmp_path / "gone.png")]

    name, detail = failure(preflight(records))

    assert name == "encoding"
    assert "gone.png" in detail


def test_a_silent_video_among_others_is_rolled_out_and_trained_as_such(
    preflight, records, media, tmp_path
):
    silent = str(clip(tmp_path / "silent.mp4", sound=False, media=media))
    records[4]["videos"] = [silent]

    result = preflight([records[4], records[5]])

    assert result.ok, result.message


def test_the_sound_of_a_video_as_a_separate_item_would_be_counted_twice(
    preflight, records, media, tmp_path
):
    sound = clip(tmp_path / "sound.wav", sound=True, media=media)
    records[4]["audios"] = [str(sound)]
    records[4]["messages"][1]["content"] = "<audio>" + records[4]["messages"][1]["content"]

    name, detail = failure(preflight(records))

    assert name == "sound counted once"
    assert "sound.wav is the sound track of video0.mp4" in detail
    assert preflight(records, flag=False).ok


def test_media_that_decode_to_the_same_are_not_the_ones_named(preflight, records, media, tmp_path):
    copy = shutil.copy(media / "image0.png", tmp_path / "image1.png")
    records[1]["images"] = [str(copy)]

    name, detail = failure(preflight(records))

    assert name == "media matter"
    assert "images that decode to the same features" in detail


def test_one_prompt_for_all_records_is_refused(preflight, records):
    same = [dict(records[0], id=f"image-{n}") for n in range(3)]

    name, detail = failure(preflight(same))

    assert name == "distinct prompts"
    assert "all 3 sampled records have the same prompt" in detail


def test_one_question_about_other_media_for_all_records_passes(preflight, records):
    """As in R1-Omni's data, where every row asks for the emotion."""
    pictures = records[:2]
    for record in pictures:
        record["messages"][1]["content"] = "<image>What is this?"

    assert preflight(pictures).ok


def test_a_file_that_is_no_image_is_reported_in_the_trainers_words(preflight, records, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    records[0]["images"] = [str(broken)]

    name, detail = failure(preflight(records))

    assert name == "encoding"
    assert "broken.png" in detail


def test_a_sample_holds_every_mixture_of_media(records):
    many = [dict(records[0], id=f"more-{n}") for n in range(50)] + records

    drawn = sample_records(many, 6, seed=1)

    assert {key for row in drawn for key in ("images", "audios", "videos") if key in row} == {
        "images",
        "audios",
        "videos",
    }
    assert len({row["id"] for row in drawn}) == 6
    assert drawn == sample_records(many, 6, seed=1)


# Settings


@pytest.mark.parametrize("flag", [True, False])
def test_a_flag_that_differs_in_the_environment_is_caught(preflight, records, flag):
    result = preflight(records, flag=flag, env={"USE_AUDIO_IN_VIDEO": str(not flag)})

    name, detail = failure(result)

    assert name == "use_audio_in_video"
    assert f"settings say {flag}" in detail
    assert f"USE_AUDIO_IN_VIDEO={not flag}" in detail


def test_a_model_that_may_write_media_tokens_is_warned_about(
    preflight, records, loaded, monkeypatch
):
    monkeypatch.setattr(loaded.model.generation_config, "suppress_tokens", None)

    result = preflight(records)

    warned = [check for check in result.checks if check.warning]
    assert [check.name for check in warned] == ["media tokens barred"]
    assert "<|IMAGE|>, <|AUDIO|>, <|VIDEO|>" in warned[0].detail


def test_frames_larger_than_the_environment_asks_for_are_warned_about(preflight, records):
    result = preflight(records, env={"VIDEO_MAX_PIXELS": "784"})

    warned = [check for check in result.checks if check.warning]
    assert [check.name for check in warned] == ["media bounds"]
    assert "videos have up to 3136 pixels although VIDEO_MAX_PIXELS is 784" in warned[0].detail


# Rewards


def test_a_record_without_gold_is_refused(preflight, records):
    del records[3]["solution"]

    result = preflight(records)

    assert not result.ok
    assert "record 'audio-1' has no gold" in result.message


def test_a_reward_that_fits_none_of_the_tasks_is_refused(preflight, records):
    name, detail = failure(preflight(records, rewards={"mm_format": 0.5, "rec_iou": 0.5}))

    assert name == "reward rec_iou"
    assert "weight 0" in detail


def test_a_reward_that_cannot_tell_gold_from_wrong_is_refused(preflight, records, monkeypatch):
    monkeypatch.setitem(REWARDS, "mm_content", lambda completions, **_: [0.1] * len(completions))

    name, detail = failure(preflight(records))

    assert name == "reward mm_content"
    assert "pays no more for the gold answer" in detail


def test_a_reward_that_asks_a_server_needs_its_address(preflight, records):
    name, detail = failure(preflight(records, rewards={"humanomni_context": 1.0}))

    assert name == "reward humanomni_context"
    assert "OMNISTAGE_JUDGE_URL" in detail
