"""The generated clips of R1-Omni's and HumanOmniV2's twins, in those systems' own form."""

import json
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from components.download.tiny.sets import emotion, intent
from components.rewrite_paths.formats.read_row import read_row
from omnistage.files import read_jsonl


def emotions(folder: Path, **settings: Any) -> Path:
    emotion.write(folder, emotion.TinyEmotionSettings.model_validate(settings))
    return folder


def intents(folder: Path, **settings: Any) -> Path:
    intent.write(folder, intent.TinyIntentSettings.model_validate(settings))
    return folder


def listed(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())


def test_rows_of_emotion_are_r1_omnis_and_their_clips_are_in_its_archive(tmp_path: Path) -> None:
    folder = emotions(tmp_path, name="mafw", train=8, test=4)
    rows = listed(folder / "mafw_train.json") + listed(folder / "mafw_test.json")
    with zipfile.ZipFile(folder / "MAFW.zip") as archive:
        assert archive.namelist() == [row["video"] for row in rows]
    assert Counter(row["conversations"][1]["value"] for row in rows) == dict.fromkeys(
        emotion.EMOTIONS, 3
    )
    draft = read_row(rows[0], "auto")
    assert (draft.task, draft.clip_sound, draft.videos) == (
        "emotion",
        True,
        ["MAFW/videos/00000.mp4"],
    )


def test_the_annotator_of_the_cold_start_hedges_about_the_quiet_emotions_alone(
    tmp_path: Path,
) -> None:
    folder = emotions(tmp_path, name="emer", train=240)
    answers = [row["conversations"][1]["value"] for row in listed(folder / "emer_train.json")]
    labels = Counter(re.findall(r"<answer>(.*)</answer>", text)[0] for text in answers)
    assert (labels["angry"], labels["happy"]) == (60, 60)
    assert labels["neutral"] == pytest.approx(80, abs=12)
    told = [text for text in answers if "blue" in text]
    assert {"high" in text for text in told if "fear<" in text} == {True}
    assert {"high" in text for text in told if "sad<" in text} == {False}


def test_ravdess_is_named_by_its_seven_fields_and_calls_fear_fearful(tmp_path: Path) -> None:
    folder = emotions(tmp_path, name="ravdess", test=8)
    rows = list(read_jsonl(folder / "records.jsonl"))
    by_field = {Path(row["videos"][0]).stem.split("-")[2]: row["solution"] for row in rows}
    assert by_field == {"05": "angry", "03": "happy", "04": "sad", "06": "fearful"}
    assert all((folder / row["videos"][0]).is_file() for row in rows)


def test_rows_of_intent_are_humanomni_v2s_and_only_the_second_half_is_flawed(
    tmp_path: Path,
) -> None:
    folder = intents(tmp_path, name="intent-train", rows=240)
    lists = [listed(folder / f"{name}_rewrite.json") for name in ("emer", "social_iq_v2")]
    with zipfile.ZipFile(folder / "videos.zip") as archive:
        clips = set(archive.namelist())
    assert clips == {f"videos/{row['path']}" for rows in lists for row in rows}
    first = [row["solution"] for rows in lists for row in rows[: len(rows) // 2]]
    second = [row["solution"] for rows in lists for row in rows[len(rows) // 2 :]]
    assert [is_right(text) for text in first] == [True] * len(first)
    assert 0.1 < sum(map(is_right, second)) / len(second) < 0.9
    draft = read_row(lists[0][0], "auto")
    assert (draft.task, len(draft.videos)) == ("choice", 1)


def is_right(solution: str) -> bool:
    """Whether a context says both facts and the answer is the one that they give."""
    ball = re.search(r"The ball is (red|green|blue)\.", solution)
    tone = re.search(r"The tone is (low|in the middle|high)\.", solution)
    answer = re.findall(r"<answer>(.*)</answer>", solution)[0]
    if not (ball and tone):
        return False
    if answer in ("Yes", "No"):
        return (answer == "Yes") == (tone[1] == "high")
    return answer == {"red": "A", "green": "B", "blue": "C"}[ball[1]]


def test_benchmarks_are_canonical_records(tmp_path: Path) -> None:
    folder = intents(tmp_path, name="daily-omni", rows=6)
    drafts = [read_row(row, "auto") for row in read_jsonl(folder / "records.jsonl")]
    assert [draft.solution for draft in drafts] == ["A", "A", "B", "B", "C", "C"]


@pytest.mark.parametrize("kind", [emotion, intent])
def test_the_same_settings_give_the_same_bytes(kind: Any, tmp_path: Path) -> None:
    name = "dfew" if kind is emotion else "intent-bench"
    write = emotions if kind is emotion else intents
    sizes = {"train": 4, "test": 4} if kind is emotion else {"rows": 4}
    one, other = (write(tmp_path / n, name=name, **sizes) for n in ("1", "2"))
    files = [p.relative_to(one) for p in one.rglob("*") if p.is_file()]
    assert len(files) > 1
    assert all((one / p).read_bytes() == (other / p).read_bytes() for p in files)


@pytest.mark.parametrize("kind", [emotion, intent])
def test_every_line_of_prompts_and_answers_is_in_the_vocabulary(kind: Any) -> None:
    lines = kind.vocabulary()
    assert len(set(lines)) == len(lines)
