"""The contribution of modalities: what is asked without them, and what the figures then say."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from PIL import Image

from components.eval.grading import grade
from components.eval.records import TestRecord, as_test_record, prompts_of, tasks_of
from components.eval.report.data import ModelResult, ReportData
from components.eval.report.page import Report, build_report
from components.eval.tasks import TASKS
from components.eval.variants.ablation import Ablation, Ablator, answers_to
from tests.components.eval.report_kit import read

ALL: tuple[Ablation, ...] = ("no_sound", "no_picture", "shuffled", "text_only")


def clip_with_sound(path: Path) -> Path:
    """Four frames and a second of a tone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = cast(Any, container.add_stream("libx264", rate=4))
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        audio = cast(Any, container.add_stream("aac", rate=16_000))
        for n in range(4):
            picture = Image.new("RGB", (64, 64), (60 * n, 0, 0))
            container.mux(video.encode(av.VideoFrame.from_image(picture)))
        tone = np.sin(np.arange(16_000) / 8).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(audio.encode(frame))
        for stream in (video, audio):
            container.mux(stream.encode())
    return path


def frames(clip: str) -> list[np.ndarray]:
    with av.open(clip) as container:
        return [np.asarray(f.to_image()) for f in container.decode(container.streams.video[0])]


def prompt(text: str, **media: list[str]) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Answer."}, {"role": "user", "content": text}]
    return {"id": "p", "messages": messages, **media}


def ablated(root: Path, ablation: Ablation, *prompts: dict[str, Any]) -> list[dict[str, Any]]:
    ablator = Ablator(root / "media", root / "mute", sound_in_clips=True)
    return ablator.prompts_of(prompts, [ablation], {p["id"]: "choice" for p in prompts})


@pytest.mark.parametrize(
    ("ablation", "text", "media"),
    [
        ("no_sound", "<image>\nHear ! Which?", {"images": ["i"]}),
        ("no_picture", "Hear <audio>! Which?", {"audios": ["a"]}),
        ("text_only", "Hear ! Which?", {}),
    ],
)
def test_a_medium_goes_with_its_tag_and_the_others_stay(
    tmp_path: Path, ablation: Ablation, text: str, media: dict[str, list[str]]
) -> None:
    asked = prompt("<image>\nHear <audio>! Which?", images=["i"], audios=["a"])
    (found,) = ablated(tmp_path, ablation, asked)
    assert found["messages"][1]["content"] == text
    assert {k: v for k, v in found.items() if k not in ("id", "messages")} == media
    assert asked["images"] == ["i"]  # the prompt itself is as before


def test_a_tag_that_is_text_stays(tmp_path: Path) -> None:
    (found,) = ablated(tmp_path, "text_only", prompt(r"<image>Is <\image> a tag?", images=["i"]))
    assert found["messages"][1]["content"] == r"Is <\image> a tag?"


def test_of_a_clip_there_is_the_mute_copy_or_the_sound(tmp_path: Path) -> None:
    clip = clip_with_sound(tmp_path / "media" / "a" / "clip.mp4")
    asked = prompt("<video>What is said?", videos=[str(clip)])
    (mute,) = ablated(tmp_path, "no_sound", asked)
    with av.open(mute["videos"][0]) as copied:
        assert not copied.streams.audio
    pictures = [frames(mute["videos"][0]), frames(str(clip))]
    assert len(pictures[0]) == 4
    assert all(np.array_equal(a, b) for a, b in zip(*pictures, strict=True))
    (heard,) = ablated(tmp_path, "no_picture", asked)
    assert heard["messages"][1]["content"] == "<audio>What is said?"
    assert (heard.get("videos"), heard["audios"]) == (None, [str(clip)])


def test_a_prompt_that_stays_as_it_is_is_not_asked_again(tmp_path: Path) -> None:
    """Given a picture without sound, a sound without picture, a text, and a lone record."""
    picture = prompt("<image>What?", images=["i"])
    assert ablated(tmp_path, "no_sound", picture) == []
    assert ablated(tmp_path, "no_picture", prompt("<audio>What?", audios=["a"])) == []
    assert ablated(tmp_path, "text_only", prompt("What?")) == []
    assert ablated(tmp_path, "shuffled", picture) == []  # there is no other medium


def test_shuffled_media_are_those_of_other_records_each_as_often_as_before(tmp_path: Path) -> None:
    media = ["i0", "i1", "i2", "i3", "i0"]
    prompts = [{**prompt("<image>?", images=[m]), "id": f"p{n}"} for n, m in enumerate(media)]
    found = [p["images"][0] for p in ablated(tmp_path, "shuffled", *prompts)]
    assert all(new != old for new, old in zip(found, media, strict=True))
    assert found[0] == found[4]  # records about one medium stay about one
    assert Counter(Counter(found).values()) == Counter(Counter(media).values())
    assert found == [p["images"][0] for p in ablated(tmp_path, "shuffled", *prompts)]


def questions() -> list[TestRecord]:
    """Forty records with a picture and a sound; the file's name gives the answer away."""
    return [
        as_test_record(
            {
                "id": f"q{n}",
                "source": "s",
                "task": "choice",
                "messages": [{"role": "user", "content": "<image><audio>Which?"}],
                "images": [f"/media/{n}-{'AB'[n % 2]}.png"],
                "audios": [f"/media/{n}-{'AB'[n % 2]}.wav"],
                "solution": "AB"[n % 2],
            },
            TASKS["choice"],
        )
        for n in range(40)
    ]


def evaluated(model: Callable[[dict[str, Any]], str]) -> Report:
    """Ask a model for all prompts, with and without each modality, and report."""
    records = questions()
    prompts = prompts_of(records)
    ablator = Ablator(Path("/media"), Path("/mute"), sound_in_clips=True)
    asked = [*prompts, *ablator.prompts_of(prompts, ALL, tasks_of(records))]
    answers = {p["id"]: {"text": f"<answer>{model(p)}</answer>"} for p in asked}
    without = {}
    for ablation in ALL:
        changed, said = answers_to(ablation, records, answers)
        without[ablation] = [ModelResult("sft", grade(changed, said))]
    result = ModelResult("sft", grade(records, answers))
    data = ReportData("r", [result], records, {}, ablations=without, bootstrap_samples=200)
    return build_report(data)


def seen(asked: dict[str, Any]) -> str:
    """What a model says that looks at the picture alone."""
    return Path(asked["images"][0]).stem[-1] if asked.get("images") else "A"


def heard(asked: dict[str, Any]) -> str:
    """What a model says that listens to the sound alone."""
    return Path(asked["audios"][0]).stem[-1] if asked.get("audios") else "A"


def test_a_model_that_ignores_the_sound_shows_no_contribution_of_sound() -> None:
    report = evaluated(seen)
    found = report.json["tasks"]["choice"]["contribution"]
    sound = found["no_sound"]["models"]["sft"]
    assert sound["metrics"]["accuracy"] == {"with": 1.0, "without": 1.0}
    assert [sound["fall"][k] for k in ("value", "low", "high")] == [0, 0, 0]
    assert (sound["fall"]["p_holm"], sound["lost"], sound["gained"]) == (1.0, [], [])
    picture = found["no_picture"]["models"]["sft"]
    assert picture["metrics"]["accuracy"] == {"with": 1.0, "without": 0.5}
    assert picture["fall"]["low"] > 0.3
    assert picture["fall"]["p_holm"] < 0.001
    assert picture["lost"] == [f"q{n}" for n in range(1, 40, 2)]
    warned = [f["text"] for f in report.json["findings"] if f["code"] == "no_contribution"]
    assert warned == [
        "SFT is not shown to answer worse without sound: 100.0% against 100.0% of the same 40 "
        "records."
    ]


def test_a_model_that_hears_shows_it_and_text_alone_falls_to_the_constant() -> None:
    report = evaluated(heard)
    found = report.json["tasks"]["choice"]["contribution"]
    falls = {name: block["models"]["sft"]["fall"]["value"] for name, block in found.items()}
    assert falls["no_picture"] == 0
    assert falls["no_sound"] == falls["text_only"] == 0.5
    assert falls["shuffled"] > 0.3


def test_the_page_shows_the_falls_and_each_example_without_the_modality() -> None:
    report = evaluated(seen)
    page = read(report.html)
    rows = {row[1]: row for row in page.tables["contribution-choice"][1:]}
    assert rows["without picture"][2:6] == ["40", "100.0%", "50.0%", "+50.0"]
    assert rows["without sound"][5] == "+0.0"
    outcomes = [(a["data-outcomes"] or "").split() for t, a in page.elements if t == "article"]
    assert any({"no_picture:0", "text_only:0"} <= set(words) for words in outcomes)
    assert not any("no_sound:0" in words for words in outcomes)
    assert "other score without picture" in page.text
    assert "| SFT without picture | 40 | 100.0% | 50.0% | +50.0 (" in report.markdown


def test_a_report_without_ablations_has_no_such_section() -> None:
    records = questions()
    answers = {r.id: {"text": "<answer>A</answer>"} for r in records}
    data = ReportData("r", [ModelResult("sft", grade(records, answers))], records, {})
    report = build_report(data)
    assert report.json["tasks"]["choice"]["contribution"] == {}
    assert 'id="contribution"' not in report.html
