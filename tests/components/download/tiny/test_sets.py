"""The generated sets of the tiny twins: written as their systems' own are, and learnable."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from components.download.config import TinyDataSource, TinyModelSource
from components.download.stage import STAGE as DOWNLOAD
from components.download.tiny.sets import KINDS, vocabulary
from components.download.tiny.tokenizer import build_tokenizer
from components.rewrite_paths.stage import STAGE as REWRITE
from omnistage.files import read_jsonl, sha256_file
from omnistage.recipe.document import find_twin, read_recipe, shipped_recipes, validate
from omnistage.records.record import SPLITS
from omnistage.settings import key_config
from omnistage.stage.execute import execute
from omnistage.store.folder import FolderStore
from pipelines.recipe import Recipe

NEW = [kind for kind in KINDS if kind != "judge"]
OWN = {n for n, p in shipped_recipes().items() if "/" in read_recipe(p).values.get("tiny", "")}
"""Recipes whose twin has data of its own."""


@pytest.mark.parametrize("kind", NEW)
def test_the_same_settings_give_the_same_bytes(kind: str, tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        KINDS[kind].write(tmp_path / name, KINDS[kind].settings())
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        digests.append([(path.name, sha256_file(path)) for path in files])
    assert digests[0] == digests[1]
    KINDS[kind].write(tmp_path / "c", KINDS[kind].settings.model_validate({"seed": 1}))
    assert [sha256_file(tmp_path / "c" / name) for name, _ in digests[0]] != [
        digest for _, digest in digests[0]
    ]


@pytest.mark.parametrize("kind", [kind for kind in NEW if KINDS[kind].lesson])
def test_a_lesson_is_few_tokens(kind: str) -> None:
    """Given a model of a million weights, a lesson is a line a token, but for numbers."""
    tokenizer = build_tokenizer("qwen2_5_vl", [kind])
    give = KINDS[kind].lesson
    assert give
    rng = np.random.default_rng(0)
    for _ in range(20):
        given = give(rng)
        assert len(tokenizer(given.prompt)["input_ids"]) <= 8
        assert len(tokenizer(given.answer)["input_ids"]) <= 7
        assert {image.size for image in given.images} <= {(28, 28)}


def test_other_kinds_leave_the_tokens_of_the_judging_set_as_they_were() -> None:
    alone = build_tokenizer("qwen2_5_omni")
    more = build_tokenizer("qwen2_5_omni", ["judge", *NEW])
    for line in vocabulary(["judge"]):
        assert more.convert_tokens_to_ids(line) == alone.convert_tokens_to_ids(line)


@pytest.mark.parametrize("name", sorted(OWN))
def test_all_rows_of_a_twin_become_records(name: str, tmp_path: Path) -> None:
    path = shipped_recipes()[name]
    recipe = validate(read_recipe(find_twin(path, read_recipe(path))), Recipe)
    store = FolderStore(tmp_path)
    for settings in recipe.data.values():
        config = DOWNLOAD.config.model_validate(
            settings.model_dump(include=set(DOWNLOAD.config.model_fields))
        )
        data = execute(DOWNLOAD, config, {}, store).manifest
        made = execute(REWRITE, settings.rewrite_paths, {"data": data}, store).manifest
        rejected = list(read_jsonl(store.local(made) / "rejected.jsonl"))
        assert rejected == []
        splits = [store.local(made) / f"{split}.jsonl" for split in SPLITS]
        assert sum(1 for path in splits for _ in read_jsonl(path)) >= 24


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValidationError, match="'wrods' is no kind of generated data: judge, rec"):
        TinyDataSource.model_validate({"type": "tiny", "kind": "wrods"})
    with pytest.raises(ValidationError, match="'wrods' is no kind of generated data"):
        TinyModelSource.model_validate({"type": "tiny", "settings": {"kinds": ["wrods"]}})
    with pytest.raises(ValidationError, match="lessons: judge gives none; leave it out"):
        TinyModelSource.model_validate({"type": "tiny", "settings": {"lessons": 3}})


def test_settings_are_those_of_the_kind() -> None:
    source = {"type": "tiny", "kind": "rec", "settings": {"train": 9}}
    assert TinyDataSource.model_validate(source).settings == {"train": 9, "test": 80, "seed": 0}
    with pytest.raises(ValidationError, match="hedged_share"):
        TinyDataSource.model_validate(source | {"settings": {"hedged_share": 0.1}})


def test_the_key_of_the_judging_set_names_no_kind() -> None:
    settings = TinyDataSource.model_validate({"type": "tiny"})
    assert set(key_config(settings)) == {"target", "type", "settings", "key_version"}
    model = TinyModelSource.model_validate({"type": "tiny"})
    assert not {"kinds", "lessons"} & set(model.settings)


@pytest.mark.parametrize("source", [TinyDataSource, TinyModelSource])
def test_what_other_generators_made_is_not_taken_for_the_same(
    source: type[TinyDataSource | TinyModelSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = key_config(source(type="tiny"))
    monkeypatch.setattr(source, "key_version", source.key_version + 1)
    assert key_config(source(type="tiny")) != now
