"""GRPO starts only if a few records pass every check; each known fault is caught by its own.

The model is the tiny Qwen2.5-Omni, loaded once; faults are put into the data, the settings or the
parts of ms-swift, never into the checks.
"""

import json
import os
import shutil
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from components.download.tiny.media import SAMPLE_RATE, SUFFIX, draw
from components.download.tiny.model import TinyModelSettings, write_model
from components.download.tiny.text import (
    ASPECTS,
    MODALITIES,
    SYSTEM_PROMPT,
    user_prompt,
    verdict,
    verdict_text,
)
from components.grpo.preflight import PreflightSpec, run
from components.grpo.preflight.__main__ import main
from components.grpo.preflight.loaded_model import load_model
from components.grpo.preflight.records import sample_records
from omnistage.rewards import REWARDS

WEIGHTS = {"mm_format": 0.4, "mm_content": 0.4, "mm_rubric": 0.2, "r1omni_accuracy": 0.0}
ENV = {
    "ENABLE_AUDIO_OUTPUT": "0",
    "HF_HUB_OFFLINE": "1",
    "SWIFT_AUDIO_LOAD_BACKEND": "soundfile_pyav",
    "VIDEO_MIN_PIXELS": "3136",
    "VIDEO_MAX_PIXELS": "3136",
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """Undo what a run sets in the environment."""
    kept = dict(os.environ)
    yield
    monkeypatch.undo()
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Two images, two sounds and two clips with sound."""
    folder = tmp_path_factory.mktemp("media")
    for kind in MODALITIES:
        for number in range(2):
            traits = {aspect.name: number for aspect in ASPECTS[kind]}
            (folder / f"{kind}{number}{SUFFIX[kind]}").write_bytes(
                draw(kind, traits, (0, 0, 0, number))
            )
    return folder


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The model, loaded as the trainer does."""
    import torch

    folder = tmp_path_factory.mktemp("model")
    write_model(folder, TinyModelSettings())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the fastest for a model of this size
    kept = dict(os.environ)
    os.environ.update(ENV)
    spec = PreflightSpec(
        model=str(folder),
        model_type="qwen2_5_omni",
        records="",
        rewards={},
        torch_dtype="float32",
        attn_impl="sdpa",
    )
    yield load_model(spec)
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(kept)


def record(kind, number, path):
    aspect = ASPECTS[kind][0]
    answers = (aspect.answers[number], aspect.answers[1 - number])
    prompt = user_prompt(kind, path.name, aspect.question, answers)
    return {
        "id": f"{kind}-{number}",
        "task": "judge",
        "messages": [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": f"<{kind}>{prompt}"},
        ],
        f"{kind}s": [str(path)],
        "solution": verdict_text(verdict(aspect.answers[number], "A", (9, 2), thorough=True)),
    }


@pytest.fixture
def records(media):
    return [
        record(kind, number, media / f"{kind}{number}{SUFFIX[kind]}")
        for kind in MODALITIES
        for number in range(2)
    ]


@pytest.fixture
def preflight(tmp_path, loaded):
    """Run preflight on records, with changes to the spec; return the result."""

    def check(rows, *, flag=True, env=None, **changes):
        path = tmp_path / "rl.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        environment = ENV | {"USE_AUDIO_IN_VIDEO": str(flag)} | (env or {})
        settings = {
            "model": "loaded already",
            "model_type": "qwen2_5_omni",
            "records": str(path),
            "use_audio_in_video": flag,
            "rewards": WEIGHTS,
            "env": environment,
            "torch_dtype": "float32",
        }
        return run(PreflightSpec.model_validate(settings | changes), load=lambda _: loaded)

    return check


def failure(result):
    """Return the name and the text of the one failed check."""
    failed = [check for check in result.checks if not check.ok]
    assert len(failed) == 1, result.message
    assert failed[0].name in result.message
    return failed[0].name, failed[0].detail


def clip(path, sound, media):
    """Write a copy of a clip without its sound track, or return its sound as a WAV file."""
    with av.open(str(media / "video0.mp4")) as source:
        if sound:
            chunks = [
                f.to_ndarray()
                for frame in source.decode(audio=0)
                for f in av.AudioResampler("s16", "mono", SAMPLE_RATE).resample(frame)
            ]
            with wave.open(str(path), "wb") as target:
                target.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
                target.writeframes(np.concatenate(chunks, axis=1).tobytes())
            return path
        with av.open(str(path), "w") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
    return path


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


# Faults of the trainer, as they were seen


def test_images_that_do_not_reach_the_model_are_caught(preflight, records, loaded, monkeypatch):
    import torch

    visual = loaded.model.thinker.visual
    forward = visual.forward

    def blind(pixels, *args, **kwargs):
        return forward(torch.zeros_like(pixels), *args, **kwargs)

    monkeypatch.setattr(visual, "forward", blind)

    name, detail = failure(preflight(records))

    assert name == "media matter"
    assert "image does not reach the model" in detail


def test_a_rollout_of_the_first_prompt_alone_is_caught(preflight, records, monkeypatch):
    from swift.infer_engine import TransformersEngine

    encode = TransformersEngine._batch_encode

    def first_only(self, requests, strict):
        return encode(self, [requests[0]] * len(requests), strict)

    monkeypatch.setattr(TransformersEngine, "_batch_encode", first_only)

    name, detail = failure(preflight(records))

    assert name == "rollout parity"
    assert "the rollout's prompt has" in detail


def test_a_flag_that_is_hard_coded_in_the_rollout_is_caught(preflight, records, monkeypatch):
    from swift.infer_engine import TransformersEngine

    infer = TransformersEngine._infer

    def deaf(self, *args, **kwargs):
        self.template.use_audio_in_video = False
        return infer(self, *args, **kwargs)

    monkeypatch.setattr(TransformersEngine, "_infer", deaf)

    name, detail = failure(preflight(records))

    assert name == "rollout parity"
    assert "(video)" in detail


def test_a_rollout_that_sees_its_padding_is_caught(preflight, records, monkeypatch):
    import torch
    from swift.template import Template

    collate = Template.data_collator

    def unmasked(self, batch, **kwargs):
        inputs = collate(self, batch, **kwargs)
        inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])
        return inputs

    monkeypatch.setattr(Template, "data_collator", unmasked)

    name, detail = failure(preflight(records))

    assert name == "rollout parity"
    assert "greedy completions part at token" in detail


def test_a_loss_on_other_positions_than_the_rollout_is_caught(preflight, records, monkeypatch):
    import torch
    from swift.template.templates.qwen import Qwen2_5OmniTemplate

    def all_at_once(self, inputs):
        if not self.is_training:
            return {}
        return {"position_ids": torch.zeros(4, *inputs["input_ids"].shape, dtype=torch.int64)}

    monkeypatch.setattr(Qwen2_5OmniTemplate, "_get_position_ids", all_at_once)

    name, _ = failure(preflight(records))

    assert name == "loss parity"


# The program


def test_the_program_writes_its_result_and_ends_with_2_when_a_check_fails(
    records, tmp_path, capsys
):
    records[0]["images"] = []
    rows, spec, result = (tmp_path / name for name in ("rl.jsonl", "spec.json", "result.json"))
    rows.write_text("".join(json.dumps(row) + "\n" for row in records))
    spec.write_text(
        PreflightSpec(
            model="not loaded", model_type="qwen2_5_omni", records=str(rows), rewards=WEIGHTS
        ).model_dump_json()
    )

    code = main(["--spec", str(spec), "--result", str(result)])

    assert code == 2
    assert json.loads(result.read_text())["checks"][0]["ok"] is False
    assert "record 'image-0' has 0 images and 1 <image> tags" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), ("{", "not a preflight spec"), ('{"model": "m"}', "records")],
)
def test_the_program_ends_with_2_when_its_spec_is_wrong(tmp_path, capsys, content, message):
    spec = tmp_path / "spec.json"
    if content is not None:
        spec.write_text(content)

    assert main(["--spec", str(spec)]) == 2
    assert message in capsys.readouterr().err


def test_the_program_names_the_line_of_a_broken_record(tmp_path, capsys):
    rows, spec = tmp_path / "rl.jsonl", tmp_path / "spec.json"
    rows.write_text('{"id": 1}\n{broken\n')
    spec.write_text(
        PreflightSpec(
            model="m", model_type="qwen2_5_omni", records=str(rows), rewards=WEIGHTS
        ).model_dump_json()
    )

    assert main(["--spec", str(spec)]) == 2
    assert f"{Path(rows).name}:2" in capsys.readouterr().err
