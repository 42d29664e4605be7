"""The difficulty filter keeps a band of prompts, and asks the model once for each of them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components.grpo import difficulty
from components.grpo.config import GRPOSettings
from components.grpo.difficulty import TABLE, within_band
from components.grpo.difficulty.sample import SampleSpec, accuracy, sampled
from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.files import read_jsonl, write_jsonl
from omnistage.settings import key_config
from omnistage.stage.contract import Context, TaskRuntime
from omnistage.store.folder import FolderStore
from omnistage.swift.encoding import Encoded
from omnistage.swift.family import FAMILIES
from omnistage.swift.lineage import Lineage, Start
from omnistage.swift.rows import TrainingRows
from omnistage.torchrun.job import TorchrunJob
from tests.swift.lineage_kit import base_model

SEEN = {"never": 0.0, "seldom": 0.25, "often": 0.5, "nearly": 0.75, "always": 1.0, "unknown": None}


class Bench:
    """A step whose model answers as :data:`SEEN` says, and how often it was asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.asked = folder, 0
        self.store = FolderStore(folder / "store")
        self.base = base_model(self.store)
        monkeypatch.setattr(difficulty.local, "run", self._run)
        monkeypatch.setattr(
            difficulty, "encode_records", lambda *_: [Encoded({"text": 3}) for _ in SEEN]
        )
        monkeypatch.setattr(difficulty, "data_digests", lambda _: ["d"])

    def _run(self, job: TorchrunJob, _follow: Any) -> float:
        self.asked += 1
        spec = SampleSpec.model_validate_json(Path(job.program[2]).read_bytes())
        rows = [{"id": r["id"], "accuracy": SEEN[r["id"]]} for r in read_jsonl(Path(spec.rows))]
        write_jsonl(Path(spec.answers) / "0.jsonl", rows)
        return 0.0

    def filter(self, name: str = "w", **band: Any) -> tuple[TrainingRows, Path]:
        """Filter the prompts in a work folder of its own; return rows and the artifact's folder."""
        work = self.folder / name
        (work / "out").mkdir(parents=True)
        rows = [{"id": i, "messages": [{"role": "user", "content": i}]} for i in SEEN]
        for path in ("rl.jsonl", "records.jsonl"):
            write_jsonl(work / path, rows)
        band = {"reward": "mm_format"} | band
        config = GRPOSettings.model_validate({"difficulty": band})
        inputs = {"start": self.base, "records": self.base}
        events = Events("rl", work / "events.jsonl", echo=False)
        context = Context(
            "grpo", config, inputs, self.store, work, work / "out", "k", TaskRuntime(), events
        )
        start = Start(
            Lineage(self.base, self.base), FAMILIES["qwen2_5_omni"], work, work, adapter=None
        )
        counts = {"read": len(SEEN), "records": len(SEEN), "rejected": {}}
        given = TrainingRows(work / "rl.jsonl", work / "records.jsonl", work, counts, {})
        return within_band(context, start, given), work / "out"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_prompts_within_the_band_are_kept_and_those_that_nothing_grades(bench: Bench) -> None:
    rows, out = bench.filter()
    assert [r["id"] for r in read_jsonl(rows.path)] == ["seldom", "often", "unknown"]
    assert rows.counts == {
        "read": 6,
        "records": 3,
        "rejected": {},
        "too_hard": 1,
        "too_easy": 2,
    }
    assert rows.tokens["total"] == 9
    table = {row["id"]: (row["accuracy"], row["kept"]) for row in read_jsonl(out / TABLE)}
    assert table["nearly"] == (0.75, False)
    assert table["unknown"] == (None, True)


def test_another_band_asks_nothing_again_and_another_reward_does(bench: Bench) -> None:
    bench.filter("1")
    rows, _ = bench.filter("2", above=0.3, below=0.9)
    assert (bench.asked, rows.counts["records"]) == (1, 3)
    bench.filter("3", reward="mm_content")
    bench.filter("4", samples=8)
    assert bench.asked == 3


def test_a_band_without_a_prompt_is_refused_with_what_was_seen(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SEEN, "unknown", 0.0)
    with pytest.raises(
        InputError, match=r"rl.difficulty: no prompt's mm_format .* 4 too hard and 2"
    ):
        bench.filter(above=0.5, below=0.7)


def test_without_the_setting_nothing_is_asked(bench: Bench) -> None:
    rows, _ = bench.filter()
    context: Any = type("C", (), {"config": GRPOSettings()})
    start: Any = None
    same = replace(rows)
    assert within_band(context, start, same) is same


def test_the_accuracy_is_the_mean_of_what_is_graded() -> None:
    def reward(completions: Any, **columns: Any) -> list[float | None]:
        assert columns == {"solution": ["B"] * 3}
        return [{"B": 1.0, "A": 0.0}.get(text) for text in completions]

    assert accuracy(reward, {"solution": "B"}, ["B", "A", "?"]) == 0.5
    assert accuracy(reward, {"solution": "B"}, ["?", "?", "?"]) is None


def test_a_line_that_a_kill_cut_short_does_not_count(tmp_path: Path) -> None:
    whole = json.dumps({"id": "a", "accuracy": 0.5})
    (tmp_path / "0.jsonl").write_text(f'{whole}\n{{"id": "b", "acc')
    assert sampled(tmp_path) == {"a": 0.5}


def test_settings() -> None:
    with pytest.raises(ValidationError, match="'mm_formt' is no reward of this step: mm_format"):
        GRPOSettings.model_validate({"difficulty": {"reward": "mm_formt"}})
    with pytest.raises(ValidationError, match=r"nothing is above 0.8 and below 0.75"):
        GRPOSettings.model_validate({"difficulty": {"reward": "mm_format", "above": 0.8}})
    assert "difficulty" not in key_config(GRPOSettings())
