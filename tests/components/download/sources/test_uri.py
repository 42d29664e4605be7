"""Sources as one URI: every form there is, and that nothing else is taken for one."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.download.config import DownloadSettings, ModelSettings
from components.download.sources.uri import parse_source, with_source
from omnistage.errors import InputError

NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("hf://Qwen/Qwen2.5-Omni-3B", {"type": "hub", "repo": "Qwen/Qwen2.5-Omni-3B"}),
        ("hf://gpt2", {"type": "hub", "repo": "gpt2"}),
        ("hub:o/n@refs/pr/3", {"type": "hub", "repo": "o/n", "revision": "refs/pr/3"}),
        ("hub://o/n@v1.0", {"type": "hub", "repo": "o/n", "revision": "v1.0"}),
        ("modelscope://o/n@master", {"type": "modelscope", "model": "o/n", "revision": "master"}),
        ("s3://bucket/sets/a", {"type": "s3", "uri": "s3://bucket/sets/a"}),
        ("s3://bucket", {"type": "s3", "uri": "s3://bucket"}),
        (
            "https://data.example/a%20b.zip?part=x#y",
            {"type": "https", "files": [{"url": "https://data.example/a%20b.zip?part=x#y"}]},
        ),
        ("file:///mnt/sets/a%20b", {"type": "folder", "path": "/mnt/sets/a b"}),
        ("file://localhost/mnt", {"type": "folder", "path": "/mnt"}),
    ],
)
def test_a_uri_is_an_entry_of_a_recipes_sources(uri: str, source: dict[str, Any]) -> None:
    assert parse_source(uri) == source
    DownloadSettings.model_validate({"sources": [source]})
    ModelSettings.model_validate({"sources": [source]})


@pytest.mark.parametrize(
    "uri",
    [
        "Qwen/Qwen2.5-Omni-3B",
        "/mnt/sets",
        "hf:",
        "hf://a/b/c",
        "hf://a/b@",
        "hf://a b/c",
        "modelscope://n",
        "s3:///key",
        "s3:bucket/key",
        "https://",
        "https://host/folder/",
        "https://[::1/x",
        "file://host/share",
        "file:///",
        "ftp://host/x",
        "tiny:",
    ],
)
def test_anything_else_is_refused_with_the_forms_there_are(uri: str) -> None:
    with pytest.raises(InputError) as e:
        parse_source(uri)
    assert repr(uri) in str(e.value)
    assert "expected hf://owner/name@revision" in str(e.value)


@given(NAME, NAME, st.none() | NAME)
def test_every_repository_is_understood(owner: str, name: str, revision: str | None) -> None:
    end = f"@{revision}" if revision else ""
    for scheme, field in (("hf", "repo"), ("modelscope", "model")):
        source = parse_source(f"{scheme}://{owner}/{name}{end}")
        assert source[field] == f"{owner}/{name}"
        assert source.get("revision") == revision


@given(st.text(max_size=60))
def test_any_text_is_a_valid_source_or_an_input_error(text: str) -> None:
    try:
        source = parse_source(text)
    except InputError:
        return
    [read] = DownloadSettings.model_validate({"sources": [source]}).sources
    assert read.type == source["type"]


def test_no_source_leaves_the_settings_alone() -> None:
    config = {"sources": [{"type": "tiny"}], "sha256": {"a": "b"}}
    assert with_source("")(config) is config


def test_a_source_takes_the_place_of_all_others_and_of_their_hashes() -> None:
    config = {
        "sources": [{"type": "tiny"}, {"type": "s3", "uri": "s3://b"}],
        "sha256": {"a.zip": "0" * 64},
        "transfer": {"workers": 2},
    }
    assert with_source("hf://o/n")(config) == {
        "sources": [{"type": "hub", "repo": "o/n"}],
        "transfer": {"workers": 2},
    }


def test_a_folder_is_known_by_what_is_in_it_now(tmp_path: Path) -> None:
    def fingerprint() -> str:
        changed = with_source(tmp_path.as_uri())({"sources": []})
        return changed["sources"][0]["fingerprint"]

    (tmp_path / "a").write_text("1")
    before = fingerprint()
    assert fingerprint() == before
    (tmp_path / "b").write_text("2")
    assert fingerprint() != before
    recipe = DownloadSettings.model_validate(
        {"sources": [{"type": "folder", "path": str(tmp_path)}]}
    )
    resolved = recipe.resolve().sources[0].model_dump()
    assert resolved["fingerprint"] == fingerprint()


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        with_source((tmp_path / "none").as_uri())({"sources": []})
