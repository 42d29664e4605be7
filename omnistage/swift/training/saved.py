"""Checkpoints of a training job in the store, because a pod's own disk ends with the pod.

A training job's nodes have a disk each, and with DeepSpeed each holds a part of the optimizer's
state. So every node saves its own files of ``checkpoint-N``, then a marker that lists them with
size and sha256; a checkpoint is whole when the markers of all nodes are there. After a restart of
the gang every node fetches the files of all nodes of the newest whole checkpoint, so that all go
on from the same step.
"""

import shutil
import threading
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import orjson

from omnistage.errors import OmnistageError
from omnistage.events import Events
from omnistage.files import sha256_file
from omnistage.store.layout import Store
from omnistage.swift.training.checkpoints import checkpoints, is_whole, step_of
from omnistage.torchrun.world import World

_LOGS = ("output/logging.jsonl", "output/completions.jsonl", "train.log", "preflight.json")
"""Files that node 0 saves with each checkpoint, so that curves begin at the first step."""


@dataclass(frozen=True)
class SavedCheckpoint:
    """A whole checkpoint in the store."""

    step: int
    files: dict[str, tuple[str, int, str]]
    """Path in the work folder to name in the store, size and sha256."""


class SavedCheckpoints:
    """Saves and restores the checkpoints of one stage key.

    Args:
        store: Where they are kept.
        stage: Name of the stage.
        key: Its key.
        work: The stage's work folder on this node, with the trainer's ``output/`` in it.
        world: This node's place; a node writes only its own part.
        processes: Training processes of a node, whose random states tell when it has written all.
        events: Where messages go.
    """

    def __init__(
        self,
        store: Store,
        stage: str,
        key: str,
        work: Path,
        world: World,
        processes: int,
        events: Events,
    ) -> None:
        self.store, self.stage, self.key = store, stage, key
        self.work, self.world, self.processes, self.events = work, world, processes, events
        self._done: set[int] = set()
        self._thread: threading.Thread | None = None

    def restore(self) -> int | None:
        """Fetch the newest whole checkpoint and return its step, or None when there is none.

        Raises:
            OmnistageError: If the store cannot be read.
        """
        for found in self._whole():
            if self._fetch(found):
                self._done.add(found.step)
                return found.step
        return None

    def look(self) -> None:
        """Begin to save the newest checkpoint that is complete here, in a thread of its own."""
        if self._thread and self._thread.is_alive():
            return
        for folder in checkpoints(self.work / "output"):
            step = step_of(folder)
            if step in self._done:
                return
            if self._complete(folder):
                self._done.add(step)
                self._thread = threading.Thread(target=self._save, args=(folder,), daemon=True)
                self._thread.start()
                return

    def wait(self) -> None:
        """Wait until nothing is being saved."""
        if self._thread:
            self._thread.join()

    def _complete(self, folder: Path) -> bool:
        """Return whether this node has written all its files of a checkpoint.

        Each process saves its random state last, as a zip whose directory is at its end; node 0
        has the weights and the trainer's state too.
        """
        first = self.world.node_rank * self.processes
        alone = self.world.nodes * self.processes == 1
        names = (
            ["rng_state.pth"]
            if alone
            else [f"rng_state_{rank}.pth" for rank in range(first, first + self.processes)]
        )
        if not all(zipfile.is_zipfile(folder / n) for n in names if (folder / n).exists()):
            return False
        if not all((folder / n).exists() for n in names):
            return False
        return self.world.node_rank != 0 or is_whole(folder)

    def _save(self, folder: Path) -> None:
        step, node = step_of(folder), self.world.node_rank
        paths = [p for p in folder.rglob("*") if p.is_file()]
        if node == 0:
            paths += [self.work / name for name in _LOGS if (self.work / name).exists()]
        files = {}
        try:
            for path in paths:
                name = path.relative_to(self.work).as_posix()
                if name in _LOGS:  # it grows while it is copied
                    path = self._copy(path)
                kept = f"{step}/{node}/{name}"
                files[name] = [kept, path.stat().st_size, sha256_file(path)]
                self.store.save_work(self.stage, self.key, kept, path)
            marker = self.work / f".saved-{step}.json"
            marker.write_bytes(orjson.dumps({"nodes": self.world.nodes, "files": files}))
            self.store.save_work(self.stage, self.key, f"{step}/{node}.json", marker)
            if node == 0:
                self._drop_older()
        except FileNotFoundError:
            # The trainer has removed it meanwhile (save_total_limit): a newer one follows.
            self.events.message(f"checkpoint {step} was replaced before it was saved")
        except (OmnistageError, OSError) as e:
            self._done.discard(step)
            self.events.warn(f"checkpoint {step} could not be saved to the store: {e}")

    def _copy(self, path: Path) -> Path:
        copied = self.work / f".copy-of-{path.name}"
        data = path.read_bytes()
        copied.write_bytes(data[: data.rfind(b"\n") + 1] or data)
        return copied

    def _drop_older(self) -> None:
        whole = self._whole()
        kept = {found.step for found in whole[:1]}
        if not kept:
            return
        newest = max(kept)
        steps = {int(name.split("/", 1)[0]) for name in self.store.list_work(self.stage, self.key)}
        for step in steps:
            if step < newest:
                self.store.drop_work(self.stage, self.key, f"{step}/")

    def _whole(self) -> list[SavedCheckpoint]:
        """Return the checkpoints that every node has saved, the newest first."""
        nodes: dict[int, set[int]] = defaultdict(set)
        for name in self.store.list_work(self.stage, self.key):
            step, _, rest = name.partition("/")
            if rest.endswith(".json") and rest.removesuffix(".json").isdigit():
                nodes[int(step)].add(int(rest.removesuffix(".json")))
        found = []
        for step in sorted(nodes, reverse=True):
            if 0 not in nodes[step]:
                continue
            first = self._marker(step, 0)
            if set(range(first["nodes"])) <= nodes[step]:
                files = dict(first["files"])
                for node in range(1, first["nodes"]):
                    files |= self._marker(step, node)["files"]
                found.append(SavedCheckpoint(step, {n: tuple(f) for n, f in files.items()}))
        return found

    def _marker(self, step: int, node: int) -> dict:
        path = self.work / f".marker-{step}-{node}.json"
        self.store.fetch_work(self.stage, self.key, f"{step}/{node}.json", path)
        return orjson.loads(path.read_bytes())

    def _fetch(self, found: SavedCheckpoint) -> bool:
        """Fetch a checkpoint's files; return whether all of them are what was saved."""
        for name, (kept, size, sha256) in found.files.items():
            if name in _LOGS and self.world.node_rank:
                continue
            target = self.work / name
            self.store.fetch_work(self.stage, self.key, kept, target)
            if target.stat().st_size != size or sha256_file(target) != sha256:
                self.events.warn(
                    f"checkpoint {found.step} in the store is damaged ({name}); trying an older one"
                )
                shutil.rmtree(self.work / "output" / f"checkpoint-{found.step}")
                return False
        return True
