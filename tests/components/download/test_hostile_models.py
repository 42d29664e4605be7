"""A stranger's model made to run code, in any shape: refused in one line, or kept without it."""

import json
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.download.model_files import (
    check_shards,
    make_safe,
    remove_hidden_pickles,
    strip_remote_code,
    unsafe,
)
from omnistage.errors import InputError

REMOTE = ("auto_map", "audio_tokenizer")
EVIL = {"AutoConfig": "evil/repo--modeling.Evil"}
KEYS = st.sampled_from([*REMOTE, "model_type", "thinker_config", "x"])
LEAVES = st.sampled_from([EVIL, "evil/repo--a.B", ["a.B", None], 1, None, "qwen2_5_omni", "../x"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
JSON = VALUES.map(lambda value: json.dumps(value).encode())
PICKLES = st.sampled_from([pickle.dumps({"a": 1}, protocol) for protocol in range(2, 6)])
BYTES = st.one_of(
    JSON,
    PICKLES,
    PICKLES.map(lambda data: b"PK\x03\x04" + data),
    st.sampled_from(
        [b"", b"{", b'{"auto_map": NaN}', b"[" * 2000, b'{"a":' * 900 + b"1" + b"}" * 900]
    ),
)
NAMES = st.sampled_from(
    [
        "config.json",
        "tokenizer_config.json",
        "preprocessor_config.json",
        "config.5.0.0.json",
        "sub/config.json",
        "model.safetensors.index.json",
        "vocab.json",
        "weights.dat",
        "LICENSE",
        "modeling.py",
        "modeling.PY",
        "sub/x.so",
        "pytorch_model.bin",
        "spk_dict.pt",
    ]
)
MODELS = st.dictionaries(NAMES, BYTES, max_size=5)


def keys_of(value: Any) -> Iterator[str]:
    """Every key at every depth."""
    if isinstance(value, dict):
        yield from value
    for inner in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from keys_of(inner)


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@settings(max_examples=100, deadline=None, derandomize=True)
@given(MODELS)
@example({"config.json": json.dumps({"configuration_files": ["config.5.0.0.json"]}).encode()})
@example({"config.5.0.0.json": json.dumps({"auto_map": EVIL}).encode()})
def test_no_model_brings_code(files: dict[str, bytes]) -> None:
    usual = {"config.json": b'{"model_type": "x"}', "model.safetensors": b"\x80\x02weights"}
    with tempfile.TemporaryDirectory() as name:
        named = {path: data for path, data in (usual | files).items() if unsafe(path) is None}
        folder = write(Path(name), named)
        said: list[str] = []
        try:
            removed, stripped = make_safe(folder, said.append)
        except InputError as e:
            refused = str(e)
            assert refused.startswith("download_model: ")
            assert refused.isprintable()
            return
        assert [text.split()[0].rstrip(":") for text in said] == [*removed, *stripped]
        assert removed == sorted(set(named) - {*_files(folder)})
        for path in _files(folder):
            data = (folder / path).read_bytes()
            known = path in ("model.safetensors", "spk_dict.pt")
            assert known or not data.startswith((b"\x80", b"PK"))
            if "config" in path:
                assert not set(keys_of(json.loads(data))) & set(REMOTE)


def _files(folder: Path) -> list[str]:
    return [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]


def test_settings_that_the_config_names_are_settings_too(tmp_path: Path) -> None:
    """transformers reads ``config.<version>.json`` if ``configuration_files`` lists it."""
    evil = json.dumps({"auto_map": EVIL, "model_type": "x"}).encode()
    write(tmp_path, {"config.5.0.0.json": evil, "sub/config.json": evil, "vocab.json": evil})
    assert strip_remote_code(tmp_path) == ["config.5.0.0.json", "sub/config.json"]
    assert json.loads((tmp_path / "config.5.0.0.json").read_bytes()) == {"model_type": "x"}
    assert (tmp_path / "vocab.json").read_bytes() == evil


def test_a_processor_loads_no_other_repository(tmp_path: Path) -> None:
    """transformers would load it with ``trust_remote_code``, by the name that stands there."""
    other = {"audio_tokenizer_class": "AutoModel", "audio_tokenizer_name_or_path": "evil/repo"}
    config = json.dumps({"audio_tokenizer": other, "a": 1}).encode()
    write(tmp_path, {"processor_config.json": config})
    assert strip_remote_code(tmp_path) == ["processor_config.json"]
    assert json.loads((tmp_path / "processor_config.json").read_bytes()) == {"a": 1}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"auto_map": NaN}', "is not JSON"),
        (b'{"auto_map": 1, "a":' * 500 + b"1" + b"}" * 500, "nested too deeply"),
        (b'{"auto_map": 1, "a":' + b"[" * 300 + b"]" * 300 + b"}", "nested too deeply"),
        (b"[" * 5000, "is not JSON"),
    ],
)
def test_settings_that_cannot_be_read_are_refused(tmp_path: Path, data: bytes, says: str) -> None:
    write(tmp_path, {"config.json": data})
    with pytest.raises(InputError, match=f"^download_model: config.json.*{says}"):
        strip_remote_code(tmp_path)


def test_settings_of_gigabytes_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "tokenizer_config.json").open("wb") as f:
        f.truncate(1 << 40)  # a hole: it takes no room
    with pytest.raises(InputError, match="bytes of settings"):
        strip_remote_code(tmp_path)


def test_pickles_under_other_names_are_removed(tmp_path: Path) -> None:
    kept = {"model.safetensors": b"\x80\x02 is its length", "tokenizer.model": b"\n\x0e", "x": b""}
    hidden = {"LICENSE": pickle.dumps(1), "sub/weights.dat": b"PK\x03\x04..."}
    write(tmp_path, kept | hidden)
    assert remove_hidden_pickles(tmp_path) == sorted(hidden)
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == set(kept)


@pytest.mark.parametrize(
    "index",
    [
        {"weight_map": {"a": "../../elsewhere.safetensors"}},
        {"weight_map": {"a": "/etc/passwd"}},
        {"weight_map": {"a": "missing.safetensors"}},
        {"weight_map": {"a": 7}},
        {"weight_map": {"a": ["x"]}},
        {"weight_map": []},
        {},
        [],
        7,
    ],
)
def test_an_index_names_the_models_own_weights_only(tmp_path: Path, index: Any) -> None:
    files = {"model.safetensors": b"", "model.safetensors.index.json": json.dumps(index).encode()}
    with pytest.raises(InputError, match="^download_model: model.safetensors.index.json: "):
        check_shards(write(tmp_path, files))


def test_a_usual_index_is_accepted(tmp_path: Path) -> None:
    index = json.dumps({"metadata": {}, "weight_map": {"a": "one.safetensors"}}).encode()
    check_shards(write(tmp_path, {"one.safetensors": b"", "model.safetensors.index.json": index}))
