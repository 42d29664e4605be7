"""The one contract of a stage: settings and input artifacts in, one output artifact out.

A stage is a function from settings and input artifacts to one output artifact. What surrounds it
is the same for all and lives here: the stage key, the look-up in the store, the work folder that
survives a kill, the commit, and exit codes that tell a wrong input from a passing fault.
"""

import hashlib
import importlib.metadata
import platform
import re
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from omnistage.artifacts import Kind, Manifest
from omnistage.config import Settings, key_config
from omnistage.errors import DamagedError, InputError, machine_errors
from omnistage.events import Events, clock
from omnistage.files import human_bytes
from omnistage.launch.world import SINGLE_NODE, World
from omnistage.store import Store, manifest_uri, open_store, store_uri

C = TypeVar("C", bound=Settings)


class ClusterRuntime(BaseModel):
    """How a stage runs as a training job on a cluster."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str
    """The trainer's, pinned by digest."""
    settings: dict[str, Any] = {}
    """Fields of :class:`omnistage.launch.settings.LaunchSettings` over the cluster's own."""


class Runtime(BaseModel):
    """How a stage runs here; nothing of it decides the result, so it is not in the stage key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nproc_per_node: int | None = Field(
        default=None,
        ge=1,
        description="Processes of a training or evaluation stage on one machine; by default one "
        "for each GPU, or one on a machine without.",
    )


class TaskRuntime(Runtime):
    """What a task is told beside a recipe's own :class:`Runtime`."""

    keep_checkpoints: bool = False
    """Copy checkpoints to the store while training: the work folder ends with this pod."""
    cluster: ClusterRuntime | None = None
    """Run as a training job on a cluster instead of here."""


@dataclass(frozen=True)
class Result:
    """What a stage says of the artifact it made."""

    counts: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Context(Generic[C]):
    """What a stage's function is given."""

    name: str
    config: C
    inputs: Mapping[str, Manifest]
    store: Store
    work: Path
    """Folder for the state that lets a killed stage go on; may hold an earlier attempt's."""
    out: Path
    """Folder that becomes the artifact; may hold an earlier attempt's files."""
    key: str
    runtime: TaskRuntime
    events: Events
    world: World = SINGLE_NODE
    """The nodes that make the artifact together; node 0 keeps it."""

    def folder(self, name: str) -> Path:
        """Return the local folder with the files of an input; not to be written to."""
        manifest = self.inputs[name]
        home = store_uri(manifest)
        store = self.store if home == self.store.uri else open_store(home)

        def progress(done: int, total: int) -> None:
            self.events.progress(done, total, "bytes", input=name)

        return store.local(manifest, progress)


@dataclass(frozen=True)
class Stage(Generic[C]):
    """A stage of a pipeline."""

    name: str
    kind: Kind
    """Of the artifact it makes."""
    version: int
    """Raised whenever the same settings and inputs would give another result."""
    config: type[C]
    inputs: Mapping[str, Kind]
    run: Callable[[Context[C]], Result]
    optional: frozenset[str] = frozenset()
    """Inputs that may be left out."""
    libraries: tuple[str, ...] = ()
    """Packages whose version decides the result; pinned with ``==`` in pyproject.toml."""


class NodeDone(Exception):  # noqa: N818 - not an error
    """Raised by the training on a node that is not node 0 when its processes have ended well."""


@dataclass(frozen=True)
class Outcome:
    """What :func:`execute` did."""

    manifest: Manifest
    cached: bool
    seconds: float


@cache
def pinned_version(package: str) -> str:
    """Return the version that omnistage pins for a package, installed here or not.

    The launcher image computes the keys of training stages without having torch.

    Raises:
        InputError: If omnistage does not pin it with ``==``.
    """
    for line in importlib.metadata.requires("omnistage") or []:
        found = re.match(r"([A-Za-z0-9._-]+)==([^;\s]+)", line)
        if found and found[1].lower() == package.lower():
            return found[2]
    raise InputError(f"{package}: not pinned with == in omnistage's pyproject.toml")


def stage_key(stage: Stage[C], config: C, digests: Mapping[str, str]) -> str:
    """Return the key of a stage's output: 32 hex digits.

    It is the sha256 over the stage's name and version, the settings that decide the result, the
    content digests of the inputs, and the pinned versions of the libraries that decide it. The
    same on a laptop and on a cluster.
    """
    parts = {
        "stage": stage.name,
        "version": stage.version,
        "config": key_config(config),
        "inputs": dict(digests),
        "libraries": {name: pinned_version(name) for name in stage.libraries},
    }
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def parse_config(config: type[C], values: Mapping[str, Any], where: str) -> C:
    """Validate settings.

    Raises:
        InputError: Naming the first wrong field, what is wrong and what was given.
    """
    try:
        return config.model_validate(values)
    except ValidationError as e:
        first = e.errors()[0]
        name = ".".join(map(str, first["loc"]))
        more = f" (and {e.error_count() - 1} more)" if e.error_count() > 1 else ""
        given = "" if first["type"] == "missing" else f", not {first['input']!r}"
        raise InputError(f"{where}.{name}: {first['msg']}{given}{more}") from e


def execute(
    stage: Stage[C],
    config: C,
    inputs: Mapping[str, Manifest],
    store: Store,
    *,
    runtime: TaskRuntime | None = None,
    events: Events | None = None,
    force: bool = False,
    cached_only: bool = False,
    world: World = SINGLE_NODE,
) -> Outcome:
    """Return a stage's output from the store, or make it and put it there.

    Args:
        stage: What to run.
        config: Its settings.
        inputs: A manifest for each input.
        store: Where the output goes.
        runtime: How it runs here.
        events: Where progress goes.
        force: Make the output again although it is there.
        cached_only: Never make it.
        world: The nodes that make it together; this is node 0.

    Raises:
        InputError: If an input is missing or of the wrong kind, the machine cannot write, or the
            output is not there and ``cached_only`` forbids to make it.
    """
    events = events or Events(stage.name, echo=False)
    how = runtime or TaskRuntime()
    began = time.monotonic()
    check_inputs(stage, inputs)
    key = stage_key(stage, config, {name: m.digest for name, m in inputs.items()})
    events.emit("started", key=key)
    # The job takes the lock itself, on a volume that it may share with this process.
    lock = nullcontext() if how.cluster else store.lock(stage.name, key)
    with lock:
        found = None if force else _hit(stage, key, store, events)
        if found:
            seconds = time.monotonic() - began
            _finished(events, found, True, seconds)
            return Outcome(found, cached=True, seconds=seconds)
        if cached_only:
            raise InputError(
                f"{stage.name}: the store has no result {key} for these settings and inputs; "
                f"run from {stage.name} or an earlier stage"
            )
        if force:
            store.discard(stage.name, key)
        if how.cluster:
            from omnistage.launch.remote import launch_stage

            manifest = launch_stage(stage, config, inputs, store, key, how.cluster, events)
            seconds = time.monotonic() - began
            _finished(events, manifest, False, seconds)
            return Outcome(manifest, cached=False, seconds=seconds)
        home = _home(how, store, stage.name, key)
        if force:
            shutil.rmtree(home, ignore_errors=True)
        with machine_errors(f"stage {stage.name}"):
            work, out = home / "work", home / "out"
            work.mkdir(parents=True, exist_ok=True)
            out.mkdir(exist_ok=True)
            result = stage.run(
                Context(stage.name, config, inputs, store, work, out, key, how, events, world)
            )
            events.message("storing the result")
            manifest = store.commit(
                out,
                stage.kind,
                stage.name,
                key,
                counts=result.counts,
                metadata=result.metadata,
                produced_by=_provenance(stage, config, inputs, time.monotonic() - began),
            )
            shutil.rmtree(home, ignore_errors=True)
            if how.keep_checkpoints:
                store.drop_work(stage.name, key)
    seconds = time.monotonic() - began
    events.message(
        f"done in {clock(seconds)}: {len(manifest.files)} files, {human_bytes(manifest.size)}"
    )
    _finished(events, manifest, False, seconds)
    return Outcome(manifest, cached=False, seconds=seconds)


def _finished(events: Events, manifest: Manifest, cached: bool, seconds: float) -> None:
    where = {"uri": manifest.uri, "manifest": manifest_uri(manifest)}
    events.emit("finished", key=manifest.key, cached=cached, seconds=seconds, **where)


def _home(runtime: TaskRuntime, store: Store, stage: str, key: str) -> Path:
    """Return the folder of an attempt: node-local where checkpoints are kept in the store."""
    if runtime.keep_checkpoints:
        return store.scratch / "work" / stage / key
    return store.work_folder(stage, key)


def check_inputs(stage: Stage[Any], inputs: Mapping[str, Manifest]) -> None:
    """Check that a stage has the inputs it needs, each of the right kind.

    Raises:
        InputError: Naming the input.
    """
    for name, kind in stage.inputs.items():
        if name not in inputs:
            if name in stage.optional:
                continue
            raise InputError(f"{stage.name}: input {name!r} ({kind}) is missing")
        if inputs[name].kind != kind:
            raise InputError(
                f"{stage.name}: input {name!r} is a {inputs[name].kind}, expected a {kind}"
            )
    for name in inputs:
        if name not in stage.inputs:
            raise InputError(
                f"{stage.name}: no input {name!r}; its inputs are {', '.join(stage.inputs)}"
            )


def _hit(stage: Stage[Any], key: str, store: Store, events: Events) -> Manifest | None:
    try:
        return store.find(stage.name, key)
    except DamagedError as e:
        events.warn(f"{e}; making it again")
        store.discard(stage.name, key)
        return None


def _provenance(
    stage: Stage[Any], config: Settings, inputs: Mapping[str, Manifest], seconds: float
) -> dict[str, Any]:
    return {
        "omnistage": importlib.metadata.version("omnistage"),
        "stage_version": stage.version,
        "python": platform.python_version(),
        "libraries": {name: pinned_version(name) for name in stage.libraries},
        "config": config.model_dump(mode="json"),
        "inputs": {
            name: {"digest": m.digest, "key": m.key, "uri": m.uri} for name, m in inputs.items()
        },
        "seconds": round(seconds, 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
