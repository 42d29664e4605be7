"""Every row is encoded once by the trainer's own template, and what cannot be has a cause."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omnistage.files import read_jsonl, write_jsonl
from omnistage.swift.encode_rows import Encoder, EncodeSpec, RowsFile, Workers, whole_lines
from tests.swift.template_kit import encoder as make_encoder
from tests.swift.template_kit import row

IMAGE = row("<image>What?", images=["ok.png"])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    kept = dict(os.environ)
    yield make_encoder(tmp_path_factory.mktemp("encoder"))
    os.environ.clear()
    os.environ.update(kept)


def test_tokens_are_counted_by_modality(encoder: Encoder) -> None:
    assert encoder.encode(IMAGE, False)["tokens"]["image"] == 4
    assert encoder.encode(row("<audio>What?", audios=["ok.wav"]), False)["tokens"]["audio"] == 25
    clip = encoder.encode(row("<video>What?", videos=["loud.mp4"]), False)["tokens"]
    assert clip["video"] > 0
    assert clip["audio"] > 0
    assert encoder.encode(row("What?"), False)["tokens"].keys() == {"text"}


def test_a_prompt_is_encoded_without_its_answer(encoder: Encoder) -> None:
    whole, prompt = (encoder.encode(IMAGE, flag)["tokens"]["text"] for flag in (False, True))
    assert whole > prompt


def test_a_mute_clip_is_trained_as_a_mute_clip(encoder: Encoder) -> None:
    """Cases media-02b and media-02c: with use_audio_in_video, a clip without a sound track."""
    tokens = encoder.encode(row("<video>What?", videos=["mute.mp4"]), False)["tokens"]
    assert tokens["video"]
    assert "audio" not in tokens


def test_mute_and_sounding_clips_in_one_record_are_refused(encoder: Encoder) -> None:
    both = row("<video><video>Which?", videos=["mute.mp4", "loud.mp4"])
    assert "1 of its 2 clips have no sound track" in encoder.encode(both, False)["error"]


@pytest.mark.parametrize(
    ("text", "media", "cause"),
    [
        (
            "<image>x",
            {"images": ["thin.png"]},
            r"thin.png \(2400 x 8 pixels\): .*ratio",
        ),  # media-03
        (
            "<image>x",
            {"images": ["cut.jpg"]},
            r"cut.jpg \(64 x 64 .*\): OSError: .* truncated",
        ),  # 05b
        ("<image><image>x", {"images": ["ok.png", "cut.jpg"]}, "^cut.jpg "),
        ("<audio>x", {"audios": ["empty.wav"]}, "empty.wav: |too short"),  # case media-06c
        ("<audio>x", {"audios": ["brief.wav"]}, "1 of its sounds is too short"),
        ("<audio>x", {"audios": ["long.wav"]}, r"^long.wav: .*holds 2 s of a sound, .* 3\.0 s"),
        ("\ufdd0", {}, "noncharacter"),
    ],
)
def test_what_cannot_be_encoded_names_file_and_cause(
    encoder: Encoder, text: str, media: Any, cause: str
) -> None:
    error = encoder.encode(row(text, **media), False)["error"]
    assert re.search(cause, error), error
    assert "\n" not in error


def test_a_missing_file_is_missing_and_not_bad(encoder: Encoder) -> None:
    result = encoder.encode(row("<image>x", images=["gone.png"]), False)
    assert result["missing"].endswith("gone.png")


class Dying:
    """Stands for an encoder whose decoder crashes or hangs on some rows."""

    def encode(self, row: dict[str, Any], prompt: bool) -> dict[str, Any]:
        if row["n"] == 5:
            os._exit(139)
        return {"tokens": {"text": row["n"]}}


def test_a_row_that_crashes_its_decoder_costs_that_row_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("omnistage.swift.encode_rows._ENCODER", Dying())
    workers = Workers(2)
    results = list(workers.results(iter([{"n": n} for n in range(40)]), False))
    workers.close()
    assert [r.get("tokens") for r in results] == [
        None if n == 5 else {"text": n} for n in range(40)
    ]
    assert results[5] == {"error": "decoding its media crashes the process"}


def test_a_killed_run_goes_on_after_its_last_whole_line(encoder: Encoder, tmp_path: Path) -> None:
    records, out = tmp_path / "rl.jsonl", tmp_path / "out.jsonl"
    write_jsonl(records, [IMAGE] * 3)
    out.write_text(json.dumps({"tokens": {"text": 1}}) + '\n{"tok')
    assert whole_lines(out) == 1
    spec = EncodeSpec(
        model=str(encoder.root.parent / "model"),
        model_type="qwen2_5_omni",
        dtype="float32",
        root=str(encoder.root),
        files=[RowsFile(records=str(records), out=str(out), prompts=False)],
        processes=1,
    )
    path = tmp_path / "spec.json"
    path.write_text(spec.model_dump_json())
    program = [sys.executable, "-m", "omnistage.swift.encode_rows", str(path)]
    subprocess.run(program, check=True, capture_output=True)
    first, *others = read_jsonl(out)
    assert first == {"tokens": {"text": 1}}  # kept, not made again
    assert others == [encoder.encode(IMAGE, False)] * 2
