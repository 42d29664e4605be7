"""What goes wrong with gangs on a real cluster: each fault ends in its own message, or in none."""

import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from omnistage.cluster.jobs.backends import backend_of
from omnistage.cluster.settings import ClaimMount
from omnistage.errors import InputError, StageFailedError
from tests.on_cluster.gangs.launch_kit import Place, Witness, connect, launch
from tests.on_cluster.harness.cluster import Cluster
from tests.on_cluster.harness.proxy import FAULTS, proxy
from tests.on_cluster.harness.storage import claim

pytestmark = pytest.mark.usefixtures("training_operator")

UNTIL_GO = "echo waiting; while [ ! -e /state/go ]; do sleep 0.2; done; echo done"
# The first gang waits for ever, the second one ends.
SECOND_TIME = "mkdir /state/node$NODE || exit 0; echo first time; while :; do sleep 0.2; done"


@pytest.fixture
def place(cluster: Cluster, namespace: str, host_mounts: list[ClaimMount], tmp_path: Path) -> Place:
    return Place.make(cluster, namespace, host_mounts, tmp_path)


def test_a_job_behind_an_api_server_that_fails_every_fifth_call_loses_nothing(place: Place):
    count = 300
    script = f"for n in $(seq {count}); do echo node $NODE line $n; sleep 0.05; done"
    job = place.job(script)
    witness = Witness(place.api, job)
    with proxy(place.cluster.kubeconfig, share=0.2, seed=7) as front:
        kubeconfig = front.write_kubeconfig(place.folder / "kubeconfig", place.namespace)
        outcome = launch(job, connect(kubeconfig), place.folder)
    witness.close()

    assert outcome.error is None
    assert outcome.lines == [f"node 0 line {n}" for n in range(1, count + 1)]
    assert witness.violations == []
    assert len(witness.gangs) == 1
    assert sum(front.faults.values()) >= 5, front.faults
    assert set(front.faults) <= set(FAULTS)


# --- what passes: the gang starts again -----------------------------------------------------


@pytest.mark.parametrize("backend", ["pytorchjob", "trainjob"])
@pytest.mark.usefixtures("trainer_operator")
def test_a_worker_that_is_deleted_in_mid_training_gives_one_restart(place: Place, backend: str):
    place.use_training_runtime()
    job = place.job(f"[ $NODE = 0 ] || trap '' TERM; {SECOND_TIME}", backend=backend)
    witness = Witness(place.api, job)
    launched = place.launch_meanwhile(job)
    place.wait("both nodes train", lambda: len(list(place.state.iterdir())) == 2)
    rank_of = backend_of(job.settings).node_rank
    (worker,) = (p["metadata"]["name"] for p in place.pods(job) if rank_of(p) == 1)
    # As when a node is drained: it has some seconds to end.
    options = ("--wait=false", "--grace-period=3")
    place.cluster.kubectl("delete", "pod", "-n", place.namespace, worker, *options)
    outcome = launched.result(120)
    witness.close()

    assert outcome.error is None
    assert witness.violations == []
    assert len(witness.gangs) == 2
    (why,) = (text for text in outcome.said if "restart 1 of 3" in text)
    assert worker in why
    assert "deleted from outside" in why


def test_a_worker_that_is_killed_in_mid_training_gives_one_restart(place: Place):
    job = place.job(SECOND_TIME)
    launched = place.launch_meanwhile(job)
    place.wait("both nodes train", lambda: len(list(place.state.iterdir())) == 2)
    _kill_program_of(f"{job.name}-worker-0")
    outcome = launched.result(120)

    assert outcome.error is None
    (why,) = (text for text in outcome.said if "restart 1 of 3" in text)
    assert "killed from outside by signal 9" in why
    assert "node 1" in why


def _kill_program_of(host: str) -> None:
    """Kill the processes of a pod from outside of it, as a machine that breaks does."""
    killed = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environment = (process / "environ").read_bytes().split(b"\0")
            if f"HOSTNAME={host}".encode() in environment:
                os.kill(int(process.name), signal.SIGKILL)
                killed += 1
    assert killed, f"no process of {host} on this machine"


# --- what does not pass ---------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["pytorchjob", "trainjob"])
@pytest.mark.usefixtures("trainer_operator")
def test_a_job_that_somebody_deletes_is_not_made_again(place: Place, backend: str):
    place.use_training_runtime()
    job = place.job(UNTIL_GO, backend=backend)
    launched = place.launch_meanwhile(job)
    place.wait("its pods are there", lambda: len(place.pods(job)) == 2)
    place.cluster.kubectl("delete", f"{backend}s", "-n", place.namespace, job.name, "--wait=false")
    outcome = launched.result(60)

    assert isinstance(outcome.error, StageFailedError)
    assert "was deleted while it was waited for" in outcome.text
    assert job.name in outcome.text
    assert place.leftovers(job) == []


@pytest.mark.parametrize("backend", ["pytorchjob", "trainjob"])
@pytest.mark.usefixtures("trainer_operator")
def test_the_error_has_the_last_lines_of_the_node_that_failed_first(place: Place, backend: str):
    place.use_training_runtime()
    script = f"""
    if [ $NODE = 1 ]; then sleep 1; echo ValueError: batch 7 is empty; exit 1; fi
    {UNTIL_GO}
    """
    job = place.job(script, backend=backend)
    outcome = place.launch(job)

    assert isinstance(outcome.error, StageFailedError)
    assert "node 1" in outcome.text
    assert "exit code 1" in outcome.text
    assert "ValueError: batch 7 is empty" in outcome.text
    assert place.leftovers(job) == []


def test_the_error_of_a_pod_that_the_operator_deletes_is_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    # torchrun takes its time to end the other processes of its node: node 0 misses node 1 first,
    # fails the job, and the operator deletes node 1 together with its log.
    script = """
    if [ $NODE = 1 ]; then echo RuntimeError: CUDA error: misaligned address
        while :; do sleep 0.2; done
    fi
    while [ ! -e /state/read ]; do sleep 0.2; done
    echo 'sft: error: lost another node: Connection closed by peer'; exit 75
    """
    job = place.job(script)
    read = place.api.log_lines

    def noted(*arguments: Any, **options: Any) -> Iterator[str]:
        for line in read(*arguments, **options):
            yield line
            if "misaligned address" in line:
                (place.state / "read").touch()

    monkeypatch.setattr(place.api, "log_lines", noted)
    outcome = place.launch(job)

    assert isinstance(outcome.error, StageFailedError)
    assert "node 1" in outcome.text
    assert "misaligned address" in outcome.text
    assert place.leftovers(job) == []


def test_a_job_that_kueue_does_not_admit_ends_with_what_kueue_says(place: Place, kueue: None):
    _make_queue(place, gpus=8)
    job = place.job(UNTIL_GO, queue="training", gpus_per_node=8, queue_timeout=4)
    outcome = place.launch(job)

    assert isinstance(outcome.error, StageFailedError)
    assert "in queue 'training'" in outcome.text
    assert "cluster.queue_timeout" in outcome.text
    assert "insufficient quota for nvidia.com/gpu" in outcome.text
    assert "16 > 8" in outcome.text
    assert place.leftovers(job) == []


def test_a_job_that_kueue_admits_runs(place: Place, kueue: None):
    _make_queue(place, gpus=8)
    outcome = place.launch(place.job("echo admitted", queue="training"))

    assert outcome.error is None
    assert outcome.lines == ["admitted"]


def test_a_job_that_kueue_takes_back_into_its_queue_goes_on_when_it_is_let_out(
    place: Place, kueue: None
):
    _make_queue(place, gpus=8)
    job = place.job(UNTIL_GO, queue="training")
    launched = place.launch_meanwhile(job)
    place.wait("both nodes train", lambda: [_phase(p) for p in place.pods(job)] == ["Running"] * 2)
    (workload,) = place.cluster.get("workloads", "-n", place.namespace)["items"]
    name = workload["metadata"]["name"]

    def let(active: str) -> None:
        change = f'{{"spec": {{"active": {active}}}}}'
        options = ("--type=merge", "-p", change)
        place.cluster.kubectl("patch", "workload", "-n", place.namespace, name, *options)

    let("false")
    place.wait("its pods are gone", lambda: place.pods(job) == [])
    (place.state / "go").touch()
    let("true")
    outcome = launched.result(90)

    assert outcome.error is None
    assert outcome.lines[-1] == "done"
    assert any("is queued" in text for text in outcome.said[1:])
    assert not any("restart" in text for text in outcome.said)


def _phase(pod: dict[str, Any]) -> str:
    return pod["status"]["phase"]


def _make_queue(place: Place, gpus: int) -> None:
    name = place.namespace
    api = "kueue.x-k8s.io/v1beta1"
    quotas = {"cpu": "2", "memory": "2Gi", "nvidia.com/gpu": str(gpus)}
    resources = [{"name": n, "nominalQuota": amount} for n, amount in quotas.items()]
    group = {
        "coveredResources": list(quotas),
        "flavors": [{"name": name, "resources": resources}],
    }
    objects: list[tuple[str, dict[str, str], dict[str, Any]]] = [
        ("ResourceFlavor", {"name": name}, {}),
        ("ClusterQueue", {"name": name}, {"namespaceSelector": {}, "resourceGroups": [group]}),
        ("LocalQueue", {"name": "training", "namespace": name}, {"clusterQueue": name}),
    ]
    place.cluster.apply(
        *({"apiVersion": api, "kind": k, "metadata": m, "spec": s} for k, m, s in objects)
    )


def test_a_gang_for_which_there_are_no_nodes_ends_with_what_the_scheduler_says(place: Place):
    job = place.job(UNTIL_GO, nodes=1, gpus_per_node=16, queue_timeout=4)
    outcome = place.launch(job)

    assert isinstance(outcome.error, StageFailedError)
    assert "cluster.queue_timeout" in outcome.text
    assert "Insufficient nvidia.com/gpu" in outcome.text
    assert place.leftovers(job) == []


def test_an_image_that_does_not_exist_is_a_wrong_input(place: Place):
    with _empty_registry() as registry:
        image = f"{registry}/omnistage/trainer:none"
        job = dataclasses.replace(place.job(UNTIL_GO, nodes=1), image=image)
        outcome = place.launch(job)

    assert isinstance(outcome.error, InputError)
    assert image in outcome.text
    assert "not found" in outcome.text
    assert outcome.seconds < 60
    assert place.leftovers(job) == []


@contextlib.contextmanager
def _empty_registry() -> Iterator[str]:
    """A registry without images; containerd speaks plain HTTP to the loopback."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            found = self.path == "/v2/"
            text = b"{}" if found else b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    for method in ("GET", "HEAD"):
        setattr(Handler, f"do_{method}", Handler._answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_job_that_the_operators_webhook_refuses_is_a_wrong_input(place: Place):
    # A name may not begin with a digit.
    job = dataclasses.replace(place.job(UNTIL_GO), stage="7th")
    outcome = place.launch(job)

    assert isinstance(outcome.error, InputError)
    assert job.name in outcome.text
    assert "validator.pytorchjob.training-operator.kubeflow.org" in outcome.text
    assert place.leftovers(job) == []


def test_a_job_that_the_namespaces_quota_refuses_is_a_wrong_input(place: Place):
    place.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "few-gpus", "namespace": place.namespace},
            "spec": {"hard": {"requests.nvidia.com/gpu": "1"}},
        }
    )
    job = place.job(UNTIL_GO, gpus_per_node=2)
    outcome = place.launch(job)

    assert isinstance(outcome.error, InputError)
    assert "ResourceQuota 'few-gpus'" in outcome.text
    assert place.leftovers(job) == []


def test_pods_that_the_namespaces_standard_refuses_are_a_wrong_input(place: Place):
    # RDMA adds a capability that the restricted standard forbids.
    job = place.job(UNTIL_GO, nodes=1, rdma={"rdma/ib": 1})
    outcome = place.launch(job)

    assert isinstance(outcome.error, InputError)
    assert "violates PodSecurity" in outcome.text
    assert place.leftovers(job) == []


def test_a_silent_job_is_ended(place: Place):
    job = place.job(UNTIL_GO, silence_timeout=5)
    outcome = place.launch(job)

    assert isinstance(outcome.error, StageFailedError)
    assert "cluster.silence_timeout" in outcome.text
    assert "waiting" in outcome.text
    assert place.leftovers(job) == []


@pytest.mark.parametrize("backend", ["pytorchjob", "trainjob"])
@pytest.mark.usefixtures("trainer_operator")
def test_a_job_that_runs_too_long_is_ended(place: Place, backend: str):
    place.use_training_runtime()
    job = place.job(UNTIL_GO, backend=backend, run_timeout=8)
    outcome = place.launch(job)

    assert isinstance(outcome.error, StageFailedError)
    assert "cluster.run_timeout" in outcome.text
    assert place.leftovers(job) == []


def test_a_gang_that_does_not_start_in_time_is_ended(place: Place):
    # A volume that cannot be mounted keeps the pod in ContainerCreating.
    place.cluster.apply(*claim(place.namespace, "nothing", Path("/no/such/folder")))
    mounts = [*place.mounts, ClaimMount(claim="nothing", mount_path="/nothing")]
    job = place.job(UNTIL_GO, nodes=1, start_timeout=5, volumes=mounts)
    outcome = place.launch(job)

    assert isinstance(outcome.error, StageFailedError)
    assert "cluster.start_timeout" in outcome.text
    assert "/no/such/folder is not a directory" in outcome.text
    assert place.leftovers(job) == []


def test_a_claim_that_does_not_exist_is_a_wrong_input(place: Place):
    mounts = [*place.mounts, ClaimMount(claim="datasets", mount_path="/datasets")]
    job = place.job(UNTIL_GO, nodes=1, volumes=mounts)
    outcome = place.launch(job)

    assert isinstance(outcome.error, InputError)
    assert 'persistentvolumeclaim "datasets" not found' in outcome.text
    assert place.leftovers(job) == []
