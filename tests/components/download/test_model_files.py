"""A stranger's model: weights and settings are kept, code and pickles are not."""

import io
import json
import pickle
import zipfile
from typing import Any

import pytest
import torch

from components.download.config import ModelSettings
from components.download.model_files import unsafe
from components.download.stage import MODEL_STAGE
from omnistage.errors import InputError
from omnistage.stage.execute import execute
from omnistage.store.folder import FolderStore
from omnistage.store.uris import uri_path
from tests.components.download.download_kit import Heard

AUTO_MAP = {"AutoModel": "modeling_evil.Evil"}
SAFE = {"config.json": b'{"model_type": "qwen2_5_omni"}', "model.safetensors": b"x" * 64}


def fetched(tmp_path, files: dict[str, bytes]):
    """Return manifest, folder and warnings of a model made of these files."""
    source = tmp_path / "source"
    for name, data in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    values = {"sources": [{"type": "folder", "path": str(source)}]}
    events = Heard()
    store = FolderStore(tmp_path / "store")
    outcome = execute(MODEL_STAGE, ModelSettings.model_validate(values), {}, store, events=events)
    return outcome.manifest, uri_path(outcome.manifest.uri) / "files", events.warnings


def speakers(value: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return (print, ("pwned",))


def test_code_and_pickles_are_left_out_and_named(tmp_path):
    files = {
        "modeling_evil.py": b"raise SystemExit",
        "pytorch_model.bin": pickle.dumps(Evil()),
        "custom_generate/generate.py": b"x",
        "training_args.bin": b"x",
        "rng_state.pth": b"x",
        "sub/spk_dict.pt": b"x",
        "tokenizer.json": b"{}",
        "chat_template.jinja": b"x",
    }
    manifest, folder, warnings = fetched(tmp_path, SAFE | files)
    kept = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert kept == {*SAFE, "tokenizer.json", "chat_template.jinja"}
    gone = sorted(set(files) - kept)
    assert manifest.metadata["left_out"] == gone
    assert sorted(w.partition(" ")[0] for w in warnings) == gone


def test_auto_map_is_taken_out_wherever_it_stands(tmp_path):
    config = {
        "model_type": "qwen3_vl",
        "auto_map": AUTO_MAP,
        "vision_config": {"auto_map": AUTO_MAP},
    }
    files = {
        "config.json": json.dumps(config).encode(),
        "tokenizer_config.json": json.dumps({"auto_map": AUTO_MAP, "x": 1}).encode(),
        "preprocessor_config.json": json.dumps([{"auto_map": AUTO_MAP}]).encode(),
        "processor_config.json": b'{"a":   1}',
        "vocab.json": b'{"auto_map": 7}',
    }
    manifest, folder, warnings = fetched(tmp_path, SAFE | files)
    assert json.loads((folder / "config.json").read_text()) == {
        "model_type": "qwen3_vl",
        "vision_config": {},
    }
    assert json.loads((folder / "tokenizer_config.json").read_text()) == {"x": 1}
    assert (folder / "processor_config.json").read_bytes() == b'{"a":   1}'
    assert (folder / "vocab.json").read_bytes() == b'{"auto_map": 7}'
    changed = ["config.json", "preprocessor_config.json", "tokenizer_config.json"]
    assert manifest.metadata["auto_map_removed"] == changed
    assert [w.partition(":")[0] for w in warnings] == changed
    assert manifest.metadata["model_type"] == "qwen3_vl"


def test_weights_that_are_pickles_only_are_refused(tmp_path):
    files = {"config.json": b"{}", "pytorch_model.bin": b"x"}
    with pytest.raises(
        InputError, match=r"the weights are pickles \(pytorch_model.bin\).*safetensors"
    ):
        fetched(tmp_path, files)


def test_speakers_of_tensors_are_kept(tmp_path):
    voices = {"Chelsie": {"cond": torch.zeros(1, 4), "ref_mel": torch.ones(2, 3), "bos_token": 7}}
    data = speakers(voices)
    _, folder, warnings = fetched(tmp_path, SAFE | {"spk_dict.pt": data})
    assert (folder / "spk_dict.pt").read_bytes() == data
    assert warnings == []


def repacked(pickled: bytes) -> bytes:
    """Return a file of tensors whose pickle is another."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(speakers({}))) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, pickled if name.endswith("data.pkl") else old.read(name))
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        speakers({"voice": Evil()}),
        *(repacked(pickle.dumps(Evil(), protocol)) for protocol in range(6)),
        repacked(b"cos\nsystem\n(S'true'\ntR."),
        repacked(b"(S'true'\nios\nsystem\n."),
        pickle.dumps({"legacy": 1}),
        b"",
    ],
)
def test_speakers_that_would_run_something_are_refused_unread(tmp_path, data, capfd):
    with pytest.raises(InputError, match="spk_dict.pt"):
        fetched(tmp_path, SAFE | {"spk_dict.pt": data})
    assert "pwned" not in capfd.readouterr().out


@pytest.mark.parametrize("name", ["model.safetensors", "merges.txt", "tokenizer.model", "x.md"])
def test_usual_files_are_safe(name):
    assert unsafe(name) is None


def test_chat_templates_render_in_a_sandbox():
    from jinja2.exceptions import SecurityError
    from transformers.utils.chat_template_utils import render_jinja_template

    template = "{{ messages.__class__.__mro__[-1].__subclasses__() }}"
    with pytest.raises(SecurityError):
        render_jinja_template([[{"role": "user", "content": "x"}]], chat_template=template)
