"""What the stage makes of the answers to variants of the prompts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from components.eval.ask import Answers
from components.eval.config import EvalSettings
from components.eval.records import prompts_of
from components.eval.stage import grade_variants
from components.eval.variants.rotations import rotated_prompts
from components.eval.variants.samples import sampled_prompts
from omnistage.files import read_jsonl
from omnistage.settings import key_config
from tests.components.eval.variants.test_rotations import animals


def test_every_sample_is_written_with_its_number_and_what_it_scored(tmp_path: Path) -> None:
    """Given a model whose greedy answer is right, and its second sample too, and that says B."""
    records = [animals(1, "B")]
    config = EvalSettings(samples=2, rotate_options=True)
    prompts = prompts_of(records)
    asked = [
        *prompts,
        *rotated_prompts(records, prompts),
        *sampled_prompts(prompts, 2, config.sample_temperature, config.sample_top_p, 1),
    ]
    answers: Answers = {p["id"]: {"text": "<answer>B</answer>"} for p in asked}
    answers["sample 1\nq1"] = {"text": "<answer>A</answer>"}
    context: Any = SimpleNamespace(config=config, out=tmp_path)
    samples, rotated = grade_variants(context, records, {"sft": answers})
    assert [g.score for (g,) in samples["sft"]] == [0.0, 1.0]
    assert rotated == {"sft": {"q1": ["B", "A", "C"]}}
    rows = list(read_jsonl(tmp_path / "samples" / "sft.jsonl"))
    assert [(r["id"], r["sample"], r["score"]) for r in rows] == [("q1", 1, 0.0), ("q1", 2, 1.0)]


def test_without_variants_nothing_more_is_written_and_keys_stay(tmp_path: Path) -> None:
    context: Any = SimpleNamespace(config=EvalSettings(), out=tmp_path)
    assert grade_variants(context, [animals()], {"sft": {}}) == ({}, {})
    assert list(tmp_path.iterdir()) == []
    assert not key_config(EvalSettings()).keys() & {"samples", "sample_top_p", "rotate_options"}
    assert key_config(EvalSettings(samples=2))["samples"] == 2
