"""Each stage fails in turn, knowing every secret, and none is in what it writes or prints."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

from components.download.stage import MODEL_STAGE
from components.download.stage import STAGE as DOWNLOAD
from components.eval.stage import STAGE as EVAL
from components.grpo.stage import STAGE as GRPO
from components.rewrite_paths.stage import STAGE as REWRITE
from components.sft.stage import STAGE as SFT
from omnistage.stage.contract import Stage
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Kind
from omnistage.store.uris import manifest_uri
from omnistage.task.program import main
from tests.components.download.download_kit import Fault, Server
from tests.secrets.canaries import DYING_CHILD, LOGIN, QUERY, leaks, written

TURNS = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "a dog"}]
RECORDS = "".join(
    json.dumps({"id": f"a:{n}", "messages": TURNS, "solution": "a dog", "task": "free_form"}) + "\n"
    for n in range(4)
)
ARTIFACTS: dict[str, tuple[Kind, str, dict[str, str]]] = {
    "data": ("DatasetTarball", "download", {"index.jsonl": "", "files/a_rl.jsonl": "{not JSON\n"}),
    **dict.fromkeys(
        ("model", "start"),
        ("BaseModel", "download_model", {"files/config.json": '{"model_type": "qwen2_5_omni"}'}),
    ),
    "records": (
        "RewrittenJSONL",
        "rewrite_paths",
        {f"{split}.jsonl": RECORDS for split in ("sft", "rl", "test")},
    ),
}


@dataclass
class Scene:
    """A stage's home, and a server that knows the query and password of its sources."""

    home: Path
    server: Server

    def inputs(self, stage: Stage[Any]) -> dict[str, str]:
        """Put small inputs into the store and return their URIs."""
        store, found = FolderStore(self.home / "store"), {}
        for name, (kind, made_by, files) in ARTIFACTS.items():
            if name not in stage.inputs:
                continue
            folder = store.work_folder(made_by, "k") / "out"
            for path, text in files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(text)
            found[name] = manifest_uri(store.commit(folder, kind, made_by, "k"))
        return found

    def run(self, stage: Stage[Any], config: dict[str, Any]) -> int:
        """Run a stage as a program."""
        spec = {
            "config": config,
            "inputs": self.inputs(stage),
            "store": (self.home / "store").as_uri(),
            "events": str(self.home / "events.jsonl"),
            "manifest": str(self.home / "manifest.json"),
        }
        return main(stage, ["--spec", json.dumps(spec)])


@pytest.fixture
def scene(tmp_path: Path, served: Server, planted: None, monkeypatch: pytest.MonkeyPatch) -> Scene:
    parts = urlsplit(served.url)
    signed = f"{parts.scheme}://{LOGIN}@{parts.netloc}/?{QUERY}"
    monkeypatch.setenv("OMNISTAGE_SIGNED_URLS", signed)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(DYING_CHILD)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{Path.cwd()}")
    monkeypatch.setenv("OMNISTAGE_SCRATCH", str(tmp_path / "home" / "scratch"))
    (tmp_path / "home").mkdir()
    return Scene(tmp_path / "home", served)


def https(server: Server, *names: str) -> dict[str, Any]:
    files = [{"url": f"{server.url}/{name}?part=1"} for name in names]
    return {"sources": [{"type": "https", "files": files}], "transfer": {"tries": 2, "workers": 1}}


JUDGE = "GET http://***@127.0.0.1:9/score?key=*** failed"
"""As the log of a process that fails says it."""
CASES: dict[str, tuple[Stage[Any], Callable[[Server], dict[str, Any]], str]] = {
    "download of no archive": (DOWNLOAD, lambda s: https(s, "bad.tar"), "not an archive"),
    "download of what is gone": (DOWNLOAD, lambda s: https(s, "gone.tar"), "404"),
    "download from a sick server": (DOWNLOAD, lambda s: https(s, "sick.tar"), "given up"),
    "download from nobody": (
        DOWNLOAD,
        lambda s: https(Server("http://127.0.0.1:9", s.served), "a.tar"),
        "given up",
    ),
    "download_model": (MODEL_STAGE, lambda s: https(s, "bad.tar"), "no config.json"),
    "rewrite_paths": (REWRITE, lambda s: {"workers": 1, "on_bad": "stop"}, "a_rl.jsonl"),
    "sft": (SFT, lambda s: {}, JUDGE),
    "grpo": (GRPO, lambda s: {"reward_weights": {"mm_format": 1.0}}, JUDGE),
    "eval": (EVAL, lambda s: {"models": ["base"]}, JUDGE),
}


@pytest.mark.parametrize("name", CASES)
def test_a_stage_that_fails_tells_no_secret(
    scene: Scene, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    stage, config, said = CASES[name]
    scene.server.served.files["/bad.tar"] = b"<html></html>"
    scene.server.served.always["/sick.tar"] = Fault("status", status=503)
    assert scene.run(stage, config(scene.server)) != 0
    output = "".join(capfd.readouterr())
    assert said in output
    assert leaks(output) == []
    assert leaks(written(scene.home)) == []


def test_what_a_download_keeps_holds_no_secret_and_its_server_got_them_all(
    scene: Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    scene.server.served.files["/a.jsonl"] = b"{}\n"
    assert scene.run(DOWNLOAD, https(scene.server, "a.jsonl")) == 0
    assert leaks("".join(capfd.readouterr())) == []
    assert leaks(written(scene.home)) == []
    assert scene.server.served.addresses[0] == f"/a.jsonl?part=1&{QUERY}"
    _, headers = scene.server.served.requests[0]
    assert headers["authorization"].startswith("Basic ")
    assert orjson.loads((scene.home / "manifest.json").read_bytes())["counts"]["files"] == 1
