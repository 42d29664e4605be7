"""What the tests of launching share: jobs of a shell script, and launchers that may be killed.

``python -m tests.on_cluster.gangs.launch_kit`` is a launcher in a process of its own; it reads the
job from stdin.
"""

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
from kubernetes import client, config

from omnistage.cluster.api import PODS, Api
from omnistage.cluster.claim import list_jobs
from omnistage.cluster.gang import run_gang
from omnistage.cluster.jobs.job import KEY_LABEL, ClusterJob
from omnistage.cluster.settings import ClaimMount, LaunchSettings, NodePool
from omnistage.errors import OmnistageError
from omnistage.events import Events
from tests.on_cluster.harness import images, storage
from tests.on_cluster.harness.cluster import REPOSITORY, Cluster
from tests.on_cluster.harness.components import GPU_TAINT

POOL = NodePool(
    node_selector={"omnistage.dev/pool": "gpu"},
    tolerations=[{"key": GPU_TAINT["key"], "operator": "Exists", "effect": GPU_TAINT["effect"]}],
)
# A shell that is process 1 ignores signals that it does not trap, to the end of its pod's grace.
_PRELUDE = "trap 'exit 143' TERM; NODE=${PET_NODE_RANK:-0}"


def shell_job(
    namespace: str, script: str, mounts: list[ClaimMount], *, run: str = "run-1", **settings: Any
) -> ClusterJob:
    """Return a job whose pods run a shell script; ``$NODE`` in it is the rank of the node."""
    small: dict[str, Any] = {
        "nodes": 2,
        "node_pools": {"gpu": POOL},
        "cpu": "50m",
        "memory": "96Mi",
        "shm": "1Mi",
        "scratch": "16Mi",
        "service_account": "default",
        "volumes": mounts,
        "retry_delay": 0.5,
    }
    return ClusterJob(
        stage="sft",
        key=hashlib.sha256(namespace.encode()).hexdigest()[:32],
        image=images.HOST,
        command=("sh", "-c", f"{_PRELUDE}\n{script}"),
        settings=LaunchSettings(**{**small, **settings}),
        namespace=namespace,
        run=run,
    )


def connect(kubeconfig: Path, **options: Any) -> Api:
    """Return a client of the cluster that a kubeconfig names."""
    made: Any = client.Configuration()
    config.load_kube_config(str(kubeconfig), client_configuration=made)
    made.retries = False
    made.connection_pool_maxsize = 64
    return Api(client.ApiClient(made), **options)


@dataclasses.dataclass
class Place:
    """A namespace to launch in."""

    cluster: Cluster
    namespace: str
    mounts: list[ClaimMount]
    api: Api
    folder: Path
    """For the test's own files."""
    state: Path
    """Folder that the pods see as /state."""

    @classmethod
    def make(
        cls, cluster: Cluster, namespace: str, mounts: list[ClaimMount], folder: Path
    ) -> "Place":
        """Make what the pods of shell_job need in a namespace."""
        state = folder / "state"
        state.mkdir()
        for above in [state, *state.parents]:
            above.chmod(above.stat().st_mode | 0o055)
        state.chmod(0o777)
        cluster.apply(*storage.claim(namespace, "state", state))
        mounts = [*mounts, ClaimMount(claim="state", mount_path="/state")]
        return cls(cluster, namespace, mounts, connect(cluster.kubeconfig), folder, state)

    def job(self, script: str, **options: Any) -> ClusterJob:
        """Return a job whose pods run a shell script, as shell_job does."""
        return shell_job(self.namespace, script, self.mounts, **options)

    def launch(self, job: ClusterJob) -> "Outcome":
        """Run a job to its end in this process."""
        return launch(job, self.api, self.folder)

    def launch_meanwhile(self, job: ClusterJob) -> "Future[Outcome]":
        """Run a job to its end in a thread."""
        pool = ThreadPoolExecutor(1)
        future = pool.submit(launch, job, self.api, self.folder)
        pool.shutdown(wait=False)
        return future

    def wait(self, what: str, until: Callable[[], Any]) -> Any:
        """Wait for half a minute at most, and return what came."""
        return self.cluster.wait(what, until, 30)

    def jobs(self, job: ClusterJob) -> list[dict[str, Any]]:
        """Return the jobs of a stage key."""
        return [m for _, m in list_jobs(self.api, self.namespace, f"{KEY_LABEL}={job.key}")]

    def pods(self, job: ClusterJob) -> list[dict[str, Any]]:
        """Return the pods of a stage key."""
        return self.api.list(PODS, self.namespace, labels=f"{KEY_LABEL}={job.key}")

    def leftovers(self, job: ClusterJob) -> list[str]:
        """Return the names of all jobs and pods of a stage key."""
        return [o["metadata"]["name"] for o in [*self.jobs(job), *self.pods(job)]]

    def use_training_runtime(self) -> None:
        """Make the chart's TrainingRuntime, which TrainJobs need."""
        chart, template = str(REPOSITORY / "charts/omnistage"), "templates/trainingruntime.yaml"
        chosen = ("-s", template, "--set", "trainingRuntime.create=true")
        text = self.cluster.helm("template", "x", chart, "-n", self.namespace, *chosen)
        self.cluster.kubectl("apply", "-n", self.namespace, "-f", "-", text=text)


@dataclasses.dataclass
class Outcome:
    """How a launch ended."""

    error: OmnistageError | None
    lines: list[str]
    """Of node 0."""
    said: list[str]
    """By the launcher."""
    seconds: float

    @property
    def text(self) -> str:
        """Return the error's message."""
        assert self.error is not None, self.said
        return str(self.error)


def launch(job: ClusterJob, api: Api, folder: Path) -> Outcome:
    """Run a job to its end in this process."""
    path = folder / f"events-{time.monotonic_ns()}.jsonl"
    path.touch()
    lines: list[str] = []
    error = None
    began = time.monotonic()
    try:
        run_gang(job, api, Events(job.stage, path, echo=False), say=lines.append)
    except OmnistageError as e:
        error = e
    took = time.monotonic() - began
    said = [orjson.loads(line)["text"] for line in path.read_bytes().splitlines()]
    return Outcome(error, lines, said, took)


class Launcher:
    """A launcher in a process of its own, to be killed."""

    def __init__(self, job: ClusterJob, kubeconfig: Path, log: Path) -> None:
        self.log = log
        text = {**dataclasses.asdict(job), "settings": job.settings.model_dump(mode="json")}
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.on_cluster.gangs.launch_kit"],
                cwd=REPOSITORY,
                env={**os.environ, "KUBECONFIG": str(kubeconfig)},
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        assert self.process.stdin
        self.process.stdin.write(orjson.dumps(text))
        self.process.stdin.close()

    def kill(self) -> None:
        """End it without warning, as a lost node does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def said(self) -> str:
        """Return what this launcher, and those before with the same log, wrote."""
        return self.log.read_text()


class Witness:
    """Looks all the time how many gangs of a key there are, and notes when it is more than one."""

    def __init__(self, api: Api, job: ClusterJob) -> None:
        self._api = api
        self._labels = f"{KEY_LABEL}={job.key}"
        self._namespace = job.namespace
        self.gangs: dict[str, str] = {}
        """Name of each job that there was, by uid."""
        self.violations: list[str] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.1):
            jobs = list(list_jobs(self._api, self._namespace, self._labels))
            self.gangs.update({m["metadata"]["uid"]: m["metadata"]["name"] for _, m in jobs})
            live = [m for b, m in jobs if b.status(m).phase not in ("succeeded", "failed")]
            pods = self._api.list(PODS, self._namespace, labels=self._labels)
            alive = [p for p in pods if p["status"]["phase"] in ("Pending", "Running")]
            owners = {o["uid"] for p in alive for o in p["metadata"]["ownerReferences"]}
            if len(live) > 1:
                self.violations.append(f"jobs {[m['metadata']['name'] for m in live]}")
            if len(owners) > 1:
                self.violations.append(f"pods {[p['metadata']['name'] for p in alive]}")


def main() -> None:
    """Launch the job that stdin describes."""
    # Scripts start what is in their background with Ctrl-C ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    given = orjson.loads(sys.stdin.buffer.read())
    given["settings"] = LaunchSettings(**given["settings"])
    given["command"] = tuple(given["command"])
    try:
        run_gang(ClusterJob(**given), Api.connect(), Events(given["stage"]))
    except OmnistageError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(e.exit_code)


if __name__ == "__main__":
    main()
