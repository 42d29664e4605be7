"""The one contract of a stage: ``python -m components.<stage> --spec spec.json``.

A stage is a function from settings and input artifacts to one output artifact. What surrounds it
is the same for all and lives here: the stage key, the look-up in the store, the work folder that
survives a kill, the commit, and exit codes that tell a wrong input from a passing fault.
"""

import argparse
import hashlib
import importlib.metadata
import platform
import re
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from omnistage.artifacts import Kind, Manifest
from omnistage.config import Settings, key_config
from omnistage.errors import DamagedError, InputError, OmnistageError, machine_errors
from omnistage.events import Events, clock
from omnistage.files import human_bytes, read_json, write_atomic
from omnistage.store import Store, manifest_uri, open_store, read_manifest, store_uri

C = TypeVar("C", bound=Settings)


class Runtime(BaseModel):
    """How a stage runs here; nothing of it decides the result, so it is not in the stage key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nproc_per_node: int | None = Field(
        default=None,
        ge=1,
        description="Processes of a training or evaluation stage on one machine; by default one "
        "for each GPU, or one on a machine without.",
    )


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
    runtime: Runtime
    events: Events

    def folder(self, name: str) -> Path:
        """Return the local folder with the files of an input; not to be written to."""
        manifest = self.inputs[name]
        if store_uri(manifest) == self.store.uri:
            return self.store.local(manifest)
        return open_store(store_uri(manifest)).local(manifest)


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


@dataclass(frozen=True)
class Outcome:
    """What :func:`execute` did."""

    manifest: Manifest
    cached: bool
    seconds: float


class Spec(BaseModel):
    """The file given to ``--spec``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: dict[str, Any]
    inputs: dict[str, str] = {}
    """Input name to the URI of its manifest."""
    store: str
    """URI of the store that the output goes to."""
    runtime: Runtime = Runtime()
    force: bool = False
    """Make the artifact again although the store has it."""
    cached_only: bool = False
    """Fail rather than make the artifact when the store does not have it."""
    verify_inputs: bool = False
    """Hash the inputs before they are used (they come from outside this run)."""
    manifest: str | None = None
    """File to write the output's manifest to."""
    events: str | None = None
    """File to append progress to."""


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
    runtime: Runtime | None = None,
    events: Events | None = None,
    force: bool = False,
    cached_only: bool = False,
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

    Raises:
        InputError: If an input is missing or of the wrong kind, the machine cannot write, or the
            output is not there and ``cached_only`` forbids to make it.
    """
    events = events or Events(stage.name, echo=False)
    began = time.monotonic()
    _check_inputs(stage, inputs)
    key = stage_key(stage, config, {name: m.digest for name, m in inputs.items()})
    events.emit("started", key=key)
    with store.lock(stage.name, key):
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
        home = store.work_folder(stage.name, key)
        if force:
            shutil.rmtree(home, ignore_errors=True)
        with machine_errors(f"stage {stage.name}"):
            work, out = home / "work", home / "out"
            work.mkdir(parents=True, exist_ok=True)
            out.mkdir(exist_ok=True)
            how = runtime or Runtime()
            result = stage.run(
                Context(stage.name, config, inputs, store, work, out, key, how, events)
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
    seconds = time.monotonic() - began
    events.message(
        f"done in {clock(seconds)}: {len(manifest.files)} files, {human_bytes(manifest.size)}"
    )
    _finished(events, manifest, False, seconds)
    return Outcome(manifest, cached=False, seconds=seconds)


def main(stage: Stage[Any], arguments: list[str] | None = None) -> int:
    """Run a stage as a program and return its exit code.

    Args:
        stage: What to run.
        arguments: The command line; ``sys.argv`` by default.
    """
    parser = argparse.ArgumentParser(prog=f"python -m components.{stage.name}")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--spec", type=Path, help="JSON file: settings, input manifests, store")
    action.add_argument(
        "--check", action="store_true", help="check that this image can run the stage, and exit"
    )
    options = parser.parse_args(arguments)
    if options.check:
        return _check(stage)
    events = Events(stage.name)
    try:
        spec = _read_spec(options.spec)
        events = Events(stage.name, Path(spec.events) if spec.events else None)
        run_spec(stage, spec, events)
    except OmnistageError as e:
        events.emit("failed", message=str(e), exit_code=e.exit_code)
        print(f"{stage.name}: error: {e}", file=sys.stderr, flush=True)
        return e.exit_code
    except Exception as e:
        events.emit("failed", message=f"{type(e).__name__}: {e}", exit_code=1)
        traceback.print_exc()
        return 1
    return 0


def run_spec(stage: Stage[Any], spec: Spec, events: Events) -> Outcome:
    """Run a stage from its spec and write the manifest where the spec asks for it.

    Raises:
        InputError: If the settings, an input or the store are wrong.
    """
    config = parse_config(stage.config, spec.config, stage.name)
    inputs = {name: read_manifest(uri) for name, uri in spec.inputs.items()}
    if spec.verify_inputs:
        for name, manifest in inputs.items():
            _verify(name, manifest)
    outcome = execute(
        stage,
        config,
        inputs,
        open_store(spec.store),
        runtime=spec.runtime,
        events=events,
        force=spec.force,
        cached_only=spec.cached_only,
    )
    if spec.manifest:
        write_atomic(Path(spec.manifest), outcome.manifest.to_json())
    return outcome


def _finished(events: Events, manifest: Manifest, cached: bool, seconds: float) -> None:
    where = {"uri": manifest.uri, "manifest": manifest_uri(manifest)}
    events.emit("finished", key=manifest.key, cached=cached, seconds=seconds, **where)


def _read_spec(path: Path) -> Spec:
    try:
        return Spec.model_validate(read_json(path))
    except ValidationError as e:
        first = e.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from e


def _verify(name: str, manifest: Manifest) -> None:
    store = open_store(store_uri(manifest))
    try:
        found = store.find(manifest.stage, manifest.key)
    except DamagedError as e:
        raise InputError(f"input {name!r}: {e}; run the stage that made it again") from e
    if found is None or found.digest != manifest.digest:
        raise InputError(
            f"input {name!r}: the store no longer has {manifest.digest} at {manifest.uri}"
        )


def _check_inputs(stage: Stage[Any], inputs: Mapping[str, Manifest]) -> None:
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
