"""A stage as a program: ``python -m components.<stage> --spec spec.json``.

The KFP task, the local run and every pod of a training job enter here.
"""

import argparse
import importlib.metadata
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from omnistage.cluster.jobs.pod import TERMINATION_VARIABLE
from omnistage.cluster.settings import merge_settings
from omnistage.errors import DamagedError, ErrorReport, InputError, OmnistageError, machine_errors
from omnistage.events import Events
from omnistage.files import read_json, write_atomic
from omnistage.policy import read_policy
from omnistage.redact import redact
from omnistage.settings import Ask, parse_config
from omnistage.stage.contract import Outcome, Stage, TaskRuntime
from omnistage.stage.execute import execute, prepare, take_part
from omnistage.stage.key import KeyParts, pinned_version
from omnistage.store.manifest import Manifest
from omnistage.store.open import open_store, read_manifest
from omnistage.store.uris import store_uri
from omnistage.torchrun.world import this_world

_GONE = (
    "If it was removed, have it made again: on Kubeflow Pipelines, whose cache may still name it, "
    "submit with --no-cache"
)
_TERMINATION_BYTES = 4000
"""The kubelet cuts termination messages after 4096."""


class Spec(BaseModel):
    """The file given to ``--spec``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: str = ""
    """The stage's name in the recipe, for messages; by default its own."""
    config: dict[str, Any]
    key: KeyParts | None = None
    """What the process that decided to run computed the key from; another one here is refused."""
    inputs: dict[str, str] = {}
    """Input name to the URI of its manifest."""
    store: str
    """URI of the store that the output goes to."""
    runtime: TaskRuntime = TaskRuntime()
    force: bool = False
    """Make the artifact again although the store has it."""
    cached_only: bool = False
    """Fail rather than make the artifact when the store does not have it."""
    verify_inputs: bool = False
    """Hash the inputs before they are used (they come from outside this run)."""
    prepare: bool = False
    """Only do what the stage's job needs to find in the store."""
    manifest: str | None = None
    """File to write the output's manifest to."""
    events: str | None = None
    """File to append progress to."""


def main(stage: Stage[Any], arguments: list[str] | None = None) -> int:
    """Run a stage as a program and return its exit code.

    Args:
        stage: What to run.
        arguments: The command line; ``sys.argv`` by default.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {stage.program}")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--spec", help="settings, input manifests, store: JSON, or a file of it")
    action.add_argument(
        "--check", action="store_true", help="check that this image can run the stage, and exit"
    )
    options = parser.parse_args(arguments)
    if options.check:
        return _check(stage)
    events = Events(stage.name)
    termination_log = os.environ.get(TERMINATION_VARIABLE)
    if termination_log:
        # Process 1 of a pod ignores SIGTERM unless it has a handler, to the end of the pod's grace.
        signal.signal(signal.SIGTERM, _end)
    try:
        spec = _read_spec(options.spec)
        events = Events(spec.step or stage.name, Path(spec.events) if spec.events else None)
        with machine_errors(f"stage {stage.name}"):
            run_spec(stage, spec, events)
    except Exception as e:
        report = ErrorReport.of(e)
        events.emit("failed", **asdict(report))
        if termination_log:
            Path(termination_log).write_bytes(report.to_json(_TERMINATION_BYTES))
        if not isinstance(e, OmnistageError):
            print(redact(traceback.format_exc()), file=sys.stderr)
        print(f"{events.stage}: error: {report.message}", file=sys.stderr, flush=True)
        return report.exit_code
    return 0


def _end(number: int, _frame: FrameType | None) -> None:
    """End this pod's program at once: on the way out, its training processes are told too.

    A checkpoint that is being saved or copied is dropped if that takes longer than they are given;
    it has no final name yet, and the last whole one stays.

    Raises:
        SystemExit: With the exit code of a signal.
    """
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def run_spec(stage: Stage[Any], spec: Spec, events: Events) -> Outcome | None:
    """Run a stage from its spec and write the manifest where the spec asks for it.

    Returns:
        What was done; None on a node of a training job that is not node 0, and where the stage
        was only to be prepared.

    Raises:
        InputError: If the settings, an input or the store are wrong.
    """
    config = parse_config(stage.config, spec.config, events.stage)
    policy = read_policy()
    policy.check(config.asks(), events.stage)
    inputs = {name: _input(name, uri) for name, uri in spec.inputs.items()}
    policy.check(_code_in(inputs), events.stage)
    if spec.verify_inputs:
        for name, manifest in inputs.items():
            _verify(name, manifest)
    store, world = open_store(spec.store), this_world()
    run: dict[str, Any] = {"runtime": spec.runtime, "events": events, "expected": spec.key}
    if spec.prepare:
        prepare(stage, config, inputs, store, **run)
        return None
    if world.node_rank:
        take_part(stage, config, inputs, store, **run, world=world)
        return None
    if spec.runtime.cluster:
        # Here and not above: it needs a Kubernetes client, which the start of a pod does not.
        from omnistage.cluster.launch import launch_stage

        policy.check(merge_settings(spec.runtime.cluster.settings).asks(), "cluster")
        run["launch"] = partial(launch_stage, cluster=spec.runtime.cluster)
    outcome = execute(
        stage,
        config,
        inputs,
        store,
        **run,
        force=spec.force,
        cached_only=spec.cached_only,
        world=world,
    )
    if spec.manifest:
        write_atomic(Path(spec.manifest), outcome.manifest.to_json())
    return outcome


def _read_spec(given: str) -> Spec:
    if given.lstrip().startswith("{"):
        where = "--spec"
        try:
            values = orjson.loads(given)
        except orjson.JSONDecodeError as e:
            raise InputError(f"--spec: not JSON: {e}") from e
    else:
        where, values = given, read_json(Path(given))
    try:
        return Spec.model_validate(values)
    except ValidationError as e:
        first = e.errors()[0]
        raise InputError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from e


def _code_in(inputs: Mapping[str, Manifest]) -> Iterator[Ask]:
    """Yield the rewards of their own that models were trained with, which an evaluation runs."""
    for name, manifest in inputs.items():
        for reward in manifest.produced_by.get("config", {}).get("reward_code") or ():
            yield Ask("own_rewards", str(reward), f"inputs.{name}")


def _input(name: str, uri: str) -> Manifest:
    try:
        return read_manifest(uri)
    except InputError as e:
        raise InputError(f"input {name!r}: {e}. {_GONE}") from e


def _verify(name: str, manifest: Manifest) -> None:
    store = open_store(store_uri(manifest))
    try:
        found = store.find(manifest.stage, manifest.key)
    except DamagedError as e:
        raise InputError(f"input {name!r}: {e}; run the stage that made it again") from e
    if found is None or found.digest != manifest.digest:
        raise InputError(
            f"input {name!r}: the store no longer has {manifest.digest} at {manifest.uri}. {_GONE}"
        )


def _check(stage: Stage[Any]) -> int:
    wrong = 0
    for name in stage.libraries:
        want = pinned_version(name)
        try:
            have = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            have = "not installed"
        if have != want:
            print(f"{stage.name}: {name} is {have}; this omnistage wants {want}", file=sys.stderr)
            wrong += 1
    print(f"{stage.name}: {'cannot run here' if wrong else 'ready'}")
    return 2 if wrong else 0
