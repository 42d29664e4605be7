"""The stage key is handed on, and another one is refused before anything is made."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from omnistage.cluster.launch import stage_job
from omnistage.events import Events
from omnistage.settings import Settings, added, key_config
from omnistage.stage.contract import ClusterRuntime, Result, Stage, TaskRuntime, always
from omnistage.stage.execute import execute, take_part
from omnistage.stage.key import KeyParts, key_parts, pinned_version
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Manifest
from omnistage.task.program import main
from omnistage.torchrun.world import World
from tests.stage.test_execute import FIRST, RUNS, Copy, run

TRAINER = Stage(
    name="sft",
    kind="SFTCheckpoint",
    version=1,
    config=Copy,
    inputs={"data": "DatasetTarball"},
    run=run,
    libraries=("torch", "peft"),
    program="components.sft",
    launched=always,
)


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    RUNS.clear()


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def data(store: FolderStore) -> Manifest:
    made = execute(FIRST, Copy(), {}, store).manifest
    RUNS.clear()
    return made


def parts(data: Manifest, **changes: Any) -> KeyParts:
    """What a launcher computed the key from; the changes make it another omnistage's."""
    made = key_parts(TRAINER, Copy(), {"data": data.digest})
    return made.model_copy(update=changes)


def pod_spec(store: FolderStore, data: Manifest, decided: KeyParts) -> list[str]:
    """The arguments of a pod of the job that a launcher creates."""
    settings = {"volumes": [{"claim": "disk", "mount_path": "/store"}]}
    job = stage_job(
        TRAINER,
        Copy(),
        {"data": data},
        store.uri,
        decided,
        ClusterRuntime(image="trainer", settings=settings),
        namespace="ns",
    )
    assert job.key == decided.key
    assert job.command[:3] == ("python", "-m", "components.sft")
    return list(job.command[3:])


def test_a_pod_of_the_same_omnistage_makes_what_the_launcher_asked_for(
    store: FolderStore, data: Manifest
) -> None:
    decided = parts(data)
    assert main(TRAINER, pod_spec(store, data, decided)) == 0
    assert [decided.key] == RUNS
    assert store.find("sft", decided.key)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"libraries": {"torch": "1.0.0", "peft": "PINNED"}},
            'library torch is "TORCH" here and "1.0.0" where the run was decided',
        ),
        ({"libraries": {"torch": "TORCH"}}, "library peft is "),
        ({"version": 7}, "stage version is 1 here and 7 where the run was decided"),
        ({"config": {"text": "bye"}}, 'setting text is "hello" here and "bye" where'),
        ({"config": {"text": "hello", "new": 1}}, "setting new is not there here and 1 where"),
        ({"inputs": {"data": "sha256:0"}}, "input data is "),
    ],
)
def test_a_pod_that_computes_another_key_stops_before_it_trains_and_says_what_differs(
    store: FolderStore,
    data: Manifest,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    said: str,
) -> None:
    if "libraries" in changes:
        pins = {"TORCH": pinned_version("torch"), "PINNED": pinned_version("peft")}
        found = changes["libraries"].items()
        changes = {"libraries": {name: pins.get(version, version) for name, version in found}}
        said = said.replace("TORCH", pins["TORCH"])
    assert main(TRAINER, pod_spec(store, data, parts(data, **changes))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sft: error: sft: this process computes the key ")
    assert said in line
    assert line.count("where the run was decided") == 1
    assert RUNS == []
    assert not list(store.root.glob("sft/*"))


def test_the_other_nodes_of_a_gang_stop_too(store: FolderStore, data: Manifest) -> None:
    from omnistage.errors import InputError

    other = replace(TRAINER, version=2)
    with pytest.raises(InputError, match="stage version is 2 here and 1 where"):
        take_part(
            other,
            Copy(),
            {"data": data},
            store,
            runtime=TaskRuntime(),
            events=Events("sft", echo=False),
            world=World(nodes=2, node_rank=1),
            expected=parts(data),
        )
    assert RUNS == []


def test_a_launcher_hands_the_parts_to_whoever_runs_the_job(
    store: FolderStore, data: Manifest
) -> None:
    """And computes nothing again: what is launched is what was looked up."""
    seen: list[KeyParts] = []

    def launch(*arguments: Any) -> Manifest:
        seen.append(arguments[4])
        return data

    execute(TRAINER, Copy(), {"data": data}, store, launch=launch)
    assert seen == [parts(data)]
    assert RUNS == []


def test_parts_read_back_from_json_give_the_same_key() -> None:
    class Numbers(Settings):
        rate: float = Field(default=1e-5, description="Small.")
        whole: float = Field(default=2.0, description="A whole number as a float.")
        names: list[str] = Field(default=["é"], description="Not ASCII.")
        none: int | None = Field(default=None, description="Nothing.")

    stage = Stage("download", "DatasetTarball", 1, Numbers, {}, lambda _: Result())
    made = key_parts(stage, Numbers(), {})
    again = KeyParts.model_validate(json.loads(json.dumps(made.model_dump())))
    assert again.key == made.key


class Later(Settings):
    """Settings that got a field after results were stored."""

    old: int = 1
    new: str = Field(default="as before", json_schema_extra=added())


def test_a_field_that_was_added_counts_only_where_it_is_set() -> None:
    assert key_config(Later()) == {"old": 1}
    assert key_config(Later(new="other")) == {"old": 1, "new": "other"}
