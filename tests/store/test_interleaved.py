"""Two writers and two readers of one key, killed between any two operations.

Over the real store code, in a folder and in a bucket: no reader sees a part, no whole result is
lost but to a run that is forced to make it anew, every run ends. ``tests/store/interleave.py`` lets
each actor do one operation on the disk or in the bucket at a time.
"""

import shutil
import tempfile
import traceback
import uuid
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from omnistage.errors import InputError, OmnistageError, TransientError
from omnistage.settings import Settings
from omnistage.stage.contract import Context, Result, Stage
from omnistage.stage.execute import execute
from omnistage.stage.key import stage_key
from omnistage.store import objects, s3
from omnistage.store.folder import FolderStore
from omnistage.store.layout import Store
from omnistage.store.manifest import Manifest
from omnistage.store.open import made_anew
from omnistage.store.s3 import S3Store
from tests.store.interleave import Actor, KilledError, MemoryS3, current, stepped_disk

NODES = st.integers(0, 1)
STEPS = st.integers(1, 12)
ENOUGH = 3000  # operations: a run takes about a hundred


class Number(Settings):
    """Settings of a stage: each number is another result."""

    number: int = 0


def _make(context: Context[Number]) -> Result:
    """Write two files whose bytes no other attempt has; what a killed one left is made anew."""
    attempt = uuid.uuid4().hex
    for name in ("a", "b"):
        (context.out / name).write_text(f"{attempt} {name}")
    return Result()


class Machine(RuleBasedStateMachine):
    """Writers and readers on two nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.writers: dict[int, Actor] = {}
        self.readers: dict[int, Actor] = {}
        self.runs = 0
        self.stage = Stage("sft", "SFTCheckpoint", 1, Number, {}, self._run)
        self.asked = Number()
        self.first: Manifest | None = None
        """The artifact that has been seen whole; it must stay."""
        self.forced: list[Actor] = []
        """Writers that were to make it anew and have been at work since the last look."""
        self.ever_forced = False
        self.disturbed: set[Actor] = set()
        """Writers whose result another one, forced, may have removed before they returned it."""
        self.patches = [
            stepped_disk(),
            mock.patch.object(s3, "scratch_root", self._scratch),
            mock.patch.object(objects, "client", self._client),
        ]
        for patch in self.patches:
            patch.__enter__()

    def _run(self, context: Context[Number]) -> Result:
        self.runs += 1
        return _make(context)

    def _client(self) -> MemoryS3:
        return self.bucket

    def _scratch(self) -> Path:
        actor = current()
        return actor.scratch if actor else self.folder / "main"

    @initialize(remote=st.booleans())
    def open(self, remote: bool) -> None:
        self.bucket = MemoryS3()
        self.store: Store = S3Store("s3://b/p") if remote else FolderStore(self.folder / "store")
        self.remote = remote

    @property
    def key(self) -> str:
        return stage_key(self.stage, self.asked, {})

    def _find(self) -> Manifest | None:
        return self.store.find("sft", self.key)

    def _started(self, node: int, force: bool) -> Actor:
        def write() -> Manifest:
            return execute(self.stage, self.asked, {}, self.store, force=force).manifest

        if node not in self.writers or self.writers[node].done:
            self.writers[node] = Actor(write, self.folder / f"node{node}")
            if force:
                self.forced.append(self.writers[node])
                self.ever_forced = True
        return self.writers[node]

    @rule(node=NODES, steps=STEPS, force=st.sampled_from([False, False, True]))
    def write(self, node: int, steps: int, force: bool = False) -> None:
        actor = self._started(node, force)
        self._step(actor, steps)
        self._judge(actor)

    def _step(self, actor: Actor, steps: int = 1) -> None:
        if actor in self.forced and not actor.done:
            self.disturbed |= {a for a in self.writers.values() if a is not actor and not a.done}
        actor.step(steps)

    @rule(first=STEPS, second=STEPS)
    def write_both(self, first: int, second: int) -> None:
        self.write(0, first)
        self.write(1, second)

    @rule()
    def ask_for_another(self) -> None:
        """When nobody is at work, the next result is another one."""
        if self.first and all(a.done for a in [*self.writers.values(), *self.readers.values()]):
            self.asked = Number(number=self.asked.number + 1)
            self.first, self.ever_forced = None, False

    @rule(node=NODES)
    def kill_writer(self, node: int) -> None:
        if node in self.writers and not self.writers[node].done:
            self.writers[node].kill()

    @rule(node=NODES, when=st.sampled_from(["before", "after"]))
    def fail_writer(self, node: int, when: str) -> None:
        """Its next request is lost, or the answer to it; before that, a disk has no room."""
        if node in self.writers and not self.writers[node].done:
            self.writers[node].fault = when

    @rule(node=NODES, steps=STEPS)
    def read(self, node: int, steps: int) -> None:
        def read() -> list[str] | None:
            found = self.store.find("sft", self.key)
            if found is None:
                return None
            folder = self.store.local(found)
            texts = [(folder / name).read_text() for name in ("a", "b")]
            return None if made_anew(found) else texts

        if node not in self.readers or self.readers[node].done:
            self.readers[node] = Actor(read, self.folder / f"reader{node}")
        actor = self.readers[node]
        actor.step(steps)
        self._judge_reader(actor)

    @rule(node=NODES)
    def kill_reader(self, node: int) -> None:
        if node in self.readers and not self.readers[node].done:
            self.readers[node].kill()

    def _judge(self, actor: Actor) -> None:
        """A writer returns the artifact that is there, or says what is wrong."""
        if not actor.done:
            return
        if actor.error is None:
            assert actor.result == self._find() or actor in self.disturbed
        else:
            known = isinstance(actor.error, KilledError | TransientError | InputError)
            assert known, "".join(traceback.format_exception(actor.error))

    def _judge_reader(self, actor: Actor) -> None:
        """A reader sees both files of one attempt, or nothing; one whose files go says so."""
        if actor.done and actor.error:
            gone = (OSError, OmnistageError) if self.ever_forced else ()
            assert isinstance(actor.error, (KilledError, *gone)), actor.error
        elif actor.done and actor.result is not None:
            a, b = actor.result
            assert (a.split()[0], a[-1], b[-1]) == (b.split()[0], "a", "b")

    @invariant()
    def no_whole_result_is_lost(self) -> None:
        if not hasattr(self, "store"):
            return
        found = self._find()
        assert self.first is None or found == self.first or self.forced
        self.first = found
        self.forced = [actor for actor in self.forced if not actor.done]

    def teardown(self) -> None:
        try:
            if hasattr(self, "store"):
                self._end()
        finally:
            for actor in [*self.writers.values(), *self.readers.values()]:
                if not actor.done:
                    actor.kill()
            for patch in reversed(self.patches):
                patch.__exit__(None, None, None)
            shutil.rmtree(self.folder)

    def _end(self) -> None:
        """Every run ends, and one more on each node finds or makes the result."""
        for actors, judge in ((self.writers, self._judge), (self.readers, self._judge_reader)):
            for actor in actors.values():
                actor.fault = ""
            # In turns: one may hold the lock that the other waits for.
            for _ in range(ENOUGH):
                for actor in [a for a in actors.values() if not a.done]:
                    self._step(actor)
                    judge(actor)
            assert all(actor.done for actor in actors.values()), "a run does not end"
        for node in (0, 1):
            last = Actor(
                lambda: execute(self.stage, self.asked, {}, self.store).manifest,
                self.folder / f"node{node}",
            )
            last.step(ENOUGH)
            assert last.done
            assert last.result == self._find(), last.error
        self.no_whole_result_is_lost()
        if not self.remote:
            left = {p.name.split(".")[-1] for p in (self.folder / "store/sft").iterdir()}
            assert {n for n in left if len(n) < 32} <= {"lock", "work"}


TestStore = Machine.TestCase
TestStore.settings = settings(
    max_examples=25,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)
