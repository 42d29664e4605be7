"""Kill the stages of a recipe at random moments and check what may never be.

    python -m benchmarks.kills [--kills 50] [--steps download,rewrite_paths,sft,grpo,eval]

Each step runs once to its end, for its duration. Then it is started again and again and killed
with all its processes (SIGKILL) after a random part of that time: while it fetches, extracts,
encodes, trains, asks or commits. When an attempt ends before its kill, its result is removed with
everything that was kept for it, and the next begins from nothing. After each kill:

- every artifact that can be seen is whole, byte by byte;
- no file whose journal line was written is fetched again;
- the next training goes on from the newest whole checkpoint or a later one;
- a result that could be seen once is taken from the store, unchanged.
"""

import argparse
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from omnistage.files import read_jsonl
from omnistage.recipe.document import read_recipe, validate
from omnistage.store.folder import FolderStore
from omnistage.store.uris import manifest_uri
from omnistage.store.verify import verify
from omnistage.swift.training.checkpoints import newest_whole, step_of
from pipelines.graph import Graph, graph_of, needed
from pipelines.plan import step_key, stored_inputs
from pipelines.recipe import Recipe

RECIPE = Path(__file__).parents[1] / "tests" / "recipes" / "short.yaml"
STEPS = ("download", "rewrite_paths", "sft", "grpo", "eval")
_GOES_ON = re.compile(r"(?:going on from|the training had ended at) step (\d+)")
_CONTENT = re.compile(r"[0-9a-f]{32}")


@dataclass
class Victim:
    """A step that is killed."""

    name: str
    stage: str
    program: str
    key: str
    spec: dict[str, Any]
    home: Path
    duration: float = 0.0
    digest: str = ""
    """Of its first result."""
    kept: dict[str, int] = field(default_factory=dict)
    """Verified file of a download to its inode."""
    checkpoint: int = 0
    """Step of the newest whole checkpoint after the last kill."""

    @property
    def work(self) -> Path:
        """Where an attempt keeps what the next one goes on from."""
        return self.home / "store" / self.stage / f".{self.key}.work"

    @property
    def events(self) -> Path:
        """What the last attempt reported."""
        return self.home / f"{self.name}.events.jsonl"

    def start(self) -> subprocess.Popen[bytes]:
        """Start an attempt."""
        self.events.unlink(missing_ok=True)
        spec = json.dumps({**self.spec, "events": str(self.events)})
        with (self.home / f"{self.name}.log").open("ab") as log:
            command = [sys.executable, "-m", self.program, "--spec", spec]
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def phase(self) -> str:
        """Return what the last attempt was doing."""
        rows = list(read_jsonl(self.events)) if self.events.exists() else []
        last = rows[-1] if rows else {"event": "starting up"}
        said = last.get("text") or last.get("step") or last.get("unit") or last["event"]
        return f"{self.name}: {' '.join(str(said).split()[:2]).rstrip(':')}"

    def wipe(self) -> None:
        """Remove its result and all that was kept on the way to it."""
        store = self.home / "store"
        for path in (store / self.stage).glob(f"*{self.key}*"):
            if path.is_dir():
                shutil.rmtree(path)
        for folder in (store / ".scratch", store / "encoded"):
            shutil.rmtree(folder, ignore_errors=True)
        self.kept, self.checkpoint = {}, 0


def prepare(recipe: Path, steps: Sequence[str], home: Path) -> list[Victim]:
    """Run every step that is needed to its end, and return those that are to be killed."""
    graph = graph_of(validate(read_recipe(recipe), Recipe).resolve())
    store, victims = FolderStore(home / "store"), []
    last = [name for name in graph if name in steps][-1]
    for name in needed(graph, last):
        victim = _victim(graph, name, store, home)
        began = time.monotonic()
        if victim.start().wait():
            raise SystemExit((home / f"{name}.log").read_text()[-3000:])
        victim.duration = time.monotonic() - began
        found = store.find(victim.stage, victim.key)
        assert found, name
        victim.digest = found.digest
        if name in steps:
            victims.append(victim)
    return victims


def _victim(graph: Graph, name: str, store: FolderStore, home: Path) -> Victim:
    step, inputs = graph[name], stored_inputs(graph, name, store)
    made = {source: inputs[i] for i, source in step.sources.items()}
    spec = {
        "config": step.config.model_dump(mode="json"),
        "inputs": {i: manifest_uri(manifest) for i, manifest in inputs.items()},
        "store": store.uri,
    }
    return Victim(name, step.stage.name, step.stage.program, step_key(step, made), spec, home)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started."""
    own = psutil.Process(process.pid)
    for one in [own, *own.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGKILL)
    process.wait()


def broken(victim: Victim) -> list[str]:
    """Return what an attempt that ended or was killed has broken, and remember what it kept."""
    wrong = []
    for folder in (victim.home / "store").glob("*/*"):
        if _CONTENT.fullmatch(folder.name):
            wrong += [f"{folder}: {problem}" for problem in verify(str(folder))]
    found = FolderStore(victim.home / "store").find(victim.stage, victim.key)
    if found and victim.name in ("download", "rewrite_paths") and found.digest != victim.digest:
        wrong.append(f"{victim.name}: another result, {found.digest}")
    return [*wrong, *_fetched_again(victim, found is not None), *_went_back(victim)]


def _fetched_again(victim: Victim, done: bool) -> list[str]:
    journal = victim.work / "work" / "verified.jsonl"
    # Killed while it committed: the next attempt adopts what has been moved there.
    committing = (victim.work.parent / f".{victim.key}.new" / "content").exists()
    if done or committing or not journal.exists():
        return []
    now = {}
    for row in read_jsonl(journal):
        path = victim.work / "out" / "files" / row["path"]
        if path.exists():
            now[row["path"]] = path.stat().st_ino
    before, victim.kept = victim.kept, now
    return [f"{n}: fetched again" for n, inode in before.items() if now.get(n) != inode]


def _went_back(victim: Victim) -> list[str]:
    rows = list(read_jsonl(victim.events)) if victim.events.exists() else []
    said = [row["text"] for row in rows if "text" in row]
    began = any("training process" in text for text in said)
    steps = [int(found[1]) for text in said if (found := _GOES_ON.match(text))]
    wrong = []
    if began and victim.checkpoint > max(steps, default=0):
        wrong.append(f"{victim.name}: went back from step {victim.checkpoint} to {steps}")
    output = victim.work / "work" / "output"
    newest = newest_whole(output) if output.is_dir() else None
    victim.checkpoint = step_of(newest) if newest else 0
    return wrong


def kill_often(victim: Victim, kills: int, chance: random.Random) -> tuple[Counter[str], list[str]]:
    """Kill a step; return the kills by what was going on, and what was broken.

    In the end its first result is back in the store, which the keys of later steps stand on.
    """
    where: Counter[str] = Counter()
    wrong: list[str] = []
    home = victim.home / "store" / victim.stage / victim.key
    first = shutil.copytree(home, victim.home / "first" / victim.name)
    victim.wipe()
    while where.total() < kills:
        process = victim.start()
        try:
            code = process.wait(chance.uniform(0.1, 1.1 * victim.duration))
        except subprocess.TimeoutExpired:
            kill(process)
            where[victim.phase()] += 1
            wrong += broken(victim)
            continue
        wrong += [f"{victim.name}: ended with {code}"] if code else []
        wrong += broken(victim)
        victim.wipe()
    if code := victim.start().wait():
        wrong.append(f"{victim.name}: ended with {code} at last")
    wrong += broken(victim)
    victim.wipe()
    first.rename(home)
    return where, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        victims = prepare(RECIPE, options.steps.split(","), Path(name))
        where, wrong, chance = Counter[str](), [], random.Random(options.seed)
        for victim in victims:
            found, problems = kill_often(victim, options.kills // len(victims), chance)
            where += found
            wrong += problems
    for phase, count in sorted(where.items()):
        print(f"{count:5}  {phase}")
    print(f"{where.total():5}  kills; broken: {len(wrong)}    bar 0")
    for problem in wrong:
        print(problem)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
