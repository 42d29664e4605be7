"""Records of several data sets as one: by weight, and without what is tested."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.mix.config import MixSettings
from components.mix.stage import STAGE
from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.files import read_jsonl, write_jsonl
from omnistage.records.mixing import interleave
from omnistage.records.record import SPLITS, check
from omnistage.stage.contract import Outcome, numbered
from omnistage.stage.execute import execute
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Manifest


class Sets:
    """Data sets in a store: each a list of records by split, with the bytes of their media."""

    def __init__(self, root: Path) -> None:
        self.store, self.root = FolderStore(root / "store"), root

    def made(self, name: str, on_bad: str = "reject", **splits: Sequence[Any]) -> Manifest:
        """A rewritten set; a record is a prompt, or a path with what stands for its bytes."""
        folder = self.root / name
        folder.mkdir()
        for split in SPLITS:
            rows = [_record(n, said) for n, said in enumerate(splits.get(split, ()))]
            write_jsonl(folder / f"{split}.jsonl", [row for row, _ in rows])
            write_jsonl(folder / f"{split}.media.jsonl", [m for _, media in rows for m in media])
        config = {"on_bad": on_bad}
        return self.store.commit(
            *(folder, "RewrittenJSONL", "rewrite_paths", name), produced_by={"config": config}
        )

    def mix(
        self, records: Sequence[Manifest], tests: Sequence[Manifest] = (), **settings: Any
    ) -> Outcome:
        """Run the stage."""
        inputs = {numbered("records", n): m for n, m in enumerate(records, 1)}
        inputs |= {numbered("tests", n): m for n, m in enumerate(tests, 1)}
        config = MixSettings.model_validate({"split": "sft", **settings})
        events = Events("mix-sft", self.root / "events.jsonl", echo=False)
        return execute(STAGE, config, inputs, self.store, events=events)

    def rows(self, made: Outcome, name: str = "sft.jsonl") -> list[dict[str, Any]]:
        """The lines of a file of the result."""
        return list(read_jsonl(self.store.local(made.manifest) / name))


def _record(number: int, said: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    path, shown = said if isinstance(said, tuple) else (None, None)
    text = f"<image>what is {path}?" if path else str(said)
    record = {
        "id": f"r:{number}",
        "source": "s",
        "task": "free_form",
        "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "!"}],
        **({"images": [path]} if path else {}),
        "solution": "!",
    }
    return record, [{"path": path, "size": 1, "sha256": shown, "media": {}}] if path else []


@pytest.fixture
def sets(tmp_path: Path) -> Sets:
    return Sets(tmp_path)


def test_records_without_weights_follow_one_another_below_their_sets(sets: Sets) -> None:
    a = sets.made("a", sft=["one", ("x.png", "1")])
    b = sets.made("b", sft=[("x.png", "2"), "three"])
    made = sets.mix([a, b])
    rows = sets.rows(made)
    assert [row["id"] for row in rows] == ["1/r:0", "1/r:1", "2/r:0", "2/r:1"]
    assert [row["images"] for row in rows if "images" in row] == [["1/x.png"], ["2/x.png"]]
    for row in rows:
        check(row)
    media = {row["path"]: row["sha256"] for row in sets.rows(made, "sft.media.jsonl")}
    assert media == {"1/x.png": "1", "2/x.png": "2"}
    assert made.manifest.counts == {
        **{"rows": 4, "sft": 4, "rl": 0, "test": 0},
        **{"rejected": {}, "left_out": {}},
    }


def test_what_a_test_record_shows_is_left_out_and_said(sets: Sets, tmp_path: Path) -> None:
    """By the bytes, whatever a file is called; records without media by their prompt."""
    a = sets.made("a", sft=[("x.png", "1"), ("y.png", "2"), "how many?", "why?"])
    b = sets.made("b", test=[("other.png", "1"), "how many?"])
    made = sets.mix([a], [b])
    assert [row["id"] for row in sets.rows(made)] == ["r:1", "r:3"]
    assert sets.rows(made, "rejected.jsonl") == [
        {
            "id": "r:0",
            "reason": "shares_media_with_test",
            "detail": "x.png is in a test record",
        },
        {
            "id": "r:2",
            "reason": "shares_media_with_test",
            "detail": "a test record has the same prompt",
        },
    ]
    assert [row["path"] for row in sets.rows(made, "sft.media.jsonl")] == ["y.png"]
    assert made.manifest.counts["rejected"] == {"shares_media_with_test": 2}
    (warning,) = [e for e in read_jsonl(tmp_path / "events.jsonl") if e["event"] == "warning"]
    assert warning["text"].startswith("2 of 4 records left out: r:0: x.png is in a test record")


def test_test_records_themselves_are_only_put_together(sets: Sets) -> None:
    a = sets.made("a", test=[("x.png", "1")])
    b = sets.made("b", test=[("x.png", "1")])
    made = sets.mix([a, b], split="test")
    assert [row["images"] for row in sets.rows(made, "test.jsonl")] == [["1/x.png"], ["2/x.png"]]


def test_weights_give_the_shares_and_the_seed_the_order(sets: Sets) -> None:
    a = sets.made("a", sft=[f"a{n}" for n in range(300)])
    b = sets.made("b", sft=[f"b{n}" for n in range(300)])
    made = sets.mix([a, b], weights=[2, 1], seed=1)
    rows = sets.rows(made)
    shares = Counter(row["id"][0] for row in rows)
    assert shares["1"] == 300, "the first to run out"
    assert 110 < shares["2"] < 190
    assert made.manifest.counts["left_out"] == {"mixing": 600 - len(rows)}
    assert [r["id"] for r in sets.rows(sets.mix([a, b], weights=[2, 1], seed=2))] != [
        r["id"] for r in rows
    ]
    everything = sets.mix([a, b], weights=[2, 1], mix_until="all")
    assert len(sets.rows(everything)) == 600


def test_a_set_that_wants_to_stop_at_bad_rows_still_does(sets: Sets) -> None:
    a, b = sets.made("a", sft=["x"]), sets.made("b", on_bad="stop", sft=["y"])
    assert sets.mix([a, b]).manifest.metadata == {"on_bad": "stop"}


@pytest.mark.parametrize(
    ("splits", "settings", "said"),
    [
        ({"sft": ["x"]}, {"weights": [1.0, 2.0]}, "mix-sft: 2 weights for 1 data sets"),
        ({"rl": ["x"]}, {}, "sft.jsonl: the split is empty"),
    ],
)
def test_what_cannot_be_mixed_is_refused(
    sets: Sets, splits: Mapping[str, Any], settings: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        sets.mix([sets.made("a", **splits)], **settings)


def test_nothing_left_to_train_on_is_refused(sets: Sets) -> None:
    a, b = sets.made("a", sft=["same"]), sets.made("b", test=["same"])
    with pytest.raises(InputError, match="no record of the split sft is left"):
        sets.mix([a], [b])


@given(
    st.lists(st.tuples(st.integers(0, 40), st.floats(0.1, 9)), min_size=1, max_size=4),
    st.integers(0, 99),
)
def test_every_record_is_drawn_once_in_the_order_of_its_set(
    drawn: list[tuple[int, float]], seed: int
) -> None:
    lengths, weights = [n for n, _ in drawn], [w for _, w in drawn]
    order = interleave(lengths, weights, "all", [seed])
    assert Counter(order) == {place: n for place, n in enumerate(lengths) if n}
    first = interleave(lengths, weights, "first", [seed])
    counts = Counter(first)
    assert all(counts[place] <= n for place, n in enumerate(lengths))
    assert any(counts[place] == n for place, n in enumerate(lengths))


def test_its_paths_are_those_of_json(sets: Sets) -> None:
    a = sets.made("a", sft=[("bilder/größe.png", "1")])
    line = (sets.store.local(sets.mix([a]).manifest) / "sft.jsonl").read_bytes()
    assert json.loads(line)["images"] == ["bilder/größe.png"]
