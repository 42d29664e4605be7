"""Checkpoints of a job's nodes in the store: all nodes go on from the same whole step."""

import json
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from omnistage.events import Events
from omnistage.store.layout import Store
from omnistage.swift.training.checkpoints import newest_whole
from omnistage.swift.training.saved import SavedCheckpoints
from omnistage.torchrun.world import World

KEY = "0" * 32


class Node:
    """A node of a gang: its disk, and what the trainer writes on it."""

    def __init__(self, store: Store, disk: Path, nodes: int, rank: int) -> None:
        self.work, self.rank = disk, rank
        self.events = Events("sft", disk.with_suffix(".events"), echo=False)
        (disk / "output").mkdir(parents=True)
        world = World(nodes, rank, "node-0", 1)
        self.saved = SavedCheckpoints(store, "sft", KEY, disk, world, 2, self.events)
        self.nodes = nodes

    def write(self, step: int) -> Path:
        """Write what one node writes: each process its random state, node 0 the model too."""
        path = self.work / "output" / f"checkpoint-{step}"
        path.mkdir()
        (path / "global_step1").mkdir()
        torch.save({"shard": self.rank}, path / "global_step1" / f"rank_{self.rank}.pt")
        if self.rank == 0:
            save_file({"w": torch.full((8,), float(step))}, path / "model.safetensors")
            (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
            with (self.work / "output" / "logging.jsonl").open("a") as f:
                f.write(f'{{"step": {step}}}\n')
        for process in range(2):
            torch.save({"r": step}, path / f"rng_state_{2 * self.rank + process}.pth")
        return path

    def save(self) -> None:
        self.saved.look()
        self.saved.wait()

    def messages(self) -> str:
        path = self.work.with_suffix(".events")
        return path.read_text() if path.exists() else ""


def gang(store: Store, folder: Path, nodes: int = 2) -> list[Node]:
    return [Node(store, folder / f"node-{rank}", nodes, rank) for rank in range(nodes)]


def files(node: Node, step: int) -> set[str]:
    folder = node.work / "output" / f"checkpoint-{step}"
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


WHOLE = {
    "model.safetensors",
    "trainer_state.json",
    "global_step1/rank_0.pt",
    "global_step1/rank_1.pt",
    *(f"rng_state_{rank}.pth" for rank in range(4)),
}


def test_new_nodes_get_what_all_nodes_wrote(store: Store, tmp_path: Path) -> None:
    for node in gang(store, tmp_path / "first"):
        node.write(3)
        node.save()
    for node in gang(store, tmp_path / "second"):
        assert node.saved.restore() == 3
        assert files(node, 3) == WHOLE
        assert newest_whole(node.work / "output") == node.work / "output" / "checkpoint-3"


def test_the_curve_goes_with_node_0(store: Store, tmp_path: Path) -> None:
    for node in gang(store, tmp_path / "first"):
        node.write(3)
        node.save()
    first, second = gang(store, tmp_path / "second")
    first.saved.restore()
    second.saved.restore()
    assert (first.work / "output" / "logging.jsonl").read_text() == '{"step": 3}\n'
    assert not (second.work / "output" / "logging.jsonl").exists()


def test_a_checkpoint_that_one_node_has_not_saved_is_not_gone_on_from(
    store: Store, tmp_path: Path
) -> None:
    zero, one = gang(store, tmp_path / "first")
    for node in (zero, one):
        node.write(3)
        node.save()
    zero.write(6)
    zero.save()
    for node in gang(store, tmp_path / "second"):
        assert node.saved.restore() == 3


def test_what_a_process_has_not_finished_is_not_saved(store: Store, tmp_path: Path) -> None:
    zero, one = gang(store, tmp_path / "first")
    path = one.write(3)
    cut = path / "rng_state_3.pth"
    cut.write_bytes(cut.read_bytes()[:-20])
    for node in (zero, one):
        if node is zero:
            node.write(3)
        node.save()
    assert gang(store, tmp_path / "second")[0].saved.restore() is None


def test_older_checkpoints_are_dropped_once_a_newer_one_is_whole(
    store: Store, tmp_path: Path
) -> None:
    zero, one = gang(store, tmp_path / "first")
    for step in (3, 6, 9):
        for node in (one, zero):
            node.write(step)
            node.save()
    steps = {name.split("/")[0] for name in store.list_work("sft", KEY)}
    assert steps == {"9"}
    store.drop_work("sft", KEY)
    assert store.list_work("sft", KEY) == []


def test_damaged_bytes_in_the_store_are_noticed_and_an_older_checkpoint_taken(
    store: Store, tmp_path: Path
) -> None:
    zero, one = gang(store, tmp_path / "first")
    for step in (3, 6):
        for node in (zero, one):  # node 0 first: then nothing is dropped at step 6
            node.write(step)
            node.save()
    wrong = tmp_path / "wrong"
    weights = (zero.work / "output" / "checkpoint-6" / "model.safetensors").read_bytes()
    wrong.write_bytes(weights[:-1] + b"x")  # as long as it should be
    store.save_work("sft", KEY, "6/0/output/checkpoint-6/model.safetensors", wrong)
    again = gang(store, tmp_path / "second")
    assert [node.saved.restore() for node in again] == [3, 3]
    assert "checkpoint 6 in the store is damaged" in again[0].messages()
    assert newest_whole(again[0].work / "output") == again[0].work / "output" / "checkpoint-3"


def test_a_checkpoint_removed_while_it_is_saved_is_not_an_error(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zero = Node(store, tmp_path / "node", 1, 0)
    path = zero.write(3)
    started, go_on = threading.Event(), threading.Event()
    save = store.save_work

    def slowly(stage: str, key: str, name: str, source: Path) -> None:
        started.set()
        go_on.wait()
        save(stage, key, name, source)

    monkeypatch.setattr(store, "save_work", slowly)
    zero.saved.look()
    started.wait()
    for file in path.rglob("*"):
        if file.is_file():
            file.unlink()
    go_on.set()
    zero.saved.wait()
    assert "was replaced before it was saved" in zero.messages()
    assert zero.saved.restore() is None


def test_nothing_saved_means_a_start_from_the_beginning(store: Store, tmp_path: Path) -> None:
    assert gang(store, tmp_path)[0].saved.restore() is None
