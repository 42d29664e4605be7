"""What a stage is: its settings, inputs and function, and what that function is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

from pydantic import BaseModel, ConfigDict, Field

from omnistage.events import Events
from omnistage.settings import C, Settings
from omnistage.store.layout import Store
from omnistage.store.manifest import Kind, Manifest
from omnistage.store.open import open_store
from omnistage.store.uris import store_uri
from omnistage.torchrun.world import SINGLE_NODE, World


class ClusterRuntime(BaseModel):
    """How a stage runs as a training job on a cluster."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str
    """The trainer's, pinned by digest."""
    settings: dict[str, Any] = {}
    """Fields of :class:`omnistage.cluster.settings.LaunchSettings` over the cluster's own."""


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
    read: list[Manifest] = field(default_factory=list)
    """Artifacts whose files were asked for."""

    @property
    def step(self) -> str:
        """The stage's name in the recipe, which names its section in messages."""
        return self.events.stage

    def several(self, name: str) -> list[Manifest]:
        """Return all inputs of a name that may be given several times, in order."""
        given = range(1, len(self.inputs) + 1)
        return [self.inputs[n] for n in (numbered(name, i) for i in given) if n in self.inputs]

    def folder(self, name: str) -> Path:
        """Return the local folder with the files of an input; not to be written to."""
        return self.files(self.inputs[name], name)

    def files(self, manifest: Manifest, name: str = "") -> Path:
        """Return the local folder with the files of an artifact; not to be written to.

        Args:
            manifest: Of the artifact: an input, or what an input was made from.
            name: What progress calls it.
        """
        self.read.append(manifest)
        home = store_uri(manifest)
        store = self.store if home == self.store.uri else open_store(home)

        def progress(done: int, total: int) -> None:
            self.events.progress(done, total, "bytes", input=name or manifest.stage)

        return store.local(manifest, progress)


@dataclass(frozen=True)
class Resources:
    """CPU and memory of a stage's task on a cluster, as Kubernetes quantities."""

    cpu: str
    cpu_limit: str
    memory: str
    memory_limit: str


WORKER = Resources("500m", "8", "1Gi", "16Gi")
"""Of a task that does its stage's work itself."""
LAUNCHER = Resources("100m", "2", "256Mi", "2Gi")
"""Of a task that launches a job and follows it."""


def numbered(name: str, number: int) -> str:
    """Return what the n-th input of a name is called: ``data``, ``data_2``, ``data_3``."""
    return name if number == 1 else f"{name}_{number}"


def never(config: Settings) -> bool:
    """Return that no settings make a stage a job."""
    return False


def always(config: Settings) -> bool:
    """Return that a stage is a job whatever its settings."""
    return True


@dataclass(frozen=True)
class Preparation:
    """What a stage does on CPUs before its job on a cluster holds GPUs; the store keeps it."""

    needed: Callable[[Context[Any]], bool]
    """Whether the store does not have it yet; asked of the manifests alone, without files."""
    run: Callable[[Context[Any]], None]


@dataclass(frozen=True)
class Stage(Generic[C]):
    """A stage of a pipeline, with everything that others need to know of it.

    A recipe's seed is handed to a stage whose settings have a ``seed``.
    """

    name: str
    kind: Kind
    """Of the artifact it makes, if ``choose_kind`` says nothing else."""
    version: int
    """Raised whenever the same settings and inputs would give another result."""
    config: type[C]
    inputs: Mapping[str, Kind | tuple[Kind, ...]]
    """What each must be: of this kind, or of one of these."""
    run: Callable[[Context[C]], Result]
    several: frozenset[str] = frozenset()
    """Inputs that may be given several times, see :func:`numbered`."""
    optional: frozenset[str] = frozenset()
    """Inputs that may be left out."""
    choose_kind: Callable[[C], Kind] | None = None
    """The kind of the artifact, where it depends on the settings."""
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The files of an input that decide the result, where not all of them do: its key depends on
    these alone. None where other inputs already tell what is read."""
    libraries: tuple[str, ...] = ()
    """Packages whose version decides the result; pinned with ``==`` in pyproject.toml."""
    program: str = ""
    """Module that runs it with ``python -m``."""
    launched: Callable[[C], bool] = never
    """Whether it runs as a job of the trainer image on a cluster, given its settings."""
    preparation: Preparation | None = None
    """What is done before its job, in one of its own without GPUs."""
    max_nodes: int | None = None
    """Most nodes of its job; None for any number."""
    timeout: int = 2 * 86400
    """Seconds its task may take on a cluster where it is not launched as a job."""
    resources: Resources = WORKER
    """Of its task on a cluster where it is not launched as a job."""
    source: str = ""
    """Parameter of a submitted run that gives another source, for a stage that reads from outside;
    its task gets the Secret of the hubs."""

    def kind_of(self, config: C) -> Kind:
        """Return the kind of the artifact that it makes with these settings."""
        return self.choose_kind(config) if self.choose_kind else self.kind

    def declared(self, name: str) -> str | None:
        """Return which of the declared inputs this is one of: ``data`` for ``data_2``."""
        base, _, number = name.rpartition("_")
        if base in self.several and number.isdecimal() and int(number) > 1:
            return base
        return name if name in self.inputs else None

    def kinds(self, name: str) -> tuple[Kind, ...]:
        """Return the kinds that an input may be of."""
        kinds = self.inputs[name]
        return kinds if isinstance(kinds, tuple) else (kinds,)


class NodeDone(Exception):  # noqa: N818 - not an error
    """Raised by the training on a node that is not node 0 when its processes have ended well."""


@dataclass(frozen=True)
class Outcome:
    """What :func:`execute` did."""

    manifest: Manifest
    cached: bool
    seconds: float
