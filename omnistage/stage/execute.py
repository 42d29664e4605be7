"""Run a stage: look its key up in the store, or make its output and commit it."""

import importlib.metadata
import platform
import shutil
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from omnistage.errors import DamagedError, InputError, machine_errors
from omnistage.events import Events, clock
from omnistage.files import human_bytes
from omnistage.settings import C, Settings
from omnistage.stage.contract import Context, NodeDone, Outcome, Stage, TaskRuntime
from omnistage.stage.key import pinned_version, stage_key
from omnistage.store.layout import Store
from omnistage.store.manifest import Manifest
from omnistage.store.uris import manifest_uri
from omnistage.torchrun.world import SINGLE_NODE, World


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
            from omnistage.cluster.launch import launch_stage

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


def take_part(
    stage: Stage[C],
    config: C,
    inputs: Mapping[str, Manifest],
    store: Store,
    *,
    runtime: TaskRuntime,
    events: Events,
    world: World,
) -> None:
    """Do the part of a node that is not node 0: the same work, but what it makes is not kept.

    Args:
        stage: What to run.
        config: Its settings.
        inputs: A manifest for each input.
        store: Where node 0 puts the output.
        runtime: How it runs here.
        events: Where progress goes.
        world: This node's place among the nodes.
    """
    check_inputs(stage, inputs)
    key = stage_key(stage, config, {name: m.digest for name, m in inputs.items()})
    if _hit_elsewhere(stage, key, store):
        return
    home = store.scratch / "work" / stage.name / key
    with machine_errors(f"stage {stage.name}"):
        work, out = home / "work", home / "out"
        work.mkdir(parents=True, exist_ok=True)
        out.mkdir(exist_ok=True)
        context = Context(stage.name, config, inputs, store, work, out, key, runtime, events, world)
        try:
            stage.run(context)
        except NodeDone:
            events.message("this node's part is done; node 0 keeps the result")


def _hit_elsewhere(stage: Stage[Any], key: str, store: Store) -> bool:
    """Return whether node 0 will find the result in the store; a damaged one it makes again."""
    try:
        return store.find(stage.name, key) is not None
    except DamagedError:
        return False
