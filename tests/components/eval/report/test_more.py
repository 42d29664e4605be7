"""The packed examples: what they hold, and that a page of thousands keeps its size."""

import base64
import json
import random
import re
import zlib
from typing import Any

import pytest

from components.eval.grading import Answer
from components.eval.report import more
from components.eval.report.data import ModelResult, ReportData
from components.eval.report.page import build_report
from tests.components.eval.report_kit import answer, judgement, record

SIZE = 15_000_000


def unpacked(html: str) -> dict[str, Any]:
    found = re.search(r'<template id="packed" data-count="(\d+)">(.*?)</template>', html)
    assert found
    content = json.loads(zlib.decompress(base64.b64decode(found[2])))
    assert len(content["examples"]) == int(found[1])
    return content


def report(records: int, characters: int = 0) -> str:
    """The page of two models whose answers are letters in no order, so that they pack badly."""
    random_ = random.Random(0)
    texts = [random_.randbytes(characters // 2).hex() for _ in range(500)]

    def said() -> Answer:
        return answer("A", random_.choice(texts))

    pairs = [record(f"i{n}", "B" if n % 2 else "A") for n in range(records)]
    models = [
        ModelResult(name, [judgement(r, said(), said(), {}) for r in pairs])
        for name in ("sft", "grpo")
    ]
    return build_report(ReportData("r", models, pairs, {}, bootstrap_samples=100)).html


def test_a_packed_example_has_what_a_drawn_one_has_but_its_medium() -> None:
    content = unpacked(report(6, 100))
    assert content["models"][0] == {"title": "SFT", "style": "sft"}
    first = content["examples"][0]
    assert (first["id"], first["gold"], first["kind"], first["labels"]) == (
        "i4",
        "A",
        "image",
        True,
    )
    assert first["candidates"] == [["A", "It is red."], ["B", "It is blue."]]
    assert first["outcomes"] == ["right:0", "right:1"]
    opinion = first["opinions"][1]
    assert (opinion["score"], opinion["reward"]) == (1.0, None)
    assert opinion["answers"][1][:2] == ["A", None]
    assert len(opinion["answers"][1][2]) > 50


def test_five_thousand_examples_keep_to_15_mb_and_are_not_drawn() -> None:
    """Given four answers of 400 characters each, 8 MB of text in all."""
    html = report(5000, 400)
    assert len(html.encode()) <= SIZE
    assert html.count('<article class="example"') == 4
    assert len(unpacked(html)["examples"]) == 4996


def test_what_does_not_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(more, "LIMIT", 20_000)
    html = report(200, 200)
    kept = len(unpacked(html)["examples"])
    assert 5 < kept < 196
    assert f"{196 - kept} more are in judgements/ alone" in html
    monkeypatch.setattr(more, "MOST", 10)
    assert len(unpacked(report(50))["examples"]) == 6
    assert "40 more are in judgements/ alone" in report(50)


def test_a_page_that_draws_all_has_none_packed() -> None:
    html = report(4)
    assert "<template" not in html
    assert "further records" not in html
