"""Every record is trained, or rejected with a reason that is counted; recipes may stop instead."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.sft.config import SFTSettings
from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.files import read_jsonl, write_jsonl
from omnistage.stage.contract import Context, TaskRuntime
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Manifest
from omnistage.swift import rows as rows_module
from omnistage.swift.encoding import Encoded, token_figures
from omnistage.swift.family import FAMILIES
from omnistage.swift.lineage import Lineage, Start
from omnistage.swift.rows import TrainingRows, training_rows

OMNI = FAMILIES["qwen2_5_omni"]
Prepare = Callable[..., TrainingRows]


def record(number: int, **media: list[str]) -> dict[str, Any]:
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    return {"id": f"a:{number}", "messages": turns, "solution": "!", **media}


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Take records through the rule, with given results of the encoding pass."""
    store = FolderStore(tmp_path / "store")

    def artifact(kind: Any, stage: str, files: dict[str, str], **fields: Any) -> Manifest:
        folder = store.work_folder(stage, "k") / "out"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return store.commit(folder, kind, stage, "k", **fields)

    def run(
        results: list[Encoded], rule: str = "reject", family: Any = OMNI, **media: list[str]
    ) -> TrainingRows:
        lines = [json.dumps(record(n, **media)) + "\n" for n in range(len(results))]
        inputs = {
            "records": artifact(
                "RewrittenJSONL",
                "rewrite_paths",
                {"sft.jsonl": "".join(lines)},
                produced_by={"config": {"on_bad": rule, "on_missing": "reject"}},
            ),
            "data": artifact("DatasetTarball", "download", {"index.jsonl": ""}),
        }
        monkeypatch.setattr(rows_module, "records_root", lambda *_: tmp_path)
        monkeypatch.setattr(rows_module, "encode_records", lambda *_: results)
        work, out = tmp_path / "work", tmp_path / "out"
        work.mkdir()
        out.mkdir()
        config = SFTSettings(max_length=100)
        context = Context(
            "sft", config, inputs, store, work, out, "k", TaskRuntime(), Events("sft", echo=False)
        )
        base = inputs["data"]
        start = Start(Lineage(base, base), family, tmp_path, tmp_path, None)
        return training_rows(context, start, config, "sft")

    return run


MIXED = [
    Encoded({"text": 60, "image": 40}),
    Encoded({"text": 61, "image": 40}),
    Encoded({}, error="x.png: OSError: image file is truncated"),
    Encoded({}, missing="no file x.png"),
    Encoded({"text": 3}),
]


MIXED_REASONS = {"cannot be encoded": 1, "missing": 1, "too long": 1}


def test_training_gets_exactly_the_rows_that_can_be_encoded(
    prepare: Prepare, tmp_path: Path
) -> None:
    rows = prepare(MIXED)
    assert rows.counts == {"read": 5, "records": 2, "rejected": MIXED_REASONS}
    assert len(list(read_jsonl(rows.path))) == 2
    assert list(read_jsonl(tmp_path / "out" / "rejected.jsonl")) == [
        {
            "id": "a:1",
            "reason": "too long",
            "detail": "101 tokens (61 text, 40 image), max_length is 100",
        },
        {
            "id": "a:2",
            "reason": "cannot be encoded",
            "detail": "x.png: OSError: image file is truncated",
        },
        {"id": "a:3", "reason": "missing", "detail": "no file x.png"},
    ]
    assert rows.tokens["total"] == 103


def test_the_data_card_says_what_is_trained_on_and_names_what_is_not(
    prepare: Prepare, tmp_path: Path
) -> None:
    prepare([*MIXED, Encoded({}, error="</pre>\n| x.png |\n# broken")])
    assert (
        (tmp_path / "out" / "data_card.md").read_text()
        == """\
# Data of sft

6 records read, 2 trained on, 4 set aside. An epoch has 103 tokens, 39% of them media; a record \
has 100 in the middle and 100 at most.

| modality | tokens of an epoch |
| --- | ---: |
| image | 40 |
| text | 63 |

| tokens of a record, at most | records |
| --- | ---: |
| 4 | 1 |
| 128 | 1 |

| set aside because | records |
| --- | ---: |
| cannot be encoded | 2 |
| missing | 1 |
| too long | 1 |

    a:1: too long: 101 tokens (61 text, 40 image), max_length is 100
    a:2: cannot be encoded: x.png: OSError: image file is truncated
    a:3: missing: no file x.png
    a:5: cannot be encoded: </pre> | x.png | # broken
"""
    )


def test_rows_that_all_fit_are_written_as_they_were(prepare: Prepare, tmp_path: Path) -> None:
    rows = prepare([Encoded({"text": 1})] * 3)
    expected = tmp_path / "expected.jsonl"
    write_jsonl(expected, [{"messages": record(n)["messages"]} for n in range(3)])
    assert rows.path.read_bytes() == expected.read_bytes()
    assert (tmp_path / "out" / "rejected.jsonl").read_bytes() == b""


def test_a_recipe_may_stop_at_such_a_row(prepare: Prepare) -> None:
    with pytest.raises(InputError, match=r"3 of 5 records .* a:1: 101 tokens.*on_bad is stop"):
        prepare(MIXED, "stop")


def test_a_split_of_which_no_row_is_left_is_refused_with_the_reason(prepare: Prepare) -> None:
    """Case media-02c blamed max_length for whatever it was."""
    with pytest.raises(InputError, match="no record is left to train on; 1 of 1.*truncated"):
        prepare([MIXED[2]])


def test_sound_for_a_model_that_cannot_hear_is_refused(prepare: Prepare) -> None:
    with pytest.raises(InputError, match=r"1 record has sound, but Qwen2\.5-VL cannot hear"):
        prepare([Encoded({})], family=FAMILIES["qwen2_5_vl"], audios=["a.wav"])


def test_the_figures_of_the_rows() -> None:
    assert token_figures(MIXED[:2]) == {
        "total": 201,
        "by_modality": {"image": 80, "text": 121},
        "media_share": 0.398,
        "longest": 101,
        "median": 101,
        "histogram": {"128": 2},
    }
    assert token_figures([])["total"] == 0
