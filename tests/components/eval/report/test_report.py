"""The report: its numbers, its honesty, and that the page needs and runs nothing else."""

import base64
import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.eval.grading import Answer
from components.eval.report.data import ModelResult, ReportData
from components.eval.report.page import build_report
from omnistage.errors import InputError
from tests.components.eval.report_kit import (
    NO_VERDICT,
    WEIGHTS,
    answer,
    four_pairs,
    judgement,
    made_up,
    read,
    record,
)

HOSTILE = "<script>alert(1)</script><img src='https://evil.example/x'>\"'&\u0000\ud800"


def judging(data: ReportData) -> dict[str, Any]:
    """The figures of a report on judging."""
    return build_report(data).json["tasks"]["judge"]


def codes(data: ReportData) -> dict[str, str]:
    """Findings of a report: code and level."""
    return {f["code"]: f["level"] for f in build_report(data).json["findings"]}


# Numbers


def test_accuracy_counts_both_orders_and_an_invalid_answer_as_wrong():
    models = judging(four_pairs())["models"]
    assert models["base"]["metrics"]["accuracy"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert models["sft"]["metrics"]["accuracy"]["value"] == 0.5
    assert models["grpo"]["metrics"]["accuracy"]["value"] == 7 / 8
    by_modality = models["grpo"]["by_modality"]
    assert by_modality["image"]["metrics"]["accuracy"]["value"] == 1.0
    assert by_modality["audio"]["metrics"]["accuracy"]["value"] == 3 / 4


def test_validity_ties_consistency_and_first_shown_are_told_for_each_model():
    models = judging(four_pairs())["models"]
    told = {
        name: [m["metrics"][k]["value"] for k in ("valid", "ties", "consistency", "first_shown")]
        for name, m in models.items()
    }
    assert told == {
        "base": [0.0, None, None, None],
        "sft": [1.0, 0.0, 1.0, 0.5],
        "grpo": [1.0, 0.0, 0.75, 3 / 8],
    }


def test_the_headline_is_one_figure_a_model_for_programs():
    headline = build_report(four_pairs()).json["headline"]
    assert (headline["task"], headline["metric"], headline["records"]) == ("judge", "accuracy", 4)
    assert {n: m["value"] for n, m in headline["models"].items()} == {
        "base": 0.0,
        "sft": 0.5,
        "grpo": 7 / 8,
    }
    assert headline["constant"] == {"name": "always A", "value": 0.5}


def test_mean_reward_is_the_weighted_sum_of_the_rewards():
    models = judging(four_pairs())["models"]
    assert models["base"]["reward"]["mean"] == pytest.approx(-0.6)
    assert models["sft"]["reward"]["mean"] == pytest.approx(0.5)
    assert models["sft"]["reward"]["by_reward"] == {
        "mm_format": 1.0,
        "mm_content": 0.0,
        "mm_rubric": 0.5,
    }
    assert models["grpo"]["reward"]["mean"] == pytest.approx(1.0)


def test_differences_are_paired_between_neighbouring_models():
    differences = judging(four_pairs())["differences"]
    assert list(differences) == ["sft_minus_base", "grpo_minus_sft"]
    gain = differences["grpo_minus_sft"]
    assert gain["score"]["value"] == 3 / 8
    assert gain["reward"]["value"] == pytest.approx(0.5)
    assert gain["by_modality"]["audio"]["score"]["value"] == 1 / 4
    assert gain["score"]["low"] <= 3 / 8 <= gain["score"]["high"]
    assert (gain["score"]["gained"], gain["score"]["lost"]) == (2, 0)
    assert gain["score"]["p_value"] <= gain["score"]["p_holm"] <= 1


def test_constant_baselines_stand_beside_the_models():
    baselines = judging(four_pairs())["baselines"]
    assert {n: b["value"] for n, b in baselines.items()} == {
        "always_A": 0.5,
        "always_B": 0.5,
        "always_equal": 0.0,
        "always_first_shown": 0.5,
        "majority_label": 0.5,
        "longer_answer": 0.5,  # "It is blue." is longer than "It is red.", right for two of four
    }


def test_a_record_without_an_answer_is_named_and_counts_as_wrong():
    r, other = record("i1", "A"), record("i2", "B")
    failed = Answer("", error="UnidentifiedImageError: cannot read i1.png")
    graded = [judgement(r, failed, failed), judgement(other, answer("B"), answer("B"))]
    report = build_report(ReportData("r", [ModelResult("sft", graded)], [r, other], WEIGHTS))
    model = report.json["tasks"]["judge"]["models"]["sft"]
    assert model["metrics"]["accuracy"]["value"] == model["metrics"]["valid"]["value"] == 0.5
    assert (model["records"], model["errors"]) == (2, 1)
    assert report.json["errors"] == [{"model": "sft", "id": "i1", "error": failed.error}]
    assert read(report.html).row("error-rows", "SFT")["Record"] == "i1"
    levels = {f["code"]: f["level"] for f in report.json["findings"]}
    assert levels["errors"] == "warning"


def test_a_reward_that_does_not_apply_is_left_out_of_the_mean():
    records = [record("i1"), record("i2")]
    judged = [
        judgement(records[0], answer("A"), answer("A"), {"mm_format": 1.0, "mm_content": None}),
        judgement(records[1], answer("A"), answer("A"), {"mm_format": None, "mm_content": None}),
    ]
    report = build_report(ReportData("r", [ModelResult("sft", judged)], records, WEIGHTS))
    reward = report.json["tasks"]["judge"]["models"]["sft"]["reward"]
    assert reward["mean"] == pytest.approx(0.4)
    assert reward["by_reward"] == {"mm_format": 1.0, "mm_content": None, "mm_rubric": None}


# The page says the same


def test_the_page_shows_the_numbers_of_the_json(tmp_path: Path):
    report = build_report(made_up(tmp_path, pairs=30))
    page, task = read(report.html), report.json["tasks"]["judge"]
    for name, title in {"base": "Base", "sft": "SFT", "grpo": "GRPO"}.items():
        m = task["models"][name]
        row = page.row("headline-judge", title)
        a = m["metrics"]["accuracy"]
        assert row["Accuracy"] == f"{100 * a['value']:.1f}%"
        assert row["95% interval"] == f"{100 * a['low']:.1f}% to {100 * a['high']:.1f}%"
        assert row["Valid answers"] == f"{100 * m['metrics']['valid']['value']:.1f}%"
        assert row["Mean reward"] == f"{m['reward']['mean']:.3f}".replace("-", "−")
        for modality in ("image", "audio", "video"):
            cell = page.row("by-modality-judge", title)[f"{modality.capitalize()}, 10 records"]
            value = m["by_modality"][modality]["metrics"]["accuracy"]["value"]
            assert cell.startswith(f"{100 * value:.1f}% ")
    gain = task["differences"]["grpo_minus_sft"]["score"]
    assert page.row("paired-judge", "GRPO − SFT")["Points"] == (
        f"{100 * gain['value']:+.1f}".replace("-", "−")
    )
    always_a = task["baselines"]["always_A"]["value"]
    assert page.row("headline-judge", "always A")["Accuracy"] == f"{100 * always_a:.1f}%"
    assert report.json["summary"] in page.text


def test_the_summary_states_who_is_right_how_often_and_a_clear_gain(tmp_path: Path):
    report = build_report(four_pairs())
    assert report.json["summary"].startswith(
        "GRPO judges 87.5% right, SFT 50.0%, the base model 0.0%; the best constant baseline "
        "(“always A”) gets 50.0%. 4 pairs, each judged in both orders."
    )
    # Four pairs are too few for SFT's one half: a resample may hold none of what it has right.
    assert "Whether SFT is better than the base model cannot be told" in report.json["summary"]
    many = build_report(made_up(tmp_path, pairs=60)).json["summary"]
    assert "SFT is better than the base model: +" in many


def test_the_summary_and_the_findings_admit_a_gain_that_is_not_shown_and_a_loss():
    data = four_pairs()
    base, sft, grpo = data.models
    same = replace(data, models=[base, sft, ModelResult("grpo", sft.graded)])
    assert "Whether GRPO is better than SFT cannot be told" in build_report(same).json["summary"]
    assert (
        "is not shown to be better than the best constant baseline"
        in build_report(same).json["summary"]
    )
    assert codes(same)["no_gain_shown"] == "warning"
    assert codes(same)["not_above_constant"] == "problem"  # 50%, and the interval reaches below
    swapped = [ModelResult("sft", grpo.graded), ModelResult("grpo", base.graded)]
    worse = replace(data, models=swapped)
    assert "GRPO is worse than SFT: −87.5 points" in build_report(worse).json["summary"]
    assert codes(worse)["worse_than_before"] == "problem"


# Findings


def test_a_label_set_that_a_constant_solves_is_a_problem():
    records = [record(f"i{i}", "A") for i in range(10)]
    judged = [judgement(r, answer("A"), answer("A")) for r in records]
    data = ReportData("r", [ModelResult("sft", judged)], records, WEIGHTS)
    assert codes(data)["labels_one_sided"] == "problem"
    assert codes(data)["not_above_constant"] == "problem"


def test_invalid_answers_position_bias_and_ties_are_flagged_for_a_trained_model():
    records = [record(f"i{i}", "AB"[i % 2]) for i in range(10)]  # pyright: ignore[reportArgumentType]
    first = [judgement(r, answer("A"), answer("B")) for r in records]
    first[0] = judgement(records[0], NO_VERDICT, NO_VERDICT)
    found = codes(ReportData("r", [ModelResult("sft", first)], records, WEIGHTS))
    assert found["invalid_answers"] == found["position_bias"] == found["inconsistent"] == "warning"
    equal = [judgement(r, answer("equal"), answer("equal")) for r in records]
    assert "many_ties" in codes(ReportData("r", [ModelResult("sft", equal)], records, WEIGHTS))


def test_an_untrained_model_that_writes_no_verdict_is_a_note_only():
    data = four_pairs()
    found = codes(replace(data, models=data.models[:1]))
    assert found["invalid_answers"] == "note"
    assert "not_above_constant" not in found


@pytest.mark.parametrize(
    ("curves", "code", "level"),
    [
        ({"sft": [{"step": 1, "loss": math.nan}]}, "not_finite", "problem"),
        ({"grpo": [{"step": 1, "reward": None}]}, "not_finite", "problem"),
        ({"sft": [{"step": i, "loss": 2.0} for i in range(9)]}, "loss_not_falling", "problem"),
        ({"grpo": [{"step": i, "grad_norm": 0.0} for i in range(9)]}, "no_gradient", "problem"),
        ({"grpo": [{"step": i, "reward": 0.1} for i in range(9)]}, "reward_flat", "warning"),
        ({"grpo": [{"step": 1, "frac_reward_zero_std": 0.95}]}, "no_spread", "warning"),
        ({"grpo": [{"step": 1, "completions/clipped_ratio": 0.6}]}, "cut_off", "warning"),
    ],
)
def test_a_training_log_that_shows_trouble_is_flagged(curves: Any, code: str, level: str):
    assert codes(replace(four_pairs(), curves=curves))[code] == level


def test_a_healthy_training_log_raises_no_flag(tmp_path: Path):
    healthy = replace(four_pairs(), curves=made_up(tmp_path, pairs=3).curves)
    trouble = {"not_finite", "loss_not_falling", "no_gradient", "reward_flat", "no_spread"}
    assert not trouble & codes(healthy).keys()


# Robustness


def test_text_from_models_and_data_cannot_become_markup():
    r = record("<b>i1", asked=(HOSTILE, HOSTILE, HOSTILE))
    judged = [judgement(r, answer("A", HOSTILE), Answer(HOSTILE, error=HOSTILE))]
    data = ReportData(HOSTILE, [ModelResult("sft", judged)], [r], WEIGHTS, notes=[HOSTILE])
    html = build_report(data).html
    tags = [tag for tag, _ in read(html).elements]
    assert tags.count("script") == 1  # the page's own
    assert "alert" not in html.partition("<script>")[2]
    assert "img" not in tags
    assert "<b>i1" not in html
    assert "\u0000" not in html
    assert html.encode()  # a lone surrogate would refuse


def test_the_page_asks_for_nothing_and_forbids_asking(tmp_path: Path):
    page = read(build_report(made_up(tmp_path, pairs=12)).html)
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert not [a for a in attributes if a.startswith("on") or a == "style"], (tag, attributes)
        for name in ("src", "href", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), value
    policy = next(a["content"] for t, a in page.elements if "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy


def test_the_policy_allows_one_script_by_its_digest_and_no_other():
    html = build_report(four_pairs()).html
    script = html.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in html
    assert html.count("<script") == 1


def test_the_examples_say_what_the_filter_asks_for():
    page = read(build_report(four_pairs()).html)
    told = [
        (a["data-kind"], (a["data-outcomes"] or "").split())
        for t, a in page.elements
        if t == "article"
    ]
    # Base writes no verdict; of SFT's "A" and GRPO's verdict both, one or none are right.
    assert ("image", ["wrong:0", "invalid:0", "wrong:1", "right:2"]) in told
    assert ("audio", ["wrong:0", "invalid:0", "wrong:1", "wrong:2"]) in told  # in one order only
    scores = [a["data-scores"] for t, a in page.elements if t == "article"]
    assert "0.0 0.0 0.5" in scores
    options = [a.get("value") for t, a in page.elements if t == "option"]
    assert {"right", "wrong", "flipped", "invalid", "error"} <= set(options)


def test_the_markdown_says_the_verdict_the_figures_and_the_findings():
    report = build_report(four_pairs())
    lines = report.markdown.splitlines()
    assert lines[2] == report.json["summary"]
    assert any(line.startswith("| GRPO | 87.5% (") for line in lines)
    assert any(line.startswith("| always A (constant) | 50.0% (") for line in lines)
    assert any(line.startswith("GRPO − SFT: +37.5 points (") for line in lines)
    hostile = build_report(replace(four_pairs(), recipe="[x](javascript:1)|`<b>`\n# a"))
    assert hostile.markdown.splitlines()[0] == r"# \[x\](javascript:1)\|\`\<b\>\` \# a"


def test_the_media_can_be_seen_and_played(tmp_path: Path):
    page = read(build_report(made_up(tmp_path, pairs=30)).html)
    src = {t: a["src"] or "" for t, a in page.elements if t in ("img", "audio", "video")}
    assert src["img"].startswith("data:image/png;base64,")
    assert src["audio"].startswith("data:audio/wav;base64,")
    assert src["video"].startswith("data:video/mp4;base64,")
    assert all("controls" in a for t, a in page.elements if t in ("audio", "video"))
    assert all(a.get("alt") for t, a in page.elements if t == "img")


def test_headings_name_columns_and_rows(tmp_path: Path):
    page = read(build_report(made_up(tmp_path, pairs=12)).html)
    assert all(a.get("scope") in ("col", "row") for t, a in page.elements if t == "th")
    charts = [a for t, a in page.elements if t == "svg" and a.get("role") == "img"]
    assert charts
    assert all(a.get("aria-label") for a in charts)


def test_the_same_data_give_the_same_bytes(tmp_path: Path):
    data = made_up(tmp_path, pairs=12)
    one, two = build_report(data), build_report(data)
    assert one == two


def test_the_json_is_strict_with_null_for_what_is_not_a_number():
    curves = {"sft": [{"step": 1, "loss": math.nan}, {"step": 2, "loss": math.inf}]}
    report = build_report(replace(four_pairs(), curves=curves))
    assert report.json["curves"]["sft"] == [{"step": 1, "loss": None}, {"step": 2, "loss": None}]
    assert json.loads(json.dumps(report.json, allow_nan=False)) == report.json


def test_models_and_curves_may_be_missing():
    data = four_pairs()
    two = build_report(replace(data, models=data.models[:2]))
    assert list(two.json["tasks"]["judge"]["differences"]) == ["sft_minus_base"]
    one = build_report(replace(data, models=data.models[2:], curves={"sft": [], "grpo": []}))
    assert one.json["tasks"]["judge"]["differences"] == {}
    assert {
        "code": "model_missing",
        "level": "note",
        "text": "The base model was not evaluated.",
    } in one.json["findings"]
    assert 'id="training"' not in one.html


def test_what_ran_is_told_with_key_digest_time_and_versions(tmp_path: Path):
    data = made_up(tmp_path, pairs=3)
    report = build_report(data)
    assert read(report.html).row("stages", "grpo") == {
        "Stage": "grpo",
        "Computed in": "2 min 31 s",
        "Machine": "–",
        "Key": "030303030303",
        "Digest of the result": "0a0a0a0a0a0a",
        "Versions": "omnistage 0.1.0, ms-swift 4.6.0, torch 2.13.0",
    }
    assert report.json["provenance"]["stages"][3]["key"] == "03" * 32


def test_judgements_of_other_records_are_refused():
    data = four_pairs()
    short = [ModelResult("sft", data.models[1].graded[:3])]
    with pytest.raises(InputError, match=r"model sft: 0 answers to record 'a2', expected 1"):
        build_report(replace(data, models=short))
    twice = [ModelResult("sft", [*data.models[1].graded, data.models[1].graded[0]])]
    with pytest.raises(InputError, match=r"2 answers to record 'i1'"):
        build_report(replace(data, models=twice))
    with pytest.raises(InputError, match=r"'mm_rubric' has no weight"):
        build_report(replace(data, reward_weights={"mm_format": 1.0, "mm_content": 1.0}))
    with pytest.raises(InputError, match="at least one"):
        build_report(replace(data, models=[]))
    with pytest.raises(InputError, match="'i1' more than once"):
        build_report(replace(data, records=[*data.records, data.records[0]]))
