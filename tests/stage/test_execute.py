"""The stage contract: keys, hits, damage, forcing, exit codes."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from omnistage.errors import InputError, StageFailedError, TransientError
from omnistage.events import Events
from omnistage.settings import Settings, key_config, operational, parse_config
from omnistage.stage.contract import Context, Result, Stage
from omnistage.stage.execute import execute
from omnistage.stage.key import pinned_version, stage_key
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Manifest
from omnistage.store.uris import manifest_uri
from omnistage.task.program import main

RUNS: list[str] = []


class Copy(Settings):
    """Settings of the stage under test."""

    text: str = Field(default="hello", description="Written into the artifact.")
    workers: int = Field(default=1, description="No part.", json_schema_extra=operational())
    fail: str = Field(default="", description="How to fail.", json_schema_extra=operational())


def run(context: Context[Copy]) -> Result:
    RUNS.append(context.key)
    failures: dict[str, Exception] = {
        "input": InputError("records.jsonl:7: no such field"),
        "passing": TransientError("the server is busy"),
        "failed": StageFailedError("out of memory"),
        "bug": RuntimeError("a bug"),
        "full": OSError(28, "No space left on device", "x"),
    }
    attempts = context.work / "attempts"
    attempts.write_text(attempts.read_text() + "." if attempts.exists() else ".")
    if context.config.fail:
        raise failures[context.config.fail]
    (context.out / "text").write_text(context.config.text)
    if "data" in context.inputs:
        source = context.folder("data") / "text"
        (context.out / "source").write_text(source.read_text())
    return Result(counts={"attempts": len(attempts.read_text())})


FIRST = Stage("download", "DatasetTarball", 1, Copy, {}, run)
SECOND = Stage("rewrite_paths", "RewrittenJSONL", 1, Copy, {"data": "DatasetTarball"}, run)


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    RUNS.clear()


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def test_a_second_run_computes_nothing(store: FolderStore) -> None:
    one = execute(FIRST, Copy(), {}, store)
    two = execute(FIRST, Copy(), {}, store)
    assert (one.cached, two.cached) == (False, True)
    assert one.manifest == two.manifest
    assert len(RUNS) == 1


def test_force_computes_again(store: FolderStore) -> None:
    execute(FIRST, Copy(), {}, store)
    assert not execute(FIRST, Copy(), {}, store, force=True).cached
    assert len(RUNS) == 2


def test_cached_only_never_computes(store: FolderStore) -> None:
    with pytest.raises(InputError, match="run from download"):
        execute(FIRST, Copy(), {}, store, cached_only=True)
    assert RUNS == []


def test_the_key_follows_settings_inputs_and_version_only() -> None:
    key = stage_key(FIRST, Copy(), {})
    assert stage_key(FIRST, Copy(workers=9), {}) == key
    assert stage_key(FIRST, Copy(text="bye"), {}) != key
    assert stage_key(FIRST, Copy(), {"data": "sha256:1"}) != key
    newer = Stage("download", "DatasetTarball", 2, Copy, {}, run)
    assert stage_key(newer, Copy(), {}) != key
    trained = Stage("download", "DatasetTarball", 1, Copy, {}, run, libraries=("torch",))
    assert stage_key(trained, Copy(), {}) != key


def test_the_key_of_known_settings_stays_what_it_is() -> None:
    """Given a key on one machine, another must find the same: the recipe of it is fixed."""
    assert stage_key(FIRST, Copy(), {}) == "c9fb01c27f718db0641d6225ae2c87f1"


def test_operational_settings_are_left_out_at_every_depth() -> None:
    class Outer(Settings):
        inner: Copy = Copy()
        several: list[Copy] = [Copy(text="x")]

    assert key_config(Outer()) == {"inner": {"text": "hello"}, "several": [{"text": "x"}]}


def test_a_flipped_byte_is_named_and_the_stage_runs_again(
    store: FolderStore, tmp_path: Path
) -> None:
    made = execute(FIRST, Copy(), {}, store).manifest
    (store.local(made) / "text").write_text("hellO")
    log = tmp_path / "events.jsonl"
    again = execute(FIRST, Copy(), {}, store, events=Events("download", log, echo=False))
    assert not again.cached
    assert again.manifest.digest == made.digest
    warnings = [e["text"] for e in map(json.loads, log.open()) if e["event"] == "warning"]
    assert len(warnings) == 1
    assert "content/text" in warnings[0]


def test_downstream_runs_again_only_if_the_digest_changed(store: FolderStore) -> None:
    first = execute(FIRST, Copy(), {}, store).manifest
    execute(SECOND, Copy(), {"data": first}, store)
    rebuilt = execute(FIRST, Copy(), {}, store, force=True).manifest
    assert execute(SECOND, Copy(), {"data": rebuilt}, store).cached
    changed = execute(FIRST, Copy(text="bye"), {}, store).manifest
    second = execute(SECOND, Copy(), {"data": changed}, store)
    assert not second.cached
    assert (store.local(second.manifest) / "source").read_text() == "bye"


def test_a_failed_stage_keeps_its_work_and_commits_nothing(store: FolderStore) -> None:
    with pytest.raises(StageFailedError):
        execute(FIRST, Copy(fail="failed"), {}, store)
    assert store.find("download", stage_key(FIRST, Copy(), {})) is None
    assert execute(FIRST, Copy(), {}, store).manifest.counts["attempts"] == 2


def test_a_full_disk_is_an_input_error(store: FolderStore) -> None:
    with pytest.raises(InputError, match="disk is full"):
        execute(FIRST, Copy(fail="full"), {}, store)


def test_inputs_are_checked_by_name_and_kind(store: FolderStore) -> None:
    first = execute(FIRST, Copy(), {}, store).manifest
    second = execute(SECOND, Copy(), {"data": first}, store).manifest
    with pytest.raises(InputError, match="'data' .DatasetTarball. is missing"):
        execute(SECOND, Copy(), {}, store)
    with pytest.raises(InputError, match="is a RewrittenJSONL, expected a DatasetTarball"):
        execute(SECOND, Copy(), {"data": second}, store)
    with pytest.raises(InputError, match="no input 'model'"):
        execute(SECOND, Copy(), {"data": first, "model": first}, store)


def spec(tmp_path: Path, store: FolderStore, **fields: Any) -> list[str]:
    path = tmp_path / "spec.json"
    defaults = {"config": {}, "store": store.uri, "manifest": str(tmp_path / "manifest.json")}
    path.write_text(json.dumps({**defaults, **fields}))
    return ["--spec", str(path)]


def test_as_a_program_it_writes_the_manifest(tmp_path: Path, store: FolderStore) -> None:
    assert main(FIRST, spec(tmp_path, store)) == 0
    made = Manifest.from_json((tmp_path / "manifest.json").read_bytes(), "here")
    assert made == store.find("download", made.key)


@pytest.mark.parametrize(
    ("how", "code"), [("input", 2), ("passing", 75), ("failed", 1), ("bug", 1), ("full", 2)]
)
def test_the_exit_code_says_what_kind_of_failure(
    tmp_path: Path, store: FolderStore, how: str, code: int
) -> None:
    log = tmp_path / "events.jsonl"
    arguments = spec(tmp_path, store, config={"fail": how}, events=str(log))
    assert main(FIRST, arguments) == code
    last = json.loads(log.read_text().splitlines()[-1])
    assert (last["event"], last["exit_code"]) == ("failed", code)
    assert not (tmp_path / "manifest.json").exists()


def test_wrong_settings_name_the_field(
    tmp_path: Path, store: FolderStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(FIRST, spec(tmp_path, store, config={"workers": "many"})) == 2
    assert "download.workers" in capsys.readouterr().err
    with pytest.raises(InputError, match="here.txet"):
        parse_config(Copy, {"txet": "x"}, "here")


def test_inputs_from_elsewhere_are_verified_first(
    tmp_path: Path, store: FolderStore, capsys: pytest.CaptureFixture[str]
) -> None:
    first = execute(FIRST, Copy(), {}, store).manifest
    (store.local(first) / "text").write_text("hellO")
    inputs = {"data": manifest_uri(first)}
    assert main(SECOND, spec(tmp_path, store, inputs=inputs, verify_inputs=True)) == 2
    assert "content/text" in capsys.readouterr().err


def test_check_says_which_library_is_not_the_pinned_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage("sft", "SFTCheckpoint", 1, Copy, {}, run, libraries=("torch", "peft"))
    assert main(stage, ["--check"]) == 0
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.1")
    assert main(stage, ["--check"]) == 2
    assert f"torch is 0.0.1; this omnistage wants {pinned_version('torch')}" in (
        capsys.readouterr().err
    )


def test_a_library_that_is_not_pinned_is_refused() -> None:
    with pytest.raises(InputError, match="orjson"):
        pinned_version("orjson")


# --- the store at the worst moment


def as_somebody_else(act: Callable[[], object]) -> str:
    """Return what an act gives, or its error, in a process that may not write; root may."""
    answer, child_end = os.pipe()
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            said = str(act())
        except BaseException as e:
            said = f"{type(e).__name__}: {e}"
        os.write(child_end, said.encode())
        os._exit(0)
    os.close(child_end)
    os.waitpid(child, 0)
    with os.fdopen(answer) as f:
        return f.read()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_store_that_cannot_be_written_gives_its_results(open_folder: Path) -> None:
    store = FolderStore(open_folder / "store")
    execute(FIRST, Copy(), {}, store)
    for path in (store.root, *store.root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert as_somebody_else(lambda: execute(FIRST, Copy(), {}, store).cached) == "True"
    said = as_somebody_else(lambda: execute(FIRST, Copy(text="new"), {}, store))
    assert said.startswith("InputError: locking ")
    assert "permission denied" in said
    assert "\n" not in said


def test_a_result_whose_commit_was_killed_is_taken_and_not_made_again(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def kill(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "_publish", kill)
        with pytest.raises(KilledError):
            execute(FIRST, Copy(), {}, store)
    outcome = execute(FIRST, Copy(), {}, store)
    assert outcome.cached
    assert len(RUNS) == 1
    assert (store.local(outcome.manifest) / "text").read_text() == "hello"


def test_a_launcher_removes_nothing_without_the_lock(store: FolderStore) -> None:
    """It may look while a pod is at work; what it takes for damaged is left to the pod."""
    made = execute(FIRST, Copy(), {}, store).manifest
    marker = store.root / "download" / made.key / "done"
    text = marker.read_text()
    marker.unlink()

    def launch(*_: object) -> Manifest:
        marker.write_text(text)  # what the launcher did not see a moment ago
        found = store.find("download", made.key)
        assert found
        return found

    assert execute(FIRST, Copy(), {}, store, launch=launch).manifest == made


def test_a_damaged_result_is_made_again_and_said(store: FolderStore, tmp_path: Path) -> None:
    made = execute(FIRST, Copy(), {}, store).manifest
    (store.local(made) / "planted.py").write_text("import os")
    log = tmp_path / "events"
    assert not execute(FIRST, Copy(), {}, store, events=Events("download", log, echo=False)).cached
    assert "planted.py: not in the manifest; making it again" in log.read_text()
