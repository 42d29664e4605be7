"""What the report is made of: the choice of examples, embedded media and charts."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.eval.grading import Graded
from components.eval.report import embed
from components.eval.report.charts import Curve, line_chart, ticks
from components.eval.report.curves import is_rl, panels, reward_name
from components.eval.report.data import ModelResult, ReportData
from components.eval.report.examples import choose
from components.eval.report.page import build_report
from omnistage.records.record import MEDIA
from omnistage.records.verdict import Better
from tests.components.eval.report_kit import (
    NO_VERDICT,
    WEIGHTS,
    answer,
    judgement,
    made_up,
    mp4,
    png,
    record,
    wav,
)

# Examples


def test_examples_show_where_the_last_two_models_differ_and_where_not():
    gold = [record(f"i{i}", "A") for i in range(8)]
    sft: list[Better] = ["B", "A", "A", "B", "B", "A", "A", "B"]
    grpo: list[Better] = ["B", "A", "A", "B", "A", "B", "A", "A"]

    def said(letters: list[Better]) -> list[Graded]:
        pairs = zip(gold, letters, strict=True)
        return [judgement(r, answer(letter), answer(letter)) for r, letter in pairs]

    models = [ModelResult("sft", said(sft)), ModelResult("grpo", said(grpo))]
    shown = choose(gold, models, WEIGHTS)
    assert [(e.record.id, e.headline) for e in shown] == [
        ("i4", "GRPO right, SFT wrong"),
        ("i5", "GRPO wrong, SFT right"),
        ("i1", "GRPO and SFT right"),
        ("i0", "GRPO and SFT wrong"),
    ]


def test_every_modality_has_examples(tmp_path: Path):
    report = build_report(made_up(tmp_path, pairs=60))
    assert {name.split("-")[0] for name in report.json["examples"]} == {"image", "audio", "video"}


def test_a_long_answer_is_cut_with_a_remark():
    r = record("i1")
    data = ReportData(
        "r", [ModelResult("sft", [judgement(r, answer("A", "x" * 5000), NO_VERDICT)])], [r], WEIGHTS
    )
    html = build_report(data).html
    assert "x" * 4000 in html
    assert "x" * 4001 not in html
    assert "1,000 more characters" in html


# Media


def test_a_big_image_becomes_a_smaller_copy_and_a_big_sound_a_note(tmp_path: Path):
    image = embed.embed(png(tmp_path / "big.png", size=900), "image", limit=100)
    assert (image.uri or "").startswith("data:image/jpeg;base64,")
    assert "smaller copy; big.png has" in (image.note or "")
    sound = embed.embed(wav(tmp_path / "big.wav"), "audio", limit=100)
    assert (sound.uri, "Not embedded: big.wav has" in (sound.note or "")) == (None, True)


def test_a_clip_that_is_too_big_or_that_browsers_do_not_play_shows_its_first_frame(tmp_path: Path):
    big = embed.embed(mp4(tmp_path / "big.mp4"), "video", limit=100)
    old = embed.embed(mp4(tmp_path / "old.mp4", "mpeg4"), "video", limit=10**6)
    for clip in (big, old):
        assert clip.uri is None
        assert (clip.poster or "").startswith("data:image/jpeg;base64,")
        assert "First frame only" in (clip.note or "")


def test_a_missing_or_broken_medium_is_told_without_a_path_of_the_machine(tmp_path: Path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "broken.mp4").write_bytes(b"no clip")
    notes = [
        embed.embed(tmp_path / "gone.png", "image", 100).note,
        embed.embed(tmp_path / "broken.png", "image", 100).note,
        embed.embed(tmp_path / "broken.mp4", "video", 100).note,
        embed.embed(Path(), "image", 100).note,
    ]
    assert notes == [
        "gone.png is missing.",
        "broken.png could not be read (UnidentifiedImageError).",
        "broken.mp4 could not be read (InvalidDataError).",
        "The medium is missing.",
    ]


def test_the_media_of_all_examples_together_stay_in_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("components.eval.report.examples.TOTAL_LIMIT", 15_000)
    data = made_up(tmp_path, pairs=30)

    def size(row: Mapping[str, Any]) -> int:
        return sum(Path(p).stat().st_size for kind in MEDIA for p in row.get(kind, ()))

    shown = choose(data.records, data.models, WEIGHTS)
    sounds = [e.medium for e in shown if e.medium and e.medium.kind == "audio"]
    embedded = sum(len(s.uri) * 3 // 4 for s in sounds if s.uri)
    assert 0 < embedded <= 15_000 < sum(size(e.record.row) for e in shown)
    assert any((s.note or "").startswith("Not embedded") for s in sounds)


# Charts


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9).filter(lambda span: span > 0), st.integers(2, 8))
@settings(max_examples=80, deadline=None)
def test_ticks_lie_on_the_axis_and_are_not_too_many(low: float, span: float, most: int):
    high = low + max(span, abs(low) * 1e-6)
    found = ticks(low, high, most)
    slack = (high - low) * 1e-6
    assert len(found) <= most + 1
    assert all(low - slack <= t <= high + slack for t in found)


def test_ticks_are_round():
    assert ticks(0, 1) == [0, 0.5, 1]
    assert ticks(5, 300) == [100, 200, 300]
    with pytest.raises(ValueError, match="low < high"):
        ticks(1, 1)


def test_a_gap_in_the_log_is_a_gap_in_the_line():
    points = [(1, 1.0), (2, 2.0), (3, math.nan), (4, None), (5, 3.0), (6, 2.0)]
    svg = line_chart(Curve("Loss", "loss", points, "sft"))
    assert svg.count("<polyline") == 2
    assert "nan" not in svg


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.0], [1e-6, 2e-6], [5e8, -5e8], [1.0] * 500])
def test_any_curve_with_a_finite_value_can_be_drawn(values: list[float]):
    points = [(float(i), v) for i, v in enumerate(values)]
    svg = line_chart(Curve("Reward", "mean", points, "grpo", spread=[0.1] * len(values)))
    assert "nan" not in svg
    assert "inf" not in svg
    with pytest.raises(ValueError, match="nothing to draw"):
        line_chart(Curve("Reward", "mean", [(1, math.nan)], "grpo"))


def test_a_long_curve_is_drawn_with_few_points_and_has_its_moving_mean():
    points = [(float(i), float(i % 7)) for i in range(50_000)]
    svg = line_chart(Curve("Loss", "loss", points, "sft"))
    assert svg.count("<polyline") == 2
    assert len(svg) < 20_000


def test_rewards_are_called_as_in_the_recipe():
    names = {"MMFormat": "mm_format", "MMContentLight": "mm_content_light", "accuracy": "accuracy"}
    assert {n: reward_name(n) for n in names} == names


def test_each_reward_has_a_chart_with_axis_titles(tmp_path: Path):
    html = build_report(made_up(tmp_path, pairs=3)).html
    for title in ("Total reward, weighted", "Reward mm_format", "Reward mm_content"):
        assert f"<b>{title}</b>" in html
    axes = html.count('<text class="axis"')
    assert axes == 2 * html.count("<figure>") > 0


def test_a_training_on_preferences_is_drawn_as_one_that_learns_from_answers() -> None:
    rows = [
        {"step": n, "loss": 0.7 - n / 10, "rewards/chosen": 0.1, "rewards/accuracies": n / 4}
        for n in range(4)
    ]
    assert not is_rl(rows)
    (panel,) = panels({"prefer": rows})
    titles = [title for title, _, _ in panel.charts]
    assert titles == ["Loss", "Right answers preferred"]
