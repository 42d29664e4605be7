"""Run a stage: look its key up in the store, or make its output and commit it."""

import importlib.metadata
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any

from omnistage.errors import DamagedError, InputError, TransientError, machine_errors
from omnistage.events import Events, clock
from omnistage.files import counted, human_bytes
from omnistage.settings import C, Settings
from omnistage.stage.contract import (
    Context,
    NodeDone,
    Outcome,
    Result,
    Stage,
    TaskRuntime,
)
from omnistage.stage.key import KeyParts, input_digests, key_parts, pinned_version
from omnistage.store.digest import Progress
from omnistage.store.layout import Store
from omnistage.store.manifest import Manifest
from omnistage.store.open import made_anew
from omnistage.store.uris import manifest_uri
from omnistage.torchrun.machine import machine
from omnistage.torchrun.world import SINGLE_NODE, World

_LARGE = 1 << 30  # bytes: hashed in some seconds

Launch = Callable[[Stage[Any], Settings, Mapping[str, Manifest], Store, KeyParts, Events], Manifest]
"""Runs a stage as a job: :func:`omnistage.cluster.launch.launch_stage`, told the cluster."""


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
    expected: KeyParts | None = None,
    launch: Launch | None = None,
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
        expected: What the key was made of in the process that decided to run, if another.
        launch: Runs the stage as a job on a cluster, which takes the lock, instead of here.

    Raises:
        InputError: If an input is missing or of the wrong kind, the key is not the expected one,
            the machine cannot write, or ``cached_only`` forbids to make what is not there.
    """
    began, how = time.monotonic(), runtime or TaskRuntime()
    events = events or Events(stage.name, echo=False)
    parts = _checked_key(stage, config, inputs, expected)
    key = parts.key
    events.emit("started", key=key)
    # Looking needs no lock: a store that cannot be written still gives its results.
    manifest = None if force else _look(stage, config, key, store, events if launch else None)
    cached = manifest is not None
    if manifest is None and launch is None:
        with store.lock(stage.name, key):
            # Only now: the context makes folders.
            context = context_of(stage, config, inputs, store, key, how, events, world)
            manifest, cached = _recover_or_make(stage, context, force, cached_only, began)
    elif manifest is None and launch and not cached_only:
        if force:
            _discard(stage, key, store)
        manifest = launch(stage, config, inputs, store, parts, events)
    if manifest is None:
        raise _not_stored(events.stage, key)
    seconds = time.monotonic() - began
    _finished(events, manifest, cached, seconds)
    return Outcome(manifest, cached=cached, seconds=seconds)


def take_part(
    stage: Stage[C],
    config: C,
    inputs: Mapping[str, Manifest],
    store: Store,
    *,
    runtime: TaskRuntime,
    events: Events,
    world: World,
    expected: KeyParts | None = None,
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
        expected: What the key was made of in the process that decided to run.

    Raises:
        InputError: As :func:`execute` does.
    """
    key = _checked_key(stage, config, inputs, expected).key
    try:
        if store.find(stage.name, key, stage.kind_of(config)):
            return  # node 0 takes it
    except DamagedError as e:
        events.warn(f"{e}; node 0 makes it again")
    context = context_of(stage, config, inputs, store, key, runtime, events, world)
    try:
        with machine_errors(f"stage {stage.name}"):
            _run(stage, context)
    except NodeDone:
        events.message("this node's part is done; node 0 keeps the result")


def prepare(
    stage: Stage[C],
    config: C,
    inputs: Mapping[str, Manifest],
    store: Store,
    *,
    runtime: TaskRuntime,
    events: Events,
    expected: KeyParts | None = None,
) -> None:
    """Do what a stage's job needs to find in the store, without making its output.

    Args:
        stage: One with a preparation.
        config: Its settings.
        inputs: A manifest for each input.
        store: Where the result is kept.
        runtime: How it runs here.
        events: Where progress goes.
        expected: What the key was made of in the process that decided to run.

    Raises:
        InputError: As :func:`execute` does.
    """
    key = _checked_key(stage, config, inputs, expected).key
    assert stage.preparation is not None  # it was asked for
    context = context_of(stage, config, inputs, store, key, runtime, events)
    with machine_errors(f"stage {stage.name}"):
        context.work.mkdir(parents=True, exist_ok=True)
        if stage.preparation.needed(context):
            stage.preparation.run(context)


def check_inputs(stage: Stage[Any], inputs: Mapping[str, Manifest]) -> None:
    """Check that a stage has the inputs it needs, each of the right kind.

    Raises:
        InputError: Naming the input.
    """
    for name in stage.inputs:
        if name not in inputs and name not in stage.optional:
            kinds = " or ".join(stage.kinds(name))
            raise InputError(f"{stage.name}: input {name!r} ({kinds}) is missing")
    for name, manifest in inputs.items():
        declared = stage.declared(name)
        if declared is None:
            raise InputError(
                f"{stage.name}: no input {name!r}; its inputs are {', '.join(stage.inputs)}"
            )
        kinds = stage.kinds(declared)
        if manifest.kind not in kinds:
            raise InputError(
                f"{stage.name}: input {name!r} is a {manifest.kind}, expected a "
                f"{' or '.join(kinds)}"
            )


def _checked_key(
    stage: Stage[C], config: C, inputs: Mapping[str, Manifest], expected: KeyParts | None
) -> KeyParts:
    check_inputs(stage, inputs)
    parts = key_parts(stage, config, input_digests(stage, inputs))
    if expected:
        expected.check(parts)
    return parts


def context_of(
    stage: Stage[C],
    config: C,
    inputs: Mapping[str, Manifest],
    store: Store,
    key: str,
    runtime: TaskRuntime,
    events: Events,
    world: World = SINGLE_NODE,
) -> Context[C]:
    """Return what the stage's function gets; its folders are made when it runs."""
    # Node-local where checkpoints are kept in the store.
    home = store.work_folder(stage.name, key)
    if runtime.keep_checkpoints:
        home = store.scratch / "work" / stage.name / key
    return Context(
        stage.name,
        config,
        inputs,
        store,
        home / "work",
        home / "out",
        key,
        runtime,
        events,
        world,
    )


def _recover_or_make(
    stage: Stage[C], context: Context[C], force: bool, cached_only: bool, began: float
) -> tuple[Manifest | None, bool]:
    """Return the output and whether it was there; None where it was not and may not be made.

    The caller holds the lock.
    """
    store, key, kind = context.store, context.key, stage.kind_of(context.config)
    with machine_errors(f"stage {stage.name}"):
        if force and not cached_only:
            store.discard(stage.name, key)
        found = None if force else store.recover(stage.name, key, kind, context.events.warn)
    if found:
        return found, True
    return None if cached_only else _make(stage, context, force, began), False


def _make(stage: Stage[C], context: Context[C], force: bool, began: float) -> Manifest:
    """Make the output here and put it into the store."""
    store, key, events = context.store, context.key, context.events
    home = context.work.parent
    if force:
        shutil.rmtree(home, ignore_errors=True)
    with machine_errors(f"stage {stage.name}"):
        result = _run(stage, context)
        _check_inputs_stayed(context)
        events.message("storing the result")
        provenance = _provenance(stage, context, time.monotonic() - began)
        manifest = store.commit(
            context.out,
            stage.kind_of(context.config),
            stage.name,
            key,
            _storing(events),
            counts=result.counts,
            metadata=result.metadata,
            produced_by=provenance,
        )
        shutil.rmtree(home, ignore_errors=True)
        if context.runtime.keep_checkpoints:
            store.drop_work(stage.name, key)
    size = f"{counted(len(manifest.files), 'file')}, {human_bytes(manifest.size)}"
    events.message(f"done in {clock(time.monotonic() - began)}: {size}")
    return manifest


def _check_inputs_stayed(context: Context[Any]) -> None:
    """Check that nothing was made anew, with other bytes, while the stage read it.

    Raises:
        TransientError: Naming the input; another attempt starts from what is there now.
    """
    given = {manifest.uri: f"input {name!r}" for name, manifest in context.inputs.items()}
    for manifest in {m.uri: m for m in (*context.inputs.values(), *context.read)}.values():
        if made_anew(manifest):
            what = given.get(manifest.uri, "what an input was made from")
            raise TransientError(
                f"{context.name}: {what} ({manifest.stage} {manifest.key}) was made anew by "
                "another run while it was read, with another result; run it again"
            )


def _storing(events: Events) -> Progress:
    """Return what reports the progress of a commit that takes longer than a moment."""

    def progress(done: int, total: int) -> None:
        if total >= _LARGE:
            events.progress(done, total, "bytes", step="storing")

    return progress


def _run(stage: Stage[C], context: Context[C]) -> Result:
    context.work.mkdir(parents=True, exist_ok=True)
    context.out.mkdir(exist_ok=True)
    return stage.run(context)


def _finished(events: Events, manifest: Manifest, cached: bool, seconds: float) -> None:
    where = {"uri": manifest.uri, "manifest": manifest_uri(manifest)}
    events.emit("finished", key=manifest.key, cached=cached, seconds=seconds, **where)


def _discard(stage: Stage[Any], key: str, store: Store) -> None:
    with store.lock(stage.name, key):
        store.discard(stage.name, key)


def _not_stored(step: str, key: str) -> InputError:
    return InputError(
        f"{step}: the store has no result {key} for these settings and inputs; "
        f"run from {step} or an earlier step"
    )


def _look(
    stage: Stage[C], config: C, key: str, store: Store, events: Events | None
) -> Manifest | None:
    """Return a whole output; a damaged one is left to whoever holds the lock."""
    try:
        with machine_errors(f"looking {stage.name} {key} up in {store.uri}"):
            return store.find(stage.name, key, stage.kind_of(config))
    except DamagedError as e:
        if events:
            events.warn(f"{e}; its job makes it again")
        return None


def _provenance(stage: Stage[Any], context: Context[Any], seconds: float) -> dict[str, Any]:
    return {
        "omnistage": importlib.metadata.version("omnistage"),
        "stage_version": stage.version,
        "python": platform.python_version(),
        "libraries": {name: pinned_version(name) for name in stage.libraries},
        "config": context.config.model_dump(mode="json"),
        "inputs": {
            name: {"digest": m.digest, "key": m.key, "uri": m.uri}
            for name, m in context.inputs.items()
        },
        "seconds": round(seconds, 3),
        "machine": machine(context.world.nodes, holds_gpus=stage.launched(context.config)),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
