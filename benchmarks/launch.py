"""From the launch of a job to the first line of its program, beside a bare ``kubectl apply``.

    python -m benchmarks.launch [--runs 10] [--backend pytorchjob]

Both are measured on the cluster of the tests (the one that runs, else one that is started for it),
in turn, with the very same manifest: ours is the call ``run_gang`` in a process that is there
already, as a stage's is when it comes to launching; the bare one is ``kubectl apply -f -`` and then
``kubectl logs -f`` until the first line. The program is a shell that writes one line. Every job is
deleted to its last pod before the next one. Prints both medians and the median of the differences
of the pairs.
"""

import argparse
import contextlib
import dataclasses
import json
import statistics
import subprocess
import tempfile
import threading
import time
import uuid
from pathlib import Path

from omnistage.cluster.api import PODS
from omnistage.cluster.claim import claim, remove
from omnistage.cluster.gang import run_gang
from omnistage.cluster.jobs.backends import backend_of
from omnistage.cluster.jobs.job import ClusterJob
from omnistage.events import Events
from tests.on_cluster.gangs.launch_kit import Place
from tests.on_cluster.harness import operators, storage
from tests.on_cluster.harness.cluster import Cluster, own_cluster, running


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--backend", choices=["pytorchjob", "trainjob"], default="pytorchjob")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        cluster = running() or stack.enter_context(own_cluster(shared=False))
        needed = {"pytorchjob": "training-operator", "trainjob": "trainer"}
        operators.install(cluster, needed[options.backend])
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        compare(cluster, options.backend, options.runs, folder)


def compare(cluster: Cluster, backend: str, runs: int, folder: Path) -> None:
    """Measure pairs, in alternating order, and print what came out."""
    namespace = f"bench-launch-{uuid.uuid4().hex[:5]}"
    cluster.kubectl("create", "namespace", namespace)
    try:
        cluster.apply(*storage.host_claims(namespace))
        place = Place.make(cluster, namespace, storage.host_mounts(), folder)
        if backend == "trainjob":
            place.use_training_runtime()
        job = place.job("echo first line", backend=backend)
        ours(place, job, "warm-up")
        pairs = []
        for number in range(runs):
            turns = {"ours": ours, "bare": bare}
            order = list(turns) if number % 2 else list(turns)[::-1]
            took = {name: turns[name](place, job, f"{name}-{number}") for name in order}
            pairs.append(took)
            print(f"ours {took['ours']:5.2f} s   bare {took['bare']:5.2f} s", flush=True)
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
        volumes = f"omnistage.dev/namespace={namespace}"
        cluster.kubectl("delete", "pv", "-l", volumes, "--wait=false")
    medians = {name: statistics.median(p[name] for p in pairs) for name in ("ours", "bare")}
    more = statistics.median(p["ours"] - p["bare"] for p in pairs)
    print(f"median of {runs}: ours {medians['ours']:.2f} s, bare {medians['bare']:.2f} s")
    print(f"median difference of the pairs: {more:+.2f} s (bar: at most 10 s)")


def ours(place: Place, job: ClusterJob, run: str) -> float:
    """Return the seconds from the call to the first line, and remove the job."""
    heard = threading.Event()
    seconds: list[float] = []

    def say(line: str) -> None:
        if not heard.is_set():
            seconds.append(time.monotonic() - began)
            heard.set()

    events = Events(job.stage, echo=False)
    mine = dataclasses.replace(job, run=run)
    began = time.monotonic()
    run_gang(mine, place.api, events, say=say)
    if not heard.wait(10):
        raise SystemExit("the job ended without a line")
    _, manifest = claim(mine, place.api, events.message)
    remove(place.api, backend_of(job.settings), manifest)
    return seconds[0]


def bare(place: Place, job: ClusterJob, run: str) -> float:
    """Return the seconds from ``kubectl apply`` to the first line, and remove the job."""
    backend = backend_of(job.settings)
    manifest = backend.render(dataclasses.replace(job, run=run))
    selector = backend.pod_selector(job.name)
    began = time.monotonic()
    place.cluster.kubectl("apply", "-n", place.namespace, "-f", "-", text=json.dumps(manifest))
    while True:
        pods = place.api.list(PODS, place.namespace, labels=selector)
        first = [p["metadata"]["name"] for p in pods if backend.node_rank(p) == 0]
        if first and _first_line(place, first[0]):
            break
        time.sleep(0.1)
    took = time.monotonic() - began
    remove(place.api, backend, place.jobs(job)[0])
    return took


def _first_line(place: Place, pod: str) -> bytes:
    """Return the first line of a pod's log; nothing while it has not started."""
    argv = [*("kubectl", "logs", "-f", "-n", place.namespace, pod)]
    with subprocess.Popen(
        argv,
        env=place.cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        assert child.stdout
        line = child.stdout.readline()
        child.kill()
    return line


if __name__ == "__main__":
    main()
