"""Launchers against a scripted cluster."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from omnistage.cluster import pod_log
from omnistage.cluster.gang import run_gang
from omnistage.cluster.jobs.job import ClusterJob
from omnistage.cluster.settings import LaunchSettings
from omnistage.errors import OmnistageError
from omnistage.events import Events
from tests.cluster.scripted_api import NAMESPACE, Killed
from tests.cluster.scripted_cluster import Cluster, Pod

WORKFLOW = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "run-1"}


class Said(Events):
    """Keeps what a user is told."""

    def __init__(self) -> None:
        super().__init__("sft", echo=False)
        self.texts: list[str] = []

    def message(self, text: str) -> None:
        self.texts.append(text)

    def warn(self, text: str) -> None:
        self.texts.append(f"warning: {text}")


@dataclass
class Outcome:
    """How a launcher ended."""

    error: OmnistageError | None = None
    lines: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return str(self.error)


@dataclass
class Scene:
    """A cluster, and launchers on it."""

    cluster: Cluster
    store: str = ""

    def job(self, *, run: str = "run-1", **settings: object) -> ClusterJob:
        """Return a job of two nodes."""
        owner = {**WORKFLOW, "name": run, "uid": f"uid-{run}"}
        return ClusterJob(
            stage="sft",
            key="0123456789abcdef" * 2,
            image="registry.example/trainer@sha256:00",
            command=("python", "-m", "components.sft"),
            settings=LaunchSettings.model_validate({"nodes": 2, **settings}),
            namespace=NAMESPACE,
            run=run,
            owner=owner,
        )

    def run(self, run: str = "run-1", phase: str = "Running") -> None:
        """Store the Workflow of a run."""
        metadata = {"name": run, "uid": f"uid-{run}"}
        self.cluster.put("workflows", {"metadata": metadata, "status": {"phase": phase}})

    def leave(self, job: ClusterJob) -> None:
        """Launch a job, and kill its launcher while the gang runs."""
        self.cluster.kill_at(14, "before")
        with pytest.raises(Killed):
            self.launch(job)

    def launch(self, job: ClusterJob) -> Outcome:
        """Run a job to its end; a launcher that is killed raises Killed."""
        outcome, events = Outcome(), Said()
        outcome.said = events.texts
        try:
            run_gang(job, self.cluster.api(), events, say=outcome.lines.append)
        except OmnistageError as e:
            outcome.error = e
        return outcome


def other_run(job: ClusterJob, run: str = "run-2") -> ClusterJob:
    """Return the same job as another run's launcher has it."""
    return dataclasses.replace(job, run=run, owner={**WORKFLOW, "name": run, "uid": f"uid-{run}"})


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Scene]]:
    """Makes scenes; a log is read again without a pause."""
    monkeypatch.setattr(pod_log, "_PAUSE", 0.0)
    made: list[Scene] = []

    def make(*gangs: Pod | list[Pod]) -> Scene:
        made.append(Scene(Cluster(*gangs)))
        return made[-1]

    yield make
    for one in made:
        one.cluster.close()
        assert one.cluster.violations == []
