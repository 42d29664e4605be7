"""Whole small data sets that once lost something: ``media/`` has one a folder."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.grpo.stage import STAGE as GRPO
from omnistage.errors import InputError
from omnistage.files import read_jsonl
from omnistage.stage.execute import execute
from omnistage.swift.encode_rows import Encoder
from tests.cases.case_kit import MEDIA, SETTINGS, Case, prepare, tiny_model
from tests.swift.template_kit import encoder as make_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    kept = dict(os.environ)
    yield make_encoder(tmp_path_factory.mktemp("encoder"))
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path, encoder: Encoder) -> Case:
    """The data set that the test's name begins with."""
    _, name, *_ = request.node.name.split("_")
    return prepare(f"media-{name}", tmp_path, encoder)


def test_every_folder_has_a_test() -> None:
    tests = Path(__file__).read_text()
    names = [path.name.removeprefix("media-") for path in MEDIA.iterdir() if path.is_dir()]
    assert [name for name in names if f"def test_{name}_" not in tests] == []


def test_02b_mute_clips_among_others_are_trained_as_mute_clips(case: Case) -> None:
    assert case.refused() == {}
    assert len(case.records("test")) == 2
    for split in ("sft", "rl"):
        rows = case.trained(split)
        assert rows.counts == {"read": 16, "records": 16, "rejected": {}}
        assert rows.tokens["by_modality"]["audio"] == 12 * 50  # of the clips that have sound


def test_02c_a_set_of_mute_clips_is_trained(case: Case) -> None:
    rows = case.trained("sft")
    assert rows.counts == {"read": 4, "records": 4, "rejected": {}}
    assert rows.tokens["by_modality"].keys() == {"text", "video"}


def test_03_a_strip_of_an_image_is_refused_with_its_size(case: Case) -> None:
    [(row, (reason, detail))] = case.refused().items()
    assert (row, reason) == ("my_sft.jsonl:1", "undecodable_media")
    assert "p/thin.png" in detail
    assert "2400 x 8 pixels: one side is over 200 times the other" in detail
    assert case.trained("sft").counts["records"] == 3


def test_05b_a_cut_image_is_found_before_anything_is_trained(case: Case) -> None:
    [(row, (reason, detail))] = case.refused().items()
    assert (row, reason) == ("my_test.jsonl:3", "undecodable_media")
    assert detail.startswith("p/cut.jpg cannot be decoded: OSError: image file is truncated")
    assert len(case.records("test")) == 2


def test_06c_no_sound_at_all_is_0_seconds_and_not_unknown(case: Case) -> None:
    [(row, (reason, detail))] = case.refused().items()
    assert (row, reason) == ("my_sft.jsonl:1", "undecodable_media")
    assert "a/empty.wav" in detail
    assert "0 s of sound" in detail
    assert case.trained("sft").counts["records"] == 3


def test_09_text_is_text_and_an_ambiguous_tag_is_refused_with_the_way_to_write_it(
    case: Case, encoder: Encoder
) -> None:
    refused = case.refused()
    assert [reason for reason, _ in refused.values()] == ["tags_mismatch"] * 2
    assert refused["my_sft.jsonl:2"][1].endswith("where the tag itself is meant, write <\\image>")
    assert refused["my_sft.jsonl:4"][1].endswith("where the tag itself is meant, write <\\video>")
    assert case.trained("sft").counts == {"read": 5, "records": 5, "rejected": {}}
    ends = encoder.template.tokenizer.convert_tokens_to_ids("<|im_end|>")
    root = case.root
    for record in case.records("sft"):
        images = [str(root / path) for path in record["images"]]
        ids = encoder.template.encode({"messages": record["messages"], "images": images})
        assert ids["input_ids"].count(ends) == 3  # system, user, assistant
        text = encoder.template.tokenizer.decode(ids["input_ids"])
        assert record["messages"][-1]["content"] in text


def test_10_a_row_that_is_too_long_is_named_with_its_tokens(case: Case) -> None:
    for split in ("sft", "rl"):
        rows = case.trained(split)
        assert rows.counts == {"read": 6, "records": 5, "rejected": {"too long": 1}}
        [row] = read_jsonl(case.tmp / split / "out" / "rejected.jsonl")
        assert row["id"] == f"my_{split}.jsonl:1"
        assert re.fullmatch(
            r"150\d\d tokens \(4 image, 150\d\d text\), max_length is 1024", row["detail"]
        )


def test_16_images_are_seen_as_a_viewer_shows_them(case: Case) -> None:
    refused = case.refused()
    assert [reason for reason, _ in refused.values()] == ["undecodable_media"] * 2
    assert "x.heic cannot be decoded" in refused["my_sft.jsonl:13"][1]  # 124 bytes of a header
    assert "no decoder reads .svg files" in refused["my_sft.jsonl:14"][1]
    shown = {p.stem: np.asarray(Image.open(p).convert("RGB")) for p in _good(case.root / "p")}
    assert shown["exif"].shape == (80, 40, 3)
    for name in ("g16", "f"):  # a ramp from black to white, once all white and all black
        assert shown[name].min() < 5
        assert shown[name].max() > 250
    for name in ("cmyk", "pal", "anim", "web", "x"):  # red and blue halves
        assert shown[name][0, 0, 0] > 200 > 50 > shown[name][0, 0, 2]
        assert shown[name][0, -1, 2] > 200 > 50 > shown[name][0, -1, 0]
    assert case.trained("sft").counts == {"read": 12, "records": 12, "rejected": {}}


def _good(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name not in ("x.heic", "x.svg", "web.webp")]


def test_21_each_odd_row_is_read_as_what_it_is_or_refused_by_name(case: Case) -> None:
    refused = {int(row.partition(":")[2]): reason for row, reason in case.refused().items()}
    assert {line: reason for line, (reason, _) in refused.items()} == {
        2: "no_answer",
        3: "no_answer",
        5: "tools",
        7: "bad_field",
        9: "missing_file",
        10: "missing_file",
        12: "preference",
        13: "missing_file",
    }
    assert "p/0.png differs from it in upper and lower case alone" in refused[13][1]
    assert case.trained("sft").counts == {"read": 6, "records": 6, "rejected": {}}
    two, *_, loss, in_text = case.records("sft")
    assert two["messages"][0]["content"].startswith("<image>\n<image>\n")
    assert [turn.get("loss") for turn in loss["messages"]] == [None, False, None, None]
    assert in_text["images"] == ["p/0.png"]


def test_22_fewer_prompts_than_a_step_takes_are_refused_before_anything_is_encoded(
    case: Case,
) -> None:
    inputs = {**case.inputs, "start": tiny_model(case.store)}
    with pytest.raises(InputError, match="1 record to train on, but an optimizer step takes 2"):
        execute(GRPO, SETTINGS["rl"], inputs, case.store)
    assert not list(case.tmp.rglob("encode.log"))
