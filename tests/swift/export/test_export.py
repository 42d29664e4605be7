"""What a step has trained goes to others whole: its files, a card, the command that serves it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from omnistage.cli import main as cli
from omnistage.events import Events
from omnistage.runs.folder import finish, new_run
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Kind, Manifest
from omnistage.store.objects import list_below
from omnistage.store.reference import reference
from omnistage.swift import lineage as lineage_module
from tests.swift.export.hub_kit import Hub, serve_hub

REPO = "Qwen/Qwen2.5-Omni-3B"
CONFIG = {
    "tuner": "lora",
    "dtype": "bfloat16",
    "media": {"max_pixels": 78_400},
    "reward_code": {"/home/me/secret.py": "pay(me)"},
}
HEADLINE = {
    "task": "judge",
    "metric": "accuracy",
    "records": 12,
    "models": {
        "base": {"value": 0.5, "low": 0.4, "high": 0.6},
        "grpo": {"value": 0.75, "low": 0.7, "high": 0.8},
    },
    "constant": {"name": "always A", "value": 0.55},
}


class Home:
    """A run whose results are a few bytes each."""

    def __init__(self, tmp: Path) -> None:
        self.path, self.store = tmp / "home", FolderStore(tmp / "home" / "store")
        self.steps: dict[str, Manifest] = {}

    def add(
        self, step: str, kind: Kind, files: dict[str, str], stage: str = "", **fields: Any
    ) -> Manifest:
        stage = stage or step
        out = self.store.work_folder(stage, step) / "out"
        for name, text in files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(text)
        self.steps[step] = self.store.commit(out, kind, stage, step, **fields)
        return self.steps[step]

    def run(self) -> "Home":
        folder = new_run(self.path, "mine", {"recipe": {"name": "mine"}}, list(self.steps))
        for step, made in self.steps.items():
            events = Events(step, folder / "events.jsonl", echo=False)
            events.emit("started", key=made.key)
            events.emit("finished", key=made.key, cached=False, seconds=1.0, uri=made.uri)
        finish(folder, 0)
        return self

    def command(self, *words: str) -> int:
        return cli.main([*words, "--home", str(self.path)])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """base → grpo (an adapter) → more (an adapter on the merged model), and a whole model."""
    made = Home(tmp_path)
    base = made.add(
        "download_model",
        "BaseModel",
        {"files/config.json": '{"model_type": "qwen2_5_omni"}', "files/spk_dict.pt": "voices"},
        metadata={"sources": [{"type": "hub", "repo": REPO}]},
    )
    data = made.add(
        "download",
        "DatasetTarball",
        {"files/a": "a"},
        metadata={"sources": [{"repo": "me/set", "resolved_revision": "c0ffee"}]},
    )
    told = {"data": {"digest": data.digest, "key": data.key, "uri": data.uri}}
    provenance = {"config": CONFIG, "inputs": told, "libraries": {"peft": "0.20.0"}}
    settings = json.dumps({"base_model_name_or_path": "download_model/k/content/files", "r": 8})
    files = {"adapter/adapter_config.json": settings, "adapter/adapter_model.safetensors": "w"}
    lineage = {"base": reference(base), "model": reference(base), "adapters": []}
    grpo = made.add(
        "grpo",
        "LoRAAdapter",
        files,
        metadata={"lineage": lineage},
        counts={"records": 40, "steps": 10},
        produced_by=provenance,
    )
    on_top = {**lineage, "adapters": [reference(grpo)]}
    made.add("more", "LoRAAdapter", files, metadata={"lineage": on_top}, produced_by=provenance)
    whole = {"base": reference(base), "model": None, "adapters": []}
    made.add("full", "SFTCheckpoint", {"model/w.safetensors": "w"}, metadata={"lineage": whole})
    made.add("eval", "EvalReport", {"report.json": "{}"}, metadata={"headline": HEADLINE})
    return made.run()


def test_an_adapter_goes_out_with_the_published_name_of_its_base(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert home.command("export", "grpo", "--to", str(out)) == 0
    assert {p.name for p in out.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    settings = json.loads((out / "adapter_config.json").read_text())
    assert settings == {"base_model_name_or_path": REPO, "r": 8}
    said = capsys.readouterr().out
    assert f"swift deploy --model {REPO} --model_type qwen2_5_omni" in said
    assert f"--adapters grpo={out}" in said
    assert "MAX_PIXELS=78400" in said
    assert not list(tmp_path.glob(".omnistage-export-*"))


def test_the_card_says_what_went_in_how_it_was_trained_and_how_good_it_was(
    home: Home, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert home.command("export", "grpo", "--to", str(out)) == 0
    text = (out / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "library_name": "peft",
        "base_model": REPO,
        "tags": ["omnistage", "ms-swift", "grpo"],
    }
    made = home.steps["grpo"]
    assert f"| grpo | `grpo` | `{made.digest}` | 40 | 10 |" in body
    assert f"- data: `{home.steps['download'].digest}` (me/set at c0ffee)" in body
    assert "| grpo | 0.7500 | 0.7000 … 0.8000 |" in body
    assert "| always A (constant) | 0.5500 | – |" in body
    assert "max_pixels: 78400" in body
    assert "secret" not in text
    assert str(tmp_path / "home") not in text


def test_what_a_loader_wants_beside_the_weights_is_there(home: Home, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert home.command("export", "full", "--to", str(out)) == 0
    assert (out / "spk_dict.pt").read_text() == "voices"
    assert "It was not evaluated in this run." in (out / "README.md").read_text()


def test_an_adapter_on_a_model_that_nobody_else_has_goes_out_merged_alone(
    home: Home,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert home.command("export", "more", "--to", str(tmp_path / "out")) == 2
    said = capsys.readouterr().err
    assert "more: its adapter belongs on download_model download_mod with grpo grpo" in said
    assert "export it with --merged" in said

    merges = []

    def merge(_context: Any, _family: Any, dtype: str, model: Path, own: Path, to: Path) -> None:
        merges.append((dtype, own.parents[1].name))
        shutil.copytree(model, to)

    monkeypatch.setattr(lineage_module, "_merge", merge)
    assert home.command("export", "more", "--merged", "--to", str(tmp_path / "out")) == 0
    assert merges == [("bfloat16", "grpo"), ("bfloat16", "more")]
    assert "its adapter merged" in (tmp_path / "out" / "README.md").read_text()


def test_a_bucket_gets_the_files_and_is_not_written_over(
    home: Home, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = f"s3://{bucket}/exported/grpo"
    assert home.command("export", "grpo", "--to", target) == 0
    names = {found.uri.removeprefix(f"s3://{bucket}/") for found in list_below(target)}
    assert names == {
        f"exported/grpo/{name}"
        for name in ("README.md", "adapter_config.json", "adapter_model.safetensors")
    }
    assert home.command("export", "grpo", "--to", target) == 2
    assert "there are objects already; name another prefix" in capsys.readouterr().err


def test_a_hub_gets_a_private_repository_with_the_files(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_hub(Hub()) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_mine")
        assert home.command("export", "grpo", "--to", "hub:me/judge") == 0
    assert hub.created == [{"name": "judge", "organization": "me", "visibility": "private"}]
    assert hub.files["adapter_model.safetensors"] == b"w"
    assert b"library_name: peft" in hub.files["README.md"]
    assert hub.tokens == {"Bearer hf_mine"}


@pytest.mark.parametrize(("status", "code"), [(403, 2), (503, 75)])
def test_a_hub_that_refuses_is_told_from_one_that_does_not_answer(
    status: int,
    code: int,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serve_hub(Hub(status=status)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_mine")
        assert home.command("export", "grpo", "--to", "hub:me/judge") == code
    said = capsys.readouterr().err
    assert f"hub me/judge: {'refused with' if code == 2 else 'it answered'} {status}" in said
    assert "hf_mine" not in said


def test_the_command_that_serves_a_step_names_the_store_s_own_files(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert home.command("serve", "grpo") == 0
    said = capsys.readouterr().out
    base, made = home.steps["download_model"].uri, home.steps["grpo"].uri
    assert f"--model {base.removeprefix('file://')}/files" in said
    assert f"--adapters grpo={made.removeprefix('file://')}/adapter" in said


@pytest.mark.parametrize(
    ("step", "to", "said"),
    [
        ("gpro", "out", "no step 'gpro'; did you mean 'grpo'?"),
        ("eval", "out", "eval: EvalReport is no trained model; name a training step"),
        ("grpo", ".", "--to .: is there already; name a folder that is not"),
        ("grpo", "hub:me", "--to hub:me: hub:owner/name is needed"),
        ("grpo", "hub:me/it", "--to hub:me/it: set HF_TOKEN"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_made(
    step: str,
    to: str,
    said: str,
    home: Home,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert home.command("export", step, "--to", to) == 2
    assert said in capsys.readouterr().err
