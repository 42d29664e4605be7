"""The generated judging set: shape, packing, balance, designed flaws and determinism."""

import errno
import hashlib
import io
import json
import re
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from components.download.tiny import data
from components.download.tiny.data import ARCHIVES, JSONL, SPLITS, TinyDataSettings, write_dataset
from components.download.tiny.media import draw
from components.download.tiny.text import ASPECTS, MODALITIES, Modality, verdict_text
from omnistage.errors import InputError
from omnistage.files import read_jsonl

SETTINGS = TinyDataSettings(sft=216, rl=108, test=54, seed=3)
KEYS = ["reasoning", "score_A", "score_B", "better", "final_verdict"]
MARKERS: dict[Modality, str] = {
    "image": "rlaif-v-dataset",
    "audio": "Clotho-AQA dataset",
    "video": "academic_source",
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_dataset(folder, SETTINGS)
    return folder


def rows(folder: Path, modality: Modality, split: Any) -> list[dict[str, Any]]:
    return list(read_jsonl(folder / modality / JSONL[split]))


def members(folder: Path, modality: Modality) -> dict[str, bytes]:
    path = folder / ARCHIVES[modality]
    if modality == "image":
        with tarfile.open(path) as archive:
            return {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def prompt(row: dict[str, Any]) -> str:
    return row["input"] if "input" in row else row["messages"][1]["content"]


def gold(row: dict[str, Any]) -> dict[str, Any]:
    value: Any = row["output"] if "input" in row else row["solution"]
    return json.loads(value) if isinstance(value, str) else value


def media_path(row: dict[str, Any], modality: Modality) -> str:
    return row[modality] if "input" in row else row[f"{modality}s"][0]


def question(row: dict[str, Any]) -> str:
    found = re.search(r"^Question: (.*)$", prompt(row), re.MULTILINE)
    assert found
    return found[1]


def test_is_packed_under_the_names_of_omnicritics_set(dataset: Path) -> None:
    names = {p.relative_to(dataset).as_posix() for p in dataset.rglob("*") if p.is_file()}
    assert names == {
        "rlaif-v-dataset.tar.gz",
        r"C:\Users\tmfk1\video\video.zip",
        "Clotho-AQA dataset.zip",
        *(
            f"{modality}/{name}"
            for modality in ("image", "video", "audio")
            for name in ("final_sft_data.jsonl", "final_rl_data.jsonl", "test_data.jsonl")
        ),
    }
    assert all(name.startswith("academic_source/") for name in members(dataset, "video"))


def test_counts_what_it_wrote(tmp_path: Path) -> None:
    counts = write_dataset(tmp_path, TinyDataSettings(sft=20, rl=7, test=6))
    written = {s: sum(len(rows(tmp_path, m, s)) for m in MODALITIES) for s in SPLITS}
    packed = {m: len(members(tmp_path, m)) for m in MODALITIES}
    hedged = sum(gold(r)["better"] == "equal" for m in MODALITIES for r in rows(tmp_path, m, "sft"))
    assert counts == {**written, **packed, "hedged": hedged}
    assert written == {"sft": 20, "rl": 7, "test": 6}


def test_same_settings_same_bytes_and_another_seed_other_bytes(tmp_path: Path) -> None:
    def digests(name: str, seed: int) -> dict[str, str]:
        folder = tmp_path / name
        write_dataset(folder, TinyDataSettings(sft=30, rl=6, test=6, seed=seed))
        return {
            p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in folder.rglob("*")
            if p.is_file()
        }

    first = digests("first", 0)
    assert digests("again", 0) == first
    other = digests("other", 1)
    assert all(other[name] != digest for name, digest in first.items())


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_record_has_a_medium_of_its_own(dataset: Path, modality: Modality) -> None:
    packed = members(dataset, modality)
    assert len({hashlib.sha256(content).digest() for content in packed.values()}) == len(packed)
    used = [
        media_path(row, modality).replace("\\", "/").rpartition("/")[2]
        for split in SPLITS
        for row in rows(dataset, modality, split)
    ]
    assert sorted(used) == sorted(name.rpartition("/")[2] for name in packed)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("split", SPLITS)
def test_the_fitting_response_is_a_as_often_as_b_for_every_question(
    dataset: Path, modality: Modality, split: str
) -> None:
    fits: Counter[tuple[str, str]] = Counter()
    for row in rows(dataset, modality, split):
        a, b = (re.search(rf"^Response {x}: (.*)$", prompt(row), re.M) for x in "AB")
        assert a
        assert b
        assert a[1] != b[1]
        seen = [x for x, answer in (("A", a[1]), ("B", b[1])) if answer in gold(row)["reasoning"]]
        assert len(seen) == 1
        fits[question(row), seen[0]] += 1
    for aspect in ASPECTS[modality]:
        assert fits[aspect.question, "A"] == fits[aspect.question, "B"] > 0


@pytest.mark.parametrize("modality", MODALITIES)
def test_verdicts_are_sound(dataset: Path, modality: Modality) -> None:
    for split in SPLITS:
        for row in rows(dataset, modality, split):
            value = gold(row)
            assert list(value) == KEYS
            difference = value["score_A"] - value["score_B"]
            sides = {True: "A", False: "B"}
            assert value["better"] == ("equal" if difference == 0 else sides[difference > 0])
            assert value["final_verdict"] == f"<answer>[[{value['better']}]]</answer>"
            assert re.fullmatch(r"<think>.+</think>", value["reasoning"])


def test_the_annotator_hedges_on_pitch_in_the_sft_split_alone(dataset: Path) -> None:
    pitch, ties = 0, 0
    for modality in MODALITIES:
        for row in rows(dataset, modality, "sft"):
            tie = gold(row)["better"] == "equal"
            if "high is the tone" in question(row):
                pitch, ties = pitch + 1, ties + tie
            else:
                assert not tie
        for split in ("rl", "test"):
            assert all(gold(row)["better"] in "AB" for row in rows(dataset, modality, split))
    assert pitch == 48
    assert ties == 32


def test_the_flaws_can_be_turned_off(tmp_path: Path) -> None:
    write_dataset(tmp_path, TinyDataSettings(sft=36, rl=6, test=6, hedged_share=0, brief_share=0))
    for modality in MODALITIES:
        for row in rows(tmp_path, modality, "sft"):
            assert gold(row)["better"] in "AB"
            assert "fluency, relevance, reasoning and safety" in gold(row)["reasoning"]


@pytest.mark.parametrize("modality", MODALITIES)
def test_has_both_record_shapes_and_gold_as_object_and_as_text(
    dataset: Path, modality: Modality
) -> None:
    for split in SPLITS:
        shapes: Counter[str] = Counter()
        for row in rows(dataset, modality, split):
            if "input" in row:
                assert set(row) == {"input", "output", modality}
                shapes[f"old {type(row['output']).__name__}"] += 1
                continue
            assert {"messages", f"{modality}s", "solution"} <= set(row)
            assert row["messages"][1]["content"].startswith(f"<{modality}>")
            shapes[f"new {type(row['solution']).__name__}"] += 1
            answered = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
            assert answered in ([], [verdict_text(gold(row))])
            assert split != "sft" or answered
        assert set(shapes) == {"old dict", "old str", "new dict", "new str"}


@pytest.mark.parametrize("modality", MODALITIES)
def test_paths_are_those_of_other_machines_in_field_and_text(
    dataset: Path, modality: Modality
) -> None:
    bases = set()
    for row in rows(dataset, modality, "sft"):
        path = media_path(row, modality)
        assert f"{modality.capitalize()} file: {path}  \n" in prompt(row)
        bases.add(path.partition(MARKERS[modality])[0])
    assert len(bases) == 3
    assert any("\\" in base for base in bases)
    assert any(base.startswith("/") for base in bases)


def test_an_image_shows_the_colour_the_paper_and_the_count_it_was_asked_for() -> None:
    content = draw("image", {"colour": 2, "paper": 2, "count": 0}, (1,))
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert pixels.shape == (56, 56, 3)
    blue = (pixels[..., 2] - pixels[..., 0]) > 100
    assert 150 < blue.sum() < 350  # one disc of radius 8 to 10
    assert pixels[~blue].mean() > 220


@pytest.mark.parametrize(("pitch", "hertz"), [(0, 220), (1, 660), (2, 1980)])
def test_a_clip_has_frames_and_a_sound_of_its_pitch(pitch: int, hertz: float) -> None:
    content = draw("video", {"direction": 1, "colour": 0, "pitch": pitch}, (2,))
    with av.open(io.BytesIO(content), "r") as clip:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in clip.decode(video=0)]
    with av.open(io.BytesIO(content), "r") as clip:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in clip.decode(audio=0)])
    assert [frame.shape for frame in frames] == [(56, 56, 3)] * 4
    red = [np.argwhere(frame[..., 0] - frame[..., 1] > 80)[:, 1].mean() for frame in frames]
    assert red == sorted(red)  # the ball rolls right
    loudest = np.argmax(np.abs(np.fft.rfft(sound))) * 16000 / len(sound)
    assert loudest == pytest.approx(hertz, rel=0.06)


def test_a_full_disk_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, rows: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(data, "write_jsonl", full)
    with pytest.raises(InputError, match="writing the generated data set.*the disk is full"):
        write_dataset(tmp_path, TinyDataSettings(sft=6, rl=6, test=6))
