"""What is launched on a cluster: a gang of pods, and what a back end can do with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from omnistage.cluster.api import Kind
from omnistage.cluster.settings import LaunchSettings

STAGE_LABEL = "omnistage.dev/stage"
KEY_LABEL = "omnistage.dev/key"
ATTEMPT_LABEL = "omnistage.dev/attempt"
HASH_ANNOTATION = "omnistage.dev/spec-hash"
LEASE_ANNOTATION = "omnistage.dev/lease-until"
"""Time until which a launcher has vouched for a job."""
RUNS_ANNOTATION = "omnistage.dev/runs"
"""Ids, separated by commas, of the runs that wait for a job."""
JOB_VERBS = ("create", "get", "list", "delete", "patch")
"""What a launcher does with jobs."""

Phase = Literal["queued", "pending", "running", "succeeded", "failed"]


@dataclass(frozen=True)
class ClusterJob:
    """One attempt at a stage: the same command in every pod of a gang."""

    stage: str
    key: str
    """Stage key."""
    image: str
    command: tuple[str, ...]
    """Of every pod, such as ``("python", "-m", "components.sft", "--spec", "{…}")``."""
    settings: LaunchSettings
    namespace: str
    attempt: int = 0
    run: str = ""
    """Id of the run that waits for it, of KFP or of one's own making."""
    owner: Mapping[str, Any] | None = field(default=None)
    """Owner reference: the run's Workflow, with which the job is deleted."""

    @property
    def name(self) -> str:
        """Of the job: the same for the same stage key and attempt, so never two of them run."""
        return f"{self.stage.replace('_', '-')}-{self.key[:16]}-{self.attempt}"


@dataclass(frozen=True)
class JobStatus:
    """What a job's own conditions say."""

    phase: Phase
    """``queued`` while it is suspended, ``pending`` until all its pods run."""
    reason: str = ""
    message: str = ""


class Right(NamedTuple):
    """Verbs that an account needs on a kind of object, as in a rule of a Role."""

    group: str
    resource: str
    """Plural, in lower case; ``pods/log`` for a subresource."""
    verbs: tuple[str, ...]


class Backend(Protocol):
    """A kind of job, and all that is known of it.

    Each is a module of its own with an instance ``BACKEND``, which is a row of
    :data:`omnistage.cluster.jobs.backends.BACKENDS`.
    """

    name: str
    """Value of ``cluster.backend``."""
    group: str
    version: str
    plural: str
    kind: str
    custom_resources: ClassVar[Mapping[str, str]]
    """CRDs that it needs, and the version of each that is used."""
    operator: str
    """End of the name of the Deployment that makes the pods of its jobs."""
    install: str
    """What to install where the cluster does not know the kind."""
    rights: tuple[Right, ...]
    """Of a launcher: what it needs beside :data:`omnistage.cluster.jobs.backends.COMMON_RIGHTS`."""

    def render(self, job: ClusterJob) -> dict[str, Any]:
        """Return the exact manifest, with labels and the annotation of its hash."""
        ...

    def status(self, manifest: Mapping[str, Any]) -> JobStatus:
        """Return what the conditions of a job read from the API say."""
        ...

    def pod_selector(self, name: str) -> str:
        """Return the label selector of a job's pods."""
        ...

    def node_rank(self, pod: Mapping[str, Any]) -> int:
        """Return the rank of a pod's node, from its labels; 0 commits the result."""
        ...

    def runtime(self, settings: LaunchSettings) -> tuple[Kind, str] | None:
        """Return kind and name of the object of the namespace that its jobs refer to, if any."""
        ...
